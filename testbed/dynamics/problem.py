"""The training problem that a finite ensemble and its linearization share."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from testbed.dynamics.clock import Clock
from testbed.dynamics.losses import LOSSES

Tree = Any


class Shared(NamedTuple):
    """What all seeds of an ensemble see; arrays of NumPy or jax.

    Attributes:
      x: training inputs (N, ...).
      y: targets (N, C).
      x_test: test inputs (M, ...).
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
      net: a Flax Linen module mapping (N, ...) to (N, C).
      x_train, y_train, x_test: inputs and centred targets (see `testbed.data`).
      clock: steps and learning rate.
      key: root key; seed i is initialized from keys that depend on i alone.
      seeds: networks in the ensemble.
      loss: "mse" or "cross_entropy".
      optimizer: "gd", "momentum", "sgd" or "adam".
      schedule: (steps, batch) indices of `clock.batch_schedule`, or None.
      center: whether each network's initial output is subtracted from it.
      trained: "all", or "readout" for the last layer only.
      seed_axis: see `testbed.devices.over_seeds`.
      precision: matrix-product precision of training.
    """

    net: nn.Module
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    clock: Clock
    key: jax.Array
    seeds: int = 1
    loss: str = "mse"
    optimizer: str = "gd"
    schedule: np.ndarray | None = None
    center: bool = False
    trained: str = "all"
    seed_axis: str = "auto"
    precision: str = "highest"

    def init(self) -> tuple[Tree, Tree]:
        """Returns (trained, constant) variables, each leaf with a leading seed axis."""

        def one(index):
            key = jax.random.fold_in(self.key, index)
            streams = ("params", "signs")
            rngs = {s: jax.random.fold_in(key, i) for i, s in enumerate(streams)}
            return self.net.init(rngs, jnp.asarray(self.x_train[:1]))

        variables = jax.jit(lambda i: jax.lax.map(one, i))(jnp.arange(self.seeds))
        params = variables.pop("params")
        if self.trained == "all":
            return params, {**variables, "params": {}}
        trained = {"head": params.pop("head")}
        return trained, {**variables, "params": params}

    def apply(self, trained: Tree, constant: Tree, x: jax.Array) -> jax.Array:
        """The network's output (N, C), from its trained and constant variables."""
        params = {**constant["params"], **trained}
        f = self.net.apply({**constant, "params": params}, x)
        assert isinstance(f, jax.Array)  # no collection is mutable
        return f

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
