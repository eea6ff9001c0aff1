"""A network of `models` as the functions that training is made of."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models import block_norms, layer_statistics
from testbed.dynamics.problem import Layers, Network

STREAMS = ("params", "signs")  # of random keys, one for each collection drawn


def linen_network(net: nn.Module, x: np.ndarray, trained: str = "all") -> Network:
    """Returns `net` as functions of its trained and its constant variables.

    Constants are the collections that are not trained (random signs) and, as
    ``params``, the parameters that are not.

    Args:
      net: a Flax Linen module mapping (N, ...) to (N, C), with groups of parameters
        ``input``, ``blocks`` and ``head``.
      x: inputs, of which the shape of an example is taken.
      trained: "all", or "readout" for the last layer only.
    """
    example = x[:1]

    def init(key: jax.Array) -> tuple[Any, Any]:
        rngs = {s: jax.random.fold_in(key, i) for i, s in enumerate(STREAMS)}
        variables: Any = net.init(rngs, jnp.asarray(example))
        params = variables.pop("params")
        if trained == "all":
            return params, {**variables, "params": {}}
        head = {"head": params.pop("head")}
        return head, {**variables, "params": params}

    def variables_of(params: Any, constants: Any) -> dict[str, Any]:
        return {**constants, "params": {**constants["params"], **params}}

    def apply(params: Any, constants: Any, x: jax.Array) -> jax.Array:
        f = net.apply(variables_of(params, constants), x)
        assert isinstance(f, jax.Array)  # no collection is mutable
        return f

    def statistics(params: Any, constants: Any, x: jax.Array) -> dict[str, jax.Array]:
        return layer_statistics(net, variables_of(params, constants), x)

    gradient_norms = lambda gradient: block_norms(net, gradient)
    return Network(init, apply, Layers(statistics, gradient_norms))
