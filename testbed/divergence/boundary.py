"""Where, in depth, a network of one width passes a threshold: bisection with noise.

    d*(n): the depth at which the geometric mean of y over networks is the threshold

Assumed: the mean of log y rises (or falls) with depth.  A search asks for networks at a
depth of a grid, tells from the mean of log(y / threshold), by its 99 % t interval, on
which side of d* they are, asks for as many again while it cannot tell, and halves what
is left of the grid: log2(depths + 1) depths in all, rounded up, and a few beyond these
where they do not bound d*.  Then it interpolates, linearly in log d, between the depths
measured.  Depths that contradict the assumption are reported, not corrected.

`search` decides and keeps no state; whoever calls it trains the networks:

    while isinstance(step := search(measured, 0.1, depths), Run):
        more = train(step.depth, step.seeds)
        measured[step.depth] = [*measured.get(step.depth, []), *more]

Source: derived here; the interval of d* holds the depths that 95 % t intervals do not
exclude.  Sides are told at 99 % because looking again after every batch errs more
often than one look.  The standard error of the mean of log y is taken to be 0.01 at
least: departure times lie on the grid of recorded times, so that all networks of a
depth may share one, and no spread at all is not to mean no doubt at all.  Measured
here, for y ~ d, 0.3 of noise in log y and 16 depths from 1 to 256: 4.2 depths and 63
networks on average, log d* to 0.05, held by the interval in .91 of the searches.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from testbed.divergence.scaling import positive
from testbed.errors import UserError

_LEAST_ERROR = 0.01


@dataclasses.dataclass(frozen=True)
class Run:
    """A request: train this many further networks of this depth."""

    depth: int
    seeds: int


@dataclasses.dataclass(frozen=True)
class Level:
    """What the networks of one depth measured.

    Attributes:
      depth: d.
      mean: geometric mean of y; inf where most networks are at inf.
      interval: 95 %, of the mean.
      seeds: how many networks are known.
      infinite: how many of them are at inf.
    """

    depth: int
    mean: float
    interval: tuple[float, float]
    seeds: int
    infinite: int


@dataclasses.dataclass(frozen=True)
class Boundary:
    """Where the threshold is passed.

    Attributes:
      star: d*; inf if no depth of the grid is beyond it, 0 if every one is, nan if
        nothing is known of any.
      interval: 95 %; an end is 0 or inf where no measured depth bounds it.
      bracket: the neighbouring depths between which sides change, 0 or inf for none.
      depths: how many depths were measured.
      seeds: how many networks that took.
      missing: depths given up because nothing is known of their networks.
      violations: pairs of depths (shallow, deep) that are, beyond their intervals, in
        the wrong order.
      levels: of the measured depths, ascending.
    """

    star: float
    interval: tuple[float, float]
    bracket: tuple[float, float]
    depths: int
    seeds: int
    missing: tuple[int, ...]
    violations: tuple[tuple[int, int], ...]
    levels: tuple[Level, ...]


def depth_grid(lowest: int, highest: int, per_doubling: int = 2) -> list[int]:
    """Whole depths from lowest to highest, about evenly spaced in log depth.

    Args:
      lowest: >= 1.
      highest: > lowest.
      per_doubling: how many to a factor of 2, as far as whole numbers allow.

    Raises:
      UserError: lowest < 1, highest <= lowest, or per_doubling < 1.

    Example:
      >>> depth_grid(1, 16)
      [1, 2, 3, 4, 6, 8, 11, 16]
    """
    if lowest < 1:
        raise UserError("lowest", lowest, "must be at least 1", "start at depth 1")
    if highest <= lowest:
        raise UserError("highest", highest, f"must exceed {lowest}", "go deeper")
    if per_doubling < 1:
        raise UserError("per_doubling", per_doubling, "must be at least 1", "2 will do")
    count = math.ceil(per_doubling * math.log2(highest / lowest)) + 1
    return sorted({round(d) for d in np.geomspace(lowest, highest, count)})


def search(
    measured: Mapping[int, ArrayLike],
    threshold: float,
    depths: Sequence[int],
    *,
    rises: bool = True,
    seeds: int = 4,
    most_seeds: int = 32,
) -> Run | Boundary:
    """What to train next for d*, or the answer.

    Args:
      measured: {depth: y of its networks, (seeds,)}, positive; inf is beyond any
        threshold (a diverged distance, or a time at which nothing departed yet), nan a
        network of which nothing is known.
      threshold: > 0.
      depths: the grid, whole and ascending.
      rises: whether y rises with depth; departure times fall.
      seeds: networks trained first at a depth; then as many again, and so on.
      most_seeds: at most at a depth; one still undecided then is on its mean's side.

    Returns:
      `Run`, or `Boundary` when two neighbours of the grid enclose d*, or an end does.

    Raises:
      UserError: threshold or y not positive, seeds < 2 or > most_seeds, depths not
        ascending, or a measured depth that is not among them.
    """
    _check(measured, threshold, depths, seeds, most_seeds)
    sizes = {d: np.size(y) for d, y in measured.items()}
    levels = {d: _level(y, threshold, rises) for d, y in measured.items()}
    missing = tuple(
        d for d in depths if sizes.get(d, 0) >= most_seeds and levels[d] is None
    )
    left = [d for d in depths if d not in missing]
    low, high = -1, len(left)
    while high - low > 1:
        middle = (low + high) // 2
        depth = left[middle]
        size, level = sizes.get(depth, 0), levels.get(depth)
        rung = seeds
        while rung < size:
            rung *= 2
        rung = min(rung, most_seeds)
        # Looks come at whole rungs alone, also where a kill left part of one: what is
        # found is not to depend on it.
        if size < rung:
            return Run(depth, rung - size)
        if (level is None or level.undecided) and size < most_seeds:
            return Run(depth, min(size, most_seeds - size))
        if level is not None and level.mean > 0:
            high = middle
        else:
            low = middle
    known = {d: level for d in left if (level := levels.get(d)) is not None}
    interval = _star_interval(known)
    outwards = [left.index(min(known)) - 1] if known and interval[0] == 0 else []
    if known and math.isinf(interval[1]):
        outwards.append(left.index(max(known)) + 1)
    for beyond in outwards:
        if 0 <= beyond < len(left):
            depth = left[beyond]
            return Run(depth, min(seeds, most_seeds - sizes.get(depth, 0)))
    bracket = (
        float(left[low]) if low >= 0 else 0.0,
        float(left[high]) if high < len(left) else math.inf,
    )
    return Boundary(
        _star(known, bracket),
        interval,
        bracket,
        len(sizes),
        sum(sizes.values()),
        missing,
        _violations(known),
        tuple(_shown(d, v, measured[d], threshold, rises) for d, v in known.items()),
    )


class _Level(NamedTuple):
    """Mean of log(y / threshold), positive beyond d*, and half its 95 % interval."""

    mean: float
    half: float
    undecided: bool


def _level(y: ArrayLike, threshold: float, rises: bool) -> _Level | None:
    """The level of a depth; None if fewer than two networks are known.

    Where most are at inf the depth is beyond any doubt.  Fewer count as much as the
    largest of the others, or as the threshold: their least.
    """
    sign = 1 if rises else -1
    z = np.log(np.asarray(y, np.float64)) - math.log(threshold)
    z = z[~np.isnan(z)]
    if z.size < 2:
        return None
    infinite = np.isinf(z)
    if infinite.sum() > z.size / 2:
        return _Level(sign * math.inf, 0.0, False)
    z[infinite] = max(0.0, z[~infinite].max())
    mean = sign * z.mean()
    error = max(z.std(ddof=1) / math.sqrt(z.size), _LEAST_ERROR)
    half, wide = special.stdtrit(z.size - 1, (0.975, 0.995)) * error
    return _Level(float(mean), float(half), bool(abs(mean) <= wide))


def _shown(
    depth: int, level: _Level, y: ArrayLike, threshold: float, rises: bool
) -> Level:
    sign = 1 if rises else -1
    mean = threshold * _exp(sign * level.mean)
    ends = mean * _exp(-level.half), mean * _exp(level.half)
    known = np.asarray(y, np.float64)
    known = known[~np.isnan(known)]
    return Level(depth, mean, ends, known.size, int(np.isinf(known).sum()))


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:  # two networks far apart
        return math.inf


def _star(known: Mapping[int, _Level], bracket: tuple[float, float]) -> float:
    low, high = bracket
    if not known:
        return math.nan
    if low == 0 or math.isinf(high):
        return low if low == 0 else high
    below, above = known[int(low)].mean, known[int(high)].mean
    # Beyond the threshold by infinity says nothing of where between the two.
    share = -below / (above - below) if math.isfinite(above - below) else 0.5
    return low * (high / low) ** share


def _star_interval(known: Mapping[int, _Level]) -> tuple[float, float]:
    """From the shallowest depth not known to be short of d* to the deepest not beyond.

    Between two depths the mean is interpolated in log d, and with it its half interval,
    as that of independent estimates.
    """
    depths, levels = list(known), list(known.values())
    low, high = 0.0, math.inf
    short = next((i for i, v in enumerate(levels) if v.mean + v.half >= 0), len(levels))
    if short == len(levels):
        low = float(max(depths, default=0))
    elif short > 0:
        low = _crossing(depths, levels, short - 1, 1)
    beyond = next((i for i, v in enumerate(levels[::-1]) if v.mean - v.half <= 0), None)
    if beyond is None:
        high = float(min(depths, default=math.inf))
    elif beyond > 0:
        high = _crossing(depths, levels, len(levels) - beyond - 1, -1)
    return low, high


def _crossing(depths: list[int], levels: list[_Level], i: int, side: int) -> float:
    """Where, from depth i to the next, the mean plus `side` half intervals is 0."""
    a, b = levels[i], levels[i + 1]
    if not math.isfinite(a.mean + b.mean):
        return float(depths[i] if side > 0 else depths[i + 1])

    def end(share: float) -> float:
        half = math.hypot((1 - share) * a.half, share * b.half)
        return (1 - share) * a.mean + share * b.mean + side * half

    share = float(optimize.root_scalar(end, bracket=(0.0, 1.0)).root)
    return depths[i] * (depths[i + 1] / depths[i]) ** share


def _violations(known: Mapping[int, _Level]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (shallow, deep)
        for shallow, a in known.items()
        for deep, b in known.items()
        if shallow < deep and a.mean - a.half > b.mean + b.half
    )


def _check(
    measured: Mapping[int, ArrayLike],
    threshold: float,
    depths: Sequence[int],
    seeds: int,
    most_seeds: int,
) -> None:
    grid = positive("depths", depths)
    if not grid.size or np.any(np.diff(grid) <= 0) or np.any(grid % 1):
        rule = "must be whole and ascending"
        raise UserError("depths", list(depths), rule, "see `depth_grid`")
    if not (threshold > 0 and math.isfinite(threshold)):
        rule = "must be positive and finite"
        raise UserError("threshold", threshold, rule, "its logarithm is taken")
    if seeds < 2:
        rule = "must be at least 2"
        raise UserError("seeds", seeds, rule, "one network has no spread")
    if most_seeds < seeds:
        rule = f"must be at least seeds={seeds}"
        raise UserError("most_seeds", most_seeds, rule, "raise it")
    for depth, y in measured.items():
        if depth not in depths:
            rule = "is not a depth of the grid"
            raise UserError("measured", depth, rule, "leave it out")
        y = np.asarray(y, np.float64)
        if y.ndim != 1 or np.any(y <= 0):
            rule = "must be a list of positive numbers"
            raise UserError(f"measured[{depth}]", y.tolist(), rule, "nan is unknown")
