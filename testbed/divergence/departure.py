"""When a predictor departs from its reference."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from testbed.errors import UserError


def departure_time(
    times: ArrayLike, relative: ArrayLike, tolerance: float = 0.1
) -> np.ndarray:
    """First recorded time at which the relative distance passes `tolerance`.

    A distance of inf (a diverged predictor) has passed; nan (no unit, as at t = 0) is
    passed over.  The answer is as coarse as the recorded times.

    Args:
      times: recorded times, increasing, (T,).
      relative: `relative_distance` at those times, (T, ...), e.g. (T, seeds).
      tolerance: > 0.

    Returns:
      (...), float64: inf where the tolerance is never passed; nan where nothing can be
      said, because every distance is nan, or the last one is: the predictor or its
      reference diverged, and what it passed before, it may have passed on the way.

    Raises:
      UserError: tolerance <= 0, or numbers of times that differ.
    """
    times = np.asarray(times, np.float64)
    relative = np.asarray(relative, np.float64)
    if not tolerance > 0:
        rule = "must be positive"
        raise UserError("tolerance", tolerance, rule, "0.1 means a tenth of the way")
    if times.ndim != 1 or relative.shape[:1] != times.shape:
        rule = f"its first axis must be the times', which have shape {times.shape}"
        raise UserError("relative.shape", relative.shape, rule, "put time first")
    passed = relative > tolerance
    first = np.where(passed.any(0), times[passed.argmax(0)], np.inf)
    unknown = np.isnan(relative).all(0) | np.isnan(relative[-1:]).any(0)
    return np.where(unknown, np.nan, first)


@dataclasses.dataclass(frozen=True)
class Departure:
    """Departure times of an ensemble of seeds, summarized.

    Attributes:
      median: over all seeds, one that never departed counting as +inf; so it is finite
        only if more than half of them departed.
      lowest, highest: over the seeds that departed; inf if none did.
      departed: how many seeds departed.
      of: how many seeds there are, without those of which nothing can be said (nan).
    """

    median: float
    lowest: float
    highest: float
    departed: int
    of: int

    @classmethod
    def of_seeds(cls, departure_times: ArrayLike) -> "Departure":
        """Summarizes what `departure_time` returned, (seeds,) or of any shape.

        Example:
          >>> print(Departure.of_seeds([1.0, 2.0, 4.0, np.inf]))
          3 [1, 4], 3 of 4
        """
        known = np.asarray(departure_times, np.float64).ravel()
        known = known[~np.isnan(known)]
        if not known.size:
            return cls(math.nan, math.nan, math.nan, 0, 0)
        left = known[np.isfinite(known)]
        low, high = (left.min(), left.max()) if left.size else (math.inf, math.inf)
        median = float(np.median(known))
        return cls(median, float(low), float(high), left.size, known.size)

    def __str__(self) -> str:
        if not self.of:
            return "undefined"
        if not self.departed:
            return "never"
        if not math.isfinite(self.median):
            first = f"first at {self.lowest:.4g}"
            return f"{self.departed} of {self.of} seeds, {first}"
        spread = f"[{self.lowest:.4g}, {self.highest:.4g}]"
        return f"{self.median:.4g} {spread}, {self.departed} of {self.of}"
