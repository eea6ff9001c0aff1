"""The training problem that a finite ensemble and its linearization share."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from testbed.dynamics.clock import Clock
from testbed.dynamics.losses import LOSSES

Tree = Any


class Layers(NamedTuple):
    """What can be seen of a network's d layers, where they are known.

    Attributes:
      statistics: (params, constants, x) -> ``squared_norm`` (d + 1, B) and
        ``active_fraction`` (d, B) by name, see `models.layer_statistics`.
      gradient_norms: (tree like params) -> the norm of each block's part, (d,).
    """

    statistics: Callable[[Tree, Tree, jax.Array], dict[str, jax.Array]]
    gradient_norms: Callable[[Tree], jax.Array]


class Network(NamedTuple):
    """A network as functions, whatever it is written with.

    Attributes:
      init: key -> (params, constants): what is trained, a mapping whose values are
        groups of parameters, and what is not, any pytree of arrays.  It is traced.
      apply: (params, constants, x) -> outputs (N, C) of inputs (N, ...).
      layers: what can be seen inside of it, or None.
    """

    init: Callable[[jax.Array], tuple[Tree, Tree]]
    apply: Callable[[Tree, Tree, jax.Array], jax.Array]
    layers: Layers | None = None


class Shared(NamedTuple):
    """What all seeds of an ensemble see; arrays of NumPy or jax.

    Attributes:
      x: training inputs (N, ...).
      y: targets (N, C).
      x_test: test inputs (M, ...), or None.
      schedule: rows of x of each step, (steps, batch); None: all of them.
      start, stop: steps between which a state is taken.
    """

    x: Any
    y: Any
    x_test: Any
    schedule: Any = None
    start: Any = 0
    stop: Any = 0


@dataclasses.dataclass(frozen=True)
class Problem:
    """A network, its data, its loss and its optimizer, for an ensemble of seeds.

    Attributes:
      init, apply, layers: the network; see `Network`.
      x_train, y_train, x_test: inputs and centred targets (see `testbed.data`); x_test
        may be None.
      clock: steps and learning rate.
      key: root key; seed i is initialized from keys that depend on i alone.
      seeds: networks in the ensemble.
      loss: "mse" or "cross_entropy".
      optimizer: "gd", "momentum", "sgd" or "adam".
      schedule: (steps, batch) indices of `clock.batch_schedule`, or None.
      center: whether each network's initial output is subtracted from it.
      seed_axis: see `testbed.devices.over_seeds`.
      precision: matrix-product precision of training; None: as the caller has it.
      roundoff: unit round-off of the network's arithmetic; None: of its outputs' dtype.
    """

    init: Callable[[jax.Array], tuple[Tree, Tree]]
    apply: Callable[[Tree, Tree, jax.Array], jax.Array]
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray | None
    clock: Clock
    key: jax.Array
    layers: Layers | None = None
    seeds: int = 1
    loss: str = "mse"
    optimizer: str = "gd"
    schedule: np.ndarray | None = None
    center: bool = False
    seed_axis: str = "auto"
    precision: str | None = "highest"
    roundoff: float | None = None

    def networks(self) -> tuple[Tree, Tree]:
        """Returns (params, constants), each leaf with a leading seed axis.

        Seed i is initialized from fold_in(key, i).
        """
        one = lambda index: self.init(jax.random.fold_in(self.key, index))
        return jax.jit(lambda i: jax.lax.map(one, i))(jnp.arange(self.seeds))

    def loss_value(self, f: jax.Array, y: jax.Array) -> jax.Array:
        """The loss of outputs `f` on targets `y`."""
        return LOSSES[self.loss](f, y)

    def optax(self) -> optax.GradientTransformation:
        """The optimizer; heavy ball is m <- g + beta m, theta <- theta - lr m."""
        if self.optimizer == "adam":
            return optax.adam(self.clock.lr)
        return optax.sgd(self.clock.lr, momentum=self.clock.momentum or None)

    def shared(self) -> Shared:
        """The arrays that every seed sees."""
        arrays = Shared(self.x_train, self.y_train, self.x_test, self.schedule)
        return jax.tree.map(jnp.asarray, arrays)

    def in_precision(self) -> contextlib.AbstractContextManager:
        """The context in which matrix products have the precision of training."""
        if self.precision is None:
            return contextlib.nullcontext()
        return jax.default_matmul_precision(self.precision)
