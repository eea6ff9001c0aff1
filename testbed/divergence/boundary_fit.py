"""The law of the boundary: d* = A n^a, fitted to d* of several widths."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from testbed.divergence.scaling import LEAST_POINTS, PowerLaw, positive
from testbed.errors import UserError

_NORMAL_95 = float(stats.norm.ppf(0.975))


def boundary_fit(widths: ArrayLike, stars: ArrayLike, intervals: ArrayLike) -> PowerLaw:
    """d* = A n^a by least squares in the logarithms, weighted by the intervals.

    Half an interval in log d* is 1.96 standard errors.  If the points scatter more than
    that (chi^2 per degree of freedom above 1) the exponent's is widened accordingly.

    Args:
      widths: n, (P,).
      stars: d*, (P,); 0 and inf (not on the grid) and nan are left out.
      intervals: their 95 % intervals, (P, 2); points with an open end, or
        without a length, are left out.

    Returns:
      `PowerLaw`: `never` counts stars not on the grid, `missing` the others left
      out.

    Raises:
      UserError: widths not positive, shapes that do not match, or a star outside its
        interval.
    """
    n = positive("widths", widths)
    star = np.asarray(stars, np.float64)
    ends = np.asarray(intervals, np.float64)
    if star.shape != n.shape or ends.shape != (*n.shape, 2):
        rule = f"must be ({len(n)},) and ({len(n)}, 2), as there are widths"
        shapes = f"{star.shape}, {ends.shape}"
        raise UserError("stars, intervals", shapes, rule, "give one of each a width")
    off = (star == 0) | np.isinf(star)
    used = ~off & ~np.isnan(star) & np.all(np.isfinite(ends) & (ends > 0), 1)
    used &= ends[:, 0] != ends[:, 1]  # no error to weigh it by
    never, missing = int(off.sum()), int((~off & ~used).sum())
    points = int(used.sum())
    if points < LEAST_POINTS or len(np.unique(n[used])) < 2:
        nan = math.nan
        reason = f"{points} bounded stars, {LEAST_POINTS} widths needed: no fit"
        return PowerLaw(nan, nan, (nan, nan), points, nan, never, missing, reason)
    x, z, (low, high) = np.log(n[used]), np.log(star[used]), np.log(ends[used]).T
    if not np.all((low <= z) & (z <= high)):
        rule = "must hold their stars"
        raise UserError("intervals", ends[used].tolist(), rule, "see `search`")
    error = (high - low) / (2 * _NORMAL_95)
    design = np.stack([x, np.ones(points)], 1) / error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    exponent, log_a = covariance @ design.T @ (z / error)
    residual = z - exponent * x - log_a
    scatter = np.sum((residual / error) ** 2) / (points - 2)
    half = _NORMAL_95 * np.sqrt(covariance[0, 0] * max(scatter, 1.0))
    return PowerLaw(
        float(exponent),
        float(np.exp(log_a)),
        (float(exponent - half), float(exponent + half)),
        points,
        float(np.sqrt(np.mean(residual**2))),
        never,
        missing,
    )
