"""Power laws in width and depth, fitted to medians over networks.

    y = A n^a at fixed depth,   y = A d^b at fixed width,   y = A n^a at fixed d/n,
    y = A d^b n^a over the whole grid

by least squares of log median(y) against log n and log d.  The median, because a
network that never departed (y = inf) is then one that departed late, as it should be:
a mean over those that departed would be too early.  For a log-normal y it is the
geometric mean.  Means would be less noisy, but their bootstrap intervals are too
narrow for a handful of networks: measured here with 4 log-normal ones at 3 points, 95 %
intervals of the exponent cover .85 with means and .92 with medians.

Intervals are percentiles over resampled networks, at each point independently: the same
seed at another width is another network.  They hold for this grid: that y is no power
law is seen in the residual, not in the interval.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from testbed.errors import UserError

LEAST_POINTS = 3
# With 2 seeds a 95 % interval covers .7, with 3 .89 or more (measured here).
LEAST_SEEDS = 3
THEORY_RANGE = (-1.0, -0.5)


class Medians(NamedTuple):
    """Log-medians over seeds at P points, and resampled ones.

    Attributes:
      log_y: (P,); inf where half of the seeds or more are at inf, nan where none is
        known.
      draws: the same of resampled seeds, (resamples, P); nan where log_y is not finite.
        A resample whose median is infinite is drawn again.
      seeds: how many seeds are known, inf included, (P,).
    """

    log_y: np.ndarray
    draws: np.ndarray
    seeds: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Which points have a finite median, (P,)."""
        return np.isfinite(self.log_y)

    def left_out(self, among: np.ndarray) -> tuple[int, int]:
        """How many of these points never departed, and how many are missing."""
        log_y = self.log_y[among]
        return int(np.isinf(log_y).sum()), int(np.isnan(log_y).sum())


def log_medians(y_seeds: ArrayLike, resamples: int = 1000, seed: int = 0) -> Medians:
    """Log-medians over seeds, with bootstrap resamples.

    Args:
      y_seeds: positive, inf (never departed) or nan (missing), (P, seeds).
      resamples: how many.
      seed: of the resampling.

    Returns:
      `Medians`.

    Raises:
      UserError: a value <= 0, a shape other than (P, seeds), or no resamples.
    """
    y = np.asarray(y_seeds, np.float64)
    if y.ndim != 2:
        raise UserError("y_seeds.shape", y.shape, "must be (points, seeds)", "reshape")
    if np.any(y <= 0):
        remedy = "set what is unknown to nan"
        raise UserError(
            "y_seeds", y.min(where=y <= 0, initial=0), "must be > 0", remedy
        )
    if resamples < 1:
        raise UserError("resamples", resamples, "must be at least 1", "1000 will do")
    rng = np.random.default_rng(seed)
    log_y = np.full(len(y), np.nan)
    draws = np.full((resamples, len(y)), np.nan)
    for p, row in enumerate(np.log(y)):
        known = row[~np.isnan(row)]
        if not known.size:
            continue
        log_y[p] = np.median(known)
        if np.isfinite(log_y[p]):
            again = rng.choice(known, (resamples, known.size))
            drawn = np.median(again, 1)
            finite = drawn[np.isfinite(drawn)]
            redrawn = rng.choice(finite if finite.size else log_y[[p]], resamples)
            draws[:, p] = np.where(np.isfinite(drawn), drawn, redrawn)
    return Medians(log_y, draws, (~np.isnan(y)).sum(1))


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """y = prefactor x^exponent.

    Attributes:
      exponent, prefactor: nan where there is no fit.
      interval: of the exponent, 95 %; nan where a point has fewer than 3 seeds.
      points: how many points were fitted.
      residual: root mean square of log y - log fit, over the points.
      never: points left out because half of the seeds or more are at inf.
      missing: points left out because nothing is known.
      reason: why there is no fit, or no interval; else empty.
    """

    exponent: float
    prefactor: float
    interval: tuple[float, float]
    points: int
    residual: float
    never: int = 0
    missing: int = 0
    reason: str = ""

    def against(self, low: float, high: float) -> str:
        """How the interval lies to [low, high]; see `agreement`."""
        return agreement(self.interval, low, high)


def agreement(interval: tuple[float, float], low: float, high: float) -> str:
    """Whether an interval is "within" [low, high], "compatible" with it or "outside".

    Compatible means that they overlap; without an interval it is "unknown".
    """
    if not np.isfinite(interval).all():
        return "unknown"
    if interval[1] < low or interval[0] > high:
        return "outside"
    return "within" if low <= interval[0] and interval[1] <= high else "compatible"


def power_law(
    x: ArrayLike, y_seeds: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> PowerLaw:
    """Least squares of log median(y) = log A + a log x.

    Args:
      x: positive, (P,).
      y_seeds: positive, inf (never departed) or nan (missing), (P, seeds).
      resamples: of the bootstrap over seeds.
      seed: of the bootstrap.

    Returns:
      `PowerLaw`; without a fit if fewer than 3 points have finite medians.

    Raises:
      UserError: x or y not positive, or shapes that do not match.

    Example:
      >>> law = power_law([16, 32, 64, 128], 3 / np.array([[16.0], [32], [64], [128]]))
      >>> print(f"{law.prefactor:.3f} x^{law.exponent:.3f}: {law.reason}")
      3.000 x^-1.000: fewer than 3 seeds at a point: no interval
    """
    medians = log_medians(y_seeds, resamples, seed)
    x = positive("x", x)
    if x.shape != medians.log_y.shape:
        rule = f"must have one entry for each of {len(medians.log_y)} points"
        raise UserError("x.shape", x.shape, rule, "give the points' x")
    return _power_law(np.log(x), medians, np.full(len(x), True))


class Fit(NamedTuple):
    """One line of a `ScalingTable`.

    Attributes:
      varied: "width" or "depth", the law's x.
      fixed: "depth", "width" or "ratio" (d/n).
      at: what it is fixed at.
      law: the fit.
      agreement: at fixed depth, how the exponent lies to the expected range.
    """

    varied: str
    fixed: str
    at: float
    law: PowerLaw
    agreement: str


@dataclasses.dataclass(frozen=True)
class JointLaw:
    """y = prefactor d^depth_exponent n^width_exponent over the grid.

    Attributes:
      depth_exponent, width_exponent, prefactor: nan where there is no fit.
      depth_interval, width_interval: 95 %.
      r_squared: share of the variance of the log-medians over cells that is explained.
      points, residual, never, missing, reason: as in `PowerLaw`.
      agreement: how the width's exponent lies to the expected range.
    """

    depth_exponent: float
    width_exponent: float
    prefactor: float
    depth_interval: tuple[float, float]
    width_interval: tuple[float, float]
    r_squared: float
    points: int
    residual: float
    never: int
    missing: int
    reason: str
    agreement: str


@dataclasses.dataclass(frozen=True)
class ScalingTable:
    """All power laws of a grid: `fits` along its lines, and the `joint` one."""

    fits: tuple[Fit, ...]
    joint: JointLaw


def scaling_table(
    widths: Sequence[int],
    depths: Sequence[int],
    values: ArrayLike,
    *,
    expected: tuple[float, float] = THEORY_RANGE,
    resamples: int = 1000,
    seed: int = 0,
) -> ScalingTable:
    """Power laws along every row, column and diagonal d/n of a grid, and a joint one.

    Args:
      widths: n, distinct, (W,).
      depths: d, distinct, (D,).
      values: positive, inf (never departed) or nan (missing), (D, W, seeds).
      expected: range of the exponent in n at fixed depth.  The default is that of
        distances and kernel drift, n^-1 to n^-1/2; departure times have its negative.
      resamples: of the bootstrap over seeds.
      seed: of the bootstrap.

    Returns:
      `ScalingTable`: a fit for each depth, each width, and each ratio d/n at which 3
      cells or more hold anything.

    Raises:
      UserError: sizes below 1 or repeated, values not positive, or of another shape.
    """
    n, d, y = grid(widths, depths, values)
    medians = log_medians(y, resamples, seed)
    log_n, log_d = np.log(n), np.log(d)
    fits = []
    for depth in np.unique(d):
        law = _power_law(log_n, medians, d == depth)
        row = Fit("width", "depth", float(depth), law, law.against(*expected))
        fits.append(row)
    for width in np.unique(n):
        law = _power_law(log_d, medians, n == width)
        fits.append(Fit("depth", "width", float(width), law, ""))
    ratios = np.array([Fraction(int(a), int(b)) for a, b in zip(d, n, strict=True)])
    for ratio in sorted(set(ratios)):
        cells = ratios == ratio
        if (medians.seeds[cells] > 0).sum() >= LEAST_POINTS:
            law = _power_law(log_n, medians, cells)
            fits.append(Fit("width", "ratio", float(ratio), law, ""))
    return ScalingTable(tuple(fits), _joint(log_n, log_d, medians, expected))


def grid(
    widths: Sequence[int], depths: Sequence[int], values: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Widths, depths (cells,) and values (cells, seeds) of a grid's D W cells.

    Raises:
      UserError: sizes below 1, not whole or repeated, or values of another shape.
    """
    for field, sizes in (("widths", widths), ("depths", depths)):
        array = positive(field, sizes)
        if len(np.unique(array)) != array.size or np.any(array % 1):
            rule = "must be distinct whole numbers"
            raise UserError(field, list(sizes), rule, "give each size once")
    y = np.asarray(values, np.float64)
    if y.ndim != 3 or y.shape[:2] != (len(depths), len(widths)):
        rule = f"must be ({len(depths)} depths, {len(widths)} widths, seeds)"
        raise UserError("values.shape", y.shape, rule, "put depth first")
    d, n = np.meshgrid(np.asarray(depths), np.asarray(widths), indexing="ij")
    return n.ravel(), d.ravel(), y.reshape(d.size, -1)


def positive(field: str, x: ArrayLike) -> np.ndarray:
    """`x` as a vector of float64, which must be positive and finite."""
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or not np.all(np.isfinite(x) & (x > 0)):
        rule = "must be a list of positive numbers"
        raise UserError(field, x.tolist(), rule, "sizes start at 1")
    return x


def _power_law(log_x: np.ndarray, medians: Medians, cells: np.ndarray) -> PowerLaw:
    left_out = medians.left_out(cells)
    fit = _least_squares(log_x[:, None], medians, cells & medians.used)
    (exponent,), (interval,) = fit.exponents, fit.intervals
    shown = exponent, fit.prefactor, interval, fit.points, fit.residual
    return PowerLaw(*shown, *left_out, fit.reason)


def _joint(
    log_n: np.ndarray,
    log_d: np.ndarray,
    medians: Medians,
    expected: tuple[float, float],
) -> JointLaw:
    used = medians.used
    left_out = medians.left_out(np.full(len(used), True))
    fit = _least_squares(np.stack([log_d, log_n], 1), medians, used)
    total = medians.log_y[used].var() if used.any() else 0.0
    explained = 1 - fit.residual**2 / total if total > 0 else math.nan
    depth, width = fit.exponents
    depth_interval, width_interval = fit.intervals
    return JointLaw(
        depth,
        width,
        fit.prefactor,
        depth_interval,
        width_interval,
        float(explained),
        fit.points,
        fit.residual,
        *left_out,
        fit.reason,
        agreement(width_interval, *expected),
    )


class _LeastSquares(NamedTuple):
    exponents: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    prefactor: float
    points: int
    residual: float
    reason: str


def _least_squares(
    log_x: np.ndarray, medians: Medians, used: np.ndarray
) -> _LeastSquares:
    """Fits log y = log A + sum_k a_k log x_k to the points in use; log_x is (P, K)."""
    x, z = log_x[used], medians.log_y[used]
    points, count = x.shape
    design = np.column_stack([np.ones(points), x])
    nan, none = math.nan, (math.nan, math.nan)
    reason = ""
    if points < count + 2:
        reason = f"{points} points with a finite median, {count + 2} needed: no fit"
    elif np.linalg.matrix_rank(design) <= count:
        reason = "the points' sizes do not vary independently: no fit"
    if reason:
        return _LeastSquares((nan,) * count, (none,) * count, nan, points, nan, reason)
    solve = np.linalg.pinv(design)
    log_a, *exponents = solve @ z
    residual = np.sqrt(np.mean((z - design @ solve @ z) ** 2))
    low, high = np.quantile(medians.draws[:, used] @ solve[1:].T, (0.025, 0.975), 0)
    intervals = tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))
    if medians.seeds[used].min() < LEAST_SEEDS:
        reason = f"fewer than {LEAST_SEEDS} seeds at a point: no interval"
        intervals = (none,) * count
    exponents = tuple(map(float, exponents))
    prefactor = float(np.exp(log_a))
    return _LeastSquares(
        exponents, intervals, prefactor, points, float(residual), reason
    )
