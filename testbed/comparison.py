"""Any network of the user's own beside its linearization: `testbed.compare`.

    f_lin(x) = f(theta_0, x) + J(theta_0, x) (theta - theta_0)

starts where the network does and takes the same steps.  How far the two part, when, and
how the network's tangent kernel moves on the way, is what a run of scripts/train.py
records; `compare` records the same of a function.
"""

import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from testbed.bounds import check_bounds
from testbed.dynamics.losses import LOSSES
from testbed.errors import NotFinite, UserError, check_name
from testbed.numerics import is_traced
from testbed.reports.compared import Comparison
from testbed.runs import moments
from testbed.runs.foreign import Options, prepare_foreign
from testbed.runs.foreign_data import Examples

_OPTIMIZERS = ("gd", "momentum", "sgd", "adam")
_MOMENTUM = 0.9
_LONG = 120.0  # seconds still to train that are worth a word
# Names of the bounds of what these arguments set.
_SETTINGS = {
    "lr": "train.lr",
    "steps": "train.steps",
    "times": "measure.times",
    "seeds": "train.seeds",
    "batch_size": "train.batch_size",
    "momentum": "train.momentum",
    "tolerance": "measure.tolerance",
    "probes": "kernel.probes",
    "key": "train.seed",
}
_REAL = ("lr", "momentum", "tolerance")


def compare(
    apply_fn: Callable,
    params_or_init: Any,
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    lr: float | None = None,
    steps: int = 1000,
    times: int = 25,
    seeds: int = 1,
    optimizer: str = "gd",
    batch_size: int = 0,
    momentum: float = _MOMENTUM,
    loss: str = "mse",
    center: bool = True,
    tolerance: float = 0.1,
    probes: int = 48,
    kernel_fn: Callable | None = None,
    key: Any = 0,
) -> Comparison:
    """Trains a network and its linearization alike, and says when they part.

    Both minimize the loss of `testbed.dynamics.losses` by the same steps, of which time
    is t = lr * step.  The network's departure time is the first recorded one at which

        RMS(f - f_lin) / RMS(f_lin - f_lin at t = 0) > tolerance

    on the test set, or without one on the training set.

    `apply_fn` and `params_or_init` are one of

      f(params, x),             params: any pytree of arrays
      net.apply                 Flax variables; only "params" is trained
      f(params, constants, x),  (params, constants)
      f(module, x)              a module of Equinox or nnx; its floating-point arrays
                                are trained, of nnx those that are `nnx.Param`

    and in place of the second a function that makes it of a random key.  What is not
    trained is held fixed through all of training (batch_stats, random states, whole
    numbers); `Comparison.fixed` names it.  Rows must not interact: networks are taken
    in their form for inference.

    Args:
      apply_fn: pure and traceable, with outputs (N, C) of inputs (N, ...).  It is
        traced in the caller's configuration of jax, in its own dtypes.
      params_or_init: of one network, which is trained from there; or
        key -> parameters, traced, with fold_in(fold_in(key, 0), i) for seed i.
      x_train: inputs (N, ...).
      y_train: targets (N, C), or labels (N,) from 0, coded as one-hot minus 1/C; with
        one output as -1 and +1.  For cross_entropy labels, or probabilities minus 1/C.
      x_test: inputs (M, ...), or None.
      y_test: like `y_train`.
      lr: learning rate; None takes a tenth of 2N / lambda_max, of the stiffest seed's
        own kernel at initialization, by power iteration.
      steps: optimizer steps.
      times: recorded times besides t = 0, even in log(step).
      seeds: networks; more than one needs an initializer.
      optimizer: "gd" (full batch), "momentum" (heavy ball), "sgd" (gd on minibatches),
        "adam".
      batch_size: examples a step; 0 is the full set.
      momentum: heavy-ball coefficient, with optimizer="momentum".
      loss: "mse", 1/2 of the sum over outputs, mean over examples; or "cross_entropy".
      center: f - f at t = 0 is trained, for network and linearization.
      tolerance: relative distance at which a network has left its kernel.
      probes: examples of each split, at most, on which tangent kernels are computed.
      kernel_fn: of the infinitely wide network, x -> a pair with nngp and ntk:
        neural-tangents', or `testbed.kernels.infinite_kernel`.  It is evaluated in
        float64, and adds the Gaussian process that infinitely wide networks follow.
      key: root of all random keys, a whole number or a key.

    Returns:
      A `Comparison`.

    Raises:
      UserError: an argument that cannot be honoured, told in one line before training.
      NotFinite: no network, or linearization, was finite any more; its `comparison`
        holds what was recorded until then.

    Source: Lee et al. 2019, arXiv:1902.06720; the distance is docs/notation.md's.

    Example:
      >>> f = lambda params, x: jnp.tanh(x @ params["w"]) @ params["v"]
      >>> init = lambda key: {"w": jax.random.normal(key, (3, 64)) / 3**0.5,
      ...                     "v": jax.random.normal(key, (64, 1)) / 64**0.5}
      >>> compare(f, init, x, y, seeds=4).departure_time       # doctest: +SKIP
      array([0.43, 0.51, 0.43, 0.7 ])
    """
    if is_traced((params_or_init, x_train, y_train, x_test, y_test)):
        rule = "cannot be traced: it trains, and returns plain numbers"
        raise UserError("compare", "in jit, vmap or grad", rule, "call it outside")
    _check_numbers(
        lr=lr, steps=steps, times=times, seeds=seeds, batch_size=batch_size,
        momentum=momentum, tolerance=tolerance, probes=probes,
    )  # fmt: skip
    check_name("optimizer", optimizer, _OPTIMIZERS)
    check_name("loss", loss, LOSSES)
    examples = Examples.of(x_train, y_train, x_test, y_test)
    _check_optimizer(optimizer, batch_size, momentum, lr, kernel_fn, examples)
    options = Options(
        lr=lr, steps=int(steps), times=int(times), seeds=int(seeds),
        optimizer=optimizer, batch_size=int(batch_size),
        momentum=float(momentum) if optimizer == "momentum" else 0.0,
        loss=loss, center=bool(center), tolerance=float(tolerance), probes=int(probes),
    )  # fmt: skip
    begun = time.perf_counter()
    prepared = prepare_foreign(
        apply_fn, params_or_init, examples, options, kernel_fn, _root(key)
    )
    course = prepared.course
    moments.warn_of_instability(course, "lr", prepared.stiff)
    name, seen = _name(apply_fn, params_or_init), []

    def so_far(failure: Exception | None = None) -> Comparison:
        seconds = time.perf_counter() - begun
        return Comparison.of(name, prepared, options, seen, seconds, failure)

    try:
        start = moments.start(course)
        for now in moments.moments(course, start, progress=_slow(steps)):
            seen.append((now.row, now.seen))
    except NotFinite as error:
        error.comparison = so_far(error) if seen else None
        raise
    return so_far()


def _check_numbers(**values: Any) -> None:
    """Raises a UserError for what is no number, or not within its bounds."""
    for name, value in values.items():
        if name == "lr" and value is None:
            continue
        real = isinstance(value, float | int) or hasattr(value, "__float__")
        whole = isinstance(value, int) or hasattr(value, "__index__")
        if isinstance(value, bool) or not (real if name in _REAL else whole):
            kind = "a number" if name in _REAL else "a whole number"
            raise UserError(name, value, f"must be {kind}", f"give {kind}")
        number = float(value) if name in _REAL else int(value)
        try:
            check_bounds({_SETTINGS[name]: number})
        except UserError as error:
            raise UserError(name, value, error.rule, error.remedy) from None


def _check_optimizer(
    optimizer: str,
    batch_size: int,
    momentum: float,
    lr: float | None,
    kernel_fn: Callable | None,
    examples: Examples,
) -> None:
    n = len(examples.x_train)
    if momentum >= 1:
        raise UserError("momentum", momentum, "must be below 1", "e.g. 0.9")
    if momentum != _MOMENTUM and optimizer != "momentum":
        rule = f"has no effect with optimizer={optimizer}"
        raise UserError("momentum", momentum, rule, "use optimizer='momentum'")
    if batch_size > n:
        rule = f"must be at most the number of training examples, {n}"
        raise UserError("batch_size", batch_size, rule, "0 is the full set")
    if optimizer == "sgd" and not batch_size:
        remedy = "give batch_size=32, or optimizer='gd'"
        raise UserError("optimizer", "sgd", "needs a batch size", remedy)
    if optimizer == "gd" and batch_size:
        rule = f"is full-batch, but batch_size={batch_size}"
        raise UserError("optimizer", "gd", rule, "use optimizer='sgd'")
    if optimizer == "adam" and lr is None:
        rule = "has no critical learning rate to take a fraction of"
        raise UserError("optimizer", "adam", rule, "give lr, e.g. 1e-3")
    if optimizer == "adam" and kernel_fn is not None:
        rule = "no kernel describes adam's steps"
        raise UserError("kernel_fn", "given", rule, "leave it out, or use gd")


def _root(key: Any) -> jax.Array:
    if isinstance(key, jax.Array):
        try:
            jax.eval_shape(lambda key: jax.random.fold_in(key, 0), key)
        except (TypeError, ValueError):
            rule = "must be one random key, or a whole number"
            raise UserError("key", key.shape, rule, "e.g. key=0") from None
        return key
    _check_numbers(key=key)
    return jax.random.key(int(key))


def _name(apply_fn: Callable, params: Any) -> str:
    """What the network is called: its class, or the function's name."""
    if not isinstance(params, Mapping | list | tuple) and not inspect.isroutine(params):
        module = type(params).__module__.split(".")[0]
        if module not in ("builtins", "functools", "jax", "jaxlib", "numpy"):
            return type(params).__name__  # a module of Equinox or nnx
    name = getattr(apply_fn, "__qualname__", type(apply_fn).__name__)
    owner = getattr(apply_fn, "__self__", None)
    if owner is not None:
        name = type(owner).__name__
    name = name.split(".")[-1]
    generic = name in ("apply", "apply_fn") or not name.isidentifier()
    return "network" if generic else name


def _slow(steps: int) -> Callable[[int], None]:
    """Warns once, with the time that is left, of training that takes long."""
    began: list[tuple[int, float]] = []
    said = [False]

    def told(step: int) -> None:
        now = time.perf_counter()
        began.append((step, now))
        if said[0] or len(began) < 4:  # the first stretches compile
            return
        first, then = began[2]
        left = (steps - step) * (now - then) / max(step - first, 1)
        if left > _LONG and now - then > 2.0:
            said[0] = True
            minutes = math.ceil(left / 60)
            text = f"compare: about {minutes} min of training left"
            warnings.warn(f"{text}; lower steps or seeds", stacklevel=2)

    return told
