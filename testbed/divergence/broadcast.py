"""Broadcasting that is asked for by name, so that rank promotion can stay an error."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def aligned(*arrays: ArrayLike) -> list[jax.Array]:
    """The arrays in float64, with axes of length 1 in front up to the largest rank."""
    wide = [jnp.asarray(a, jnp.float64) for a in arrays]
    rank = max(a.ndim for a in wide)
    return [jnp.expand_dims(a, range(rank - a.ndim)) for a in wide]
