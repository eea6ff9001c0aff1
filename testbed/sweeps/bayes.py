"""Proposals of a bayes sweep: a Gaussian process, and expected improvement."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from testbed.errors import UserError
from testbed.sweeps.points import Settings, draw, point_name
from testbed.sweeps.spec import Parameter, config_of

if TYPE_CHECKING:
    from testbed.sweeps.store import Store

FIRST = 5  # random points before the process is asked
CANDIDATES = 2000
MOST_COMPARED = 300  # of these: checking a config takes a millisecond


def propose(store: "Store", session: str) -> None:
    """Adds the next point if none is waiting and the cap is not reached.

    The metric of finished points, minimized (or the negative, for goal maximize), is
    fitted by a Gaussian process with a Matern-5/2 kernel on settings scaled to [0, 1]
    (logarithms where the distribution is log-uniform, one-hot for names); the candidate
    of the largest expected improvement is next.  Points without the metric are left
    out.  Call it under the store's lock.
    """
    sweep = store.sweep
    known = store.points()
    assert sweep.run_cap is not None
    waiting = any(store.state(p, session) == "waiting" for p in known)
    if waiting or len(known) >= sweep.run_cap:
        return
    rng = np.random.default_rng((store.seed, len(known)))
    names = {p.name for p in known}
    candidates = []
    for _ in range(CANDIDATES):  # new ones, which the program accepts
        settings = _candidate(store, rng)
        if len(candidates) < MOST_COMPARED and _is_new(store, settings, names):
            candidates.append(settings)
    if not candidates:
        return
    results = [(p.settings, metric_of(sweep, store.summary(p))) for p in known]
    seen = [(s, y) for s, y in results if y is not None]
    if len(seen) < FIRST:
        store.propose(candidates[0])
        return
    store.propose(candidates[_best(sweep.parameters, seen, candidates)])


def _is_new(store: "Store", settings: Settings, names: set[str]) -> bool:
    try:
        config_of(store.sweep, settings)
    except UserError:
        return False
    return point_name(store.sweep, settings) not in names


def metric_of(sweep, summary: dict[str, Any] | None) -> float | None:
    """The metric to be minimized, from a summary; None if it is not there."""
    value: Any = summary
    for part in str(sweep.metric.get("name")).split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return -float(value) if sweep.metric.get("goal") == "maximize" else float(value)


def _candidate(store: "Store", rng: np.random.Generator) -> Settings:
    return {name: draw(p, rng) for name, p in store.sweep.parameters.items()}


def _best(parameters, seen, candidates) -> int:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    x = np.array([_features(parameters, s) for s, _ in seen])
    y = np.array([value for _, value in seen])
    scale = y.std() or 1.0
    lengths: Any = np.full(x.shape[1], 0.3)
    kernel = Matern(nu=2.5, length_scale=lengths) + WhiteKernel(1e-2)
    process = GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length at its bound is no mistake
        process.fit(x, (y - y.mean()) / scale)
    places = np.array([_features(parameters, s) for s in candidates])
    mean, std = process.predict(places, return_std=True)  # pyright: ignore
    std = np.maximum(std, 1e-9)
    gain = (y.min() - y.mean()) / scale - mean
    z = gain / std
    return int(np.argmax(gain * stats.norm.cdf(z) + std * stats.norm.pdf(z)))


def _features(parameters: dict[str, Parameter], settings: Settings) -> list[float]:
    features: list[float] = []
    for name, p in parameters.items():
        value = settings[name]
        if len(p.values) == 1:
            continue
        if p.values:
            numeric = all(isinstance(v, int | float) for v in p.values)
            if numeric:
                place = sorted(p.values).index(value)
                features.append(place / (len(p.values) - 1))
            else:
                features += [float(value == v) for v in p.values]
            continue
        if "min" in p.numbers:
            low, high = float(p.numbers["min"]), float(p.numbers["max"])
            if "log" in p.distribution:
                low, high, value = np.log(low), np.log(high), np.log(value)
            features.append((value - low) / max(high - low, 1e-12))
        else:
            features.append((value - p.numbers["mu"]) / p.numbers["sigma"] / 4 + 0.5)
    return features
