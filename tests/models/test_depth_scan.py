import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import (
    MLP,
    BalancedConvResNet,
    BalancedResNet,
    BranchScaling,
    ConvResNet,
    ResNet,
)
from testbed.kernels import structured_ntk

pytestmark = pytest.mark.float64

MODELS = (MLP, ResNet, BalancedResNet)
DEPTH = 5
ALPHA = np.linspace(0.5, 1.2, DEPTH)
LAM = np.linspace(0.9, 0.3, DEPTH)
X = np.random.default_rng(3).standard_normal((4, 7))


def build(model, **settings):
    if model is not MLP:
        settings = {"branch": BranchScaling.fixed(ALPHA, LAM), **settings}
    sizes = {"width": 6, "depth": DEPTH, "out_features": 3, "dtype": jnp.float64}
    return model(**{**sizes, **settings})


def program(model, depth):
    """Lowered value and gradient of a network of the given depth."""
    net = build(
        model, depth=depth, branch=BranchScaling.depth_scaled(1.0), bias_std=0.1
    )
    variables = jax.eval_shape(net.init, jax.random.key(0), X)

    def loss(params, rest, x):
        return jnp.sum(net.apply({**rest, "params": params}, x) ** 2)

    rest = {k: v for k, v in variables.items() if k != "params"}
    return jax.jit(jax.value_and_grad(loss)).lower(variables["params"], rest, X)


HEADS = ("linear", "relu")
ALL = [*itertools.product(MODELS, HEADS, ("ntk", "standard"), [0.3])]
ALL += itertools.product(MODELS, ["relu"], ["standard"], [0.0])


@pytest.mark.parametrize(("model", "head", "parameterization", "bias_std"), ALL)
def test_scanned_network_is_the_loop(
    model, head, parameterization, bias_std, fill, explicit_forward
):
    """Scan over blocks = Python loop over blocks, to rounding in float64."""
    net = build(model, head=head, parameterization=parameterization, bias_std=bias_std)
    variables = fill(net, X)
    assert ("bias" in variables["params"]["head"]) == (bias_std > 0)
    alpha, lam = (np.zeros(DEPTH), np.ones(DEPTH)) if model is MLP else (ALPHA, LAM)
    expected, *_ = explicit_forward(net, variables, X, alpha, lam)
    apply = jax.jit(net.apply)
    got = apply(variables, X)
    size = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * size)
    # Layers differ, so reading them in another order must show.
    turned = jax.tree.map(lambda a: a[::-1], variables["params"]["blocks"])
    turned = {**variables, "params": {**variables["params"], "blocks": turned}}
    assert np.abs(apply(turned, X) - expected).max() > 1e-2 * size


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_other_activations_are_the_loop(activation, fill, explicit_forward):
    """tanh and the identity have weight variance 1 in blocks and head."""
    net = build(BalancedResNet, activation=activation, head="relu")
    variables = fill(net, X)
    expected, *_ = explicit_forward(net, variables, X, ALPHA, LAM)
    got = jax.jit(net.apply)(variables, X)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_mlp_is_the_resnet_without_skip(fill):
    """MLP = ResNet at alpha = 0, lam = 1, on the same parameters."""
    mlp = build(MLP, head="relu")
    branch = BranchScaling.fixed(0.0, 1.0)
    resnet = build(ResNet, head="relu", branch=branch)
    variables = fill(mlp, X)
    np.testing.assert_array_equal(mlp.apply(variables, X), resnet.apply(variables, X))


def test_one_input_is_a_batch_of_one(fill):
    """x may come without a batch axis."""
    net = build(BalancedResNet, bias_std=0.2)
    variables = fill(net, X)
    apply = jax.jit(net.apply)
    np.testing.assert_allclose(
        apply(variables, X[0]), apply(variables, X)[0], rtol=1e-12
    )


def test_networks_keep_their_dtype():
    """float32 is said by the network: x64 mode and float64 inputs do not widen it."""
    net = BalancedResNet(width=6, depth=3, bias_std=0.1, head="relu")
    assert X.dtype == jnp.float64
    variables = jax.eval_shape(net.init, jax.random.key(0), X)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype("float32")}
    assert jax.eval_shape(net.apply, variables, X).dtype == jnp.float32


@pytest.mark.parametrize("model", [ResNet, BalancedResNet])
def test_program_does_not_grow_with_depth(model):
    """Value and gradient at depth 1000 have the program text of depth 10."""
    short, long = (program(model, depth).as_text() for depth in (10, 1000))
    assert len(long.splitlines()) == len(short.splitlines())
    # Only the digits of a thousand add characters: about 1 %.
    assert len(long) < 1.05 * len(short)


def test_initialization_does_not_grow_with_depth():
    """Drawing parameters and signs is one scan too."""

    def text(depth):
        net = build(BalancedResNet, depth=depth, branch=BranchScaling.depth_scaled(1.0))
        return jax.jit(net.init).lower(jax.random.key(0), X).as_text()

    assert len(text(1000).splitlines()) == len(text(10).splitlines())


def test_unrolled_program_does_grow():
    """The measure above tells: the same blocks in a Python loop double with depth."""

    def unrolled(depth):
        w = jax.ShapeDtypeStruct((depth, 6, 6), jnp.float64)

        def forward(w, z):
            for layer in range(depth):
                z = z + jax.nn.relu(z) @ w[layer]
            return z

        z = jax.ShapeDtypeStruct((4, 6), jnp.float64)
        return len(jax.jit(forward).lower(w, z).as_text().splitlines())

    assert unrolled(20) > 1.8 * unrolled(10)


def test_depth_1000_compiles_as_fast_as_depth_10():
    """Time to compile value and gradient: ratio below 2, best of three."""

    def seconds(depth):
        jax.clear_caches()
        lowered = program(BalancedResNet, depth)
        start = time.perf_counter()
        lowered.compile()
        return time.perf_counter() - start

    tries = [(seconds(10), seconds(1000)) for _ in range(3)]
    short, long = (min(column) for column in zip(*tries, strict=True))
    assert long < 2 * short


@pytest.mark.parametrize(
    "model", [MLP, ResNet, BalancedResNet, ConvResNet, BalancedConvResNet]
)
def test_blocks_written_out_by_fours_are_the_same_network(model, monkeypatch):
    """As on a card: the same draws, outputs and kernel, also at depth 4k + 1."""
    conv = model in (ConvResNet, BalancedConvResNet)
    x = jax.random.normal(jax.random.key(4), (3, 4, 4, 2) if conv else (3, 7))
    net = model(width=6, depth=DEPTH, out_features=2)

    def seen():
        variables = net.init(jax.random.key(1), x)
        params = variables.pop("params")
        apply = lambda p, x: net.apply({**variables, "params": p}, x)
        text = jax.jit(apply).lower(params, x).as_text()
        ntk = structured_ntk(apply)(params, x)
        return (params, variables), apply(params, x), ntk, text

    drawn, outputs, ntk, text = seen()
    module = models.conv_resnet if conv else models.resnet
    monkeypatch.setattr(module, "blocks_at_once", lambda: 4)
    drawn_4, outputs_4, ntk_4, text_4 = seen()
    assert len(text_4) > len(text)  # it is another program
    jax.tree.map(np.testing.assert_array_equal, drawn, drawn_4)
    np.testing.assert_allclose(outputs_4, outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ntk_4, ntk, rtol=1e-5, atol=1e-6)
