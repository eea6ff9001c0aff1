"""The diffusions' coefficients and laws, against networks and one layer's moments."""

import numpy as np
import pytest
from scipy import stats

from testbed.errors import UserError
from testbed.laws.diffusion import (
    IDENTITY,
    SIN,
    SWISH,
    TANH,
    Branch,
    Nonlinearity,
    general_coefficients,
    iid_coefficients,
    jacobian_second_moment,
    log_determinant_law,
    matrix_gaussian_coefficients,
    never_explodes,
)

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def within(sample, law, errors=4.0) -> bool:
    """The sample's mean, over its first axis, is the law's within standard errors."""
    off = np.abs(sample.mean(axis=0) - law)
    return bool(np.all(off < errors * sample.std(axis=0, ddof=1) / len(sample) ** 0.5))


def swish(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("phi", "function"),
    [(TANH, np.tanh), (SIN, np.sin), (SWISH, swish), (IDENTITY, lambda x: x)],
)
def test_derivatives_at_zero(phi, function):
    """phi'(0), phi''(0), phi'''(0) are those of tanh, sin, swish and the identity."""
    h = 1e-2
    at = function(h * np.arange(-3, 4.0))
    np.testing.assert_allclose(phi.slope, (at[4] - at[2]) / (2 * h), atol=1e-4)
    np.testing.assert_allclose(phi.curvature, (at[4] + at[2]) / h**2, atol=1e-4)
    third = (at[5] - 2 * at[4] + 2 * at[2] - at[1]) / (2 * h**3)
    np.testing.assert_allclose(phi.third, third, atol=2e-3)


@pytest.mark.parametrize(
    ("phi", "function"), [(TANH, np.tanh), (SIN, np.sin), (SWISH, swish)]
)
def test_one_layer_gives_drift_and_rate(phi, function):
    """(E Dx, Var Dx, Cov(Dx, Dx'))/Dt of one layer tend to the coefficients like Dt."""
    branch = Branch(phi, 0.8, 0.5)
    x = np.array([[0.3, -1.0, 2.0], [1.0, 0.5, 0.0]])
    limit = iid_coefficients(branch, x, np.tanh)
    f = np.tanh(x)
    s = 0.5**2 + 0.8**2 * f @ f.T / 3
    gaps = []
    for step in (1e-2, 1e-3):
        root = np.linalg.cholesky(s * step)
        first, second = np.meshgrid(NODES, NODES, indexing="ij")
        h = np.einsum("ij,jab->iab", root, np.stack([first, second]))
        change, weight = function(h), np.outer(WEIGHTS, WEIGHTS)
        mean = (change * weight).sum(axis=(1, 2))
        second = np.einsum("iab,jab,ab->ij", change, change, weight)
        rate = (second - np.outer(mean, mean)) / step
        gaps.append(
            max(
                np.abs(mean / step - limit.drift[:, 0]).max(),
                np.abs(rate - limit.rate).max(),
            )
        )
    assert gaps[0] < 0.05
    assert gaps[1] < 0.12 * gaps[0]


def test_special_cases_agree():
    """General, matrix-Gaussian and iid weights give one SDE where they coincide."""
    rng = np.random.default_rng(0)
    d = 4
    x = rng.normal(size=(2, d))
    output, inputs, bias = (
        a @ a.T for a in rng.normal(size=(3, d, d))
    )  # any covariances
    matrix = matrix_gaussian_coefficients(
        SWISH, x, output_cov=output, input_cov=inputs, bias_cov=bias, psi=np.tanh
    )
    weight_cov = np.einsum("op,ij->oipj", output, inputs)
    weight_mean, bias_mean = rng.normal(size=(d, d)), rng.normal(size=d)
    for i in range(2):
        general = general_coefficients(
            SWISH,
            x[i],
            weight_mean=weight_mean,
            weight_cov=weight_cov,
            bias_mean=bias_mean,
            bias_cov=bias,
            psi=np.tanh,
        )
        mean = SWISH.slope * (bias_mean + weight_mean @ np.tanh(x[i]))
        np.testing.assert_allclose(general.drift - mean, matrix.drift[i])
        np.testing.assert_allclose(general.rate, matrix.rate[i, i])
    iid = iid_coefficients(Branch(SWISH, 0.7, 0.4), x)
    matrix = matrix_gaussian_coefficients(
        SWISH,
        x,
        output_cov=np.eye(d),
        input_cov=0.7**2 / d * np.eye(d),
        bias_cov=0.4**2 * np.eye(d),
    )
    # Biases are independent over units but shared by inputs.
    np.testing.assert_allclose(iid.drift, matrix.drift)
    np.testing.assert_allclose(iid.rate[..., None, None] * np.eye(d), matrix.rate)


def test_general_covariance_is_that_of_the_weights():
    """V(x) = Cov[eps^W psi(x) + eps^b], for correlated weights drawn as such."""
    rng = np.random.default_rng(1)
    d, draws = 2, 200_000
    root = rng.normal(size=(d * d, d * d))
    weight_cov = (root @ root.T).reshape(d, d, d, d)
    x = np.array([0.5, -2.0])
    rate = general_coefficients(
        TANH,
        x,
        weight_mean=np.zeros((d, d)),
        weight_cov=weight_cov,
        bias_mean=np.zeros(d),
        bias_cov=np.eye(d),
    ).rate
    weights = (rng.normal(size=(draws, d * d)) @ root.T).reshape(draws, d, d)
    h = weights @ x + rng.normal(size=(draws, d))
    products = h[:, :, None] * h[:, None, :]
    assert within(products, rate)
    transposed = np.einsum("iopj,i,j->op", weight_cov, x, x) + np.eye(d)
    assert not within(products, transposed)


def jacobians(rng, draws, width, depth, branch, function, derivative):
    """Products of (I + diag(phi'(h)) DW) along networks from x_0 = 1."""
    x, g = (
        np.ones((draws, width)),
        np.broadcast_to(np.eye(width), (draws,) + (width,) * 2),
    )
    for _ in range(depth):
        weights = rng.normal(size=(draws, width, width))
        weights *= branch.sigma_w / (depth * width) ** 0.5
        bias = branch.sigma_b / depth**0.5 * rng.normal(size=(draws, width))
        h = np.einsum("nij,nj->ni", weights, x) + bias
        g = g + derivative(h)[:, :, None] * (weights @ g)
        x = x + function(h)
    return g


def test_determinants_of_deep_networks():
    """log|det dx_L/dx_0| is N(-C/2, C) at widths 2 and 5, and E tr(g g^T)/D is E."""
    branch = Branch(TANH, 0.9, 0.3)
    strength, depth = branch.strength(), 300
    law = log_determinant_law(branch)
    np.testing.assert_allclose(law.mean(), -strength / 2)
    np.testing.assert_allclose(law.var(), strength)
    for width, draws in ((2, 3000), (5, 1500)):
        rng = np.random.default_rng(width)
        g = jacobians(
            rng, draws, width, depth, branch, np.tanh, lambda h: np.cosh(h) ** -2.0
        )
        log_det = np.linalg.slogdet(g)[1]
        assert stats.kstest(log_det, law.cdf).pvalue > 1e-3
        wrong = stats.norm(0, strength**0.5)  # without Ito's term
        assert stats.kstest(log_det, wrong.cdf).pvalue < 1e-6
        wrong = stats.norm(-strength / 2, (strength * width / 2) ** 0.5)
        if width != 2:  # as if the variance grew with D
            assert stats.kstest(log_det, wrong.cdf).pvalue < 1e-6
        size = (g**2).sum(axis=(1, 2)) / width
        growth = jacobian_second_moment(branch)
        # tanh loses a share of order s/L a layer; here 3 C/L bounds it.
        assert (
            abs(size.mean() - growth) < 4 * size.std() / draws**0.5 + 3 * growth / depth
        )
        assert size.mean() - growth**0.5 > 4 * size.std() / draws**0.5


def test_linear_jacobians_have_exact_second_moments():
    """phi = identity: E tr(g g^T)/D = (1 + C/L)^L at every width, near e^C."""
    branch, depth, draws = Branch(IDENTITY, 1.0, 0.0), 20, 20_000
    rng = np.random.default_rng(5)
    g = jacobians(rng, draws, 3, depth, branch, lambda h: h, np.ones_like)
    size = (g**2).sum(axis=(1, 2)) / 3
    exact = (1 + 1 / depth) ** depth
    assert within(size, exact)
    np.testing.assert_allclose(exact, jacobian_second_moment(branch), rtol=1 / depth)
    assert not within(size, 1.0)


def test_explosion_conditions():
    """Square-root growth is safe for every phi, linear growth if phi''(0) = 0."""
    assert never_explodes(SWISH, 0.5) and never_explodes(TANH, 1.0)
    assert not never_explodes(SWISH, 1.0) and not never_explodes(TANH, 1.5)


def test_scales_of_time():
    """C and E for arrays of times; r."""
    branch = Branch(SWISH, 2.0, 1.0)
    np.testing.assert_allclose(branch.strength([0, 1, 2]), [0, 1, 2])
    np.testing.assert_allclose(branch.growth([0, 1]), [1, np.e])
    assert branch.ratio == 0.25


SQUARE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: Branch(TANH, 0.0), "sigma_w"),
        (lambda: Branch(TANH, float("nan")), "sigma_w"),
        (lambda: Branch(TANH, 1.0, -1.0), "sigma_b"),
        (lambda: Nonlinearity(0.0), "slope"),
        (lambda: Nonlinearity(1.0, float("inf")), "curvature"),
        (lambda: Branch(TANH).growth(-1.0), "time"),
        (lambda: iid_coefficients(Branch(TANH), [1.0]), "x"),
        (
            lambda: matrix_gaussian_coefficients(
                TANH, SQUARE, output_cov=SQUARE, input_cov=[1.0], bias_cov=SQUARE
            ),
            "input_cov",
        ),
        (lambda: jacobian_second_moment(Branch(SWISH)), "curvature"),
        (lambda: log_determinant_law(Branch(TANH), -1.0), "time"),
        (lambda: never_explodes(TANH, -1.0), "growth"),
    ],
)
def test_mistakes_are_named(call, field):
    """What has no law is refused by name."""
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.field == field
