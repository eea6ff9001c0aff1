"""Each network's own first-order Taylor model, trained as the network is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from testbed.devices import over_seeds
from testbed.dynamics.descent import begin, descend, take
from testbed.dynamics.finite import Finite
from testbed.dynamics.modes import response
from testbed.dynamics.problem import Shared
from testbed.dynamics.trajectory import Observation
from testbed.kernels import eigensystem
from testbed.kernels.empirical import contraction, factors

Tree = Any


class _Seed(NamedTuple):
    """One seed: its state, theta_0, its constant variables."""

    state: Tree
    origin: Tree
    constant: Tree


class Linearized:
    """f_lin(x) = f_0(x) + J_0(x) (theta - theta_0), under the same optimizer.

    Trained in parameter space, on the same batches as the finite network of the same
    seed, for any loss and optimizer.  Its Jacobian is taken once: with full batches a
    step costs two passes through the linear model.

    Source: Lee et al. 2019, arXiv:1902.06720, eq. 6.

    Args:
      finite: the ensemble whose initialization is linearized.
    """

    name = "linearized"

    def __init__(self, finite: Finite):
        self.problem, self._finite = finite.problem, finite
        self._shared = self.problem.shared()
        seeds, axis = self.problem.seeds, self.problem.seed_axis
        self._advance = over_seeds(self._advance_one, seeds, axis)
        self._outputs = over_seeds(self._outputs_one, seeds, axis)

    def start(self) -> Tree:
        """No displacement yet."""
        return begin(self.problem, jax.tree.map(jnp.zeros_like, self._finite.initial))

    def advance(self, state: Tree, start: int, stop: int) -> Tree:
        """Trains every seed's displacement from step `start` to step `stop`."""
        shared = self._shared._replace(start=start, stop=stop)
        with self.problem.in_precision():
            return self._advance(self._per_seed(state), shared)

    def observe(self, state: Tree, step: int, kernels: bool = True) -> Observation:
        """Outputs of the linearized models at this state."""
        with self.problem.in_precision():
            seen = self._outputs(
                self._per_seed({"value": state["value"]}), self._shared
            )
        return {name: np.asarray(value) for name, value in seen.items()}

    def _per_seed(self, state: Tree) -> _Seed:
        return _Seed(state, self._finite.initial, self._finite.constant)

    def _advance_one(self, seed: _Seed, shared: Shared) -> Tree:
        problem, origin = self.problem, seed.origin

        def taylor(x):
            apply = lambda p: problem.apply(p, seed.constant, x)
            start, push = jax.linearize(apply, origin)
            return (
                start * (not problem.center),
                push,
                jax.linear_transpose(push, origin),
            )

        # Linearized outside the loop when every step sees the same examples.
        whole = None if shared.schedule is not None else taylor(shared.x)

        def gradient(displacement, rows):
            start, push, pull = whole or taylor(take(shared.x, rows))
            f = start + push(displacement)
            loss = lambda f: problem.loss_value(f, take(shared.y, rows))
            value, cotangent = jax.value_and_grad(loss)(f)
            return value, pull(cotangent)[0]

        return descend(problem, seed.state, shared, gradient)

    def _outputs_one(self, seed: _Seed, shared: Shared) -> dict[str, jax.Array]:
        def outputs(x):
            apply = lambda p: self.problem.apply(p, seed.constant, x)
            f, moved = jax.jvp(apply, (seed.origin,), (seed.state["value"],))
            return f * (not self.problem.center) + moved

        seen = {"outputs/train": outputs(shared.x)}
        if shared.x_test is not None:
            seen["outputs/test"] = outputs(shared.x_test)
        return seen


class LinearizedClosedForm:
    """The same predictor without steps, for MSE and full-batch (heavy-ball) descent.

        f_k(x) = f_0(x) - Theta_0(x, X) V a_k(w) V^T (f_0(X) - y)

    with the eigensystem (w, V) of each seed's own (N C x N C) empirical NTK and a_k of
    `testbed.dynamics.modes.response`.  Costs (N C)^3 once, and nothing per step.

    Source: Lee et al. 2019, arXiv:1902.06720, eqs. 9-11, in discrete time.

    Args:
      finite: the ensemble whose initialization is linearized.
    """

    name = "linearized"

    def __init__(self, finite: Finite):
        problem = finite.problem
        self._clock, self._y = problem.clock, problem.y_train.astype(np.float64)
        seen = finite.observe(finite.start(), 0, kernels=False)
        self._f0 = seen["outputs/train"].astype(np.float64)
        self._f0_test = seen["outputs/test"].astype(np.float64)
        self._systems, self._cross = [], []
        assert problem.x_test is not None  # else there is nothing that steps lack
        x = jnp.concatenate([jnp.asarray(problem.x_train), jnp.asarray(problem.x_test)])
        n, c = problem.y_train.shape
        for seed in range(problem.seeds):
            pick = lambda tree, s=seed: jax.tree.map(lambda a: a[s], tree)
            constant = pick(finite.constant)
            apply = lambda p, x, k=constant: problem.apply(p, k, x)
            whole = factors(apply, pick(finite.initial), x)
            rows = jax.tree.map(lambda f: f[:, :n], whole)  # those of the training set
            kernel = contraction(False, whole, rows)
            flat = np.asarray(kernel, np.float64).transpose(0, 2, 1, 3)
            flat = flat.reshape(-1, n * c)
            system = eigensystem(flat[: n * c], name="empirical NTK")
            pair = np.asarray(system.values), np.asarray(system.vectors)
            self._systems.append(pair)
            self._cross.append(flat[n * c :])

    def start(self) -> None:
        """Nothing is carried from step to step."""

    def advance(self, state: None, start: int, stop: int) -> None:
        """Nothing to do."""

    def observe(self, state: None, step: int, kernels: bool = True) -> Observation:
        """Outputs after `step` steps."""
        clock, train, test = self._clock, [], []
        seeds = (self._systems, self._cross, self._f0, self._f0_test)
        for (values, vectors), cross, f0, f0_test in zip(*seeds, strict=True):
            a = response(values, step, clock.rate, clock.momentum)
            mode = vectors.T @ (f0 - self._y).reshape(-1)
            train.append(f0 - (vectors @ (values * a * mode)).reshape(f0.shape))
            moved = cross @ (vectors @ (a * mode))
            test.append(f0_test - moved.reshape(f0_test.shape))
        return {"outputs/train": np.stack(train), "outputs/test": np.stack(test)}
