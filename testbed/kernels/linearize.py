"""The network linearized in its parameters."""

from collections.abc import Callable

import jax


def linearize(apply_fn: Callable, params) -> Callable:
    """Returns f_lin(theta, x) = f(theta_0, x) + J(theta_0, x) (theta - theta_0).

    Its tangent kernel is that of f at theta_0, for every theta.

    Args:
      apply_fn: (params, x) -> outputs, any shape.
      params: theta_0, the point of linearization; any pytree of arrays.

    Returns:
      `f_lin(params, x)`, outputs shaped like those of `apply_fn`.

    Source: Lee et al. 2019, arXiv:1902.06720, eq. (5).
    """

    def f_lin(theta, x):
        shift = jax.tree.map(lambda new, old: new - old, theta, params)
        f_0, change = jax.jvp(lambda p: apply_fn(p, x), (params,), (shift,))
        return jax.tree.map(lambda a, b: a + b, f_0, change)

    return f_lin
