import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models.resnet
from models import MLP, BalancedResNet, BranchScaling, ResNet, layer_statistics

pytestmark = pytest.mark.float64

DEPTH = 4
X = np.random.default_rng(5).standard_normal((3, 5))
NETS = {
    "mlp": MLP(6, DEPTH, 2, dtype=jnp.float64),
    "resnet": ResNet(6, DEPTH, 2, BranchScaling.fixed(0.8, 0.6), dtype=jnp.float64),
    "balanced": BalancedResNet(
        6,
        DEPTH,
        2,
        BranchScaling.fixed(0.8, 0.6),
        "relu",
        bias_std=0.2,
        dtype=jnp.float64,
    ),
}


@pytest.fixture(scope="module", params=NETS)
def case(request, fill):
    net = NETS[request.param]
    return net, fill(net, X)


def statistics(net, variables, x):
    return jax.jit(lambda v, x: layer_statistics(net, v, x))(variables, x)


def test_statistics_are_those_of_the_loop(case, explicit_forward):
    """|z_l|^2/n for l = 0..d; share of phi > 0 and |phi|^2/|z_l|^2 for l = 0..d-1."""
    net, variables = case
    alpha, lam = (0.0, 1.0) if isinstance(net, MLP) else (0.8, 0.6)
    _, z, h = explicit_forward(net, variables, X, [alpha] * DEPTH, [lam] * DEPTH)
    z, h = np.stack(z), np.stack(h)
    got = statistics(net, variables, X)
    expected = {
        "squared_norm": (z**2).mean(-1),
        "active_fraction": (h > 0).mean(-1),
        "activation_ratio": (h**2).sum(-1) / (z[:-1] ** 2).sum(-1),
    }
    assert set(got) == set(expected)
    assert got["squared_norm"].shape == (DEPTH + 1, 3)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, err_msg=name)


def test_half_of_the_units_are_active_at_initialization(fill):
    """Under ReLU a unit of layer 0 is active with probability 1/2."""
    net = ResNet(1000, 1, 1)
    active = statistics(net, fill(net, X), X)["active_fraction"]
    np.testing.assert_allclose(active, 0.5, atol=4 * 0.5 / 1000**0.5)


def program(fn, *args):
    """The traced program, without the addresses of Python objects."""
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(fn)(*args)))


def test_statistics_are_not_computed_unasked(case, monkeypatch):
    """Without the request the traced program is the one of a network without them."""
    net, variables = case
    plain = program(net.apply, variables, X)
    asked = program(lambda v, x: layer_statistics(net, v, x), variables, X)
    gradient = jax.grad(lambda v, x: jnp.sum(net.apply(v, x)))
    plain_gradient = program(gradient, variables, X)
    monkeypatch.setattr(
        models.resnet, "sow_statistics", lambda module, **statistics: None
    )
    assert program(net.apply, variables, X) == plain
    assert program(gradient, variables, X) == plain_gradient
    assert "reduce_sum" not in plain
    assert asked.count("reduce_sum") >= 4  # three statistics of blocks, one of the end


def test_initialization_leaves_no_statistics(case):
    """init returns what is to be kept: parameters, and signs where there are any."""
    net, _ = case
    initial = jax.eval_shape(net.init, jax.random.key(0), X)
    signed = isinstance(net, BalancedResNet)
    assert set(initial) == {"params"} | ({"signs"} if signed else set())


def test_outputs_are_the_same_when_statistics_are_asked_for(case):
    """Asking changes nothing in the outputs."""
    net, variables = case
    f, _ = jax.jit(lambda v: net.apply(v, X, mutable=["intermediates"]))(variables)
    expected = jax.jit(net.apply)(variables, X)
    # The same operations, which the compiler may still order in another way.
    np.testing.assert_allclose(f, expected, rtol=1e-13)


def test_statistics_are_of_this_input(case):
    """Statistics left in the variables by an earlier call are not returned."""
    net, variables = case
    _, earlier = net.apply(variables, 2 * X, mutable=["intermediates"])
    got = statistics(net, {**variables, **earlier}, X)
    expected = statistics(net, variables, X)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-13, err_msg=name)


def test_statistics_of_an_ensemble(fill):
    """Under jit and vmap, seeds are an axis in front."""
    net = NETS["balanced"]
    seeds = [fill(net, X, seed) for seed in range(3)]
    ensemble = jax.tree.map(lambda *a: jnp.stack(a), *seeds)
    got = jax.jit(jax.vmap(lambda v: layer_statistics(net, v, X)))(ensemble)
    one = jax.jit(lambda v: layer_statistics(net, v, X))
    for seed, variables in enumerate(seeds):
        for name, value in one(variables).items():
            np.testing.assert_allclose(got[name][seed], value, rtol=1e-12)
