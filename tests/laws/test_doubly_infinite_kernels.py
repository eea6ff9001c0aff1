"""NNGP and NTK, deep then wide: golden values, formulas, and linear networks."""

import numpy as np
import pytest

from testbed.errors import UserError
from testbed.laws.diffusion import IDENTITY, SWISH, TANH, Branch
from testbed.laws.doubly_infinite import unit_law
from testbed.laws.doubly_infinite_kernels import completed_kernels, increment_kernels

FTANH, FSWISH = Branch(TANH), Branch(SWISH)


def within(sample, law, errors=4.0) -> bool:
    """The sample's mean, over its first axis, is the law's within standard errors."""
    off = np.abs(sample.mean(axis=0) - law)
    return bool(np.all(off < errors * sample.std(axis=0, ddof=1) / len(sample) ** 0.5))


def test_kernel_values():
    """K_W = 2e + 1 and K_b = e - 1 at z = (1, 2), and the completed network's."""
    kernels = increment_kernels(FTANH, 2.0)
    np.testing.assert_allclose(kernels.ntk_weights, 6.4366, atol=5e-5)
    np.testing.assert_allclose(kernels.ntk_biases, 1.7183, atol=5e-5)
    completed = completed_kernels(FTANH, [0.65, -0.03])
    np.testing.assert_allclose(completed.nngp, [3.485, 1.637], atol=5e-4)
    np.testing.assert_allclose(completed.ntk, [9.737, 4.192], atol=5e-4)


def test_completed_kernels_have_their_formulas():
    """sY^2 [sZ^2 (C + 2) E <z, z'> + r (C E + E - 1)], for general scales and times."""
    branch, inner, time = Branch(TANH, 0.7, 0.4), np.array([[2.0], [-1.0]]), [0.5, 2.0]
    found = completed_kernels(branch, inner, input_std=0.6, output_std=1.5, time=time)
    c, r = 0.49 * np.array(time), 0.16 / 0.49
    e = np.exp(c)
    nngp = 2.25 * (0.36 * e * inner + r * (e - 1))
    ntk = 2.25 * (0.36 * (c + 2) * e * inner + r * (c * e + e - 1))
    np.testing.assert_allclose(found.nngp, nngp)
    np.testing.assert_allclose(found.ntk, ntk)


def test_no_bias_is_the_depth_scaled_resnet():
    """r = 0: Theta = q_0 e^{c^2} (2 + c^2), the linear-head ResNet's with C = c^2."""
    found = completed_kernels(Branch(TANH, 1.3, 0.0), 0.8)
    c2 = 1.3**2
    np.testing.assert_allclose(found.ntk, 0.8 * np.exp(c2) * (2 + c2))
    np.testing.assert_allclose(found.nngp, 0.8 * np.exp(c2))


def test_nngp_is_the_increment_of_the_unit_law():
    """NNGP equals the covariance of eq. (40)."""
    branch, z = Branch(TANH, 0.7, 0.3), np.array([-1.0, 0.5])
    found = increment_kernels(branch, np.outer(z, z), 1.4).nngp
    np.testing.assert_allclose(found, unit_law(branch, z, time=1.4).cov)


def linear_ntk(rng, draws, width, depth, branch, z):
    """K_W and K_b of unit 1 of linear networks, a sum over layers, backwards."""
    shape = (draws, depth, width, width)
    weights = branch.sigma_w / (depth * width) ** 0.5 * rng.normal(size=shape)
    biases = branch.sigma_b / depth**0.5 * rng.normal(size=shape[:-1])
    x = np.broadcast_to(np.array(z)[:, None], (draws, 2, width))
    inner = []
    for layer in range(depth):
        inner.append((x[:, 0] * x[:, 1]).sum(axis=1))
        x = x + x @ weights[:, layer].transpose(0, 2, 1) + biases[:, None, layer]
    delta, k_w, k_b = np.eye(1, width).repeat(draws, axis=0), 0.0, 0.0
    for layer in reversed(range(depth)):
        size = (delta**2).sum(axis=1)
        k_w = k_w + branch.sigma_w**2 / (depth * width) * inner[layer] * size
        k_b = k_b + branch.sigma_b**2 / depth * size
        delta = delta + np.einsum("ni,nij->nj", delta, weights[:, layer])
    return np.stack([k_w, k_b], axis=1)


def test_linear_networks_have_the_tangent_kernels():
    """K_W and K_b of finite linear networks: exact means, which tend to the limit."""

    def mean(branch, lam, depth):
        step = branch.strength() / depth
        left = (1 + step) ** np.arange(depth)
        k_w = step * ((lam + branch.ratio) * left - branch.ratio) @ left[::-1]
        return np.array([k_w, branch.ratio * step * left.sum()])

    branch, depth = Branch(IDENTITY), 30
    sample = linear_ntk(np.random.default_rng(3), 200, 30, depth, branch, [1.0, 2.0])
    assert within(sample, mean(branch, 2.0, depth))
    assert not within(sample, [6.4366 + 1.7183, 0.0])
    limit = increment_kernels(branch, 2.0)
    gaps = [
        mean(branch, 2.0, depth) - [limit.ntk_weights, limit.ntk_biases]
        for depth in (1000, 2000)
    ]
    assert np.abs(gaps[0]).max() < 0.02
    np.testing.assert_allclose(gaps[0] / gaps[1], 2, rtol=1e-2)  # order 1/L


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: increment_kernels(FSWISH, 1.0), "curvature"),
        (lambda: completed_kernels(FTANH, 1.0, input_std=0.0), "input_std"),
    ],
)
def test_mistakes_are_named(call, field):
    """What has no law is refused by name."""
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.field == field
