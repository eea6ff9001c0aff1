import math

import numpy as np
import pytest

from testbed.divergence.boundary import Boundary, Run, depth_grid, search
from testbed.divergence.boundary_fit import boundary_fit
from testbed.errors import UserError

NAN, INF = np.nan, np.inf
GRID = depth_grid(1, 256)
THRESHOLD = 0.1


def find(y, rises=True, grid=GRID, **options):
    """Runs a search on y(depth, seeds); the boundary, what was run and measured."""
    measured, runs = {}, []
    step = search(measured, THRESHOLD, grid, rises=rises, **options)
    while isinstance(step, Run):
        runs.append(step)
        new = y(step.depth, step.seeds)
        measured[step.depth] = [*measured.get(step.depth, []), *new]
        step = search(measured, THRESHOLD, grid, rises=rises, **options)
        assert len(runs) < 100
    return step, runs, measured


def power(star, slope, sigma, rng):
    """y = threshold (d / d*)^slope with log-normal noise."""

    def y(depth, count):
        noise = np.exp(sigma * rng.normal(size=count))
        return THRESHOLD * (depth / star) ** slope * noise

    return y


def test_grid_is_even_in_log_depth():
    """Whole depths, once each, ends included; neighbours no further than asked."""
    assert GRID[0] == 1 and GRID[-1] == 256 and len(GRID) == 16
    assert depth_grid(3, 5) == [3, 4, 5]
    grid = depth_grid(16, 512, 3)
    assert np.all(np.diff(np.log2(grid)) < 1 / 3 + 0.05)


def test_without_noise_it_is_exact():
    """A power law's d* comes out to rounding, from at most log2(16 + 1) -> 5 depths.

    Its interval is that of a standard error of 0.01 in log y.
    """
    for star in (1.5, 7.3, 40.0, 200.0):
        boundary, runs, _ = find(lambda d, k, s=star: [THRESHOLD * (d / s) ** 0.8] * k)
        assert isinstance(boundary, Boundary)
        assert boundary.star == pytest.approx(star, rel=1e-12)
        # From .71 standard errors, halfway, to one at a depth, over the slope.
        low, high = abs(np.log(np.array(boundary.interval) / star)) * 0.8
        t = 3.182446
        assert 0.7 * 0.01 * t < low < 0.01 * t and 0.7 * 0.01 * t < high < 0.01 * t
        low, high = boundary.bracket
        assert low < star < high and GRID.index(int(high)) == GRID.index(int(low)) + 1
        assert boundary.depths == len(runs) <= 5 and boundary.seeds == 4 * len(runs)


@pytest.mark.parametrize(("rises", "sigma"), [(True, 0.3), (False, 0.5)])
def test_noisy_search(rises, sigma):
    """300 searches: interval holds d* in .88 to .99; 5 of 16 depths, 100 networks."""
    rng = np.random.default_rng(0)
    held, errors, depths, networks = [], [], [], []
    for _ in range(300):
        star = np.exp(rng.uniform(np.log(3), np.log(80)))
        boundary, *_ = find(power(star, 1 if rises else -1, sigma, rng), rises)
        held.append(boundary.interval[0] <= star <= boundary.interval[1])
        errors.append(math.log(boundary.star / star))
        depths.append(boundary.depths)
        networks.append(boundary.seeds)
        assert boundary.interval[0] <= boundary.star <= boundary.interval[1]
    assert 0.88 <= np.mean(held) <= 0.99
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(300)
    # A wrong slope of interpolation or a bias of a grid step, 0.35, would show.
    assert np.sqrt(np.mean(np.square(errors))) < 0.15
    assert np.mean(depths) < 5 and np.mean(networks) < 100


def test_seeds_are_spent_next_to_the_boundary():
    """Far from d* the first batch decides; beside it as many again are asked for."""
    _, runs, measured = find(power(30.0, 1.0, 0.3, np.random.default_rng(1)))
    assert runs[0] == Run(16, 4)
    near = {d: len(y) for d, y in measured.items()}
    assert max(near, key=lambda d: near[d]) in (23, 32)
    assert near[max(near)] == 4 or max(near) <= 45
    assert max(near.values()) <= 32


def test_decisions_one_by_one():
    """Nothing known: the middle; passed: shallower; undecided: as many again."""
    grid = [1, 2, 4, 8, 16]
    assert search({}, 1.0, grid) == Run(4, 4)
    assert search({4: [9.0, 9.1]}, 1.0, grid) == Run(4, 2)
    assert search({4: [9.0, 9.1, 9.2, 9.3]}, 1.0, grid) == Run(1, 4)
    assert search({4: [0.1, 0.11, 0.12, 0.13]}, 1.0, grid) == Run(8, 4)
    falls = search({4: [0.1, 0.11, 0.12, 0.13]}, 1.0, grid, rises=False)
    assert falls == Run(1, 4)
    wide = [0.2, 0.9, 1.1, 5.0]
    assert search({4: wide}, 1.0, grid) == Run(4, 4)
    assert search({4: wide}, 1.0, grid, most_seeds=6) == Run(4, 2)
    decided_by_mean = search({4: wide}, 1.0, grid, most_seeds=4)
    assert decided_by_mean == Run(8, 4)


def test_part_of_a_rung_is_completed_before_it_is_judged():
    """12 of 16 networks, as a kill leaves them: 4 more, whatever the 12 say."""
    grid = [1, 2, 4, 8, 16]
    surely_past = [9.0, 9.1, 9.2, 9.3] * 3
    assert search({4: surely_past}, 1.0, grid) == Run(4, 4)
    assert search({4: surely_past}, 1.0, grid, most_seeds=12) == Run(1, 4)
    assert search({4: surely_past + [9.0] * 4}, 1.0, grid) == Run(1, 4)


def test_equal_times_leave_some_doubt():
    """Departure times lie on a grid; an exact one would break the fit of the law."""
    times = {4: [0.3] * 4, 8: [0.1] * 4}
    boundary = search(times, 0.2, [4, 8], rises=False)
    assert isinstance(boundary, Boundary)
    low, high = boundary.interval
    assert 4 < low < boundary.star < high < 8 and high / low < 1.1
    # Within that doubt of the threshold, more networks are asked for.
    assert search({4: [0.201] * 4}, 0.2, [4, 8], rises=False) == Run(4, 4)


def test_networks_far_apart_do_not_overflow():
    """Two networks 1e60 apart: the interval's ends leave the numbers, quietly."""
    boundary = search({1: [1e-30, 1e30]}, 2.0, [1], seeds=2, most_seeds=2)
    assert isinstance(boundary, Boundary)
    (level,) = boundary.levels
    assert level.mean == pytest.approx(1.0) and level.interval == (0, INF)


def test_never_past():
    """No depth of the grid beyond the threshold: d* is inf, above the deepest."""
    boundary, runs, _ = find(power(1e4, 1.0, 0.3, np.random.default_rng(0)))
    assert boundary.star == INF and boundary.bracket == (256, INF)
    assert boundary.interval == (256, INF)
    assert len(runs) <= 5


def test_always_past():
    """Every depth beyond: d* is 0, below the shallowest."""
    boundary, runs, _ = find(power(1e-3, 1.0, 0.3, np.random.default_rng(0)))
    assert boundary.star == 0 and boundary.bracket == (0, 1)
    assert boundary.interval == (0, 1)
    assert len(runs) <= 5


def test_diverged_and_never_departed():
    """inf is beyond: a diverged distance past, a departure that never came not past."""
    diverged, *_ = find(lambda d, k: [INF if d > 20 else 0.01] * k)
    assert diverged.bracket == (16, 23) and diverged.interval == (16, 23)
    assert diverged.star == pytest.approx(math.sqrt(16 * 23))
    departed, *_ = find(lambda d, k: [0.01 if d > 20 else INF] * k, rises=False)
    assert departed.bracket == (16, 23) and departed.interval == (16, 23)
    # One network of four at inf counts at least as the largest of the others.
    some = search({4: [9.0, 9.1, 9.2, INF]}, 1.0, [1, 2, 4, 8, 16])
    assert some == Run(1, 4)


def test_missing_networks():
    """nan is passed over; a depth of which nothing comes back is given up."""
    rng = np.random.default_rng(0)
    y = power(30.0, 1.0, 0.1, rng)
    boundary, *_ = find(lambda d, k: [NAN] * k if d == 16 else y(d, k))
    assert boundary.missing == (16,) and boundary.star == pytest.approx(30, rel=0.1)
    nothing, *_ = find(lambda d, k: [NAN] * k, grid=[2, 4], most_seeds=4)
    assert np.isnan(nothing.star) and nothing.missing == (2, 4)
    assert nothing.interval == (0, INF)


def test_violations_are_reported():
    """A depth that is surely back below the threshold contradicts the assumption."""
    noise = np.array([0.98, 1.0, 1.01, 1.02])
    measured = {1: 0.1 * noise, 2: 5 * noise, 4: 0.2 * noise, 8: 9 * noise}
    boundary = search(measured, 1.0, [1, 2, 4, 8])
    assert isinstance(boundary, Boundary)
    assert boundary.violations == ((2, 4),)
    # What cannot be told apart is no violation.
    del measured[4]
    measured[8] = np.array([0.5, 3, 9, 60])
    boundary = search(measured, 1.0, [1, 2, 8], most_seeds=4)
    assert isinstance(boundary, Boundary) and boundary.violations == ()


def test_levels_are_what_was_measured():
    """Geometric means with t intervals; inf where most are; nan does not count."""
    measured = {1: [0.25, 1.0], 2: [4.0, 16.0, NAN], 4: [INF, INF, 9.0]}
    turned = {8 // depth: y for depth, y in measured.items()}
    for rises, y in ((True, measured), (False, turned)):
        boundary = search(y, 2.0, sorted(y), rises=rises, seeds=2, most_seeds=2)
        assert isinstance(boundary, Boundary)
        assert [level.depth for level in boundary.levels] == sorted(y)
        low, middle, high = sorted(boundary.levels, key=lambda level: level.mean)
        assert [low.mean, middle.mean, high.mean] == pytest.approx([0.5, 8.0, INF])
        assert [low.seeds, middle.seeds, high.seeds] == [2, 2, 3]
        assert [low.infinite, middle.infinite, high.infinite] == [0, 0, 2]
        # log y is +-log 2 around its mean: a standard error of log 2, one freedom.
        t = 12.706205
        assert low.interval == pytest.approx((0.5 / 2**t, 0.5 * 2**t), rel=1e-5)
        assert high.interval == (INF, INF)


def stars_of(exponent, widths, rng, error=0.15):
    log_star = np.log(0.5) + exponent * np.log(widths) + error * rng.normal(size=5)
    ends = log_star[:, None] + 1.96 * error * np.array([-1, 1])
    return np.exp(log_star), np.exp(ends)


def test_boundary_exponent():
    """Of 400 fits .88 to .99 hold the exponent, and nearly all reject another."""
    rng = np.random.default_rng(0)
    widths = np.array([16, 32, 64, 128, 256])
    laws = [boundary_fit(widths, *stars_of(1.0, widths, rng)) for _ in range(400)]
    low, high = np.array([law.interval for law in laws]).T
    assert 0.88 <= np.mean((low <= 1) & (1 <= high)) <= 0.99
    assert np.mean(low > 0.5) > 0.95
    exponents = np.array([law.exponent for law in laws])
    assert abs(exponents.mean() - 1) < 4 * exponents.std() / 20


def test_boundary_fit_weighs():
    """Exact stars give the exact exponent; a wide interval has little weight."""
    widths = np.array([16.0, 32, 64, 128])
    stars = 3 * widths**0.5
    ends = stars[:, None] * np.array([0.9, 1.1])
    law = boundary_fit(widths, stars, ends)
    assert law.exponent == pytest.approx(0.5) and law.prefactor == pytest.approx(3)
    off = stars * np.array([1, 1, 1, 4])
    wide = np.vstack([ends[:3], [off[3] / 1e3, off[3] * 1e3]])
    assert abs(boundary_fit(widths, off, wide).exponent - 0.5) < 0.01
    tight = boundary_fit(widths, off, off[:, None] * np.array([0.9, 1.1]))
    assert tight.exponent > 1
    # Stars that scatter beyond their intervals widen the exponent's.
    assert np.ptp(tight.interval) > 5 * np.ptp(law.interval)


def test_boundary_fit_leaves_out():
    """Stars not on the grid and open intervals are counted, and too few are no fit."""
    widths = [8, 16, 32, 64, 128, 256]
    stars = [0, 4, 8, 16, 32, INF]
    ends = np.array([[0, 1], [3, 5], [7, 9], [15, 17], [20, INF], [99, INF]])
    law = boundary_fit(widths, stars, ends)
    assert (law.points, law.never, law.missing) == (3, 2, 1)
    assert law.exponent == pytest.approx(1)
    without = np.where(np.arange(6)[:, None] == 2, 8, ends)  # length, so without weight
    assert boundary_fit(widths, stars, without).missing == 2
    none = boundary_fit(widths[:3], stars[:3], ends[:3])
    assert np.isnan(none.exponent) and none.reason.startswith("2 bounded")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("threshold", {"threshold": 0.0}),
        ("depths", {"depths": [4, 2]}),
        ("depths", {"depths": []}),
        ("measured=3", {"measured": {3: [1.0]}}),
        (r"measured\[2\]", {"measured": {2: [0.0, 1.0]}}),
        ("seeds", {"seeds": 1}),
        ("most_seeds", {"most_seeds": 3}),
    ],
)
def test_search_arguments(field, change):
    """Bad settings are refused by name."""
    arguments = {"measured": {}, "threshold": 1.0, "depths": [1, 2, 4]} | change
    with pytest.raises(UserError, match=field):
        search(**arguments)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("lowest", (0, 4)), ("highest", (4, 4)), ("per_doubling", (1, 4, 0))],
)
def test_grid_arguments(field, arguments):
    """A grid needs two ends and a spacing."""
    with pytest.raises(UserError, match=field):
        depth_grid(*arguments)


def test_fit_arguments():
    """Shapes match, and stars lie in their intervals."""
    with pytest.raises(UserError, match="stars"):
        boundary_fit([1, 2, 4], [1, 2], np.ones((2, 2)))
    with pytest.raises(UserError, match="intervals"):
        boundary_fit([1, 2, 4], [1, 2, 4], np.tile([5.0, 6.0], (3, 1)))
