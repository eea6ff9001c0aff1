"""The log-Gaussian law's own arithmetic: special functions, rates, special cases."""

import numpy as np
import pytest

from testbed.errors import UserError
from testbed.laws import layer_law, sign_correlation, square_correlation

DEEP = 6000  # c^k has died out long before, even at alpha^2 = 0.99

# Per unit of d/n at large depth, alpha^2 + lam^2 = 1: variance of the Balanced and of
# the vanilla log-norm, drift of the vanilla mean, and n (1/2 - active fraction).
RATES = {
    0.05: (4.7025, 6.0350, -2.6887, 0.0854),
    0.20: (3.8400, 6.5309, -2.6199, 0.1929),
    0.50: (2.2500, 5.4425, -1.9839, 0.3350),
    0.80: (0.8400, 2.6540, -0.9192, 0.4420),
    0.99: (0.0401, 0.1470, -0.0498, 0.4974),
}


def test_correlations_are_the_expectations_they_stand_for():
    """Phi = E[u|u| v|v|] and Psi = E[u|u| sign v], by quadrature in polar angles."""
    # (u, v) = R (cos a, cos(a - t)) with cos t = rho; E R^4 = 8, E R^2 = 2.
    angle = (np.arange(400_000) + 0.5) * 2 * np.pi / 400_000
    for rho in (-1.0, -0.6, 0.0, 0.3, 0.95, 1.0):
        u, v = np.cos(angle), np.cos(angle - np.arccos(rho))
        squares = 8 * np.mean(u * np.abs(u) * v * np.abs(v))
        signs = 2 * np.mean(u * np.abs(u) * np.sign(v))
        np.testing.assert_allclose(square_correlation(rho), squares, atol=1e-9)
        np.testing.assert_allclose(sign_correlation(rho), signs, atol=1e-5)  # jumps


def test_correlations_have_their_closed_values():
    """Phi(1) = 3 = E u^4, Psi(1) = 1 = E u^2, both odd."""
    np.testing.assert_allclose(square_correlation([0, 1, -1]), [0, 3, -3], atol=1e-15)
    np.testing.assert_allclose(sign_correlation([0, 1, -1]), [0, 1, -1], atol=1e-15)


@pytest.mark.parametrize("alpha_squared", RATES)
def test_large_depth_rates(alpha_squared):
    """Mean, variance and inactive share of a layer tend to their constants."""
    alpha, lam = alpha_squared**0.5, (1 - alpha_squared) ** 0.5
    balanced = layer_law(1, DEEP, alpha, lam, balanced=True)
    vanilla = layer_law(1, DEEP, alpha, lam)
    rates = (
        np.diff(balanced.log_norm_var)[-1],
        np.diff(vanilla.log_norm_var)[-1],
        np.diff(vanilla.log_norm_mean)[-1],
        0.5 - vanilla.active_fraction[-1],
    )
    # The constants are rounded to 4 decimals.
    np.testing.assert_allclose(rates, RATES[alpha_squared], atol=5.1e-5)


def test_weak_branch_limits():
    """As lam -> 0, var_vanilla / var_balanced -> 3 + log 2."""
    lam = 0.02
    alpha = (1 - lam**2) ** 0.5
    depth = 100_000  # many times 1 / lam^2
    vanilla, balanced = (
        np.diff(layer_law(1, depth, alpha, lam, b).log_norm_var)[-1]
        for b in (False, True)
    )
    # The approach is of order lam^2.
    np.testing.assert_allclose(vanilla / balanced, 3 + np.log(2), rtol=10 * lam**2)
    assert abs(vanilla / balanced - 3) > 0.5


def test_sums_by_their_definition():
    """The recursion of sums equals the double sums, term by term."""
    width, depth, alpha, lam = 24, 9, 0.8, 1.1
    law = layer_law(width, depth, alpha, lam)
    r = np.hypot(alpha, lam)
    c, s = alpha / r, lam**2 / r**2
    for layer in range(depth + 1):
        rate = (5 * lam**4 + 4 * alpha**2 * lam**2) / r**4
        own = layer / width * rate
        pairs = sum((layer - k) * square_correlation(c**k) for k in range(1, layer))
        drift = sum(
            square_correlation(c**q) - sign_correlation(c**q)
            for k in range(1, layer)
            for q in range(1, k + 1)
        )
        var = own + 2 * s**2 / width * pairs
        mean = layer * np.log(r**2) - own / 2 - s**2 / width * drift
        np.testing.assert_allclose(law.log_norm_var[layer], var, rtol=1e-12)
        np.testing.assert_allclose(law.log_norm_mean[layer], mean, rtol=1e-12)
        if layer < depth:
            loss = sum(c**q * (1 - c ** (2 * q)) ** 0.5 for q in range(1, layer + 1))
            active = 0.5 - s / np.pi * loss / width
            np.testing.assert_allclose(law.active_fraction[layer], active, rtol=1e-12)


def test_mlp_is_alpha_zero():
    """alpha = 0 gives 5 l/n and -5 l/(2n), and signs make no difference."""
    layers = np.arange(13)
    for balanced in (False, True):
        law = layer_law(40, 12, 0.0, 1.0, balanced)
        np.testing.assert_allclose(law.log_norm_var, 5 * layers / 40, rtol=1e-14)
        np.testing.assert_allclose(law.log_norm_mean, -5 * layers / 80, rtol=1e-14)
        np.testing.assert_array_equal(law.active_fraction, np.full(12, 0.5))


def test_only_the_ratio_matters():
    """(alpha, lam) -> (k alpha, k lam) adds l log k^2 to the mean and nothing else."""
    one, other = layer_law(32, 20, 0.6, 0.8), layer_law(32, 20, 1.5, 2.0)
    shift = np.arange(21) * 2 * np.log(2.5)
    np.testing.assert_allclose(
        other.log_norm_mean - shift, one.log_norm_mean, atol=1e-12
    )
    np.testing.assert_allclose(other.log_norm_var, one.log_norm_var, rtol=1e-12)
    np.testing.assert_allclose(other.active_fraction, one.active_fraction, rtol=1e-12)


def test_depth_scaled_branch_has_a_deterministic_norm():
    """With lam = d^-1/2, var falls like 1/n along d = n; fixed lam keeps it."""
    var = [
        layer_law(n, n, (1 - 1 / n) ** 0.5, n**-0.5).log_norm_var[-1] for n in (64, 256)
    ]
    # With the input layer's 2/n: 0.1316 and 0.0330.
    np.testing.assert_allclose(
        np.add(var, [2 / 64, 2 / 256]), [0.1316, 0.0330], atol=5e-5
    )
    fixed = [layer_law(n, n, 0.5**0.5, 0.5**0.5).log_norm_var[-1] for n in (64, 256)]
    assert fixed[1] > fixed[0]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_shallow_networks(depth):
    """Layers count from the input's image: d + 1 norms, d active fractions."""
    law = layer_law(8, depth, 0.7, 0.7)
    assert law.log_norm_mean.shape == law.log_norm_var.shape == (depth + 1,)
    assert law.active_fraction.shape == law.active_fraction_var.shape == (depth,)
    assert law.log_norm_mean[0] == law.log_norm_var[0] == 0
    assert (law.active_fraction[:1] == 0.5).all()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0, 4, 1.0, 1.0), "width"),
        ((4, -1, 1.0, 1.0), "depth"),
        ((4, 4, 0.0, 0.0), "lam"),
        ((4, 4, float("nan"), 1.0), "alpha"),
    ],
)
def test_mistakes_are_named(arguments, field):
    """A setting without a law is refused by name."""
    with pytest.raises(UserError) as caught:
        layer_law(*arguments)
    assert caught.value.field == field
