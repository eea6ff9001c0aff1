"""Means and variances that laws claim at an edge, beside networks drawn another way.

Width 1, depth 1, no skip, no branch: where a formula for wide and deep networks would
go wrong first.  Only laws that are exact there are held to it; docs/theory.md says
which ones are.  Tolerances are standard errors of the samples.
"""

import jax
import numpy as np
import pytest

from models import MLP, BalancedResNet, BranchScaling, ResNet
from testbed.laws.gaussian import gaussian_log_norm
from testbed.laws.infinite_depth import (
    identity_layer_law,
    identity_log_moments,
    output_power,
)
from testbed.laws.log_gaussian import layer_law, output_moments, resnet_log_norm
from testbed.laws.ntk_moments import ntk_mean, ntk_second_moment_ratio
from testbed.laws.products import (
    dead_probability,
    layer_moments,
    mlp_log_norm,
    second_moment_ratio,
)
from testbed.laws.resnet_ntk import resnet_ntk_moments
from testbed.sampling import LayerSampler, sample_gradients, sample_log_norm
from testbed.sampling.weights import layers_with_weights, ntk_with_weights

KEY = jax.random.key(7)
MANY = 100_000


def off(x, value):
    """How far the mean of x is from the value, in its standard errors."""
    return abs(np.mean(x) - value) / (np.std(x) / np.size(x) ** 0.5)


def off_variance(x, value):
    return off((x - np.mean(x)) ** 2, value)


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (1, 3), (2, 1)])
def test_the_exact_product_law_of_narrow_networks(width, depth):
    """alpha = 0: mean and variance of the living, and how many die, with weights."""
    x = layers_with_weights(KEY, 40_000, MLP(width=width, depth=depth)).log_norm[:, -1]
    dead = x == -np.inf
    assert off(dead, dead_probability([width] * (depth + 1))) < 4
    x, law = x[~dead], mlp_log_norm(width, depth)
    assert off(x, law.mean()) < 4 and off_variance(x, law.var()) < 4
    mean, var = (depth * m for m in layer_moments(width))
    np.testing.assert_allclose([law.mean(), law.var()], [mean, var], rtol=1e-12)
    # The wide layers' mean -5/(2n) is not to be had here, nor another width's variance.
    assert off(x, -2.5 * depth / width) > 10
    assert off_variance(x, mlp_log_norm(4 * width, depth).var()) > 10


def test_second_moment_of_a_layer_of_one_unit():
    """E|x_1|^4 / (E|x_1|^2)^2 = 1 + 5/n, dead networks included."""
    z = np.random.default_rng(0).standard_normal(10**6)
    power = 2 * np.maximum(z, 0) ** 2
    assert off(power**2, second_moment_ratio([3, 1])) < 4
    assert off(power**2, second_moment_ratio([3, 2])) > 10


@pytest.mark.parametrize(
    ("alpha", "lam"), [(0.0, 0.6), (0.8, 0.0), (0.8, 0.6), (-0.8, 0.6)]
)
def test_kernel_moments_of_one_unit(alpha, lam):
    """Width 1, depth 1: E K and E K^2 of a Balanced network, by its gradients."""
    net = BalancedResNet(1, 1, 1, BranchScaling.fixed(alpha, lam))
    law = resnet_ntk_moments(1, 1, alpha, lam)
    kernel = np.exp(sample_gradients(KEY, MANY, net).log_ntk).sum(1)
    weights = ntk_with_weights(KEY, 4000, net).sum(1)
    for k in (kernel, weights):
        assert off(k, law.mean) < 4
        assert off(k**2, law.ratio * law.mean**2) < 4
    assert off(kernel**2, resnet_ntk_moments(2, 1, alpha, lam).ratio * law.mean**2) > 4


@pytest.mark.parametrize("widths", [[3, 1], [3, 1, 1], [1, 1, 1, 1]])
def test_weights_kernel_of_layers_of_one_unit(widths):
    """E K_w and E K_w^2, where half of the layers are dead; by gradients in NumPy."""
    rng = np.random.default_rng(1)
    x = np.ones((MANY, widths[0])) / 2**0.5  # |x|^2 = n_0 / 2
    entering, slopes, weights = [x], [], []
    for fan_in, m in zip(widths[:-1], widths[1:], strict=True):
        w = rng.standard_normal((MANY, m, fan_in)) * (2 / fan_in) ** 0.5
        z = np.einsum("kij,kj->ki", w, entering[-1])
        weights.append(w)
        slopes.append((z > 0) * 1.0)
        entering.append(np.maximum(z, 0))
    slopes[-1] = np.ones((MANY, 1))  # f is linear
    delta, kernel = np.ones((MANY, 1)), 0.0
    for w, slope, h in zip(weights[::-1], slopes[::-1], entering[-2::-1], strict=True):
        delta = delta * slope
        kernel = kernel + 2 / h.shape[1] * np.sum(h**2, 1) * np.sum(delta**2, 1)
        delta = np.einsum("kij,ki->kj", w, delta)
    mean = ntk_mean(widths, 2.0, biases=False)
    ratio = ntk_second_moment_ratio(widths, 2.0, biases=False)
    if len(widths) == 2:  # linear in its weights: nothing is random
        np.testing.assert_allclose([np.mean(kernel), ratio], [mean, 1], rtol=1e-12)
        return
    assert off(kernel, mean) < 4 and off(kernel**2, ratio * mean**2) < 4
    wider = ntk_second_moment_ratio([n + 1 for n in widths[:-1]] + [1], 2.0)
    assert off(kernel**2, wider * mean**2) > 4


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("balanced", [False, True])
def test_without_a_branch_the_log_norm_is_a_number(depth, balanced):
    """lam = 0: d log alpha^2 in every network, however it is drawn, to its rounding."""
    alpha, kind = -0.8, BalancedResNet if balanced else ResNet
    settings = dict(width=3, depth=depth, alpha=alpha, lam=0.0, balanced=balanced)
    law, gaussian = resnet_log_norm(**settings), gaussian_log_norm(3, depth, alpha, 0.0)
    np.testing.assert_allclose(law.mean(), depth * np.log(0.64), rtol=1e-12)
    np.testing.assert_allclose(gaussian.mean(), law.mean(), rtol=1e-12)
    assert law.var() == gaussian.var() == 0
    net = kind(3, depth, 1, BranchScaling.fixed(alpha, 0.0))
    drawn = layers_with_weights(KEY, 50, net).log_norm[:, -1]
    for x in (sample_log_norm(KEY, 50, **settings), drawn):
        np.testing.assert_allclose(x, law.mean(), atol=1e-6 * depth)


def test_the_laws_approach_their_point():
    """lam -> 0: no digit of the variance is lost before it is 0."""
    for lam in (1e-6, 1e-12, 1e-100):
        # One layer: s = lam^2, both variances 4 s / n to leading order.
        for law in (resnet_log_norm(50, 1, 1.0, lam), gaussian_log_norm(50, 1, 1, lam)):
            np.testing.assert_allclose(law.var(), 4 * lam**2 / 50, rtol=0.05)
    assert resnet_log_norm(50, 1, 1.0, 1e-200).var() == 0


@pytest.mark.parametrize(("alpha", "lam"), [(0.0, 1.3), (0.8, 0.6), (1.0, 1e-3)])
def test_infinite_width_taken_at_its_word_at_width_and_depth_one(alpha, lam):
    """Gaussian pairs (z, alpha z + lam g): mean and variance of log(z'^2 / z^2)."""
    z, g = np.random.default_rng(2).standard_normal((2, 10**6))
    x = np.log((alpha * z + lam * g) ** 2 / z**2)
    law = gaussian_log_norm(1, 1, alpha, lam)
    assert off(x, law.mean()) < 4 and off_variance(x, law.var()) < 4
    assert off_variance(x, gaussian_log_norm(2, 1, alpha, lam).var()) > 4


@pytest.mark.parametrize("width", [64, 256, 1024])
def test_the_log_gaussian_law_of_one_layer_without_skip(width):
    """alpha = 0, d = 1: the exact mean and variance, up to a share of order 1/n."""
    for balanced in (False, True):
        law = resnet_log_norm(width, 1, 0.0, 1.0, balanced)
        mean, var = layer_moments(width)
        assert abs(law.mean() / mean - 1) < 3 / width
        assert abs(law.var() / var - 1) < 6 / width


@pytest.mark.parametrize(("width", "alpha"), [(1, 0.8), (1, 0.0), (4, 0.8)])
def test_active_units_and_power_of_one_layer(width, alpha):
    """Exact at every width: E active = 1/2, its variance 1/(4n); E f^2 if Balanced."""
    net = BalancedResNet(width, 1, 1, BranchScaling.fixed(alpha, 0.6))
    seen = layers_with_weights(KEY, 20_000, net)
    law = layer_law(width, 1, alpha, 0.6, balanced=True)
    active = seen.active_fraction[:, 0]
    assert off(active, law.active_fraction[0]) < 4
    assert abs(active.var() - law.active_fraction_var[0]) < 4 * 0.25 / 20_000**0.5
    power = output_moments(width, 1, alpha, 0.6, balanced=True).power
    np.testing.assert_allclose(power, alpha**2 + 0.36, rtol=1e-12)
    sampled = np.exp(
        np.concatenate(
            [ends["log_output"] for _, _, ends in LayerSampler(net).chunks(KEY, MANY)]
        )
    )
    for square in (np.exp(seen.log_output), sampled):
        assert off(square, power) < 4
    assert off(sampled, 1.2 * power) > 4
    branch = output_power(width, 1, 0.6, balanced=True)  # alpha = 1, lam = c
    np.testing.assert_allclose(branch, 1.36, rtol=1e-12)


@pytest.mark.parametrize("width", [1, 2])
def test_a_linear_layer(width):
    """phi(x) = x at depth 1: |e_1 + sqrt(t/n) g|^2, its law, and half its log's."""
    g = np.random.default_rng(3).standard_normal((10**6, width))
    step = (0.7 / width) ** 0.5 * g
    step[:, 0] += 1
    square = np.sum(step**2, 1)
    law = identity_layer_law(width, 1, 0.7)
    assert off(square, law.mean()) < 4 and off_variance(square, law.var()) < 4
    mean, var = identity_log_moments(width, 1, 0.7)
    log = np.log(square) / 2
    assert off(log, mean) < 4 and off_variance(log, var) < 4
    assert off(log, identity_log_moments(width, 2, 0.7)[0]) > 4
