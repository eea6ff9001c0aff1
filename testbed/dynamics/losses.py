"""Losses on outputs f and centred targets y, both (..., N, C): sum over C, mean over N.

Targets are coded by `testbed.data`: -1, +1 for two classes (C = 1), one-hot minus 1/C
for C classes, real numbers for regression.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def mse(f: ArrayLike, y: ArrayLike) -> jax.Array:
    """1/2 |f - y|^2, summed over outputs and averaged over examples."""
    return 0.5 * jnp.mean(jnp.sum((jnp.asarray(f) - jnp.asarray(y)) ** 2, -1), -1)


def cross_entropy(f: ArrayLike, y: ArrayLike) -> jax.Array:
    """-log softmax(f) of the true class; log(1 + exp(-y f)) for a single output."""
    f, y = jnp.asarray(f), jnp.asarray(y)
    if f.shape[-1] == 1:
        return jnp.mean(jax.nn.softplus(-y * f), (-2, -1))
    target = y + 1.0 / y.shape[-1]
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(f), -1), -1)


def mse_residual(f: jax.Array, y: jax.Array) -> jax.Array:
    """Derivative of one example's loss with respect to its outputs: f - y."""
    return f - y


def cross_entropy_residual(f: jax.Array, y: jax.Array) -> jax.Array:
    """softmax(f) - one-hot; -y sigmoid(-y f) for a single output."""
    if f.shape[-1] == 1:
        return -y * jax.nn.sigmoid(-y * f)
    return jax.nn.softmax(f) - (y + 1.0 / y.shape[-1])


LOSSES = {"mse": mse, "cross_entropy": cross_entropy}
RESIDUALS = {"mse": mse_residual, "cross_entropy": cross_entropy_residual}
