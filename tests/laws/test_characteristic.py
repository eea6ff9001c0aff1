"""Fourier inversion against laws with closed forms, and against plain quadrature."""

import numpy as np
import pytest
from scipy import stats

from testbed.errors import UserError
from testbed.laws.characteristic import CharacteristicLaw, normal_plus_log_chi2

KS_LIMIT = 2.27  # sqrt(N) times the Kolmogorov distance: chance 7e-5, as 4 s.e.


def log_chi2(dof):
    return stats.loggamma(dof / 2, loc=np.log(2))


def test_gaussian():
    """K(s) = mu s + sigma^2 s^2 / 2 is the Gaussian, far into its tails."""
    law = CharacteristicLaw(lambda s: 3 * s + 2 * s**2, mean=3.0, var=4.0)
    normal = stats.norm(3, 2)
    x = np.linspace(-60, 60, 4001).reshape(-1, 1)
    np.testing.assert_allclose(law.pdf(x), normal.pdf(x), atol=1e-14)
    np.testing.assert_allclose(law.cdf(x), normal.cdf(x), atol=1e-14)
    q = np.array([1e-6, 0.01, 0.3, 0.5, 0.99, 1 - 1e-6])
    np.testing.assert_allclose(law.ppf(q), normal.ppf(q), atol=1e-9)
    assert (law.mean(), law.var(), law.std()) == (3.0, 4.0, 2.0)


@pytest.mark.parametrize("dof", [0.5, 1, 2, 10, 1000])
def test_without_the_gaussian_it_is_log_chi2(dof):
    """var = 0 leaves log chi^2_dof, a log-gamma law, with its mean and variance."""
    law, exact = normal_plus_log_chi2(0.0, 0.0, dof), log_chi2(dof)
    x = exact.mean() + exact.std() * np.linspace(-40, 15, 3001)
    np.testing.assert_allclose(law.pdf(x), exact.pdf(x), atol=1e-11)
    np.testing.assert_allclose(law.cdf(x), exact.cdf(x), atol=1e-12)
    np.testing.assert_allclose(law.mean(), exact.mean(), rtol=1e-13)
    np.testing.assert_allclose(law.var(), exact.var(), rtol=1e-13)


@pytest.mark.parametrize("var", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("dof", [1, 10, 1000])
def test_convolution(var, dof):
    """The density of N(mu, var) + log chi^2 is the convolution of the two."""
    law, chi = normal_plus_log_chi2(-0.7, var, dof), log_chi2(dof)
    # The trapezoid rule on a smooth integrand that vanishes at both ends.
    y = np.linspace(max(chi.mean() - 40 * chi.std(), -95), chi.mean() + 15, 40_001)
    weight = chi.pdf(y) * (y[1] - y[0])
    x = (law.mean() + law.std() * np.array([-6, -3, -1, 0, 0.5, 1, 2, 5]))[:, None]
    normal = stats.norm(y - 0.7, var**0.5)
    np.testing.assert_allclose(law.pdf(x[:, 0]), normal.pdf(x) @ weight, atol=1e-11)
    np.testing.assert_allclose(law.cdf(x[:, 0]), normal.cdf(x) @ weight, atol=1e-11)


@pytest.mark.parametrize(("var", "dof"), [(1e-3, 1), (0.5, 3), (100.0, 1000)])
def test_density_and_moments_agree(var, dof):
    """The density integrates to 1, the mean and the variance; the cdf increases."""
    law = normal_plus_log_chi2(1.0, var, dof)
    x = np.linspace(*law.ppf([1e-15, 1 - 1e-15]), 20_001)
    density = law.pdf(x)
    mean = np.trapezoid(density * x, x)
    np.testing.assert_allclose(np.trapezoid(density, x), 1, atol=1e-11)
    np.testing.assert_allclose(mean, law.mean(), atol=1e-10)
    spread = np.trapezoid(density * (x - law.mean()) ** 2, x)
    np.testing.assert_allclose(spread, law.var(), rtol=1e-9)
    assert (np.diff(law.cdf(x)) > -1e-13).all()


@pytest.mark.parametrize("var", [0.0, 1e-3, 100.0])
def test_quantiles_invert_the_cdf(var):
    """cdf(ppf(q)) = q, to rounding; the ends of [0, 1] are at infinity."""
    law = normal_plus_log_chi2(0.0, var, 1)
    q = np.concatenate([np.geomspace(1e-12, 0.1, 30), np.linspace(0.1, 1 - 1e-9, 30)])
    np.testing.assert_allclose(law.cdf(law.ppf(q)), q, atol=1e-14)
    np.testing.assert_array_equal(law.ppf([0, 1]), [-np.inf, np.inf])
    np.testing.assert_array_equal(law.cdf([-np.inf, np.inf]), [0, 1])
    np.testing.assert_array_equal(law.pdf([-1e9, 1e9]), [0, 0])


def test_draws_follow_the_law():
    """Draws have the law's cdf, and not that of a Gaussian of the same moments."""
    law = normal_plus_log_chi2(-1.0, 1.0, 2)
    draws = law.rvs(20_000, random_state=0)
    limit = KS_LIMIT / 20_000**0.5
    # Another way to the same law, as a second sample.
    rng = np.random.default_rng(1)
    sums = rng.normal(-1, 1, 20_000) + np.log(rng.chisquare(2, 20_000))
    normal = stats.norm(law.mean(), law.std())
    for sample in (draws, sums):
        assert stats.kstest(sample, law.cdf).statistic < limit
        assert stats.kstest(sample, normal.cdf).statistic > limit


def test_draws_have_shape_and_seed():
    """`size` may be a shape; the same seed gives the same draws."""
    law = normal_plus_log_chi2(0.0, 1.0, 5)
    draws = law.rvs((3, 4), random_state=7)
    assert draws.shape == (3, 4)
    np.testing.assert_array_equal(draws, law.rvs((3, 4), np.random.default_rng(7)))
    assert law.pdf(0.0).shape == law.cdf(0.0).shape == law.ppf(0.5).shape == ()
    assert law.pdf(np.zeros((2, 0, 3))).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: normal_plus_log_chi2(np.nan, 1.0, 1), "mean"),
        (lambda: normal_plus_log_chi2(0.0, -1.0, 1), "var"),
        (lambda: normal_plus_log_chi2(0.0, 1.0, 0), "dof"),
        (lambda: CharacteristicLaw(lambda s: s, np.inf, 1.0), "mean"),
        (lambda: CharacteristicLaw(lambda s: s, 1.0, 0.0), "var"),
        (lambda: CharacteristicLaw(lambda s: s, 1.0, 1.0, strip=(0.0, 1.0)), "strip"),
    ],
)
def test_mistakes_are_named(call, field):
    """An argument without a law is refused by name."""
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.field == field
