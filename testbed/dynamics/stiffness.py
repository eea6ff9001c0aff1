"""How stiff each network's own kernel is: what bounds the learning rate."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from testbed.devices import over_seeds
from testbed.dynamics.problem import Problem, Shared

Tree = Any


def stiffness(
    problem: Problem, initial: Tree, constant: Tree, iterations: int = 20
) -> np.ndarray:
    """Largest eigenvalue of J_0 J_0^T on the training set, for every seed, (E,).

    All outputs are coupled in it, so it exceeds that of the kernel averaged over
    outputs.  Gradient descent on the linear model is stable below
    2 (1 + beta) N / this.  By power iteration from the targets, which makes no kernel:
    a lower bound that is within a percent once the top of the spectrum stands out.

    Args:
      problem: what is trained, on what.
      initial: parameters of every network, as `problem.networks` returns them.
      constant: what they are not trained in, likewise.
      iterations: of the power iteration.
    """
    one = partial(_stiffness_one, problem, iterations)
    measure = over_seeds(one, problem.seeds, problem.seed_axis)
    return np.asarray(measure((initial, constant), problem.shared()))


def _stiffness_one(
    problem: Problem, iterations: int, seed: tuple[Tree, Tree], shared: Shared
) -> jax.Array:
    origin, constant = seed
    apply = lambda p: problem.apply(p, constant, shared.x)
    start, push = jax.linearize(apply, origin)
    pull = jax.linear_transpose(push, origin)

    def step(v, _):
        moved = push(*pull(v))
        norm = jnp.linalg.norm(moved)
        return moved / norm, norm

    v = start - shared.y
    _, norms = jax.lax.scan(step, v / jnp.linalg.norm(v), None, length=iterations)
    return norms[-1]
