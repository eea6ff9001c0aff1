"""Which setting goes with which measure, when nothing is held fixed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from testbed.reports.sweeps.dependence import (
    axes_of,
    facets_of,
    measures_of,
)
from testbed.reports.sweeps.groups import by_run
from testbed.sweeps.gather import Table, text

LEAST_RUNS = 6


class Rank(NamedTuple):
    """Spearman's rank correlation of a measure with a setting over runs.

    Attributes:
      measure: column of the measure.
      setting: dotted name, or "name = value" for one of two values.
      value: in [-1, 1].
      interval: 95 %, of resampled runs.
      runs: how many runs it is over.
    """

    measure: str
    setting: str
    value: float
    interval: tuple[float, float]
    runs: int


def ranks(networks: Table, resamples: int = 2000, seed: int = 0) -> list[Rank]:
    """Rank correlations, by measure the strongest first; [] of fewer than 6 runs.

    Of each run the median over its networks; one that never departed has the latest
    departure.  A setting with two values that are not numbers counts as 0 and 1.
    """
    first = networks.groupby("run", sort=False).first()
    if len(first) < LEAST_RUNS:
        return []
    settings = {n: first[n].astype(float) for n in axes_of(networks)}
    for name in facets_of(networks):
        named = first[name].map(text)
        values = sorted(set(named))
        if len(values) == 2:
            settings[f"{name} = {values[1]}"] = (named == values[1]) * 1.0
    rng = np.random.default_rng(seed)
    found = []
    for measure in measures_of(networks):
        y = by_run(networks, measure).to_numpy(float)
        known = ~np.isnan(y)
        if known.sum() < LEAST_RUNS or len(np.unique(y[known])) == 1:
            continue
        again = rng.integers(known.sum(), size=(resamples, known.sum()))
        rows = [
            Rank(measure, name, *_spearman(x.to_numpy(float)[known], y[known], again))
            for name, x in settings.items()
            if x[known].nunique() > 1
        ]
        found += sorted(rows, key=lambda rank: -abs(rank.value))
    return found


def _spearman(x: np.ndarray, y: np.ndarray, again: np.ndarray):
    """The correlation, its interval, and over how many runs."""
    value = _correlation(stats.rankdata(x)[None], stats.rankdata(y)[None])[0]
    drawn = _correlation(
        stats.rankdata(x[again], axis=1), stats.rankdata(y[again], axis=1)
    )
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(value), (float(low), float(high)), len(x)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row; nan where one of the two is constant."""
    a, b = (v - v.mean(1, keepdims=True) for v in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def strongest(found: Sequence[Rank], measure: str) -> Rank | None:
    """The strongest correlation of a measure whose interval excludes 0."""
    clear = [
        rank
        for rank in found
        if rank.measure == measure and (rank.interval[0] > 0 or rank.interval[1] < 0)
    ]
    return clear[0] if clear else None
