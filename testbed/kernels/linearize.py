"""The network linearized in its parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from testbed.kernels.leaves import is_trained, warn_of_fixed


def linearize(apply_fn: Callable, params) -> Callable:
    """Returns f_lin(theta, x) = f(theta_0, x) + J(theta_0, x) (theta - theta_0).

    Its tangent kernel is that of f at theta_0, for every theta.

    Args:
      apply_fn: (params, x) -> outputs, any shape.
      params: theta_0, the point of linearization; any pytree of arrays.  Leaves that
        are not real or complex stay as they are in theta_0, with a warning that names
        them.

    Returns:
      `f_lin(params, x)`, outputs shaped like those of `apply_fn`.

    Raises:
      UserError: a leaf that is no array.

    Source: Lee et al. 2019, arXiv:1902.06720, eq. (5).
    """
    warn_of_fixed(params)

    def f_lin(theta, x):
        shift = jax.tree.map(_difference, theta, params)
        f_0, change = jax.jvp(lambda p: apply_fn(p, x), (params,), (shift,))
        return jax.tree.map(lambda a, b: a + b, f_0, change)

    return f_lin


def _difference(new, old):
    if is_trained(old):
        return new - old
    return np.zeros(jnp.shape(old), jax.dtypes.float0)
