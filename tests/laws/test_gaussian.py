"""The infinite-width law of norms, taken at its word."""

import numpy as np
import pytest
from scipy import integrate, stats

from testbed.errors import UserError
from testbed.laws.gaussian import (
    LogRatioLaw,
    gaussian_log_hidden,
    gaussian_log_norm,
    gaussian_log_output,
)
from testbed.laws.log_gaussian import resnet_log_norm


def follow(x, law, errors=4.0) -> bool:
    """KS at 1 %, mean and variance within standard errors."""
    d = x - x.mean()
    var_se = np.sqrt((np.mean(d**4) - x.var() ** 2) / len(x))
    return bool(
        stats.kstest(x, law.cdf).pvalue > 0.01
        and abs(x.mean() - law.mean()) < errors * x.std() / len(x) ** 0.5
        and abs(x.var() - law.var()) < errors * var_se
    )


@pytest.mark.parametrize("width", [1, 3, 32])
@pytest.mark.parametrize("rho", [0.0, 0.6, -0.95])
def test_ratio_of_correlated_gaussian_vectors(width, rho):
    """log |v|^2 / |u|^2 is 2 asinh of a scaled Student variable, at every width."""
    rng = np.random.default_rng(width)
    u, g = rng.standard_normal((2, 20_000, width))
    v = rho * u + (1 - rho**2) ** 0.5 * g
    x = np.log(np.sum(v**2, 1) / np.sum(u**2, 1)) + 0.7
    assert follow(x, LogRatioLaw(width, 1 - rho**2, 0.7))
    assert not follow(x, LogRatioLaw(width, 1 - (0.64 * rho**2 or 0.25), 0.7))
    assert not follow(x, LogRatioLaw(2 * width, 1 - rho**2, 0.7))
    assert not follow(x, LogRatioLaw(width, 1 - rho**2, 0.75))


@pytest.mark.parametrize("width", [1, 2, 50])
def test_density_distribution_and_quantiles_belong_together(width):
    """pdf integrates to cdf, ppf inverts it, var is the second moment, rvs follow."""
    law = LogRatioLaw(width, 0.84, -1.0)
    for x in (-2.0, -1.0, 0.3):
        mass = integrate.quad(law.pdf, -np.inf, x, epsabs=1e-12)[0]
        np.testing.assert_allclose(mass, law.cdf(x), atol=1e-9)
    levels = np.array([1e-6, 0.1, 0.5, 0.9])
    np.testing.assert_allclose(law.cdf(law.ppf(levels)), levels, rtol=1e-9)
    second = integrate.quad(lambda x: (x + 1) ** 2 * law.pdf(x), -60, 58, limit=400)[0]
    np.testing.assert_allclose(law.var(), second, rtol=1e-6)
    np.testing.assert_allclose(law.std() ** 2, law.var())
    assert follow(law.rvs(20_000, random_state=1), law)


def test_wide_limit_of_the_variance():
    """Var X = 4 (1 - rho^2) / n up to a share of order 1/n."""
    for width in (100, 400, 1600):
        law = LogRatioLaw(width, 0.75)
        assert abs(law.var() / (4 * 0.75 / width) - 1) < 3 / width


@pytest.mark.parametrize(("alpha", "lam"), [(0.6, 0.8), (1.0, 0.5), (0.0, 1.3)])
def test_units_as_independent_gaussian_paths(alpha, lam):
    """Units that walk as autoregressions of variance r^{2l} have these three laws.

    That is the network with its drive |phi(z)|^2 / n replaced by its infinite-width
    limit r^{2l} / 2.
    """
    n, d, networks, outputs = 6, 4, 30_000, 3
    rng = np.random.default_rng(4)
    r2 = alpha**2 + lam**2
    first = z = rng.standard_normal((networks, n))
    for layer in range(d):
        z = alpha * z + lam * r2 ** (layer / 2) * rng.standard_normal(z.shape)
    gain = np.log(np.sum(z**2, 1) / np.sum(first**2, 1))
    assert follow(gain, gaussian_log_norm(n, d, alpha, lam))
    assert not follow(gain, resnet_log_norm(n, d, alpha, lam))
    hidden = np.log(np.sum(z**2, 1) / n)
    assert follow(hidden, gaussian_log_hidden(n, d, alpha, lam))
    assert not follow(hidden, gaussian_log_hidden(n + 1, d, alpha, lam))
    out = np.log(r2**d * rng.chisquare(outputs, networks))
    assert follow(out, gaussian_log_output(d, alpha, lam, outputs))
    assert not follow(out, gaussian_log_output(d, lam, alpha + 0.2, outputs))


def test_output_density_in_closed_form():
    """At r = 1 it is e^{kt/2} exp(-e^t/2) / (2^{k/2} Gamma(k/2)), at every depth."""
    t, k = np.linspace(-4, 4, 9), 10
    density = np.exp(k * t / 2 - np.exp(t) / 2) / (2 ** (k / 2) * 24)  # Gamma(5)
    for depth in (1, 100):
        law = gaussian_log_output(depth, 0.6, 0.8, k)
        np.testing.assert_allclose(law.pdf(t), density, rtol=1e-10)
        np.testing.assert_allclose(law.var(), 0.2213, atol=5e-5)  # trigamma(5)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: gaussian_log_norm(0, 3, 1.0, 1.0), "width"),
        (lambda: gaussian_log_norm(4, -1, 1.0, 1.0), "depth"),
        (lambda: gaussian_log_norm(4, 3, 0.0, 0.0), "lam"),
        (lambda: gaussian_log_norm(4, 3, np.inf, 1.0), "alpha"),
        (lambda: gaussian_log_hidden(0, 3, 1.0, 1.0), "width"),
        (lambda: gaussian_log_output(3, 0.0, 0.0, 2), "lam"),
        (lambda: gaussian_log_output(3, 1.0, 1.0, 0), "n_out"),
        (lambda: gaussian_log_output(0.5, 1.0, 1.0, 2), "depth"),
    ],
)
def test_mistakes_are_named(make, field):
    """A setting without a law is refused by name."""
    with pytest.raises(UserError, match=f"^{field}="):
        make()


def test_widths_and_depths_broadcast():
    """A law over widths (2,) and depths (3, 1) is the (3, 2) laws one by one."""
    widths, depths = np.array([8, 300]), np.array([[1], [4], [50]])
    law = gaussian_log_norm(widths, depths, 0.8, 0.7)
    x = 0.3 + law.mean()
    assert law.var().shape == law.cdf(x).shape == (3, 2)
    for i, depth in enumerate(depths[:, 0]):
        for j, width in enumerate(widths):
            one = gaussian_log_norm(int(width), int(depth), 0.8, 0.7)
            np.testing.assert_allclose(law.var()[i, j], one.var(), rtol=1e-12)
            at = one.mean() + 0.3
            np.testing.assert_allclose(law.cdf(x)[i, j], one.cdf(at), rtol=1e-12)
            np.testing.assert_allclose(law.pdf(x)[i, j], one.pdf(at), rtol=1e-12)
