"""What a search still costs: it is carried out on boundaries as they might be.

Which runs a search asks for depends on what they give.  So it is simulated, from what
is measured so far, for boundaries anywhere on the grid and a little beyond, measures
that rise as d^0 to d^1, and the noise of the measure: those of them that come
nearest to what is measured.  The quantiles of what that costs are the estimate.
Seconds come from the runs that are there, or from a formula.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import optimize

from testbed.config import Config
from testbed.divergence.boundary import Run, search
from testbed.errors import UserError
from testbed.families import family
from testbed.runs.folder import RunFolder
from testbed.runs.memory import input_shape
from testbed.runs.parsing import Damaged
from testbed.runs.stored import read_config
from testbed.sweeps.boundary import Plan
from testbed.sweeps.boundary_search import Search
from testbed.sweeps.read_run import value_at

NOISE = {"relative_distance": 0.15, "kernel_drift": 0.3, "departure_time": 0.6}
"""Standard deviation of log y over networks, measured at widths 8 to 64."""
_QUANTILES = (0.1, 0.5, 0.9)
_DRAWS = 24
_PRIOR = 400
# Measured on two shared CPU cores, widths 8 to 64 and depths 2 to 64: each run's time
# to a factor of 2.
_START_SECONDS = 13.0
_SECONDS_PER_WORK = 1e-10
Measured = Mapping[int, Sequence[float]]


class Left(NamedTuple):
    """What is left to do: 10, 50 and 90 % quantiles.

    Attributes:
      runs: how many.
      seconds: until all of them are done.
    """

    runs: list[int]
    seconds: list[float]


class Forecast:
    """Estimates what searches still cost, better as runs are done.

    Args:
      plan: that is carried out.
      jobs: runs at a time.
    """

    def __init__(self, plan: Plan, jobs: int):
        self.plan, self.jobs = plan, jobs
        self._timings: dict[Path, tuple[float, float]] = {}
        self._counted: dict[str, np.ndarray] = {}
        rng = np.random.default_rng(0)
        low, high = np.log([plan.depths[0] / 2, plan.depths[-1] * 2])
        self._stars = np.exp(rng.uniform(low, high, _PRIOR))
        self._slopes = rng.uniform(0, 1, _PRIOR)

    def learn(self, folders: Iterable[Path]) -> None:
        """Takes the seconds that finished runs took."""
        for folder in set(folders) - set(self._timings):
            try:
                summary = RunFolder(folder).read_json("summary.json") or {}
                seconds = value_at(summary, "seconds.total")
                if summary.get("status") == "done" and seconds:
                    config = read_config(folder, Config)
                    self._timings[folder] = work(config), seconds
            except (Damaged, UserError, LookupError, TypeError, AttributeError):
                continue  # named where its numbers would be used

    @property
    def known(self) -> int:
        """How many runs the seconds rest on."""
        return len(self._timings)

    def left(self, searches: Iterable[Search]) -> Left:
        """What searches that are not at their end still cost."""
        start, unit = pace(list(self._timings.values()))
        runs, total, longest = np.zeros((3, _DRAWS))
        for one in searches:
            if one.boundary is not None or one.error is not None:
                continue
            # In each draw all searches are alike, as kinds and widths tend to be: the
            # range would otherwise be that of an average.
            counts = self._counts(one.measured)
            config = partial(self.plan.config, one.name, one.width)
            works = np.array([work(config(depth)) for depth in self.plan.depths])
            seconds = counts @ (start + unit * works)
            runs, total = runs + counts.sum(1), total + seconds
            longest = np.maximum(longest, seconds)
        seconds = np.quantile(np.maximum(total / self.jobs, longest), _QUANTILES)
        if not self._timings:  # the formula knows no machine
            seconds *= (0.5, 1, 2)
        runs = np.quantile(runs, _QUANTILES).round().astype(int)
        return Left(runs.tolist(), seconds.tolist())

    def _counts(self, measured: Measured) -> np.ndarray:
        """Further runs at each depth of the grid, (draws, depths)."""
        if (key := str(measured)) not in self._counted:
            misfit = np.zeros(_PRIOR)
            for depth, y in measured.items():
                known = [v for v in y if v == v]
                if known:
                    seen = np.log(np.median(known) / self.plan.threshold)
                    gap = np.clip(seen, -3, 3) - np.clip(self._log(depth), -3, 3)
                    misfit += gap**2
            drawn = np.argsort(misfit, kind="stable")[:_DRAWS].tolist()
            self._counted[key] = np.array([self._simulate(measured, i) for i in drawn])
        return self._counted[key]

    def _simulate(self, measured: Measured, i: int) -> np.ndarray:
        plan, rng = self.plan, np.random.default_rng(i)
        found = {depth: list(y) for depth, y in measured.items()}
        counts = np.zeros(len(plan.depths))
        while isinstance(step := search(found, **plan.options), Run):
            batches = math.ceil(step.seeds / plan.seeds)
            noise = NOISE[plan.measure] * rng.normal(size=batches * plan.seeds)
            y = plan.threshold * np.exp(self._log(step.depth)[i] + noise)
            found[step.depth] = [*found.get(step.depth, []), *y]
            counts[plan.depths.index(step.depth)] += batches
        return counts

    def _log(self, depth: int) -> np.ndarray:
        """Mean of log(y / threshold) at a depth, of each boundary that might be."""
        sign = 1 if self.plan.rises else -1
        return sign * self._slopes * np.log(depth / self._stars)


def work(config: Config) -> float:
    """What the seconds of a run grow with; an activation counts as 128 parameters."""
    t = config.train
    passes = t.steps * t.seeds * (t.batch_size or config.data.train_size)
    shape = input_shape(config)
    counts = family(config.model.kind).counts(config.model, shape, 0)
    return passes * (counts.parameters + 128 * counts.activations)


def pace(timings: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Seconds of a run's start, and of a unit of its work.

    Least squares of log seconds over (work, seconds); what the formula says of the two
    counts as half a run each.
    """
    done, seconds = np.array(timings).reshape(-1, 2).T

    def errors(x: np.ndarray) -> np.ndarray:
        start, unit = np.array([_START_SECONDS, _SECONDS_PER_WORK]) * np.exp(x)
        return np.concatenate([np.log((start + unit * done) / seconds), x / 2**0.5])

    x = optimize.least_squares(errors, np.zeros(2)).x
    return _START_SECONDS * math.exp(x[0]), _SECONDS_PER_WORK * math.exp(x[1])
