"""The loop over optimizer steps, for anything with outputs and a pull-back."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from testbed.dynamics.problem import Problem, Shared

Tree = Any


def begin(problem: Problem, trained: Tree) -> Tree:
    """The state of descent before the first step, from seed-stacked variables."""
    return {
        "value": trained,
        "optimizer": jax.vmap(problem.optax().init)(trained),
        "failed_at": jnp.full(problem.seeds, -1, jnp.int32),
    }


def descend(
    problem: Problem,
    state: Tree,
    shared: Shared,
    gradient: Callable[[Tree, jax.Array | None], tuple[jax.Array, Tree]],
) -> Tree:
    """Takes one seed's `state` from step `shared.start` to `shared.stop`.

    The bounds are traced, so one compiled program serves every stretch between recorded
    times, and how a run is cut into stretches does not change a bit of it.

    Args:
      problem: gives the optimizer.
      state: of one seed, as made by `begin`.
      shared: what all seeds see.
      gradient: (value, indices or None) -> (loss, gradient).

    Returns:
      The new state.  ``failed_at`` is the first step whose loss was not finite, or -1.
    """
    optimizer = problem.optax()

    def step(i, state):
        rows = shared.schedule[i] if shared.schedule is not None else None
        loss, grads = gradient(state["value"], rows)
        updates, opt = optimizer.update(grads, state["optimizer"])
        failed_at = state["failed_at"]
        first_failure = (failed_at < 0) & ~jnp.isfinite(loss)
        return {
            "value": jax.tree.map(jnp.add, state["value"], updates),
            "optimizer": opt,
            "failed_at": jnp.where(first_failure, i, state["failed_at"]).astype(
                "int32"
            ),
        }

    return jax.lax.fori_loop(shared.start, shared.stop, step, state)


def take(a: jax.Array, rows: jax.Array | None) -> jax.Array:
    """The batch of `a`, or all of it."""
    return a if rows is None else a[rows]
