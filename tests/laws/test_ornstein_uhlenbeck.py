"""The Ornstein-Uhlenbeck activation: its closed forms against networks of width 1."""

import numpy as np
import pytest
from scipy import integrate, special, stats

from testbed.errors import UserError
from testbed.laws.ornstein_uhlenbeck import OrnsteinUhlenbeckActivation

OU_CASES = [  # a, b, X_0; mean and variance of Y_1
    (1.0, 0.0, 1.0, 0.2925, 0.4323),
    (0.7, 0.3, -0.5, -0.0306, 0.3123),
    (1.5, 0.0, 0.8, 0.0941, 0.4944),
]


@pytest.mark.parametrize(("a", "b", "start", "mean", "var"), OU_CASES)
def test_ornstein_uhlenbeck_generator(a, b, start, mean, var):
    """Y = h^{-1}(a X + b) has diffusion a and drift -a^2 Y, by Ito's formula."""
    phi = OrnsteinUhlenbeckActivation(a, b)
    x, step = np.linspace(-3, 3, 25), 1e-4
    below, here, above = (phi.transform(x + k * step) for k in (-1, 0, 1))
    slope = (above - below) / (2 * step)
    bend = (above - 2 * here + below) / step**2
    np.testing.assert_allclose(slope * phi(x), a, rtol=1e-6)
    np.testing.assert_allclose(bend * phi(x) ** 2 / 2, -(a**2) * here, atol=2e-5)
    np.testing.assert_allclose(phi.inverse(here), x, atol=1e-12)
    law = phi.transformed_law(start)
    np.testing.assert_allclose((law.mean(), law.var()), (mean, var), atol=5.1e-5)


def test_inverse_growth_over_its_whole_range():
    """h^{-1} inverts (sqrt(pi)/2) erfi from the smallest to the largest numbers."""
    phi = OrnsteinUhlenbeckActivation()
    x = 10.0 ** np.linspace(-300, 300, 2001)
    y = phi.transform(np.concatenate([[0.0], x]))
    assert y[0] == 0 and (np.diff(y) > 0).all()
    np.testing.assert_allclose(np.sqrt(np.pi) / 2 * special.erfi(y[1:]), x, rtol=1e-11)
    np.testing.assert_array_equal(phi.transform(-x), -y[1:])


@pytest.mark.parametrize(
    ("a", "b", "start", "time"), [(1, 0, 1, 0.3), (0.7, 0.3, -0.5, 0.6)]
)
def test_ornstein_uhlenbeck_moments(a, b, start, time):
    """E X_t = X_0 and Var X_t = int E phi^2 ds, against integrals over the law of Y."""
    phi = OrnsteinUhlenbeckActivation(a, b)
    law, normal = phi.law(start, time), phi.transformed_law(start, time)
    moment = lambda p: integrate.quad(
        lambda y: phi.inverse(y) ** p * normal.pdf(y), -18, 18, limit=400, epsabs=1e-12
    )[0]
    np.testing.assert_allclose(moment(1), law.mean(), rtol=1e-7)
    np.testing.assert_allclose(moment(2) - moment(1) ** 2, law.var(), rtol=1e-6)
    assert law.std() == law.var() ** 0.5
    assert abs(law.var() / time / phi(start) ** 2 - 1) > 0.1  # not its slope at 0


def test_ornstein_uhlenbeck_variance_is_infinite_late():
    """Var X_t is finite up to a^2 t = (log 2)/2, where E h(Y)^2 begins to diverge."""
    phi, half = OrnsteinUhlenbeckActivation(a=2.0), np.log(2) / 8
    assert np.isfinite(phi.law(0.3, 0.99 * half).var())
    assert np.isinf(phi.law(0.3, 1.01 * half).var())
    for factor, grows in ((0.9, False), (1.1, True)):
        normal = phi.transformed_law(0.3, factor * half)
        y = np.array([8.0, 9.0])
        tail = 2 * np.log(phi.inverse(y)) + normal.logpdf(y)
        assert (tail[1] > tail[0]) == grows


def test_ornstein_uhlenbeck_law_is_a_distribution():
    """pdf = cdf', ppf inverts cdf, rvs follows cdf."""
    law = OrnsteinUhlenbeckActivation(0.7, 0.3).law(start=-0.5, time=1.0)
    q = np.linspace(0.01, 0.99, 33)
    x = law.ppf(q)
    np.testing.assert_allclose(law.cdf(x), q, rtol=1e-10)
    slope = (law.cdf(x + 1e-5) - law.cdf(x - 1e-5)) / 2e-5
    np.testing.assert_allclose(law.pdf(x), slope, rtol=1e-6)
    draws = law.rvs(size=5000, random_state=3)
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3
    other = OrnsteinUhlenbeckActivation(0.7, 0.3).law(start=-0.4, time=1.0)
    assert stats.kstest(draws, other.cdf).pvalue < 1e-3


def test_ornstein_uhlenbeck_networks():
    """Networks of width 1 with this activation end distributed as the law says."""
    phi, depth, networks = OrnsteinUhlenbeckActivation(0.7, 0.3), 200, 10_000
    rng = np.random.default_rng(6)
    x = np.full(networks, -0.5)
    for _ in range(depth):
        x += phi(x) * rng.standard_normal(networks) * (1 / depth) ** 0.5
    assert stats.kstest(x, phi.law(-0.5).cdf).pvalue > 1e-3
    frozen = stats.norm(-0.5, float(phi(-0.5)))  # phi kept at its first value
    assert stats.kstest(x, frozen.cdf).pvalue < 1e-3


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("a", lambda: OrnsteinUhlenbeckActivation(a=0.0)),
        ("b", lambda: OrnsteinUhlenbeckActivation(b=np.nan)),
        ("start", lambda: OrnsteinUhlenbeckActivation().law(np.nan)),
        ("time", lambda: OrnsteinUhlenbeckActivation().law(0.0, -1.0)),
    ],
)
def test_bad_input_is_named(field, call):
    """A slope, shift, start or time that makes no sense is refused by its name."""
    with pytest.raises(UserError, match=rf"^{field}="):
        call()
