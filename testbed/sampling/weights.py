"""The same statistics from real Flax weights: the check on sampling in law.

Costs n^2 numbers a layer where `testbed.sampling.forward` costs n.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models import MLP, ResNet, layer_statistics
from testbed.arguments import whole
from testbed.devices import over_seeds
from testbed.numerics import float64
from testbed.sampling.architecture import describe
from testbed.sampling.stream import check_samples


class WeightLayers(NamedTuple):
    """Statistics of networks with weights, (samples, ...), as in `forward.Layer`.

    Attributes:
      log_norm: log(|z_l|^2 / |z_0|^2), (samples, d + 1); -inf once a network is dead,
        and where |z_l|^2 is below the range of the network's own dtype.
      activation_ratio, active_fraction: (samples, d); 0 once a network is dead.
      log_output: log|f|^2, (samples,); -inf where f = 0.
    """

    log_norm: np.ndarray
    activation_ratio: np.ndarray
    active_fraction: np.ndarray
    log_output: np.ndarray


def layers_with_weights(
    key: jax.Array, samples: int, net: MLP | ResNet, n_in: int = 8
) -> WeightLayers:
    """Initializes `net` `samples` times and runs the input (1, ..., 1) through it.

    Raises:
      UserError: samples or n_in below 1, or a network that `describe` refuses.
    """
    samples, n_in = check_samples(samples, 1), whole("n_in", n_in)
    program = _layers(_sized(net), samples, n_in)  # pyright: ignore[reportArgumentType]
    with float64():
        out = program(jnp.arange(samples), key)
    return jax.tree.map(np.asarray, out)


@functools.lru_cache(maxsize=16)
def _layers(net, samples, n_in):
    x = jnp.ones((1, n_in))

    def one(index, key):
        variables = _init(net, key, index, x)
        seen = layer_statistics(net, variables, x)
        f = net.apply(variables, x)
        assert isinstance(f, jax.Array)
        log_norm = jnp.log(seen["squared_norm"][:, 0].astype(jnp.float64))
        log_output = jnp.log(jnp.sum(f.astype(jnp.float64) ** 2))
        ratio = seen["activation_ratio"][:, 0]
        active = seen["active_fraction"][:, 0]
        return WeightLayers(log_norm - log_norm[0], ratio, active, log_output)  # pyright: ignore[reportArgumentType]

    return over_seeds(one, samples)


def ntk_with_weights(
    key: jax.Array, samples: int, net: MLP | ResNet, n_in: int = 8
) -> np.ndarray:
    """Squared gradient norms of one output, by weight layer, (samples, d + 2).

    Their sum over layers is Theta(x, x) for x = (1, ..., 1) and the first output.

    Raises:
      UserError: samples or n_in below 1, or a network that `describe` refuses.
    """
    samples, n_in = check_samples(samples, 1), whole("n_in", n_in)
    program = _ntk(_sized(net), samples, n_in)  # pyright: ignore[reportArgumentType]
    with float64():
        return np.asarray(program(jnp.arange(samples), key))


@functools.lru_cache(maxsize=16)
def _ntk(net, samples, n_in):
    x = jnp.ones((1, n_in))

    def one(index, key):
        variables = _init(net, key, index, x)
        params = variables.pop("params")

        def output(p):
            f = net.apply({"params": p, **variables}, x)
            assert isinstance(f, jax.Array)
            return f[0, 0]

        grads = jax.grad(output)(params)
        square = lambda leaf, axes: jnp.sum(leaf["kernel"] ** 2, axes)
        blocks = square(grads["blocks"]["dense"], (1, 2))
        ends = (square(grads[name], (0, 1))[None] for name in ("input", "head"))
        first, last = ends
        return jnp.concatenate([first, blocks, last])

    return over_seeds(one, samples)


def _sized(net: MLP | ResNet) -> MLP | ResNet:
    """The network with its sizes as ints: 8.0 is 8."""
    shape, _ = describe(net)
    return net.clone(
        width=shape.width, depth=shape.depth, out_features=shape.out_features
    )


def _init(net, key, index, x):
    key = jax.random.fold_in(key, index)
    rngs = {s: jax.random.fold_in(key, i) for i, s in enumerate(("params", "signs"))}
    return dict(net.init(rngs, x))
