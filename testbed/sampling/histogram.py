"""Counts between fixed edges, fine enough for distances between distributions."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from testbed.laws.law import Law

_BINS = 2**13
_REACH = 15.0  # standard deviations to either side of each law's mean


@dataclasses.dataclass(eq=False)
class Histogram:
    """Counts of a stream of numbers.

    Attributes:
      edges: (K,), increasing.
      counts: (K + 1,), the first and last bins unbounded; int64.
    """

    edges: np.ndarray
    counts: np.ndarray

    @classmethod
    def blank(cls) -> "Histogram":
        """Of the shape that all have, to restore one into."""
        return cls(np.zeros(_BINS), np.zeros(_BINS + 1, np.int64))

    @classmethod
    def covering(cls, laws: Iterable[Law], first: np.ndarray) -> "Histogram":
        """Empty, with edges that cover the laws, and the first of the numbers.

        The latter because networks may lie far from every law: narrow vanilla ones
        freeze at great depth, once all of their units are off.
        """
        laws = list(laws)
        means = np.array([float(law.mean()) for law in laws])
        reach = _REACH * np.sqrt([float(law.var()) for law in laws])
        low, high = (means - reach).min(), (means + reach).max()
        first = first[np.isfinite(first)]
        if first.size:
            margin = np.ptp(first) / 2
            low = min(low, first.min() - margin)
            high = max(high, first.max() + margin)
        edges = np.linspace(low, high, _BINS)
        return cls(edges, np.zeros(_BINS + 1, np.int64))

    def add(self, x: np.ndarray) -> None:
        """Counts the finite ones of x."""
        x = x[np.isfinite(x)]
        place = np.searchsorted(self.edges, x)
        self.counts += np.bincount(place, minlength=len(self.counts))
