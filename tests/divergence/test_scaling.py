import numpy as np
import pytest

from testbed.divergence.scaling import log_medians, power_law, scaling_table
from testbed.errors import UserError

NAN, INF = np.nan, np.inf
WIDTHS, DEPTHS = [16, 32, 64, 128, 256], [2, 4, 8, 16]


def seeds_of(median, count, rng, sigma=0.3):
    """Log-normal values with these medians, seeds last."""
    median = np.asarray(median, np.float64)
    return median[..., None] * np.exp(sigma * rng.normal(size=(*median.shape, count)))


def grid_of(law, count=8, seed=0, sigma=0.3):
    """Values over the grid with median law(d, n)."""
    d, n = np.meshgrid(np.array(DEPTHS, float), np.array(WIDTHS, float), indexing="ij")
    return seeds_of(law(d, n), count, np.random.default_rng(seed), sigma)


def by_line(table):
    return {(fit.fixed, fit.at): fit for fit in table.fits}


def test_exact_power_law():
    """Without noise exponent and prefactor are exact and the residual vanishes."""
    x = np.array([3.0, 5, 8, 20])
    law = power_law(x, np.tile(7 * x[:, None] ** -0.7, 4))
    assert abs(law.exponent + 0.7) < 1e-12 and abs(law.prefactor - 7) < 1e-11
    assert law.residual < 1e-12 and law.points == 4 and law.reason == ""
    np.testing.assert_allclose(law.interval, -0.7, rtol=1e-12)


@pytest.mark.parametrize(("seeds", "points"), [(4, 3), (4, 5), (8, 4), (15, 5)])
def test_interval_covers_the_exponent(seeds, points):
    """95 % intervals hold the true exponent in .88 to .99 of 400 data sets."""
    rng = np.random.default_rng(seeds + points)
    n = np.array(WIDTHS[:points])
    laws = [
        power_law(n, seeds_of(2 * n**-0.7, seeds, rng), resamples=300, seed=i)
        for i in range(400)
    ]
    held = np.mean([law.interval[0] <= -0.7 <= law.interval[1] for law in laws])
    assert 0.88 <= held <= 0.99
    exponents = np.array([law.exponent for law in laws])
    error = exponents.std(ddof=1) / np.sqrt(400)
    assert abs(exponents.mean() + 0.7) < 4 * error


def test_interval_rejects_another_exponent():
    """Data of exponent -1 reject -1/2 in at least 95 of 100 data sets."""
    rng = np.random.default_rng(3)
    n = np.array(WIDTHS)
    laws = [power_law(n, seeds_of(1 / n, 8, rng), resamples=300) for _ in range(100)]
    assert np.sum([law.interval[1] < -0.5 for law in laws]) >= 95


def test_never_departed_counts_as_late():
    """Hiding the latest seeds as inf leaves the median, and so the fit, unchanged."""
    rng = np.random.default_rng(0)
    n = np.array(WIDTHS)
    y = seeds_of(n**0.5, 9, rng)
    late = np.sort(y, 1)
    late[:, -3:] = INF
    whole, hidden = power_law(n, y), power_law(n, late)
    assert hidden.exponent == pytest.approx(whole.exponent, abs=1e-12)
    assert hidden.never == 0 and hidden.points == 5
    assert np.isfinite(hidden.interval).all()
    # The mean over those that departed would come too early.
    assert np.exp(np.log(late[:, :6]).mean(1))[0] < np.exp(np.log(y).mean(1))[0]


def test_points_left_out_are_counted():
    """Medians at inf and unknown points are left out, nan seeds passed over."""
    y = np.array([[2.0, 2, 2], [4, 4, NAN], [8, 8, 8], [INF, INF, 9], [NAN] * 3])
    law = power_law([1, 2, 4, 8, 16], y)
    assert (law.points, law.never, law.missing) == (3, 1, 1)
    assert law.exponent == pytest.approx(1) and law.prefactor == pytest.approx(2)
    assert "no interval" in law.reason and np.isnan(law.interval).all()
    assert law.against(-1, -0.5) == "unknown"


def test_too_few_points():
    """Two points with finite medians are no fit, and it says why."""
    law = power_law([1, 2, 4], [[1.0, 1], [2, 2], [INF, INF]])
    assert np.isnan(law.exponent) and law.reason.startswith("2 points")
    law = power_law([2, 2, 2], np.ones((3, 4)))
    assert np.isnan(law.exponent) and "vary" in law.reason


def test_resampled_medians():
    """Bootstrap standard error of a median of 101 normals is near sigma 1.2533 / 10."""
    y = np.exp(np.random.default_rng(1).normal(size=(40, 101)))
    medians = log_medians(y, 400)
    variance = medians.draws.var(0).mean()
    assert abs(medians.log_y.mean()) < 4 * 0.125 / np.sqrt(40)
    # Its relative bias is O(1/sqrt(seeds)), 0.1 here; that of the mean's would be -.36.
    assert 0.9 < variance / (np.pi / 2 / 101) < 1.3


def test_table_has_every_line():
    """y = 5 d^1.5 n^-0.8: every row, column, diagonal and the joint fit."""
    table = scaling_table(WIDTHS, DEPTHS, grid_of(lambda d, n: 5 * d**1.5 * n**-0.8))
    lines = by_line(table)
    for fixed, sizes in (("depth", DEPTHS), ("width", WIDTHS)):
        assert [at for name, at in lines if name == fixed] == sizes
    # d/n goes from 1/128 to 1; 1 or 2 cells share it at the ends.
    ratios = [at for name, at in lines if name == "ratio"]
    assert ratios == [1 / 32, 1 / 16, 1 / 8, 1 / 4]
    truth = {"depth": -0.8, "width": 1.5, "ratio": 0.7}
    inside = [
        fit.law.interval[0] <= truth[fit.fixed] <= fit.law.interval[1]
        for fit in table.fits
    ]
    assert np.mean(inside) >= 0.75
    joint = table.joint
    assert joint.depth_interval[0] <= 1.5 <= joint.depth_interval[1]
    assert joint.width_interval[0] <= -0.8 <= joint.width_interval[1]
    assert joint.depth_interval[1] < 2 and joint.width_interval[0] > -1
    assert joint.r_squared > 0.98 and joint.points == 20
    assert joint.agreement == "within"


def test_joint_interval_covers():
    """The joint fit's intervals hold both exponents in .88 to .99 of 200 data sets."""
    held = np.zeros(2)
    for i in range(200):
        y = grid_of(lambda d, n: d / n**0.7, count=5, seed=i)
        joint = scaling_table(WIDTHS, DEPTHS, y, resamples=200).joint
        (a, b), (e, f) = joint.depth_interval, joint.width_interval
        held += (a <= 1 <= b, e <= -0.7 <= f)
    assert np.all(held / 200 >= 0.88) and np.all(held / 200 <= 0.99)


@pytest.mark.parametrize(
    ("exponent", "sigma", "verdict"),
    [(-0.75, 0.05, "within"), (-1, 0.3, "compatible"), (-2, 0.3, "outside")],
)
def test_agreement_with_theory(exponent, sigma, verdict):
    """Within, overlapping and outside [-1, -1/2]; asked only at fixed depth."""
    y = grid_of(lambda d, n: d * n**exponent, sigma=sigma)
    table = scaling_table(WIDTHS, DEPTHS, y)
    verdicts = [fit.agreement for fit in table.fits if fit.fixed == "depth"]
    assert verdicts.count(verdict) >= 3
    assert {fit.agreement for fit in table.fits if fit.fixed != "depth"} == {""}
    other = scaling_table(WIDTHS, DEPTHS, 1 / y, expected=(0.5, 1.0))
    assert other.fits[0].agreement == table.fits[0].agreement


def test_grid_with_holes():
    """Missing cells leave the rest as it was; a line with too few cells says why."""
    y = grid_of(lambda d, n: d / n)
    y[0, 2:] = NAN
    y[1, 0] = INF
    table = scaling_table(WIDTHS, DEPTHS, y)
    lines = by_line(table)
    assert "2 points" in lines["depth", 2].law.reason
    assert lines["depth", 2].agreement == "unknown"
    assert lines["depth", 4].law.never == 1 and lines["depth", 4].law.points == 4
    assert table.joint.never == 1 and table.joint.missing == 3
    assert table.joint.points == 16
    assert ("ratio", 1 / 64) not in lines


def test_joint_needs_two_directions():
    """On one diagonal d/n the exponents of d and n cannot be told apart."""
    y = np.full((4, 4, 3), NAN)
    y[range(4), range(4)] = 1.0
    joint = scaling_table([8, 16, 32, 64], [2, 4, 8, 16], y).joint
    assert "independently" in joint.reason and np.isnan(joint.r_squared)
    nothing = scaling_table([8, 16], [2, 4], np.full((2, 2, 3), NAN)).joint
    assert nothing.missing == 4 and "0 points" in nothing.reason


def test_numbers_are_plain():
    """Fields are Python numbers, so that a fit goes into JSON as it is."""
    law = power_law([1, 2, 4], np.ones((3, 4)))
    assert type(law.exponent) is float and type(law.interval[0]) is float
    assert type(law.points) is int and type(law.never) is int


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("x=", ([0, 1, 2], np.ones((3, 2)))),
        ("x.shape", ([1, 2], np.ones((3, 2)))),
        ("y_seeds=", ([1, 2, 4], np.zeros((3, 2)))),
        ("y_seeds.shape", ([1, 2, 4], np.ones(3))),
    ],
)
def test_power_law_arguments(field, arguments):
    """Sizes and values must be positive and fit together."""
    with pytest.raises(UserError, match=field):
        power_law(*arguments)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("widths", ([8, 8], [1, 2], np.ones((2, 2, 3)))),
        ("depths", ([8, 16], [0, 2], np.ones((2, 2, 3)))),
        ("values.shape", ([8, 16, 32], [1, 2], np.ones((3, 2, 3)))),
    ],
)
def test_table_arguments(field, arguments):
    """Sizes are distinct and positive; depth comes first in the values."""
    with pytest.raises(UserError, match=field):
        scaling_table(*arguments)
    with pytest.raises(UserError, match="resamples"):
        power_law([1, 2, 4], np.ones((3, 2)), resamples=0)
