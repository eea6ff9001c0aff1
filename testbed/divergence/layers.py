"""Where in the network things happen: parameters by group, norms by layer.

Trees are those of `models`: groups ``input``, ``blocks``, ``head``, with a leading
layer axis in ``blocks``.  For trees with a seed axis in front, use `jax.vmap`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from testbed.numerics import in_float64


@in_float64
def movement(
    params_t: Mapping[str, Any], params_0: Mapping[str, Any]
) -> dict[str, jax.Array]:
    """|theta_t - theta_0| / |theta_0| of every group of parameters.

    Args:
      params_t: parameters at t, e.g. ``variables["params"]``.
      params_0: parameters at 0, a tree of the same structure.

    Returns:
      One scalar for each top-level key; inf or nan for a group that was 0.

    Raises:
      ValueError: the trees differ in structure.
    """
    change = jax.tree.map(_difference, params_t, params_0)
    return {k: _norm(change[k]) / _norm(params_0[k]) for k in change}


def log_norm(squared_norm: ArrayLike) -> np.ndarray:
    """log(|z_l|^2 / |z_0|^2), the log-norm that is Gaussian at initialization.

    Args:
      squared_norm: of every layer, (..., depth + 1, batch), as `layer_statistics` of
        `models` gives it.

    Returns:
      The same shape; 0 at l = 0.  -inf where z_l = 0, in a network that has died; nan
      where z_0 = 0, of the input 0, which has no unit.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # -inf and nan are the answer
        log = np.log(np.asarray(squared_norm, np.float64))
        return log - log[..., :1, :]


def _difference(a: ArrayLike, b: ArrayLike) -> jax.Array:
    return jnp.asarray(a, jnp.float64) - jnp.asarray(b, jnp.float64)


def _norm(tree: Any) -> jax.Array:
    squares = [jnp.sum(jnp.asarray(a, jnp.float64) ** 2) for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares))
