"""What is said of networks all of whose units have died: numbers, nan, no warnings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLP, layer_statistics
from testbed.divergence import (
    alignment,
    kernel_distance,
    kernel_drift,
    kernel_error,
    log_norm,
)
from testbed.sampling import LayerSampler
from testbed.sampling.weights import layers_with_weights

NET = MLP(width=1, depth=6)


@pytest.fixture(scope="module")
def drawn():
    return layers_with_weights(jax.random.key(0), 4000, NET)


def test_the_activation_ratio_of_a_dead_network_is_zero(drawn):
    """No network is nan; of the living ones of width 1 half pass everything on."""
    alive = drawn.log_norm[:, :-1] > -np.inf
    ratio = drawn.activation_ratio
    assert not alive.all() and np.isfinite(ratio).all()
    assert (ratio[~alive] == 0).all() and (drawn.active_fraction[~alive] == 0).all()
    np.testing.assert_allclose(ratio, drawn.active_fraction, rtol=1e-6)
    for layer in range(NET.depth):
        own = ratio[alive[:, layer], layer]
        se = 0.5 / len(own) ** 0.5
        assert abs(own.mean() - 0.5) < 4 * se, layer
        # Dead networks do not belong in that mean: with them it halves with depth.
        if layer:
            assert abs(ratio[:, layer].mean() - 0.5) > 10 * se, layer


def test_the_sampler_in_law_has_the_same_convention(drawn):
    """Its moments are those of the networks that live, as many as with weights."""
    law = LayerSampler(NET).moments(jax.random.key(1), 4000)
    for layer in range(1, NET.depth + 1):
        share = 2.0**-layer
        se = (share * (1 - share) / 4000) ** 0.5
        alive = np.mean(drawn.log_norm[:, layer] > -np.inf)
        assert abs(alive - share) < 4 * se, layer
        assert abs(law.log_norm.count[layer] / 4000 - share) < 4 * se, layer
        assert law.activation_ratio.mean_se[layer] > 0
    np.testing.assert_allclose(law.activation_ratio.mean[3], 0.5, atol=4 / 500**0.5)


def test_moments_of_no_network_are_nan():
    """At a depth that none of a hundred networks reaches, nothing is claimed."""
    law = LayerSampler(MLP(width=1, depth=20)).moments(jax.random.key(0), 100)
    last = {name: getattr(law.log_norm, name)[-1] for name in ("count", "mean", "var")}
    assert last["count"] == 0 and np.isnan([last["mean"], last["var"]]).all()
    for name in ("skewness", "kurtosis", "mean_se", "var_se"):
        assert np.isnan(getattr(law.log_norm, name)[-1]), name
        assert np.isfinite(getattr(law.log_norm, name)[1]), name


def test_the_ratio_of_a_tiny_or_huge_vector_is_its_direction_s():
    """It does not depend on the input's size, beyond where |z|^2 leaves float32 too."""
    net = MLP(width=8, depth=3)
    x = jax.random.normal(jax.random.key(0), (4, 6))
    variables = net.init(jax.random.key(1), x)
    of = jax.jit(lambda x: layer_statistics(net, variables, x)["activation_ratio"])
    for scale in (2.0**-80, 2.0**70):
        np.testing.assert_allclose(of(scale * x), of(x), rtol=1e-6)
    assert (np.asarray(of(0 * x)) == 0).all()


def test_the_log_norm_of_a_dead_network():
    """-inf where z_l = 0, nan where z_0 = 0 already: there is no unit."""
    squares = np.array([[1.0, 0.0, 2.0], [0.5, 0.0, 0.0]])
    np.testing.assert_array_equal(
        log_norm(squares), [[0, np.nan, 0], [np.log(0.5), np.nan, -np.inf]]
    )


def test_kernel_measures_without_a_unit():
    """0/0 is nan and x/0 is inf: the kernel of a dead network is no unit."""
    dead, alive, y = np.zeros((2, 2)), np.eye(2), np.ones((2, 1))
    for measure in (kernel_drift, kernel_error):
        assert np.isnan(measure(dead, dead)) and measure(alive, dead) == np.inf
        assert measure(dead, alive) == 1
    assert np.isnan(kernel_distance(alive, dead)) and np.isnan(alignment(dead, y))
    stacked = kernel_drift(jnp.stack([dead, alive]), jnp.stack([dead, alive]))
    np.testing.assert_array_equal(stacked, [np.nan, 0])
