"""Statistics of every layer, collected on request."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def layer_statistics(
    net: nn.Module, variables: Mapping[str, Any], x: jax.Array
) -> dict[str, jax.Array]:
    """Runs `net` on `x` (batch, n_in) and returns its layers' statistics.

    Returns a dict with
      ``squared_norm``      |z_l|^2 / n,                 l = 0..d,   (depth + 1, batch)
      ``active_fraction``   share of units with phi > 0, l = 0..d-1, (depth, batch)
      ``activation_ratio``  |phi(z_l)|^2 / |z_l|^2,      l = 0..d-1, (depth, batch)
    """
    _, left = net.apply(variables, x, mutable=["intermediates"])
    sown: Any = left["intermediates"]
    blocks = {name: value[-1] for name, value in sown["blocks"].items()}
    last = sown["squared_norm"][-1][None]
    blocks["squared_norm"] = jnp.concatenate([blocks["squared_norm"], last])
    return blocks
