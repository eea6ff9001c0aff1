"""Stochastic differential equations: Euler-Maruyama at fixed steps, many paths at once.

    dX = drift(t, X) dt + noise(t, X, dB)

`noise` is linear in its last argument.  An Euler-Maruyama step of a residual network's
diffusion is one layer of such a network: depth 1/h.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from testbed.arguments import number, whole, wholes
from testbed.errors import UserError
from testbed.numerics import check_float64

Drift = Callable[[jax.Array, jax.Array], jax.Array]
Noise = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class SDE(NamedTuple):
    """drift(t, x) -> like x, and noise(t, x, dw) -> like x, linear in dw, like x."""

    drift: Drift
    noise: Noise


def euler_maruyama(
    key: jax.Array,
    drift: Drift,
    noise: Noise,
    x0: jax.Array,
    *,
    time: float,
    steps: int,
    save: Sequence[int] | None = None,
    refine: int = 1,
) -> jax.Array:
    """Paths of dX = drift dt + noise(dB) on [0, time], kept at chosen steps only.

        X_{k+1} = X_k + h drift(t_k, X_k) + noise(t_k, X_k, B_{t_{k+1}} - B_{t_k}),
        h = time / steps,     E|X_T - X^h_T| = O(h^{1/2})  for Lipschitz coefficients

    The Brownian motion has x0's shape and dtype and is drawn on the grid of
    steps * refine equal steps, each from the key folded by its index: `steps=8,
    refine=4` and `steps=32` follow the same Brownian paths.  Compiled once for each
    pair (drift, noise), whatever the number of steps.

    Args:
      key: PRNG key.
      drift: (t, x) -> like x, on all paths at once.
      noise: (t, x, dw) -> like x, linear in dw, which is like x.
      x0: start, (paths, ...), floating point.
      time: T; at 0 the paths stay where they are.
      steps: number of steps.
      save: which of the steps 0, ..., steps to keep, increasing; None for the last.
      refine: fine Brownian increments in a step.

    Returns:
      (len(save), paths, ...), in x0's dtype.

    Raises:
      UserError: an integer x0, one in float64 where 64-bit types are off, a time below
        0 or not finite, steps or refine below 1 or not whole, a step that is not there.

    Source: Maruyama 1955, "Continuous Markov processes and stochastic equations".

    Example:
      >>> from testbed.sampling.diffusions import fixed_width
      >>> x0 = jnp.ones((1000, 1, 1))  # paths, inputs, units
      >>> sde = fixed_width(jax.nn.relu)
      >>> x = euler_maruyama(jax.random.key(0), *sde, x0, time=1.0, steps=100)
      >>> x.shape
      (1, 1000, 1, 1)
    """
    if not jnp.issubdtype(x0.dtype, jnp.floating) or x0.ndim == 0:
        rule = "must be an array of floating-point numbers, paths first"
        raise UserError("x0", x0.dtype, rule, "give float32 or float64")
    if x0.dtype == np.float64:
        check_float64("x0 is float64")
    time = number("time", time, 0, remedy="e.g. time=1.0")
    steps, refine = whole("steps", steps), whole("refine", refine)
    if steps * refine >= 2**32:
        rule = "steps * refine must be below 2^32"
        raise UserError("refine", refine, rule, "use fewer of them")
    kept = (steps,) if save is None else tuple(wholes("save", save, 0).tolist())
    if not kept or max(kept) > steps or list(kept) != sorted(kept):
        rule = f"must be increasing steps from 0 to {steps}"
        raise UserError("save", kept, rule, "e.g. save=(0, steps)")
    starts = np.array((0, *kept[:-1]), np.uint32)
    segments = (starts, np.array(kept, np.uint32))
    step = jnp.asarray(time / steps, x0.dtype)
    return _integrate(drift, noise, key, x0, step, np.uint32(refine), segments)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _integrate(drift, noise, key, x0, step, refine, segments):
    def increment(k):
        """B_{t_{k+1}} - B_{t_k}, as a sum over the fine grid."""

        def add(j, total):
            fine_key = jax.random.fold_in(key, k * refine + j)
            return total + jax.random.normal(fine_key, x0.shape, x0.dtype)

        total = jax.lax.fori_loop(jnp.uint32(0), refine, add, jnp.zeros_like(x0))
        return total * jnp.sqrt(step / refine.astype(x0.dtype))

    def advance(k, x):
        t = k.astype(x0.dtype) * step
        change = drift(t, x) * step + noise(t, x, increment(k))
        return x + change.astype(x0.dtype)

    def segment(x, ends):
        x = jax.lax.fori_loop(ends[0], ends[1], advance, x)
        return x, x

    return jax.lax.scan(segment, x0, segments)[1]
