"""The structured NTK against explicit Jacobians, for every way to use a parameter."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import MLP, BalancedResNet, ResNet
from testbed.errors import UserError
from testbed.kernels import structured_ntk
from testbed.kernels.factors import Dense, Plain, jacobian_factors
from testbed.kernels.neural_tangents import lenient, nt
from testbed.kernels.structured import contract

C = 3
pytestmark = [pytest.mark.float64, pytest.mark.usefixtures("quick_compile")]


@functools.partial(jax.jit, static_argnums=0)
def explicit_ntk(f, params, x1, x2):
    """The definition: Jacobians of single rows, contracted leaf by leaf."""

    def jacobian(x):
        rows = jax.vmap(jax.jacrev(lambda p, r: f(p, r[None])[0]), (None, 0))(params, x)
        return [j.reshape(*j.shape[:2], -1) for j in jax.tree.leaves(rows)]

    pairs = zip(jacobian(x1), jacobian(x2), strict=True)
    return sum(jnp.einsum("bcp,edp->becd", a, b) for a, b in pairs)


def relative(a, b):
    return float(jnp.abs(a - b).max() / jnp.abs(b).max())


def kinds(f, params, x):
    """Type of factor found for each leaf."""
    found = jax.eval_shape(lambda p, x: jacobian_factors(f, p, x), params, x)
    assert sorted(found) == list(range(len(jax.tree.leaves(params))))
    return [type(found[i]) for i in sorted(found)]


def flax_function(net, x):
    variables = jax.jit(net.init)(jax.random.key(0), x)
    rest = {k: v for k, v in variables.items() if k != "params"}
    return lambda p, x: net.apply({**rest, "params": p}, x), variables["params"]


MODELS = {
    "mlp": lambda dtype: MLP(width=12, depth=3, out_features=C, dtype=dtype),
    "resnet": lambda dtype: ResNet(
        width=12, depth=3, out_features=C, bias_std=0.3, dtype=dtype
    ),
    "balanced": lambda dtype: BalancedResNet(
        width=12, depth=3, out_features=C, bias_std=0.1, dtype=dtype, head="relu",
        parameterization="standard", activation="tanh",
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", MODELS)
def test_models_agree_with_neural_tangents(name, dtype):
    """Structured and JACOBIAN_CONTRACTION give one kernel, for all our models."""
    x1 = jax.random.normal(jax.random.key(1), (5, 7), dtype)
    x2 = jax.random.normal(jax.random.key(2), (4, 7), dtype)
    f, params = flax_function(MODELS[name](dtype), x1)
    # Each precision with one of the two forms of call.
    single = dtype == jnp.float32
    other, slack = (None, 1e-5) if single else (x2, 1e-12)
    got = jax.jit(structured_ntk(f, trace_outputs=single))(params, x1, other)
    with lenient():
        theirs = nt.empirical_ntk_fn(
            f,
            trace_axes=(-1,) if single else (),
            vmap_axes=0,
            implementation=nt.NtkImplementation.JACOBIAN_CONTRACTION,
        )
        want = jax.jit(theirs)(x1, other, params)
    assert got.dtype == jnp.float64
    assert relative(got, want) < slack
    # Every weight matrix through its factors, biases through their small Jacobians.
    for (path, _), kind in zip(
        jax.tree_util.tree_leaves_with_path(params), kinds(f, params, x1), strict=True
    ):
        assert kind is (Dense if path[-1].key == "kernel" else Plain)


# ------------------------------------------- other people's networks, in float64
class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        shared = {"param_dtype": jnp.float64}
        x = x.reshape(-1, 6, 6, 2)
        x = nn.relu(nn.Conv(4, (3, 3), strides=(2, 1), **shared)(x))
        x = nn.LayerNorm(**shared)(x)
        x = nn.Conv(4, (2, 2), padding="VALID", use_bias=False, **shared)(x)
        x = nn.Conv(4, (3, 3), feature_group_count=2, **shared)(x)
        return nn.Dense(C, **shared)(nn.gelu(x).mean((1, 2)))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        shared = {"param_dtype": jnp.float64}
        x = x.reshape(-1, 12, 6)
        x = x + self.param("position", nn.initializers.normal(1.0), (1, 12, 6))
        x = x + nn.MultiHeadDotProductAttention(2, **shared)(x)
        return nn.Dense(C, **shared)(x[:, 0])


class Remat(nn.Module):
    """Rematerialized blocks in a scan over layers."""

    @nn.compact
    def __call__(self, x):
        class Block(nn.Module):
            @nn.compact
            def __call__(self, z, _):
                h = nn.Dense(8, param_dtype=jnp.float64)(jnp.tanh(z))
                return z + h, None

        x = nn.Dense(8, param_dtype=jnp.float64)(x)
        scanned = nn.scan(
            nn.remat(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        x, _ = scanned()(x, None)
        return nn.Dense(C, param_dtype=jnp.float64)(x)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@jax.custom_jvp
def straight_through(w, z):
    return jnp.sign(z @ w)


@straight_through.defjvp
def _(primals, tangents):
    w, z = primals
    return straight_through(w, z), z @ tangents[0] + tangents[1] @ w


@functools.cache
def by_hand():
    """Functions of (params, x (B, 72)): params, function, kinds of factor."""
    w, v, b = normal(72, 5), normal(5, C, seed=1), normal(5, seed=2)
    stacked = normal(4, 5, 5, seed=3)
    square = normal(5, 5, seed=4)

    def nested(p, x):
        def outer(z, w_pair):
            inner = lambda z, w: (jnp.tanh(z @ w), None)
            return jax.lax.scan(inner, z, w_pair)[0], None

        z, _ = jax.lax.scan(outer, x @ p["w"], p["s"].reshape(2, 2, 5, 5))
        return z @ p["v"]

    def recurrent(p, x):
        step = lambda z, u: (jnp.tanh(z @ p["w"] + u), None)
        z, _ = jax.lax.scan(step, jnp.zeros((len(x), 5)), jnp.stack([x @ p["u"]] * 3))
        return z @ p["v"]

    def scaled_scan(p, x):
        z, scales = x @ p["w"], jnp.arange(1.0, 5.0)
        body = lambda z, a: (z + jnp.tanh(z @ (a[1] * a[0])), None)
        z, _ = jax.lax.scan(body, z, (p["s"] * 0.3, scales), reverse=True)
        return z @ p["v"]

    def two_ways(p, x):
        return jnp.sin(x @ p["w"]) @ p["w"][:5, :C] + x[:, :1] * p["v"][:1]

    def rolled(p, x):
        z = jax.lax.fori_loop(0, 3, lambda _, z: jnp.tanh(z @ p["q"]), x @ p["w"])
        return jax.lax.cond(True, lambda z: z @ p["v"], lambda z: -z @ p["v"], z)

    return {
        "left of the dot": (
            {"w": w.T, "v": v},
            lambda p, x: jnp.sin(jnp.dot(p["w"], x.T)).T @ p["v"],
            [Dense, Dense],
        ),
        "transposed, negated, scaled": (
            {"w": w.T, "v": v},
            lambda p, x: jnp.sin(x @ (-p["w"].T / 3)) @ (2 * p["v"]),
            [Dense, Dense],
        ),
        "three axes": (
            {"w": w.reshape(8, 9, 5), "v": v},
            lambda p, x: (
                jnp.einsum("bij,ijm->bm", x.reshape(-1, 8, 9), p["w"]) @ p["v"]
            ),
            [Dense, Dense],
        ),
        "batch on the last axis": (
            {"w": w, "v": v},
            lambda p, x: (jnp.sin(p["w"].T @ x.T).T) @ p["v"],
            [Dense, Dense],
        ),
        "gain, bias, minus bias": (
            {"b": b, "g": b + 2, "m": b, "v": v, "w": w},
            lambda p, x: (
                jnp.tanh((x @ p["w"] + p["b"][None]) * p["g"][None] - p["m"][None])
                @ p["v"]
            ),
            [Plain, Plain, Plain, Dense, Dense],
        ),
        "masked weights": (
            {"w": w, "v": v},
            lambda p, x: jnp.sin(x @ (jnp.where(w > 0, 1.0, 0.0) * p["w"])) @ p["v"],
            [Dense, Plain],
        ),
        "shared weights": ({"w": w, "v": v}, two_ways, [Plain, Plain]),
        "nested scan after a reshape": (
            {"w": w, "s": stacked, "v": v},
            nested,
            [Plain, Dense, Dense],
        ),
        "recurrent": (
            {"u": w, "w": square, "v": v},
            recurrent,
            [Dense, Dense, Plain],
        ),
        "scaled stack, reversed": (
            {"w": w, "s": stacked, "v": v},
            scaled_scan,
            [Dense, Dense, Dense],
        ),
        "loop and cond": ({"w": w, "q": square, "v": v}, rolled, [Plain, Plain, Dense]),
        "custom derivative": (
            {"w": w, "v": v},
            lambda p, x: straight_through(p["w"], x) @ p["v"],
            [Dense, Plain],
        ),
        "relu at zero": (
            {"w": w, "v": v},
            lambda p, x: (
                jax.nn.relu(x @ p["w"] * jnp.asarray([[1, 0, 1, 0, 1.0]])) @ p["v"]
            ),
            [Dense, Dense],
        ),
        "unused and integer": (
            {"v": v, "w": w, "z": normal(3)},
            lambda p, x: jnp.sin(x @ p["w"]) @ p["v"],
            None,
        ),
        "output is a parameter": (
            {"b": jnp.ones(C), "n": normal(2)},
            lambda p, x: jnp.broadcast_to(p["b"] * p["n"][0], (len(x), C)),
            [Plain, Plain],
        ),
    }


def assert_structured(f, params, x, y, both=False):
    want = explicit_ntk(f, params, x, y)
    got = jax.jit(structured_ntk(f, trace_outputs=False))(params, x, y)
    assert got.shape == want.shape == (len(x), len(y), C, C)
    assert relative(got, want) < 1e-12
    if both:
        got = jax.jit(structured_ntk(f))(params, x, y)
        want = jnp.trace(want, axis1=2, axis2=3) / C
        assert got.shape == want.shape
        assert relative(got, want) < 1e-12


@pytest.mark.parametrize("name", list(by_hand()))
def test_every_use_of_a_parameter(name):
    """Factors or plain Jacobian: always the kernel of the definition."""
    params, f, expected = by_hand()[name]
    x, y = normal(4, 72, seed=8) / 9, normal(3, 72, seed=9) / 9
    assert_structured(f, params, x, y)
    if expected is not None:
        assert kinds(f, params, x) == expected


@pytest.mark.parametrize("module", [Convolutions, Attention, Remat])
def test_flax_linen_networks(module):
    """Convolutions, attention, layer norm, remat in a scan: unchanged Flax modules."""
    x, y = normal(4, 72, seed=8), normal(3, 72, seed=9)
    f, params = flax_function(module(), x)
    assert_structured(f, params, x, y, both=module is Convolutions)
    plain = [
        path[-1].key
        for (path, _), kind in zip(
            jax.tree_util.tree_leaves_with_path(params),
            kinds(f, params, x),
            strict=True,
        )
        if kind is Plain
    ]
    # Biases and gains; of the kernels only that of the grouped convolution.
    assert plain.count("kernel") == (1 if module is Convolutions else 0)


def test_flax_nnx_network():
    """An NNX network is f(params, x) after a split."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(72, 6, rngs=rngs, param_dtype=jnp.float64)
            self.norm = nnx.LayerNorm(6, rngs=rngs, param_dtype=jnp.float64)
            self.last = nnx.Linear(6, C, rngs=rngs, param_dtype=jnp.float64)

        def __call__(self, x):
            return self.last(jax.nn.relu(self.norm(self.first(x))))

    graph, params = nnx.split(Net(nnx.Rngs(0)))
    f = lambda p, x: nnx.merge(graph, p)(x)
    x, y = normal(4, 72, seed=8), normal(3, 72, seed=9)
    assert_structured(f, params, x, y)
    assert kinds(f, params, x).count(Dense) == 2


def test_many_positions_either_way():
    """Gram of all pairs of positions = Jacobian of the layer; few or many examples."""
    for n in (2, 40):
        h, delta = normal(n, 9, 4), normal(n, C, 9, 5, seed=1)
        jacobian = jnp.einsum("btn,bctm->bcnm", h, delta).reshape(n, C, -1)
        want = jnp.einsum("bcp,ecp->be", jacobian, jacobian)
        factors = {0: Dense(h[None], delta[None])}
        np.testing.assert_allclose(
            contract(factors, factors, True), want / C, rtol=1e-11, atol=1e-11
        )


def test_no_parameter_no_kernel():
    """A function that ignores its parameters is an error, not a zero kernel."""
    with pytest.raises(UserError, match="must use a real or complex parameter"):
        structured_ntk(lambda p, x: x)({"w": normal(3)}, normal(4, C))


def test_mixed_precision():
    """bfloat16 activations with float32 parameters: bfloat16's error, no crash."""
    x = jnp.asarray(normal(4, 72), jnp.float32)
    net = nn.Sequential([nn.Dense(64, dtype=jnp.bfloat16), jnp.tanh, nn.Dense(C)])
    f, params = flax_function(net, x)
    exact = nn.Sequential([nn.Dense(64), jnp.tanh, nn.Dense(C)])
    g = lambda p, x: exact.apply({"params": p}, x)
    got, want = (jax.jit(structured_ntk(h))(params, x) for h in (f, g))
    assert 1e-6 < relative(got, want) < 2e-2


def test_inside_map_and_vmap_over_networks():
    """One compiled program over seeds, by lax.map or vmap, signs as constants."""
    net = BalancedResNet(width=8, depth=4, out_features=C)
    x = jnp.asarray(normal(5, 6), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    variables = jax.jit(jax.vmap(lambda k: net.init(k, x)))(keys)

    def one(variables):
        rest = {k: v for k, v in variables.items() if k != "params"}
        f = lambda p, x: net.apply({**rest, "params": p}, x)
        return structured_ntk(f)(variables["params"], x)

    single = jax.jit(one)
    alone = jnp.stack(
        [single(jax.tree.map(lambda a, i=i: a[i], variables)) for i in range(3)]
    )
    mapped = jax.jit(lambda v: jax.lax.map(one, v))(variables)
    together = jax.jit(jax.vmap(one))(variables)
    # The same products in another order, in float32.
    assert relative(mapped, alone) < 1e-6
    assert relative(together, alone) < 1e-6


def test_differentiable():
    """The kernel can be differentiated: d Theta / d theta equals finite differences."""
    w, v = normal(6, 5), normal(5, C, seed=1)
    x = normal(3, 6, seed=2)
    f = lambda p, x: jnp.tanh(x @ p[0]) @ p[1]
    total = jax.jit(lambda p: jnp.sum(structured_ntk(f)(p, x) ** 2))
    direction = (normal(6, 5, seed=3), normal(5, C, seed=4))
    move = lambda e: jax.tree.map(lambda a, b: a + e * b, (w, v), direction)
    _, slope = jax.jvp(total, ((w, v),), (direction,))
    numeric = (total(move(1e-5)) - total(move(-1e-5))) / 2e-5
    # Error of a central difference, 1e-10, times the third derivative.
    assert float(slope) == pytest.approx(float(numeric), rel=1e-7)
