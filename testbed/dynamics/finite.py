"""The finite networks: an ensemble of seeds, trained and watched."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from testbed.devices import over_seeds, seed_devices
from testbed.dynamics.descent import begin, descend, take
from testbed.dynamics.problem import Problem, Shared
from testbed.dynamics.trajectory import Observation
from testbed.kernels.factors import jacobian_factors
from testbed.kernels.structured import contract
from testbed.numerics import float64

Tree = Any


class _Seed(NamedTuple):
    """One seed: its state, its constant variables, its outputs at initialization."""

    state: Tree
    constant: Tree
    offset: dict[str, jax.Array]


class Finite:
    """An ensemble of finite networks under gradient descent.

    Args:
      problem: what is trained, on what, how.
      probes: training and test examples (so many of each, the first ones) on which the
        empirical NTK and the layers' statistics are computed; 0 for none.
      networks: what `problem.networks` returned, where it is known already.

    Observations, with E seeds and m = 2 * probes (without test examples, m = probes):
      ``outputs/train`` (E, N, C), ``outputs/test``; ``kernel`` (E, m, m), the empirical
      NTK, trace over outputs / C; ``outputs/rounding`` (E,), the size of float rounding
      errors in outputs.  Where the problem knows layers: ``layers/squared_norm``
      (E, d + 1, m) and ``layers/active_fraction`` (E, d, m), see
      `models.layer_statistics`; ``layers/gradient_norm`` (E, d), the norm of the
      training loss's gradient in each block's weights (0 where they are not trained).
    """

    name = "finite"

    def __init__(
        self,
        problem: Problem,
        probes: int = 0,
        networks: tuple[Tree, Tree] | None = None,
    ):
        self.problem, self.probes = problem, probes
        self._shared = problem.shared()
        seeds, axis = problem.seeds, problem.seed_axis
        self._advance = over_seeds(self._advance_one, seeds, axis)
        self._outputs = over_seeds(self._outputs_one, seeds, axis)
        # One seed a device at a time: a kernel's cotangents are large.
        self._block = len(seed_devices(seeds))
        self._factors = over_seeds(self._factors_one, self._block, "map")
        self._contract = over_seeds(_contract_one, self._block, "map")
        self.initial, self.constant = networks or problem.networks()
        splits = ("train",) if problem.x_test is None else ("train", "test")
        zeros = jnp.zeros(seeds).astype(problem.y_train.dtype)
        self._offset: Tree = {split: zeros for split in splits}
        if problem.center:
            at_start = self._observe_outputs(self.initial)
            self._offset = {split: at_start[f"outputs/{split}"] for split in splits}

    def start(self) -> Tree:
        """The ensemble at initialization."""
        return begin(self.problem, self.initial)

    def advance(self, state: Tree, start: int, stop: int) -> Tree:
        """Trains every seed from step `start` to step `stop`."""
        shared = self._shared._replace(start=start, stop=stop)
        with self.problem.in_precision():
            return self._advance(self._per_seed(state), shared)

    def observe(self, state: Tree, step: int, kernels: bool = True) -> Observation:
        """Outputs, layer statistics and, if asked, kernels at this state."""
        outputs = self._observe_outputs(state["value"]).items()
        seen = {name: np.asarray(value) for name, value in outputs}
        if self.probes and kernels:
            seen["kernel"] = self._kernels(state)
        return seen

    def _observe_outputs(self, value: Tree) -> dict[str, jax.Array]:
        # In the precision of training: at t = 0 a centred output is 0, not round-off.
        with self.problem.in_precision():
            return self._outputs(self._per_seed({"value": value}), self._shared)

    def _per_seed(self, state: Tree) -> _Seed:
        return _Seed(state, self.constant, self._offset)

    def _advance_one(self, seed: _Seed, shared: Shared) -> Tree:
        problem = self.problem

        def loss(value, rows):
            f = problem.apply(value, seed.constant, take(shared.x, rows))
            if problem.center:
                f = f - take(seed.offset["train"], rows)
            return problem.loss_value(f, take(shared.y, rows))

        return descend(problem, seed.state, shared, jax.value_and_grad(loss))

    def _outputs_one(self, seed: _Seed, shared: Shared) -> dict[str, jax.Array]:
        problem, constant = self.problem, seed.constant
        value = seed.state["value"]

        def loss(value):
            f = problem.apply(value, constant, shared.x) - seed.offset["train"]
            return problem.loss_value(f, shared.y), f

        grads, train = jax.grad(loss, has_aux=True)(value)
        seen = {
            "outputs/train": train,
            "outputs/rounding": _rounding(
                train + seed.offset["train"], problem.roundoff
            ),
        }
        if shared.x_test is not None:
            test = problem.apply(value, constant, shared.x_test)
            seen["outputs/test"] = test - seed.offset["test"]
        if problem.layers:
            seen["layers/gradient_norm"] = problem.layers.gradient_norms(grads)
        if problem.layers and self.probes:
            probe = self._probe(shared)
            layers = problem.layers.statistics(value, constant, probe)
            for name in ("squared_norm", "active_fraction"):
                seen[f"layers/{name}"] = layers[name]
        return seen

    def _kernels(self, state: Tree) -> np.ndarray:
        """Theta of every seed: factors as the network has them, summed in float64."""
        per_seed, kernels = self._per_seed({"value": state["value"]}), []
        for start in range(0, self.problem.seeds, self._block):
            take = lambda a, start=start: a[start : start + self._block]
            factors = self._factors(jax.tree.map(take, per_seed), self._shared)
            with float64():
                kernels.append(np.asarray(self._contract(factors, {})))
        return np.concatenate(kernels)

    def _factors_one(self, seed: _Seed, shared: Shared) -> Tree:
        apply = lambda p, x: self.problem.apply(p, seed.constant, x)
        return jacobian_factors(apply, seed.state["value"], self._probe(shared))

    def _probe(self, shared: Shared) -> jax.Array:
        splits = [shared.x] if shared.x_test is None else [shared.x, shared.x_test]
        return jnp.concatenate([x[: self.probes] for x in splits])


def _contract_one(factors: Tree, _: Tree) -> jax.Array:
    return contract(factors, factors, trace_outputs=True)


def _rounding(f: jax.Array, roundoff: float | None) -> jax.Array:
    """30 units of rounding of raw outputs: what was seen between equal programs."""
    unit = jnp.finfo(f.dtype).eps if roundoff is None else roundoff
    return 30 * unit * jnp.sqrt(jnp.mean(f**2))
