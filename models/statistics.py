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
      ``activation_ratio``  |phi(s_l z_l)|^2 / |z_l|^2,  l = 0..d-1, (depth, batch)

    Where z_l = 0, at x = 0 or in a network that has died, no unit is active and the
    last two are 0.  The ratio has no limit there, because that of a ReLU depends on the
    direction of z_l: its mean over networks is one over those that live, which are the
    ones with ``squared_norm`` > 0.
    """
    _, left = net.apply(variables, x, mutable=["intermediates"])
    sown: Any = left["intermediates"]
    blocks = {name: value[-1] for name, value in sown["blocks"].items()}
    last = sown["squared_norm"][-1][None]
    blocks["squared_norm"] = jnp.concatenate([blocks["squared_norm"], last])
    return blocks


def block_norms(net: nn.Module, tree: Mapping[str, Any]) -> jax.Array:
    """Euclidean norm of every block's part of a tree like the parameters, (depth,).

    Blocks are stacked in the group ``blocks``, or, where `net` has `stages`, in each of
    those in turn.  Without that group the norms are 0.
    """
    blocks = tree.get("blocks", {})
    if not jax.tree.leaves(blocks):
        return jnp.zeros(getattr(net, "depth", 1))
    stages = getattr(net, "stages", lambda stacked: [stacked])(blocks)
    square = lambda leaf: jnp.sum(leaf**2, range(1, leaf.ndim))
    squares = [sum(map(square, jax.tree.leaves(stage))) for stage in stages]
    return jnp.sqrt(jnp.concatenate(squares))


def activation_ratio(h: jax.Array, z: jax.Array) -> jax.Array:
    """|h|^2 / |z|^2 over the last axis, (..., n) to (...); 0 where z = 0.

    In units of the largest |z_i|, whose square alone could under- or overflow.
    """
    size = jnp.max(jnp.abs(z), -1, keepdims=True)
    unit = jnp.where(size > 0, size, 1)
    square = jnp.sum((z / unit) ** 2, -1)
    return jnp.sum((h / unit) ** 2, -1) / jnp.where(square > 0, square, 1)
