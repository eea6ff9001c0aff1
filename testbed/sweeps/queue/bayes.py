"""Proposals of a bayes sweep: a Gaussian process, and expected improvement."""

import difflib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from testbed.errors import RunError, UserError
from testbed.runs import digests, parsing
from testbed.runs.parsing import Damaged
from testbed.sweeps.distributions import place
from testbed.sweeps.points import Settings, draw, point_name
from testbed.sweeps.queue.listed import Listed
from testbed.sweeps.queue.store import Point, Store
from testbed.sweeps.spec import Parameter, Sweep, config_of, placed

PROPOSALS = "proposals.jsonl"
FIRST = 5  # numbers measured at random points before the process is asked
CANDIDATES = 2000
Results = Sequence[tuple[Settings, float]]


class Bayes(Listed):
    """Proposes the points of a bayes sweep, one after another.

    The metric of the points that have ended, minimized (or the negative, for goal
    maximize), is fitted by a Gaussian process with a Matern-5/2 kernel; the candidate
    of the largest expected improvement is next.  Points that failed, or whose metric
    is null, count as the worst number seen: left out, their neighbours would look
    unexplored and be proposed again and again.  Where null means more than could be
    measured and more is better, choose a metric that says so.

    Points still running are given the value that the process expects of them.  This
    leaves its expectation elsewhere as it is and takes away only what is unknown near
    them, so that several workers spread out, and no made-up value has to be chosen.

    The end is the cap, or a number that reaches metric.target, as with wandb.
    """

    independent = False

    def points(self, store: Store, session: str | None) -> list[Point]:
        """Those proposed so far."""
        return self.named(_proposals(store.path / PROPOSALS))

    def propose(self, store: Store, session: str) -> None:
        """Adds the next point if none is waiting and the sweep is not at its end.

        Raises:
          UserError: points are done and none has the metric.
        """
        self.check(store)
        sweep, known = self.sweep, store.look(session)
        if any(state == "waiting" for _, state in known) or self.ahead(store) <= 0:
            return
        ended, running = [], []
        for point, state in known:
            summary = store.summary(point)
            if summary is not None or state == "failed":
                ended.append((point.settings, metric_of(sweep, summary)))
            else:
                running.append(point.settings)
        values = [y for _, y in ended if y is not None]
        if _reached(sweep, values):
            return
        rng = np.random.default_rng((self.seed, len(known)))
        candidates = list(_candidates(sweep, rng))
        order: Sequence[int] = range(len(candidates))
        if len(values) >= FIRST:
            results = [(s, max(values) if y is None else y) for s, y in ended]
            gain = expected_improvement(sweep.parameters, results, running, candidates)
            order = [int(i) for i in np.argsort(-gain, kind="stable")]
        names = {point_name(sweep, placed(sweep, p.settings)) for p, _ in known}
        for i in order:  # checking one takes a millisecond: the first that will do
            if _accepted(sweep, candidates[i], names):
                add_proposal(store.path / PROPOSALS, candidates[i])
                return

    def ahead(self, store: Store) -> int:
        """What is left of the cap."""
        return (self.sweep.run_cap or 0) - len(store.points())

    def ending(self, store: Store) -> str:
        """The target, or the program."""
        found = [metric_of(self.sweep, store.summary(p)) for p in store.points()]
        if _reached(self.sweep, [y for y in found if y is not None]):
            return "metric.target is reached"
        return "no other point is accepted by the program"

    def check(self, store: Store) -> None:
        """Raises UserError if points are done and the metric is in none of them.

        A metric that is there and null, such as the departure of a network that never
        departed, is no mistake.
        """
        summaries = [s for p in store.points() if (s := store.summary(p)) is not None]
        name = str(self.sweep.metric.get("name"))
        numbers = {key for summary in summaries for key in _numbers(summary)}
        if not summaries or name in numbers:
            return
        near = difflib.get_close_matches(name, numbers, n=1, cutoff=0.5)
        remedy = (
            f"did you mean '{near[0]}'?" if near else "see the point's summary.json"
        )
        rule = "is no number in the summary of a point that is done"
        raise UserError("metric.name", name, rule, remedy)


def add_proposal(path: Path, settings: Settings) -> None:
    """Adds a point to proposals.jsonl; call it under the store's lock."""
    if path.exists():  # what a kill left behind the last newline goes
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    with open(path, "a") as file:
        line = digests.sealed(json.loads(json.dumps(settings, default=str)))
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _proposals(path: Path) -> list[Settings]:
    if not path.exists():
        return []
    found = []
    # What follows the last newline is torn.
    for i, line in enumerate(parsing.read_bytes(path).split(b"\n")[:-1], 1):
        try:
            found.append(digests.unsealed(path, parsing.parse(path, line)))
        except Damaged as damage:
            raise RunError(
                f"{path}: line {i} is damaged ({damage.reason}); put the right one "
                "there, or begin the sweep in another folder"
            ) from None
    return found


def metric_of(sweep: Sweep, summary: Mapping[str, Any] | None) -> float | None:
    """The metric to be minimized, from a summary; None if it is not there."""
    value = _numbers(summary or {}).get(str(sweep.metric.get("name")))
    if value is None or not np.isfinite(value):
        return None
    return -float(value) if sweep.metric.get("goal") == "maximize" else float(value)


def expected_improvement(
    parameters: Mapping[str, Parameter],
    results: Results,
    running: Sequence[Settings],
    candidates: Sequence[Settings],
) -> np.ndarray:
    """By how much each candidate is expected to fall below the least value so far.

    Args:
      parameters: of the sweep.
      results: settings and values of points that have ended.
      running: settings of points whose values are to come.
      candidates: settings to judge.

    Returns:
      (len(candidates),), in standard deviations of the values.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    place = lambda rows: np.array([features(parameters, s) for s in rows])
    x, y = place([s for s, _ in results]), np.array([value for _, value in results])
    y = (y - y.mean()) / (y.std() or 1.0)
    lengths: Any = np.full(x.shape[1], 0.5)
    kernel: Any = Matern(lengths, (0.05, 20.0), nu=2.5) + WhiteKernel(1e-2, (1e-6, 1.0))
    fitted = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore")  # a length at its bound is no mistake
        fitted.fit(x, y)  # arrays so small that a second thread makes it slower
    kernel = fitted.kernel_
    if running:
        y = np.concatenate([y, fitted.predict(place(running))])
        x = np.vstack([x, place(running)])
    as_fitted: Any = {"kernel": kernel, "optimizer": None}
    process: Any = GaussianProcessRegressor(**as_fitted).fit(x, y)
    least = process.predict(x).min()  # expected, not seen: measurements are noisy
    mean, std = process.predict(place(candidates), return_std=True)
    std = np.sqrt(np.maximum(std**2 - kernel.k2.noise_level, 1e-12))
    z = (least - mean) / std
    return std * (z * stats.norm.cdf(z) + stats.norm.pdf(z))


def features(parameters: Mapping[str, Parameter], settings: Settings) -> list[float]:
    """A point's place: about [0, 1] in each varied setting.

    Numbers that are listed are spaced evenly, in order; other values are one-hot;
    ranges are scaled, their logarithms where the distribution has one; normal ones run
    from -2 to 2 standard deviations.
    """
    found: list[float] = []
    for name, p in parameters.items():
        value = settings[name]
        if p.values and all(isinstance(v, int | float) for v in p.values):
            if len(p.values) > 1:
                found.append(sorted(p.values).index(value) / (len(p.values) - 1))
        elif p.values:
            found += [float(value == v) for v in p.values if len(p.values) > 1]
        else:
            found.append(place(p.distribution, p.numbers, value))
    return found


def _candidates(sweep: Sweep, rng: np.random.Generator) -> Iterator[Settings]:
    """Points drawn as a random sweep draws them, each once."""
    seen = set()
    for _ in range(CANDIDATES):
        settings = {name: draw(p, rng) for name, p in sweep.parameters.items()}
        text = json.dumps(settings, default=str)
        if text not in seen:
            seen.add(text)
            yield settings


def _accepted(sweep: Sweep, settings: Settings, names: set[str]) -> bool:
    """Whether the point is new and the program takes it."""
    if point_name(sweep, placed(sweep, settings)) in names:
        return False
    try:
        config_of(sweep, settings)
    except UserError:
        return False
    return True


def _reached(sweep: Sweep, values: Sequence[float]) -> bool:
    target = sweep.metric.get("target")
    if target is None or not values:
        return False
    return min(values) <= (
        -target if sweep.metric.get("goal") == "maximize" else target
    )


def _numbers(summary: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """{dotted key: number, or None where it is null} of a summary."""
    found: dict[str, float | None] = {}
    for key, value in summary.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, int | float):
            found[f"{prefix}{key}"] = value
    return found
