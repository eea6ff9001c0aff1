"""Which combination of width and depth the data depend on.

If y is a function of x(d, n) alone, cells of a grid with neighbouring x have
neighbouring y, whatever their d and n.  So each cell is predicted from the others by a
local-linear curve of z = log median(y) over log x:

    quality = sum_i (z_i - curve_without_i(x_i))^2 / sum_i (z_i - mean_without_i)^2

0 is a perfect collapse; at 1 knowing x is worth nothing.  The curve's bandwidth is the
one, of a few, that predicts best, chosen anew for every x, so that none is favoured by
its spacing.  Noise keeps quality from 0; therefore also

    misfit = sum_i (z_i - curve_without_i(x_i))^2 / (what the seeds' noise makes of it)

which is about 1 if nothing but that noise is left.  Both depend on log x up to a
factor only: x and x^2 are the same variable, as are d/sqrt(n) and d^2/n.

Source: the idea of measuring a collapse by how the data predict one another is that of
Bhattacharjee & Seno 2001, "A measure of data collapse for scaling",
arXiv:cond-mat/0102515; quality and misfit in this form are derived here, for grids
whose cells often share x exactly.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from testbed.divergence.scaling import LEAST_SEEDS, Medians, grid, log_medians, positive
from testbed.errors import UserError

LEAST_CELLS = 6
# In standard deviations of log x; the last is as good as a straight line.  None below
# 0.4: x = d^50 / n has the cells of one depth next to each other, ordered by width, and
# a narrower curve would run through each depth anew, a saw that fits everything.
BANDWIDTHS = np.array([0.4, 0.8, 10.0])
_ROUNDING = 1e-9


def variables(widths: ArrayLike, depths: ArrayLike) -> dict[str, np.ndarray]:
    """The variables that theories and folklore propose, over a grid.

    d/sqrt(n) stands for d^2/n as well: they are powers of one another.

    Args:
      widths: n, (W,).
      depths: d, (D,).

    Returns:
      {name: x, (D, W)}.
    """
    d = positive("depths", depths)[:, None]
    n = positive("widths", widths)
    one = np.ones_like(d)
    return {"1/n": one / n, "d/n": d / n, "d/sqrt(n)": d / np.sqrt(n), "d": d * n**0}


@dataclasses.dataclass(frozen=True, eq=False)
class Collapse:
    """How well one variable orders the data.

    Attributes:
      name: of the variable.
      x: it, (D, W).
      quality: 0 perfect, 1 worthless.
      interval: of the quality, 95 % over resampled seeds; nan where a cell has fewer
        than 3, too few to know their noise.
      misfit: 1 where only the seeds' noise is left; nan if there is none or it is not
        known.
      gap: interval of its quality less that of the best variable, 95 % for all
        candidates together: with k others, each has the level 1 - 0.05 / k.
      worse: whether the gap excludes 0, where the best variable is worth something at
        all (its interval lies below 1); False where no noise is known.
      cells: how many cells were compared.
      never, missing: cells left out, with infinite median, with nothing known.
    """

    name: str
    x: np.ndarray
    quality: float
    interval: tuple[float, float]
    misfit: float
    gap: tuple[float, float]
    worse: bool
    cells: int
    never: int
    missing: int


def collapse(
    widths: Sequence[int],
    depths: Sequence[int],
    values: ArrayLike,
    candidates: Mapping[str, ArrayLike] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Collapse]:
    """Variables from the one that orders the data best to the worst.

    Args:
      widths: n, distinct, (W,).
      depths: d, distinct, (D,).
      values: positive, inf (never departed) or nan (missing), (D, W, seeds).
      candidates: {name: x > 0, (D, W)}; by default `variables`.  Add others to these by
        ``variables(n, d) | {"beta": beta}``.
      resamples: of the bootstrap over seeds, the same for all candidates.
      seed: of the bootstrap.

    Returns:
      A `Collapse` for each, best first.  Without `worse` the best is not proven better.

    Raises:
      UserError: fewer than 6 cells with finite medians, medians or x the same in all of
        them, x not positive, or arguments as for `scaling_table`.

    Example:
      >>> n, d = [16, 32, 64, 128], [2, 4, 8, 16]
      >>> x = variables(n, d)["d/n"]
      >>> best, *_ = collapse(n, d, (x + x**2)[..., None] * np.ones(4))
      >>> print(f"{best.name} {best.quality < 0.01}")
      d/n True
    """
    n, d, y = grid(widths, depths, values)
    medians = log_medians(y, resamples, seed)
    used = _enough(medians)
    if candidates is None:
        candidates = variables(widths, depths)
    z, draws, noise = _data(medians, used)
    enough = bool(medians.seeds[used].min() >= LEAST_SEEDS)
    left_out = medians.left_out(np.full(len(used), True))
    found = []
    for name, x in candidates.items():
        x = np.asarray(x, np.float64)
        log_x = _log_variable(name, x, (len(depths), len(widths)), used)
        residuals = leave_one_out(log_x)
        (quality,), (chosen,) = _quality(residuals, z[None])
        drawn, _ = _quality(residuals, draws)
        found.append(_Found(name, x, float(quality), residuals[chosen], drawn))
    found.sort(key=lambda entry: entry.quality)
    best = found[0]
    useful = _interval(best.quality, best.drawn)[1] < 1
    level = 0.05 / max(len(found) - 1, 1)
    ranking = []
    for one in found:
        drawn = one.drawn - best.drawn
        gap = _interval(one.quality - best.quality, drawn, level)
        low, high = _interval(one.quality, one.drawn)
        expected = float(np.sum(one.residual**2 @ noise))
        error = float(np.sum((one.residual @ z) ** 2))
        misfit = error / expected if expected > _ROUNDING**2 else math.nan
        worse = enough and useful and gap[0] > _ROUNDING
        interval = (max(low, 0.0), high)
        if not enough:  # their noise is not known, and nothing is proven
            interval, gap = (math.nan, math.nan), (math.nan, math.nan)
        shown = one.quality, interval, misfit, gap, worse
        ranking.append(Collapse(one.name, one.x, *shown, len(z), *left_out))
    return ranking


@dataclasses.dataclass(frozen=True)
class FreeCollapse:
    """The variable d^exponent / n that orders the data best.

    Attributes:
      exponent: a in x = d^a / n: 0 is 1/n, 1 is d/n, 2 is d^2/n; inf is d alone, and
        a < 0 is a product of powers of d and n.
      interval: 95 % over resampled seeds; -inf or inf where it holds d alone.
      quality: of this variable; as it was chosen for it, a little too good.
      cells: how many cells were compared.
    """

    exponent: float
    interval: tuple[float, float]
    quality: float
    cells: int


def free_collapse(
    widths: Sequence[int],
    depths: Sequence[int],
    values: ArrayLike,
    *,
    resamples: int = 200,
    seed: int = 0,
) -> FreeCollapse:
    """The exponent a of x = d^a / n for which the data collapse best.

    A common power of d and n is without meaning, so only their ratio is sought, as the
    angle theta = arctan a of log x = sin(theta) log d - cos(theta) log n: every degree,
    then by Brent's method next to the best.

    Args:
      widths: n, distinct, (W,).
      depths: d, distinct, (D,).
      values: positive, inf (never departed) or nan (missing), (D, W, seeds).
      resamples: of the bootstrap over seeds.
      seed: of the bootstrap.

    Returns:
      `FreeCollapse`.

    Raises:
      UserError: as for `collapse`, and where d and n do not vary independently.
    """
    n, d, y = grid(widths, depths, values)
    medians = log_medians(y, resamples, seed)
    used = _enough(medians)
    log_n, log_d = np.log(n[used]), np.log(d[used])
    if np.linalg.matrix_rank(np.stack([log_n, log_d, log_n**0])) < 3:
        rule = "widths and depths must vary independently"
        raise UserError("values", "one line of cells", rule, "fill more of the grid")
    z, draws, _ = _data(medians, used)
    angles = np.radians(np.arange(-89.0, 91.0))

    def residuals(theta: float) -> np.ndarray:
        return leave_one_out(np.sin(theta) * log_d - np.cos(theta) * log_n)

    # (angles, resamples and at last the data): no angle's matrices are kept.
    both = np.vstack([draws, z])
    table = np.array([_quality(residuals(theta), both)[0] for theta in angles])

    def best_angle(start: float, data: np.ndarray) -> float:
        near = start - np.radians(1), start + np.radians(1)
        found = optimize.minimize_scalar(
            lambda theta: _quality(residuals(theta), data[None])[0].item(),
            bounds=near,
            method="bounded",
            options={"xatol": 1e-3},
        )
        return float(found.x)

    starts = angles[table.argmin(0)]
    *drawn, theta = (best_angle(a, b) for a, b in zip(starts, both, strict=True))
    # Angles are known modulo pi: take those of the resamples next to the data's.
    turned = (np.array(drawn) - theta + np.pi / 2) % np.pi - np.pi / 2
    theta = (theta + np.pi / 2) % np.pi - np.pi / 2
    low, high = theta + np.quantile(turned, (0.025, 0.975))
    interval = (
        -math.inf if low <= -np.pi / 2 else float(np.tan(low)),
        math.inf if high >= np.pi / 2 else float(np.tan(high)),
    )
    if medians.seeds[used].min() < LEAST_SEEDS:
        interval = (math.nan, math.nan)
    quality = _quality(residuals(theta), z[None])[0].item()
    return FreeCollapse(float(np.tan(theta)), interval, quality, len(z))


def leave_one_out(log_x: np.ndarray) -> np.ndarray:
    """Matrices R with (R z)_i = z_i - (local-linear curve without cell i at x_i).

    The weight of cell j at x_i is exp(-(log x_j - log x_i)^2 / (2 h^2)), h the
    `BANDWIDTHS` times the standard deviation of log x.

    Args:
      log_x: (P,), not all equal.

    Returns:
      (bandwidths, P, P).
    """
    u = (log_x - log_x.mean()) / log_x.std()
    apart = u[None, :] - u[:, None]
    square = apart**2
    np.fill_diagonal(square, np.inf)
    # Relative to the nearest cell, so that a lonely one's weights do not vanish.
    far = square - square.min(1, keepdims=True)
    weight = np.exp(-far / (2 * BANDWIDTHS[:, None, None] ** 2))
    weight /= weight.sum(2, keepdims=True)
    apart = np.where(np.isinf(square), 0.0, apart)
    mean = (weight * apart).sum(2, keepdims=True)
    spread = (weight * (apart - mean) ** 2).sum(2, keepdims=True)
    # The curve at x_i is the weighted mean less slope times mean distance.  Where all
    # the weight is on one x, spread is 0 and the slope, unknown, is taken as 0.
    slope = weight * (apart - mean) / (spread + 1e-12)
    return np.eye(len(u)) - (weight - mean * slope)


class _Found(NamedTuple):
    name: str
    x: np.ndarray
    quality: float
    residual: np.ndarray
    drawn: np.ndarray


def _quality(residuals: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quality of each data set z (R, P) at its best bandwidth, and which that is."""
    errors = np.sum((z @ residuals.swapaxes(1, 2)) ** 2, -1)
    count = z.shape[1]
    without = (z - z.mean(1, keepdims=True)) * count / (count - 1)
    return errors.min(0) / np.sum(without**2, 1), errors.argmin(0)


def _data(medians: Medians, used: np.ndarray):
    """Log-medians (P,), resampled ones (R, P), their variance by seeds (P,)."""
    draws = medians.draws[:, used]
    enough = medians.seeds[used].min() >= LEAST_SEEDS
    noise = draws.var(0) if enough else np.full(used.sum(), np.nan)
    return medians.log_y[used], draws, noise


def _enough(medians: Medians) -> np.ndarray:
    used = medians.used
    if used.sum() < LEAST_CELLS:
        rule = f"a collapse needs {LEAST_CELLS} cells with finite medians"
        raise UserError("values", f"{used.sum()} cells", rule, "fill more of the grid")
    if np.ptp(medians.log_y[used]) < _ROUNDING:
        rule = "the medians of all cells are the same"
        raise UserError("values", "constant", rule, "there is nothing to explain")
    return used


def _log_variable(
    name: str, x: np.ndarray, shape: tuple[int, int], used: np.ndarray
) -> np.ndarray:
    field = f"candidates[{name!r}]"
    if x.shape != shape:
        rule = f"must be {shape}, depth first"
        raise UserError(f"{field}.shape", x.shape, rule, "give one x a cell")
    x = x.ravel()[used]
    if not np.all(np.isfinite(x) & (x > 0)):
        raise UserError(field, x.min(), "must be positive", "its logarithm is taken")
    if np.ptp(np.log(x)) < _ROUNDING:
        rule = "is the same in all cells"
        raise UserError(field, float(x[0]), rule, "leave it out")
    return np.log(x)


def _interval(
    value: float, drawn: np.ndarray, level: float = 0.05
) -> tuple[float, float]:
    """All but `level` of the resampled values, about the value itself.

    Resampled seeds carry the noise twice, which makes every quality a little larger:
    that shift is taken out.
    """
    low, high = np.quantile(drawn, (level / 2, 1 - level / 2)) - (drawn.mean() - value)
    return float(low), float(high)
