"""From the arguments of `testbed.comparison.compare` to predictors, ready to run."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from testbed.divergence.table import Targets
from testbed.dynamics import Clock, Finite, Infinite, Linearized
from testbed.dynamics.clock import batch_schedule, log_spaced_steps
from testbed.dynamics.foreign import check_applied, foreign_network, named
from testbed.dynamics.infinite import LimitKernels
from testbed.dynamics.problem import Problem
from testbed.dynamics.stiffness import stiffness
from testbed.dynamics.trajectory import Predictor
from testbed.errors import UserError, in_a_line
from testbed.kernels.rows import check_independent_rows, unit_roundoff
from testbed.numerics import float64
from testbed.runs.diverged import Remedies
from testbed.runs.foreign_data import Examples
from testbed.runs.foreign_memory import check_memory_of
from testbed.runs.moments import Course

LR_FRACTION = 0.1  # of the critical rate, as of our own networks
_ITERATIONS = 50  # the rate follows from what they find
_REMEDIES = Remedies(
    at_start="check the network's parameters and inputs", later="lower lr"
)
_INFERENCE = (
    "take its form for inference: train=False in Flax, model.eval() in nnx, "
    "eqx.nn.inference_mode in Equinox"
)


@dataclasses.dataclass(frozen=True)
class Options:
    """How the network is trained and watched; see `testbed.comparison.compare`."""

    lr: float | None
    steps: int
    times: int
    seeds: int
    optimizer: str
    batch_size: int
    momentum: float
    loss: str
    center: bool
    tolerance: float
    probes: int


class Prepared(NamedTuple):
    """What is followed, and what is known of it before.

    Attributes:
      course: the predictors on their clock.
      parameters: numbers that are trained, in one network.
      fixed: what is held fixed, in words.
      bound: 2 (1 + momentum) N / lambda_max of the stiffest network's own kernel.
      stiff: that lambda_max of every network, (E,).
      limits: targets, labels and kernels of the infinite network, as of a run.
    """

    course: Course
    parameters: int
    fixed: str
    bound: float
    stiff: np.ndarray
    limits: dict[str, np.ndarray]


def prepare_foreign(
    apply_fn: Callable,
    params_or_init: Any,
    examples: Examples,
    options: Options,
    kernel_fn: Callable | None,
    key: jax.Array,
) -> Prepared:
    """Takes the network apart and sets up its predictors.

    Args:
      apply_fn: see `testbed.dynamics.foreign.foreign_network`.
      params_or_init: likewise.
      examples: inputs and targets.
      options: checked.
      kernel_fn: of the infinitely wide network, or None.
      key: root of all random keys.

    Raises:
      UserError: a network, target or size that cannot be compared.
    """
    keys = {
        name: jax.random.fold_in(key, i)
        for i, name in enumerate(("networks", "batches", "draws"))
    }
    foreign = foreign_network(apply_fn, params_or_init, keys["networks"])
    network, o = foreign.network, options
    if foreign.given is not None and o.seeds > 1:
        rule = "params_or_init gives the parameters of one network"
        remedy = "leave seeds out, or give a function that makes them of a random key"
        raise UserError("seeds", o.seeds, rule, remedy)
    one: Any = foreign.given or jax.eval_shape(network.init, keys["networks"])
    out = check_applied(network, one[0], one[1], jnp.asarray(examples.x_train))
    examples = examples.coded(out.shape[1], out.dtype, o.loss)
    probes = min(o.probes, *map(len, examples.inputs))
    check_memory_of(network, one, examples, dataclasses.replace(o, probes=probes))
    steps = log_spaced_steps(o.steps, o.times)
    n = len(examples.x_train)
    problem = Problem(
        init=network.init,
        apply=network.apply,
        x_train=examples.x_train,
        y_train=examples.y_train,
        x_test=examples.x_test,
        clock=Clock(1.0, n, steps, o.batch_size, o.momentum),
        key=keys["networks"],
        seeds=o.seeds,
        loss=o.loss,
        optimizer=o.optimizer,
        schedule=batch_schedule(keys["batches"], o.steps, n, o.batch_size),
        center=o.center,
        precision=None,
    )
    if foreign.given is None:
        networks: Any = problem.networks()
    else:
        networks = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], foreign.given)
    first = jax.tree.map(lambda leaf: leaf[0], networks)
    problem = _watched(problem, first[0], first[1], examples)
    stiff = stiffness(problem, networks[0], networks[1], _ITERATIONS)
    bound = 2 * (1 + o.momentum) * n / stiff.max()
    lr = o.lr
    if lr is None:
        lr = LR_FRACTION * 2 * n / float(stiff.max())
    defined = bool(np.isfinite(lr) and lr > 0)
    clock = dataclasses.replace(problem.clock, lr=float(lr) if defined else 1.0)
    problem = dataclasses.replace(problem, clock=clock)
    finite = Finite(problem, probes, networks)
    _check_start(finite)
    if not defined:
        rule = (
            "is a tenth of 2N / lambda_max, and lambda_max, the largest eigenvalue of "
            "the network's own kernel, is not a positive number: outputs do not depend "
            "on parameters, or gradients are not finite"
        )
        raise UserError("lr", None, rule, "give lr, or other parameters")
    predictors: dict[str, Predictor] = {
        "finite": finite,
        "linearized": Linearized(finite),
    }
    limits, kernel = examples.recorded(), None
    if kernel_fn is not None:
        limit = _limit(kernel_fn, examples)
        predictors["infinite"] = Infinite(
            limit,
            examples.y_train,
            clock,
            loss=o.loss,
            schedule=problem.schedule,
            center=o.center,
            key=keys["draws"],
        )
        limits["eigenvalues"] = np.asarray(limit.system.values)
        if probes:
            rows = examples.probe_rows(probes)
            limits["nngp"] = limit.nngp[np.ix_(rows, rows)]
            limits["ntk"] = kernel = limit.ntk[np.ix_(rows, rows)]
    targets = Targets(examples.targets, examples.labels, o.loss, kernel)
    course = Course(predictors, clock, targets, frozenset(clock.recorded), _REMEDIES)
    size = sum(leaf.size for leaf in jax.tree.leaves(one[0]))
    return Prepared(course, size, named(foreign.fixed), float(bound), stiff, limits)


def _watched(problem: Problem, params: Any, constants: Any, examples: Examples):
    """The problem with its round-off; refuses a network whose rows interact."""
    apply = lambda p, x: problem.apply(p, constants, x)
    x = jnp.concatenate([jnp.asarray(x[:2]) for x in examples.inputs])
    check_independent_rows(apply, params, x, remedy=_INFERENCE)
    return dataclasses.replace(problem, roundoff=unit_roundoff(apply, params, x))


def _check_start(finite: Finite) -> None:
    """Refuses networks that are not finite at initialization."""
    seen = finite.observe(finite.start(), 0, kernels=False)
    for name in sorted(seen, key=lambda name: "rounding" in name):
        value = seen[name]
        wrong = ~np.isfinite(value.reshape(len(value), -1)).all(1)
        if wrong.any():
            seed, what = int(np.flatnonzero(wrong)[0]), name.split("/")
            value = f"gives {what[0]} on the {what[1]} set that are not finite"
            if what[1] == "rounding":
                value = "gives outputs whose square is not finite"
            rule = f"must be finite at initialization (seed {seed})"
            remedy = "check the parameters and inputs for NaN and overflow"
            raise UserError("apply_fn", value, rule, remedy)


def _limit(kernel_fn: Callable, examples: Examples) -> LimitKernels:
    """The kernels of the infinitely wide network on all examples, in float64.

    Raises:
      UserError: a function that fails, or kernels that are none.
    """
    x = np.concatenate([np.asarray(x, np.float64) for x in examples.inputs])
    names = ("nngp", "ntk")
    remedy = "give that of neural_tangents.stax, or testbed.kernels.infinite_kernel"
    try:
        parameters = inspect.signature(kernel_fn).parameters
        with float64():
            asked = {"get": names} if "get" in parameters else {}
            kernel = kernel_fn(x, **asked)
            found = [np.asarray(getattr(kernel, k), np.float64) for k in names]
    except UserError:
        raise
    except Exception as error:  # of other people's code, whatever it is
        rule = "must return nngp and ntk of its argument"
        value = f"fails ({in_a_line(error)[:160]})"
        raise UserError("kernel_fn", value, rule, remedy) from error
    for name, matrix in zip(names, found, strict=True):
        if matrix.shape != (len(x), len(x)):
            rule = f"must be of shape {(len(x), len(x))}, one number for two examples"
            raise UserError(f"kernel_fn.{name}.shape", matrix.shape, rule, remedy)
        if not np.isfinite(matrix).all():
            rule = "must be finite"
            raise UserError(f"kernel_fn.{name}", "an array", rule, remedy)
    return LimitKernels.of(found[0], found[1], len(examples.x_train))
