import numpy as np
import pytest

from testbed.divergence import gaussian_agreement, spread

REPEATS, NETWORKS, POINTS, OUTPUTS = 400, 64, 12, 2
MEAN = np.linspace(-1.0, 2.0, POINTS * OUTPUTS).reshape(POINTS, OUTPUTS)
AT = np.linspace(0.0, 1.0, POINTS)
# Neighbouring points correlated at 0.98, as those of a network are.
COVARIANCE = np.exp(-0.5 * (AT[:, None] - AT) ** 2 / 0.4**2) * np.outer(1 + AT, 1 + AT)
VARIANCE = np.diag(COVARIANCE)


def draws(shift=0.0, scale=1.0, networks=NETWORKS):
    """Ensembles of exact draws of the process, (repeats, networks, points, outputs)."""
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(COVARIANCE + 1e-12 * np.eye(POINTS))
    noise = rng.standard_normal((REPEATS, networks, POINTS, OUTPUTS))
    return MEAN + shift + scale * np.einsum("ij,...jc->...ic", root, noise)


@pytest.fixture(scope="module")
def true():
    return gaussian_agreement(draws(), MEAN, VARIANCE)


def off_one(values):
    """(mean - 1) in units of its standard error over repeats (axis 0)."""
    return (values.mean(0) - 1) / (values.std(0) / REPEATS**0.5)


def test_mean_z_is_standard_normal_under_the_law(true):
    """Every z of the ensemble mean is N(0, 1), and the mean of z^2 over points is 1."""
    z = true.mean_z
    # 24 entries each: 4 standard errors, of which chance passes 0.2 % of the time.
    assert np.abs(z.mean(0)).max() < 4 / REPEATS**0.5
    assert np.abs((z**2).mean(0) - 1).max() < 4 * (2 / REPEATS) ** 0.5
    assert abs(off_one(true.mean_z_rms**2)) < 4


def test_variance_ratios_are_unbiased_with_the_stated_error(true):
    """Ratios average to 1; a point's has the standard error sqrt(2 / (C (E - 1)))."""
    assert np.abs(off_one(true.point_ratio)).max() < 4
    assert abs(off_one(true.variance_ratio)) < 4
    measured = true.point_ratio.std(0)
    # A standard deviation over R repeats is known to 1/sqrt(2 R) = 3.5 %.
    np.testing.assert_allclose(measured, true.point_ratio_se, rtol=4 * 0.035)


def test_variance_test_is_calibrated_and_counting_points_is_not(true):
    """The jackknife's z has spread 1; with points counted as independent it is > 2."""
    measured = true.variance_ratio.std()
    # Jackknife errors at E = 64 are known to ~10 % each, their mean far better.
    np.testing.assert_allclose(true.variance_ratio_se.mean(), measured, rtol=0.1)
    z = true.variance_ratio_z
    assert 0.85 < z.std() < 1.3  # 1, plus the t-like tails of an estimated error
    assert np.mean(np.abs(z) > 4) < 0.01
    naive = (2 / (POINTS * OUTPUTS * (NETWORKS - 1))) ** 0.5
    assert ((true.variance_ratio - 1) / naive).std() > 2


def test_shifted_mean_is_rejected(true):
    """A shift of one standard deviation (z = 8) shows in the mean, not the variance."""
    shifted = gaussian_agreement(
        draws(shift=np.sqrt(VARIANCE)[:, None]), MEAN, VARIANCE
    )
    assert shifted.mean_z_rms.min() > true.mean_z_rms.max()
    assert abs(np.mean(shifted.mean_z) - NETWORKS**0.5) < 0.1
    np.testing.assert_allclose(shifted.variance_ratio, true.variance_ratio, rtol=1e-12)


def test_doubled_variance_is_rejected(true):
    """Twice the variance shows as ratio 2 at z > 3 in nearly every ensemble."""
    doubled = gaussian_agreement(draws(scale=2**0.5), MEAN, VARIANCE)
    np.testing.assert_allclose(doubled.variance_ratio, 2 * true.variance_ratio)
    assert np.mean(doubled.variance_ratio_z > 3) > 0.9
    assert np.mean(true.variance_ratio_z > 3) < 0.01


def test_jackknife_is_that_of_leaving_networks_out():
    """se^2 = (E - 1)/E sum_i (R without i - mean)^2, by explicit leaving out."""
    outputs = draws(networks=5)[0]
    got = gaussian_agreement(outputs, MEAN, VARIANCE)
    ratio = lambda f: (f.var(0, ddof=1) / VARIANCE[:, None]).mean()  # noqa: E731
    without = [ratio(np.delete(outputs, i, 0)) for i in range(5)]
    expected = np.sqrt(4 / 5 * np.sum((np.array(without) - np.mean(without)) ** 2))
    np.testing.assert_allclose(got.variance_ratio, ratio(outputs), rtol=1e-12)
    np.testing.assert_allclose(got.variance_ratio_se, expected, rtol=1e-12)
    np.testing.assert_allclose(
        got.variance_ratio_z, (ratio(outputs) - 1) / expected, rtol=1e-12
    )


def test_leading_axes_are_kept():
    """A stack of ensembles gives the stack of answers, here with a law a time."""
    outputs = draws(networks=4)[:3]
    mean, variance = np.stack([MEAN] * 3), VARIANCE * np.array([[1.0], [2.0], [3.0]])
    got = gaussian_agreement(outputs, mean, variance)
    assert got.mean_z.shape == (3, POINTS, OUTPUTS)
    assert got.point_ratio.shape == (3, POINTS)
    for i in range(3):
        one = gaussian_agreement(outputs[i], mean[i], variance[i])
        for name in ("mean_z", "mean_z_rms", "point_ratio", "variance_ratio_z"):
            np.testing.assert_allclose(
                getattr(got, name)[i], getattr(one, name), rtol=1e-12
            )


@pytest.mark.parametrize("networks", [1, 2])
def test_what_few_networks_cannot_tell_is_nan(networks):
    """E = 1 has a mean but no variance; E = 2 has a variance but no jackknife."""
    got = gaussian_agreement(draws(networks=networks)[0], MEAN, VARIANCE)
    assert np.isfinite(got.mean_z).all() and np.isfinite(got.mean_z_rms)
    assert np.isfinite(got.point_ratio).all() == (networks > 1)
    assert np.isfinite(got.variance_ratio) == (networks > 1)
    assert np.isfinite(got.point_ratio_se) == (networks > 1)
    assert np.isnan(got.variance_ratio_se) and np.isnan(got.variance_ratio_z)


def test_points_without_variance_are_left_out():
    """A point of variance 0 is nan and does not enter the summaries."""
    outputs, variance = draws(networks=8)[0], VARIANCE.copy()
    variance[3] = 0
    got = gaussian_agreement(outputs, MEAN, variance)
    kept = np.arange(POINTS) != 3
    rest = gaussian_agreement(outputs[:, kept], MEAN[kept], VARIANCE[kept])
    assert np.isnan(got.mean_z[3]).all() and np.isnan(got.point_ratio[3])
    for name in ("mean_z_rms", "variance_ratio", "variance_ratio_se"):
        np.testing.assert_allclose(getattr(got, name), getattr(rest, name), rtol=1e-12)
    nothing = gaussian_agreement(outputs, MEAN, 0 * VARIANCE)
    assert np.isnan(nothing.mean_z_rms) and np.isnan(nothing.variance_ratio)


def test_diverged_network_is_not_left_out():
    """One non-finite output makes the summaries non-finite; it is not averaged away."""
    outputs = draws(networks=8)[0]
    outputs[2, 5, 1] = np.inf
    got = gaussian_agreement(outputs, MEAN, VARIANCE)
    for name in ("mean_z_rms", "variance_ratio", "variance_ratio_z"):
        assert not np.isfinite(getattr(got, name)), name


def test_spread_is_the_deviation_between_networks():
    """sqrt(mean variance): the process's own for draws from it, doubled for doubled."""
    f = 3.0 * np.random.default_rng(0).normal(size=(2000, 5, 2))
    # 10 variances with 1999 degrees of freedom each: relative sd 1 / sqrt(2 * 19990).
    np.testing.assert_allclose(spread(f), 3.0, rtol=4 / np.sqrt(2 * 19990))
    np.testing.assert_allclose(spread(2 * f + 7), 2 * spread(f), rtol=1e-12)
    assert np.isnan(spread(f[:1]))
