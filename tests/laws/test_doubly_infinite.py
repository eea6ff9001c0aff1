"""Deep, then wide: closed forms against the equations, and against wide networks."""

import numpy as np
import pytest
from scipy import integrate

from testbed.errors import UserError
from testbed.laws.diffusion import IDENTITY, SWISH, TANH, Branch, Nonlinearity
from testbed.laws.doubly_infinite import (
    depth_bias,
    explosion_time,
    moments,
    output_correlation,
    overlaps,
    unit_law,
)

FTANH, FSWISH = Branch(TANH), Branch(SWISH)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def swish(x):
    return x / (1 + np.exp(-x))


def network(rng, draws, width, depth, branch, function, z):
    """Units of deep networks at scalar inputs copied to all units, exact in law.

    Given x, pre-activations of a unit are Gaussian with the inputs' Gram matrix; O(D) a
    layer.  Returns (draws, inputs, D).
    """
    x = np.broadcast_to(np.asarray(z, float)[:, None], (draws, len(z), width)).copy()
    for _ in range(depth):
        gram = x @ x.transpose(0, 2, 1) / width
        root = np.linalg.cholesky(
            branch.sigma_b**2 + branch.sigma_w**2 * gram + 1e-12 * np.eye(len(z))
        )
        x += function(root @ rng.normal(size=x.shape) / depth**0.5)
    return x


def within(sample, law, errors=4.0) -> bool:
    """The sample's mean, over its first axis, is the law's within standard errors."""
    off = np.abs(sample.mean(axis=0) - law)
    return bool(np.all(off < errors * sample.std(axis=0, ddof=1) / len(sample) ** 0.5))


def integrated(branch, m, lam, time):
    """m_T and lam_T by solving the system of equations numerically."""
    n, p1, p2 = len(m), branch.phi.slope, branch.phi.curvature
    sb2, sw2 = branch.sigma_b**2, branch.sigma_w**2

    def rate(_, state):
        m, lam = state[:n], state[n:].reshape(n, n)
        s = sb2 + sw2 * np.diag(lam)
        cross = p2 / 2 * (np.outer(s, m) + np.outer(m, s)) + p1**2 * (sb2 + sw2 * lam)
        return np.concatenate([p2 / 2 * s, cross.ravel()])

    start = np.concatenate([m, np.ravel(lam)])
    end = integrate.solve_ivp(rate, (0, time), start, "DOP853", rtol=1e-12, atol=1e-12)
    return end.y[:n, -1], end.y[n:, -1].reshape(n, n)


@pytest.mark.parametrize(
    "branch",
    [
        FTANH,
        FSWISH,
        Branch(SWISH, 1.3, 0.4),
        Branch(Nonlinearity(1.0, 0.1), 1.0, 0.2),
        Branch(Nonlinearity(1.5, -0.8), 0.7, 0.5),
    ],
)
def test_closed_forms_solve_the_equations(branch):
    """m, q and lam of three inputs equal a numerical solution, K of either sign."""
    x = np.array([[0.2, -0.4, 1.0], [1.0, 1.0, 1.0], [-0.9, 0.3, 0.0]])
    m, lam = x.mean(axis=1), x @ x.T / 3
    expected_m, expected_lam = integrated(branch, m, lam, 0.8)
    found = moments(branch, m, np.diag(lam), 0.8)
    np.testing.assert_allclose(found.mean, expected_m, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.square, np.diag(expected_lam), rtol=1e-9)
    np.testing.assert_allclose(overlaps(branch, m, lam, 0.8), expected_lam, rtol=1e-9)


def test_the_three_cases_meet():
    """K > 0, K = 0 and K < 0 give one continuous solution and explosion time."""
    branch = Branch(Nonlinearity(1.0, 1.0), 1.0, 1.0)
    # K = 1 + q - (m + 1)^2 = 0 at q = m^2 + 2m.
    q = 3.0 + np.array([-1e-9, 0.0, 1e-9])
    m = moments(branch, 1.0, q, 0.6)
    np.testing.assert_allclose(m.mean, m.mean[1], rtol=1e-8)
    np.testing.assert_allclose(m.square, m.square[1], rtol=1e-8)
    np.testing.assert_allclose(m.mean[1], 2 / (1 - 0.6) - 1, rtol=1e-9)
    np.testing.assert_allclose(explosion_time(branch, 1.0, q), 1.0, rtol=1e-8)


def test_swish_values():
    """sigma_w = sigma_b = T = 1, inputs 0 and 1: m, q, lam to five digits."""
    end = moments(FSWISH, [0.0, 1.0], [0.0, 1.0])
    np.testing.assert_allclose(end.mean, [0.29093, 1.79340], atol=5e-6)
    np.testing.assert_allclose(end.square, [0.37556, 4.00966], atol=5e-6)
    lam = overlaps(FSWISH, [0.0, 1.0], [[0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(lam[0, 1], 0.86045, atol=5e-6)


def test_tanh_values():
    """sigma_w = sigma_b = T = 1, inputs 0 and 1: moments, law and correlation."""
    end = moments(FTANH, [0.0, 1.0], [0.0, 1.0])
    np.testing.assert_allclose(end.square, [1.7183, 4.4366], atol=5e-5)
    law = unit_law(FTANH, [0.0, 1.0])
    np.testing.assert_allclose(law.mean, [0, 1])
    np.testing.assert_allclose(law.cov, [[1.7183] * 2, [1.7183, 3.4366]], atol=5e-5)
    correlation = law.cov[0, 1] / np.sqrt(law.cov[0, 0] * law.cov[1, 1])
    np.testing.assert_allclose(correlation, 0.7071, atol=5e-5)
    np.testing.assert_allclose(output_correlation(FTANH, 0.0, 1.0), correlation)


def test_output_correlation_is_free_of_time():
    """(z z' + r)/sqrt(...) is the correlation of the units' law at every T."""
    branch = Branch(TANH, 0.7, 0.3)
    z = np.array([-2.0, 0.0, 0.4])
    for time in (0.1, 3.0):
        cov = unit_law(branch, z, time=time).cov
        scale = np.sqrt(np.diag(cov))
        found = output_correlation(branch, z[:, None], z)
        np.testing.assert_allclose(found, cov / np.outer(scale, scale), rtol=1e-10)


def test_explosion_times():
    """swish: t* = 1.72 at z = 2 and 1 near z = 3.75; tanh never explodes."""
    z = np.array([2.0, 3.75, -2.0])
    t = explosion_time(FSWISH, z, z**2)
    np.testing.assert_allclose(t[0], 1.72, atol=5e-3)
    np.testing.assert_allclose(t[1], 1.0, atol=2e-3)
    assert np.isinf(explosion_time(FTANH, z, z**2)).all()
    # K < 0, and the one start that never explodes: 0 without biases.
    bare = Branch(SWISH, 1.0, 0.0)
    assert explosion_time(bare, 0.01, 1e-4) < np.inf == explosion_time(bare, 0.0, 0.0)
    np.testing.assert_array_equal(moments(bare, 0.0, 0.0, 50.0), 0)
    assert moments(FSWISH, z[0], z[0] ** 2, 0.999 * t[0]).square > 1e4
    late = moments(FSWISH, z[0], z[0] ** 2, t[0] * (1 - 1e-7)).mean
    # Near the end u = 2/(sigma_w^2 (t* - t)).
    np.testing.assert_allclose(late * 0.5 * t[0] * 1e-7, 2, rtol=1e-4)


def test_swish_networks():
    """Wide deep swish networks: unit means, squares, overlap; and a unit's law."""
    rng = np.random.default_rng(0)
    draws, width, depth = 100, 400, 100
    x = network(rng, draws, width, depth, FSWISH, swish, [0.0, 1.0])
    squares = np.einsum("nid,njd->nij", x, x) / width
    measured = np.stack(
        [
            *x.mean(axis=2).T,
            squares[:, 0, 0],
            squares[:, 1, 1],
            squares[:, 0, 1],
        ],
        axis=1,
    )
    end = moments(FSWISH, [0.0, 1.0], [0.0, 1.0])
    lam = overlaps(FSWISH, [0.0, 1.0], [[0.0, 0.0], [0.0, 1.0]])[0, 1]
    law = np.array([*end.mean, *end.square, lam])
    # Depth's own 1/L and width's 1/D are below a standard error of 100 networks.
    assert within(measured, law)
    assert not within(measured, law * 1.05)
    assert not within(measured[:, :2], [0.0, 1.0])  # as if phi''(0) = 0


def test_units_are_gaussian():
    """Units of one network are independent draws of the joint law, for uncopied x_0."""
    rng = np.random.default_rng(1)
    branch, draws = Branch(IDENTITY, 0.8, 0.6), 4000
    start = rng.normal(size=(2, 50))
    x = np.broadcast_to(start, (draws, 2, 50)).copy()
    for _ in range(100):
        gram = x @ x.transpose(0, 2, 1) / 50
        root = np.linalg.cholesky(0.6**2 + 0.8**2 * gram)
        x += root @ rng.normal(size=x.shape) / 10
    law = unit_law(branch, start, unit=7)
    unit = x[:, :, 7]
    assert within(unit, law.mean)
    centred = unit - law.mean
    products = centred[:, :, None] * centred[:, None, :]
    assert within(products, law.cov)
    assert not within(products, np.diag(np.diag(law.cov)))
    assert not within(products, 1.2 * law.cov)


def discrete_squares(branch, function, q, depth):
    """q_L of an infinitely wide network of depth L and odd phi, by quadrature."""
    for _ in range(depth):
        s = (branch.sigma_b**2 + branch.sigma_w**2 * q) / depth
        q = q + (function(np.sqrt(s) * NODES) ** 2 * WEIGHTS).sum()
    return q


def test_depth_bias_of_wide_networks():
    """L (q_L - q_T) tends to -10.70 for tanh at input 0, by quadrature over layers."""
    bias = depth_bias(FTANH, 0.0, 0.0, depth=1)
    np.testing.assert_allclose(bias, -(9.34 + 1.36), atol=0.01)
    for branch, q in ((FTANH, 0.0), (Branch(TANH, 0.7, 1.2), 1.5)):
        limit = moments(branch, 0.0, q).square
        scaled = [
            depth * (discrete_squares(branch, np.tanh, q, depth) - limit)
            for depth in (1000, 2000)
        ]
        extrapolated = 2 * scaled[1] - scaled[0]
        expected = depth_bias(branch, q, q, depth=1)
        np.testing.assert_allclose(extrapolated, expected, rtol=2e-3)
    # An overlap's bias is between those of its inputs, and scales with Dt.
    pair = depth_bias(FTANH, 0.0, 0.0, 1.0, depth=100)
    assert depth_bias(FTANH, 1.0, 1.0, depth=100) < pair < bias / 100


def test_tanh_networks_show_the_bias():
    """Networks of depth 100 miss 1.7183, 4.4366, 1.7183 by the bias, -10.7/L at 0."""
    rng = np.random.default_rng(2)
    depth = 100
    x = network(rng, 120, 600, depth, FTANH, np.tanh, [0.0, 1.0])
    squares = np.einsum("nid,njd->nij", x, x) / 600
    measured = np.stack([squares[:, 0, 0], squares[:, 1, 1], squares[:, 0, 1]], axis=1)
    limit = np.array([1.7183, 4.4366, 1.7183])
    q, q_other = np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])
    bias = depth_bias(FTANH, np.array([0.0, 1.0, 0.0]), q, q_other, depth=depth)
    error = measured.std(axis=0, ddof=1) / len(measured) ** 0.5
    second = 2 * bias**2 / limit  # of order 1/L^2
    assert (np.abs(measured.mean(axis=0) - limit - bias) < 4 * error + second).all()
    assert (limit - measured.mean(axis=0) > 4 * error).all()  # not the limit itself
    # All orders in 1/L, from the layers of an infinitely wide network.
    layers = [discrete_squares(FTANH, np.tanh, start, depth) for start in (0.0, 1.0)]
    assert within(measured[:, :2], layers)
    np.testing.assert_array_less(np.abs(layers - (limit + bias)[:2]), second[:2])


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: moments(FSWISH, 2.0, 4.0, 1.8), "time"),
        (lambda: moments(FTANH, 2.0, 4.0, -1.0), "time"),
        (lambda: moments(FTANH, 2.0, 3.0), "square"),
        (lambda: moments(FTANH, float("nan"), 3.0), "mean"),
        (lambda: overlaps(FTANH, [0.0, 1.0], np.eye(3)), "overlap"),
        (lambda: unit_law(FTANH, 1.0), "x0"),
        (lambda: output_correlation(FSWISH, 0.0, 1.0), "curvature"),
        (lambda: output_correlation(Branch(TANH, 1.0, 0.0), 0.0, 1.0), "z"),
        (lambda: depth_bias(FTANH, 0.0, 0.0, depth=0), "depth"),
        (lambda: depth_bias(FSWISH, 0.0, 0.0, depth=5), "curvature"),
    ],
)
def test_mistakes_are_named(call, field):
    """What has no law is refused by name."""
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.field == field
