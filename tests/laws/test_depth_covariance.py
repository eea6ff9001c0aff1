"""Infinite depth and width: the covariance flow, its recursion, and networks."""

import numpy as np
import pytest
from scipy import stats

from testbed.errors import UserError
from testbed.laws.depth_covariance import (
    angle_flow,
    covariance_flow,
    covariance_recursion,
    elapsed_time,
    gaussian_limit,
    relu_correlation,
    variance_flow,
)

START = np.array([-0.9, -0.3, 0.0, 0.5, 0.9])  # q_0(a, b) at q_0(a, a) = q_0(b, b) = 1
END = np.array([-0.86326228, -0.14858587, 0.23304292, 0.90725405, 1.49143878])


def uniform(depth, time=1.0):
    return np.full(depth, time / depth)


def test_relu_correlation_is_an_expectation():
    """f(c) = 2 E[phi(u) phi(v)], by quadrature in polar angles; f(c) - c >= 0."""
    angle = (np.arange(200_000) + 0.5) * 2 * np.pi / 200_000
    for c in (-1.0, -0.6, 0.0, 0.3, 0.95, 1.0):
        u, v = np.cos(angle), np.cos(angle - np.arccos(c))
        # E R^2 = 2 for a Gaussian pair in the plane.
        mean = 2 * 2 * np.mean(np.maximum(u, 0) * np.maximum(v, 0))
        np.testing.assert_allclose(relu_correlation(c), mean, atol=1e-9)
    theta = np.linspace(0, np.pi, 50)
    kappa = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    np.testing.assert_allclose(relu_correlation(np.cos(theta)), kappa, atol=1e-15)


def test_covariance_flow_has_its_values():
    """q_1(a, b) to 8 decimals from five correlations, by covariances and by angles."""
    flow = covariance_flow(1.0, START, 1.0, times=[0.0, 0.5, 1.0])
    np.testing.assert_array_equal(flow[0], START)
    np.testing.assert_allclose(flow[2], END, atol=5.1e-9)
    angles = angle_flow(np.arccos(START), times=[0.0, 0.5, 1.0])
    growth = np.exp([[0.0], [0.25], [0.5]])
    np.testing.assert_allclose(growth * np.cos(angles), flow, atol=1e-11)
    kept = START * np.exp(0.5)  # f(c) = c: correlations that do not move
    assert (np.abs(kept - END) > 5.1e-9).all()


def test_covariance_flow_scales_with_its_inputs():
    """Variances grow as e^{t/2}; q(a, b) is homogeneous; two steps are one."""
    q_aa, q_bb, c = np.array([2.0, 0.3]), np.array([5.0, 7.0]), np.array([0.4, -0.8])
    size = np.sqrt(q_aa * q_bb)
    flow = covariance_flow(q_aa, c * size, q_bb, times=[0.7, 1.9])
    unit = covariance_flow(1.0, c, 1.0, times=[0.7, 1.9])
    np.testing.assert_allclose(flow, size * unit, rtol=1e-11)
    diagonal = covariance_flow(q_aa, q_aa, q_aa, times=[0.7])[0]
    np.testing.assert_allclose(diagonal, q_aa * np.exp(0.35), rtol=1e-11)
    grown = np.exp(0.35)
    again = covariance_flow(q_aa * grown, flow[0], q_bb * grown, times=[1.2])[0]
    np.testing.assert_allclose(again, flow[1], rtol=1e-11)


def test_opposite_inputs_separate():
    """c_0 = -1 is no fixed point: c' = (f(c) - c)/2 = 1/2 there."""
    flow = covariance_flow(1.0, -1.0, 1.0, times=[1e-3])[0]
    assert abs((flow * np.exp(-5e-4) + 1) / 1e-3 - 0.5) < 0.01


def test_small_angles():
    """Nearly parallel inputs: 1/theta grows by t/(6 pi), to full relative accuracy."""
    for theta in (1e-4, 1e-3):
        fall = 1 / angle_flow(theta, times=[1.0])[0] - 1 / theta
        np.testing.assert_allclose(fall, 1 / (6 * np.pi), rtol=1e-5)
    # At 1e-9 the covariance has lost the angle: 1 - c is below rounding.
    lost = np.arccos(covariance_flow(1.0, np.cos(1e-9), 1.0, times=[0.0])[0])
    np.testing.assert_allclose(angle_flow(1e-9, times=[1.0]), 1e-9, rtol=1e-9)
    assert abs(lost / 1e-9 - 1) > 0.5
    # The series meets the closed form where one takes over from the other.
    around = angle_flow([0.01 * (1 - 1e-9), 0.01 * (1 + 1e-9)], times=[1.0])[0]
    np.testing.assert_allclose(np.diff(around), 2e-11, rtol=0.05)


@pytest.mark.parametrize("time", [1.0, 2.0])
def test_recursion_tends_to_the_flow_as_one_over_depth(time):
    """|q_L - q_t| ~ 1/L: slope -1, not -1/2, in L = 2^3 ... 2^12."""
    limit = covariance_flow(1.0, START, 1.0, times=[time])[0]
    depths = 2 ** np.arange(3, 13)
    ends = [covariance_recursion(1.0, START, 1.0, uniform(d, time))[-1] for d in depths]
    error = np.abs(np.array(ends) - limit)
    slope = np.diff(np.log2(error), axis=0)
    np.testing.assert_allclose(slope[-1], -1, atol=0.005)
    assert (np.abs(slope + 1) < np.abs(slope + 0.5)).all()
    # Richardson: eliminating 1/L leaves 1/L^2, which agrees to 7 digits.
    np.testing.assert_allclose(2 * ends[-1] - ends[-2], limit, atol=2e-7)


def test_recursion_errors_have_their_values():
    """c_0 = -0.3, t = 1: error 1.055e-2 at L = 8 and 5.47e-6 at L = 16384."""
    for depth, error in ((8, 1.055e-2), (16384, 5.47e-6)):
        end = covariance_recursion(1.0, -0.3, 1.0, uniform(depth))[-1]
        np.testing.assert_allclose(END[1] - end, error, rtol=2e-3)


def test_variance_of_the_recursion():
    """q_L(a, a) = (1 + t/(2L))^L q_0 at infinite width."""
    end = covariance_recursion(3.0, 3.0, 3.0, uniform(50, 2.0))[-1]
    np.testing.assert_allclose(end, 3 * (1 + 2.0 / 100) ** 50, rtol=1e-12)
    assert abs(end - 3 * np.e) > 1e-3


def test_uneven_scalings_follow_the_flow_at_their_own_time():
    """a_l^2 not uniform, of sum 1: the flow at t_l = sum a_k^2, not at l/L."""
    depth = 4000
    squares = 2 * (np.arange(depth) + 0.5) / depth**2  # sum exactly 1
    times = elapsed_time(squares)
    np.testing.assert_allclose((times[0], times[-1]), (0, 1), rtol=1e-12)
    layers = covariance_recursion(1.0, START, 1.0, squares)
    flow = covariance_flow(1.0, START, 1.0, times)
    allowed = squares.max()
    assert np.abs(layers - flow).max() < allowed
    wrong = covariance_flow(1.0, START, 1.0, np.arange(depth + 1) / depth)
    assert np.abs(layers - wrong).max() > 100 * allowed


def test_convergent_scalings_keep_their_layers():
    """a_l = 1/(l + 1), square summable: a limit in depth that is not the flow's."""
    squares = 1 / np.arange(1.0, 4001) ** 2
    layers = covariance_recursion(1.0, START, 1.0, squares)
    np.testing.assert_allclose(layers[2000], layers[4000], atol=5e-4)
    flow = covariance_flow(1.0, START, 1.0, [squares.sum()])[0]
    assert (np.abs(layers[-1] - flow) > 0.02).all()


def test_other_exponents_are_trivial_or_explode():
    """a_l = L^-gamma: q_0 stays at gamma = 1 and nothing bounds it at gamma = 1/4."""
    depth = 4000
    still = covariance_recursion(1.0, START, 1.0, np.full(depth, 1 / depth**2))[-1]
    np.testing.assert_allclose(still, START, atol=2e-4)
    grown = covariance_recursion(1.0, 1.0, 1.0, np.full(depth, depth**-0.5))[-1]
    assert grown > 1e12


def sampled_pairs(width, depth, networks, c, seed):
    """q_L(a, b) of networks with random input layers, exact in law without weights.

    The rows of [W phi(Y(a)), W phi(Y(b))] are Gaussian pairs whose covariance is that
    of the two phi: drawn through its Cholesky factor.
    """
    rng = np.random.default_rng(seed)
    a, other = rng.standard_normal((2, networks, width))
    b = c * a + (1 - c**2) ** 0.5 * other
    for _ in range(depth):
        phi_a, phi_b = np.maximum(a, 0), np.maximum(b, 0)
        aa, bb = (phi_a**2).sum(1), (phi_b**2).sum(1)
        ab = (phi_a * phi_b).sum(1)
        first = np.sqrt(aa)
        across = ab / np.where(first > 0, first, 1)
        rest = np.sqrt(np.maximum(bb - across**2, 0))
        g, h = rng.standard_normal((2, networks, width)) / (width * depth) ** 0.5
        a = a + first[:, None] * g
        b = b + across[:, None] * g + rest[:, None] * h
    return (a * b).mean(1)


@pytest.mark.parametrize("c", [-0.3, 0.5])
def test_networks_concentrate_on_the_recursion(c):
    """q_L has the mean of the recursion up to O(1/n); its squared error is O(1/n)."""
    depth, squared = 16, {}
    law = covariance_recursion(1.0, c, 1.0, uniform(depth))[-1]
    for width, networks in ((32, 4000), (256, 1500)):
        q = sampled_pairs(width, depth, networks, c, seed=width)
        error = q.std(ddof=1) / networks**0.5
        allowed = 4 * error + 1 / width  # the mean's own correction is O(1/n)
        assert abs(q.mean() - law) < allowed
        if width == 256:
            assert abs(q.mean() - c * np.exp(0.5)) > allowed  # c does not stay put
            assert abs(q.mean() - c) > allowed  # the limit of a_l = 1/L
        square = width * (q - law) ** 2
        squared[width] = square.mean(), square.std(ddof=1) / networks**0.5
    (narrow, narrow_error), (wide, wide_error) = squared.values()
    slack = 4 * np.hypot(narrow_error, wide_error)
    assert abs(narrow - wide) < slack + 4 * wide / 32  # relative corrections O(1/n)
    assert abs(narrow - wide * 8) > slack + 4 * wide / 32  # what n^-2 would give


# Mean of (q_L - q_1)^2 over networks at c_0 = -0.3, and its standard error.
MEAN_SQUARES = {
    (8, 2): (0.360, 0.012),
    (8, 8): (0.438, 0.017),
    (256, 2): (1.31e-2, 0.06e-2),
    (256, 8): (1.44e-2, 0.07e-2),
}


@pytest.mark.parametrize("size", MEAN_SQUARES)
def test_mean_squared_distance_to_the_flow(size):
    """E (q_L - q_1)^2 at small width and depth reproduces its table, not its root."""
    stored, stored_error = MEAN_SQUARES[size]
    width, depth = size
    networks = 4000 if width == 8 else 1000
    limit = covariance_flow(1.0, -0.3, 1.0, times=[1.0])[0]
    square = (sampled_pairs(width, depth, networks, -0.3, seed=11) - limit) ** 2
    error = square.std(ddof=1) / networks**0.5
    allowed = 4 * np.hypot(error, stored_error)
    assert abs(square.mean() - stored) < allowed
    assert abs(square.mean() ** 0.5 - stored) > allowed


def test_units_of_wide_deep_networks_are_gaussian():
    """A unit of a wide deep network is N(0, q_0 e^{t/2}), not N(0, q_0 e^t)."""
    width, depth, networks = 128, 40, 4000
    rng = np.random.default_rng(12)
    y = np.sqrt(2.0) * rng.standard_normal((networks, width))
    for _ in range(depth):
        norm = np.sqrt((np.maximum(y, 0) ** 2).sum(1, keepdims=True) / (width * depth))
        y = y + norm * rng.standard_normal(y.shape)
    unit = y[:, 0]  # one a network: units of the same network share their norm
    assert stats.kstest(unit, gaussian_limit(2.0).cdf).pvalue > 1e-3
    for wrong in (stats.norm(0, 2**0.5), stats.norm(0, (2 * np.e) ** 0.5)):
        assert stats.kstest(unit, wrong.cdf).pvalue < 1e-3


def test_variance_flow_has_its_closed_forms():
    """V' = E phi(sqrt(V) g)^2: ReLU e^{t/2}, identity e^t, sin, cos solved by hand."""
    times, q = np.array([0.0, 0.5, 3.0]), 0.7
    solved = lambda phi: variance_flow(phi, q, times)
    relu = lambda x: np.maximum(x, 0)
    np.testing.assert_allclose(solved(relu), q * np.exp(times / 2), rtol=1e-10)
    np.testing.assert_allclose(solved(lambda x: x), q * np.exp(times), rtol=1e-10)
    # E sin^2 = (1 - e^{-2V})/2, E cos^2 = (1 + e^{-2V})/2: linear in e^{2V}.
    for phi, sign in ((np.sin, 1), (np.cos, -1)):
        law = np.log(sign + (np.exp(2 * q) - sign) * np.exp(times)) / 2
        np.testing.assert_allclose(solved(phi), law, rtol=1e-10)
        assert abs(solved(phi)[2] / (q * np.exp(1.5)) - 1) > 0.1  # not ReLU's


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("c", lambda: relu_correlation(1.1)),
        ("q_aa", lambda: covariance_flow(0.0, 0.0, 1.0, [1.0])),
        ("q_bb", lambda: covariance_flow(1.0, 0.0, np.inf, [1.0])),
        ("q_ab", lambda: covariance_flow(1.0, -1.01, 1.0, [1.0])),
        ("q_ab", lambda: covariance_recursion(1.0, np.nan, 1.0, [1.0])),
        ("times", lambda: covariance_flow(1.0, 0.0, 1.0, [1.0, 0.5])),
        ("times", lambda: covariance_flow(1.0, 0.0, 1.0, [-1.0])),
        ("times", lambda: angle_flow(0.3, [np.nan])),
        ("angle", lambda: angle_flow(np.pi, [1.0])),
        ("squares", lambda: covariance_recursion(1.0, 0.0, 1.0, [-0.1])),
        ("squares", lambda: elapsed_time(1.0)),
        ("variance", lambda: gaussian_limit(0.0)),
        ("time", lambda: gaussian_limit(1.0, -1.0)),
        ("variance", lambda: variance_flow(np.tanh, -1.0, [1.0])),
        ("times", lambda: variance_flow(np.square, 1.0, [10.0])),
    ],
)
def test_bad_input_is_named(field, call):
    """Variances, covariances, times and scalings that make no sense are refused."""
    with pytest.raises(UserError, match=rf"^{field}="):
        call()
