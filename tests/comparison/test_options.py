"""Optimizers, losses, rates, dtypes and infinite networks, by a loop by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from testbed import compare
from testbed.dynamics.clock import batch_schedule
from testbed.kernels.neural_tangents import load
from testbed.numerics import float64

N, M, C = 8, 5, 3
X = np.random.default_rng(5).standard_normal((N + M, 4))
LABELS = np.arange(N + M) % C
SPLIT = (X[:N], LABELS[:N], X[N:], LABELS[N:])
SHORT = {"steps": 8, "times": 4, "probes": 0, "lr": 0.2}
F = lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"]
W, V = np.random.default_rng(6).standard_normal((2, 16, C + 1))
PARAMS = {"w": jnp.asarray(W.T / 2), "v": jnp.asarray(V[:, :C] / 4)}
TARGETS = np.eye(C)[LABELS] - 1 / C
RECORDED = (0, 1, 2, 4, 8)


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        (
            {"optimizer": "momentum", "momentum": 0.7, "batch_size": 3},
            {"momentum": 0.7, "batches": 3},
        ),
        ({"loss": "cross_entropy"}, {}),
    ],
)
def test_every_way_of_training_is_a_loop_by_hand(options, by_hand, loop, agrees):
    """Heavy ball, minibatches of the documented order, cross-entropy of labels."""
    result = compare(F, PARAMS, *SPLIT, key=9, **SHORT, **options)
    hand = loop(F, X[:N], TARGETS[:N], X[N:], options.get("loss", "mse"))
    if "batches" in by_hand:
        key = jax.random.fold_in(jax.random.key(9), 1)
        by_hand = by_hand | {"batches": batch_schedule(key, 8, N, 3)}
    seen = hand.run(PARAMS, 0.2, RECORDED, **by_hand)
    assert agrees(result, 0, seen)
    losses = hand.losses(seen["finite/outputs/train"])
    np.testing.assert_allclose(result.table()["finite/loss/train"], losses, rtol=1e-12)
    right = np.argmax(seen["finite/outputs/test"], -1) == LABELS[N:]
    accuracy = result.table()["finite/accuracy/test"]
    np.testing.assert_array_equal(accuracy, right.mean(-1))
    plain = hand.run(PARAMS, 0.2, RECORDED, momentum=0.69)
    assert not agrees(result, 0, plain)


def test_it_is_traced_in_the_caller_s_configuration(loop, agrees):
    """64-bit types off: the network is in float32, its kernel and the table in float64.

    (They are on in the other tests of this file.)
    """
    with jax.enable_x64(False):
        params = jax.tree.map(jnp.array, jax.tree.map(np.asarray, PARAMS))
        result = compare(F, params, *SPLIT, **SHORT | {"probes": 2})
        hand = loop(F, jnp.asarray(X[:N]), jnp.asarray(TARGETS[:N]), jnp.asarray(X[N:]))
        assert agrees(result, 0, hand.run(params, 0.2, RECORDED))
        kernel = result.observed[0]["finite/kernel"]
        outputs = result.observed[0]["finite/outputs/test"]
    assert outputs.dtype == np.float32 and kernel.dtype == np.float64
    assert result.table()["kernel/drift"].dtype == np.float64


def test_an_infinite_network_of_neural_tangents_is_followed():
    """Its mean is the closed formula of Theta, and a network of width 2048 is near it.

    The network in neural-tangents' own parameterization, from its init_fn.
    """
    stax = load().stax
    y = TARGETS.astype(np.float32)
    split = (X[:N].astype(np.float32), y[:N], X[N:].astype(np.float32), y[N:])
    layers = stax.serial(stax.Dense(2048), stax.Erf(), stax.Dense(C))
    init_fn, apply_fn, kernel_fn = layers
    init = lambda key: init_fn(key, (-1, 4))[1]
    options = SHORT | {"probes": 2, "kernel_fn": kernel_fn, "lr": None}
    result = compare(apply_fn, init, *split, **options)
    x = X.astype(np.float32).astype(np.float64)
    with float64():
        theta, k = (np.asarray(kernel_fn(x, None, name)) for name in ("ntk", "nngp"))

    def mean(theta):
        f = np.zeros((N + M, C))
        for _ in range(SHORT["steps"]):
            f = f - result.summary["lr"] / N * theta[:, :N] @ (f[:N] - y[:N])
        return f[N:]

    got = result.observed[-1]["infinite/outputs/test"]
    np.testing.assert_allclose(got, mean(theta), atol=1e-12)  # float64
    assert np.abs(got - mean(k)).max() > 0.01  # the readout alone learns otherwise
    last = result.table().iloc[-1]
    assert last["distance/finite_infinite/test/relative"] < 5 / 2048**0.5
    assert last["kernel/error_infinite"] < 5 / 2048**0.5
