"""Factors of many small Gram matrices, singular ones included."""

import jax
import jax.numpy as jnp

# Of a diagonal entry: what is smaller after subtraction is rounding.
_ROUNDINGS = 8


def cholesky(a: jax.Array) -> jax.Array:
    """A factor F of small positive semi-definite matrices: F F^T = a.

    One column at a time, F_j = a_j / sqrt(a_jj) and then a <- a - F_j F_j^T, for all
    matrices at once: LAPACK takes small ones one by one, and refuses singular ones,
    such as those of collinear inputs or of a dead network.  A pivot that is below a few
    roundings of its diagonal entry, in a's own precision, gives a column of zeros.

    F is lower triangular up to rounding: what that leaves above the diagonal is kept,
    so that equal inputs have equal rows, to the bit, and stay equal for ever.

    Args:
      a: symmetric, positive semi-definite up to rounding, (..., k, k).

    Returns:
      The same shape and dtype.

    Example:
      >>> cholesky(jnp.ones((2, 2))).tolist()
      [[1.0, 0.0], [1.0, 0.0]]
    """
    size = a.shape[-1]
    own = jnp.diagonal(a, axis1=-2, axis2=-1)
    rounding = _ROUNDINGS * jnp.finfo(a.dtype).eps * own
    columns = []
    for j in range(size):
        pivot = a[..., j, j]
        free = pivot > rounding[..., j]
        root = jnp.where(free, jnp.sqrt(jnp.where(free, pivot, 1)), jnp.inf)
        column = a[..., :, j] / root[..., None]
        a = a - column[..., :, None] * column[..., None, :]
        columns.append(column)
    return jnp.stack(columns, axis=-1)
