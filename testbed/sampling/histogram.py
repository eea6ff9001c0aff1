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
    def covering(cls, laws: Iterable[Law]) -> "Histogram":
        """Empty, with edges that cover all of the laws generously."""
        laws = list(laws)
        means = np.array([float(law.mean()) for law in laws])
        reach = _REACH * np.sqrt([float(law.var()) for law in laws])
        edges = np.linspace((means - reach).min(), (means + reach).max(), _BINS)
        return cls(edges, np.zeros(_BINS + 1, np.int64))

    def add(self, x: np.ndarray) -> None:
        """Counts the finite ones of x."""
        x = x[np.isfinite(x)]
        place = np.searchsorted(self.edges, x)
        self.counts += np.bincount(place, minlength=len(self.counts))
