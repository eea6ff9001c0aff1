"""Networks of other people's, each against a training loop written by hand."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from testbed import compare

N, M, C = 8, 5, 2
RNG = np.random.default_rng(3)
X = RNG.standard_normal((N + M, 4)).astype(np.float32)
IMAGES = RNG.standard_normal((N + M, 5, 5, 1)).astype(np.float32)
TOKENS = RNG.integers(0, 7, (N + M, 6))
Y = np.stack([np.sin(2 * X[:, 0]), X[:, 1] * X[:, 2]], 1).astype(np.float32)
OPTIONS = {"lr": 0.15, "steps": 12, "times": 5, "tolerance": 0.02}
SEEDS = 2


class CNN(nn.Module):
    """With batch normalization, by the statistics that it has."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3))(x))
        x = nn.BatchNorm(use_running_average=True)(x)
        return nn.Dense(C)(x.mean((1, 2)))


class Transformer(nn.Module):
    """One block of attention over tokens."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(7, 8)(tokens)
        q, k, v = jnp.split(nn.Dense(24)(nn.LayerNorm()(x)), 3, -1)
        x = x + nn.softmax(q @ k.swapaxes(1, 2) / 8**0.5) @ v
        return nn.Dense(C)(nn.tanh(x).mean(1))


class NNX(nnx.Module):
    """An MLP with dropout, which is off."""

    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, C, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jnp.tanh(self.first(x))))


def flax_cnn(tmp_path):
    variables = dict(CNN().init(jax.random.key(0), IMAGES))
    stats = jax.tree.map(lambda a: a + 0.5, variables["batch_stats"])
    variables["batch_stats"] = stats
    f = lambda p, x: CNN().apply({"params": p, "batch_stats": stats}, x)
    return (CNN().apply, variables), f, [variables["params"]], IMAGES


def flax_transformer(tmp_path):
    net = Transformer()
    init = lambda key: net.init(key, TOKENS[:1])
    f = lambda p, x: net.apply({"params": p}, x)
    return (net.apply, init), f, [init(key)["params"] for key in KEYS], TOKENS


def nnx_mlp(tmp_path):
    model = NNX(nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    f = lambda p, x: nnx.merge(graph, p, rest)(x)
    return (lambda model, x: model(x), model), f, [params], X


def equinox_mlp(tmp_path):
    init = lambda key: eqx.nn.MLP(4, C, 8, 1, jnp.tanh, dtype=jnp.float32, key=key)
    static = eqx.partition(init(KEYS[0]), eqx.is_inexact_array)[1]
    f = lambda p, x: jax.vmap(eqx.combine(p, static))(x)
    params = [eqx.filter(init(key), eqx.is_inexact_array) for key in KEYS]
    return (lambda model, x: jax.vmap(model)(x), init), f, params, X


def haiku_mlp(tmp_path):
    made = lambda x: hk.nets.MLP([8, C], activation=jnp.tanh)(x)
    net = hk.without_apply_rng(hk.transform(made))
    init = lambda key: net.init(key, X[:1])
    return (net.apply, init), net.apply, [init(key) for key in KEYS], X


def plain(tmp_path):
    """A function of parameters and constants, in float64."""
    key = jax.random.key(2)
    params = (jax.random.normal(key, (4, 8)), jax.random.normal(key, (8, C)) / 3)
    constants = {"scale": jnp.array(0.5), "mask": jnp.arange(8) % 3 > 0}

    def apply(params, constants, x):
        h = jnp.tanh(constants["scale"] * (x @ params[0]))
        return jnp.where(constants["mask"][None], h, 0) @ params[1]

    given = (apply, (params, constants))
    return given, lambda p, x: apply(p, constants, x), [params], X


def restored(tmp_path):
    """Parameters that Orbax reads back."""
    net = nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(C)])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", net.init(jax.random.key(4), X[:1]))
        checkpointer.wait_until_finished()
        variables = checkpointer.restore(tmp_path / "saved")
    f = lambda p, x: net.apply({"params": p}, x)
    return (net.apply, variables), f, [variables["params"]], X


# As the docstring of `compare` says, for key=5.
KEYS = [jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), i)
        for i in range(SEEDS)]  # fmt: skip
NETWORKS = [
    flax_cnn, flax_transformer, nnx_mlp, equinox_mlp, haiku_mlp, plain, restored,
]  # fmt: skip
NAMES = {flax_cnn: "CNN", flax_transformer: "Transformer", nnx_mlp: "NNX",
         restored: "Sequential"}  # fmt: skip
FIXED = {
    flax_cnn: ["batch_stats/BatchNorm_0/mean", "batch_stats/BatchNorm_0/var"],
    nnx_mlp: ["dropout/rngs"],
    plain: ["scale", "mask"],
}


@pytest.mark.parametrize("network", NETWORKS)
def test_it_is_what_a_loop_by_hand_gives(network, tmp_path, loop, agrees, departure):
    """Outputs of network and linearization, losses and departure time of every seed.

    A loop at another rate, or linearized elsewhere, does not give them.  What is held
    fixed is told by name.
    """
    given, f, params, x = network(tmp_path)
    probes = 2 if network in (flax_cnn, plain) else 0  # kernels take long to compile
    center = network in (flax_cnn, nnx_mlp, plain)
    options = OPTIONS | {"seeds": len(params), "key": 5, "probes": probes}
    options["center"] = center
    result = compare(*given, x[:N], Y[:N], x[N:], Y[N:], **options)
    table, lr = result.table(), OPTIONS["lr"]
    recorded = tuple(table.loc[[0], "step"])
    hand = loop(f, x[:N], Y[:N], x[N:], center=center)
    for seed, one in enumerate(params):
        seen = hand.run(one, lr, recorded)
        assert agrees(result, seed, seen)
        t = departure(seen, lr * np.array(recorded), OPTIONS["tolerance"])
        np.testing.assert_allclose(result.departure_time[seed], t, rtol=1e-12)
        for who in ("finite", "linearized"):
            loss = hand.losses(seen[f"{who}/outputs/train"])
            told = table.loc[[seed], f"{who}/loss/train"]
            np.testing.assert_allclose(told, loss, rtol=1e-4)  # float32, as outputs
    assert repr(result).startswith(f"{NAMES.get(network, 'network')}, ")
    assert all(word in result.fixed for word in FIXED.get(network, ()))
    assert bool(result.fixed) == (network in FIXED)
    last = hand.last
    assert not agrees(result, seed, hand.run(one, 1.02 * lr, recorded))
    moved = hand.run(one, lr, recorded, at=last)
    wrong = {k: v for k, v in moved.items() if k.startswith("linearized")}
    assert not agrees(result, seed, wrong)
