"""Convolutional networks' diffusions: the equation, special cases, and networks."""

import numpy as np
import pytest
from scipy import linalg

from testbed.errors import UserError
from testbed.laws.convolution import conv_coefficients, conv_second_moments
from testbed.laws.diffusion import (
    IDENTITY,
    SWISH,
    TANH,
    Branch,
    Nonlinearity,
    iid_coefficients,
)


def within(sample, law, errors=4.0) -> bool:
    """The sample's mean, over its first axis, is the law's within standard errors."""
    off = np.abs(sample.mean(axis=0) - law)
    return bool(np.all(off < errors * sample.std(axis=0, ddof=1) / len(sample) ** 0.5))


def conv_operator(size, kernel, circular):
    """The linear map Q -> sum_delta Q_{p+delta, p'+delta}, entry by entry."""
    operator = np.zeros((size, size, size, size))
    for p in range(size):
        for q in range(size):
            for delta in range(-(kernel // 2), kernel // 2 + 1):
                a, b = p + delta, q + delta
                if circular:
                    a, b = a % size, b % size
                if 0 <= a < size and 0 <= b < size:
                    operator[p, q, a, b] += 1
    return operator.reshape(size**2, size**2)


@pytest.mark.parametrize("padding", ["zero", "circular"])
def test_conv_second_moments_solve_the_linear_equation(padding):
    """Q' = phi'(0)^2 (sigma_b^2 + sigma_w^2 A Q), by the matrix exponential."""
    size, branch = 5, Branch(Nonlinearity(0.9), 0.6, 0.5)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(size, 3))
    start = x @ x.T / 3
    a = conv_operator(size, 3, padding == "circular")
    rate = branch.phi.slope**2
    system = np.zeros((size**2 + 1,) * 2)
    system[:-1, :-1] = rate * branch.sigma_w**2 * a
    system[:-1, -1] = rate * branch.sigma_b**2
    state = np.append(start.ravel(), 1.0)
    expected = (linalg.expm(1.5 * system) @ state)[:-1].reshape(size, size)
    found = conv_second_moments(branch, start, 3, padding, time=1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_conv_reduces_to_the_dense_law():
    """With one tap, each pair of positions is a pair of inputs of a dense network."""
    x = np.random.default_rng(3).normal(size=(4, 6))
    branch, start = Branch(TANH, 0.8, 0.6), x @ x.T / 6
    grown = start + (start + branch.ratio) * (branch.growth(0.7) - 1)
    found = conv_second_moments(branch, start, 1, time=0.7)
    np.testing.assert_allclose(found, grown, rtol=1e-9)
    branch = Branch(SWISH, 0.8, 0.6)
    conv, dense = conv_coefficients(branch, start, 1), iid_coefficients(branch, x)
    np.testing.assert_allclose(conv.rate, dense.rate)
    np.testing.assert_allclose(conv.drift, dense.drift[:, 0])


def test_conv_in_two_dimensions():
    """K^2 taps: a constant image, wrapped around, grows by sigma_w^2 K^2."""
    branch = Branch(TANH, 0.4, 0.3)
    found = conv_second_moments(branch, np.ones((3, 4, 3, 4)), 3, "circular")
    rate = 9 * 0.4**2
    expected = np.exp(rate) + 0.3**2 * np.expm1(rate) / rate
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # With zeros around it, the corner sees 4 taps, an edge 6, the middle 9.
    drift = conv_coefficients(Branch(SWISH, 1.0, 0.0), np.ones((3, 3, 3, 3)), 3).drift
    np.testing.assert_array_equal(drift * 4, [[4, 6, 4], [6, 9, 6], [4, 6, 4]])


def conv_network(rng, draws, size, width, depth, branch):
    """<x_p, x_p'>/D of 1-D linear convolutional networks, K = 3, zero padding, x_0 = 1.

    Given x, the pre-activations of a unit at all positions are Gaussian with the Gram
    matrix of patches: O(D) a layer, no weights.
    """
    x = np.ones((draws, size, width))
    for _ in range(depth):
        padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
        patches = np.concatenate([padded[:, i : i + size] for i in range(3)], axis=2)
        gram = patches @ patches.transpose(0, 2, 1) / width
        own = 1e-12 * np.eye(size)  # neighbours start out equal
        root = np.linalg.cholesky(branch.sigma_b**2 + branch.sigma_w**2 * gram + own)
        noise = rng.normal(size=x.shape) / depth**0.5
        x = x + branch.phi.slope * root @ noise
    return x @ x.transpose(0, 2, 1) / width


def test_conv_networks_follow_the_equation():
    """Second moments of simulated convolutional networks, at a width of 8 units."""
    branch, depth = Branch(IDENTITY, 0.6, 0.5), 40
    q = conv_network(np.random.default_rng(4), 4000, 4, 8, depth, branch)
    start = np.ones((4, 4))
    # The network is the equation's Euler scheme: (I + h A)^L for e^A.
    scheme = start
    for _ in range(depth):
        scheme = scheme + conv_coefficients(branch, scheme, 3).rate / depth
    assert within(q, scheme)
    limit = conv_second_moments(branch, start, 3)
    np.testing.assert_allclose(scheme, limit, rtol=1 / depth)
    assert not within(q, conv_second_moments(branch, start, 3, "circular"))
    assert not within(q, conv_second_moments(branch, start, 1))


SQUARE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: conv_coefficients(Branch(TANH), SQUARE, 2), "kernel"),
        (lambda: conv_coefficients(Branch(TANH), np.ones((2, 3)), 3), "covariance"),
        (lambda: conv_coefficients(Branch(TANH), SQUARE, 3, "same"), "padding"),
        (lambda: conv_second_moments(Branch(SWISH), SQUARE, 3), "curvature"),
    ],
)
def test_mistakes_are_named(call, field):
    """What has no law is refused by name."""
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.field == field
