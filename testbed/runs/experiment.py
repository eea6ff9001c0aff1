"""From a config to the three predictors, ready to run."""

import dataclasses
import warnings
from collections.abc import Callable

import jax
import numpy as np

from testbed.config import Config
from testbed.data import Dataset, load
from testbed.divergence.table import Targets
from testbed.dynamics import Clock, Finite, Infinite, Linearized
from testbed.dynamics.clock import (
    batch_schedule,
    critical_rate,
    log_spaced_steps,
    stability_bound,
)
from testbed.dynamics.infinite import LimitKernels, gp_posterior
from testbed.dynamics.linen import linen_network
from testbed.dynamics.problem import Problem
from testbed.errors import RunError, UserError
from testbed.families import family
from testbed.kernels import infinite_kernel
from testbed.kernels.readout import readout_ntk
from testbed.runs.memory import check_training_memory


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run computes with.

    Attributes:
      dataset: the examples.
      clock: the time axis.
      predictors: {"finite", "linearized", "infinite"}; infinite is missing for Adam,
        whose steps no kernel describes.
      targets: what divergence is measured against.
      limit: the infinite-width kernels.
      limit_posterior: mean (M, C) and variance (M,) of the NNGP posterior on the test
        set.
      critical_lr, lr_bound: the critical learning rate, and that beyond which the
        infinite network diverges.
    """

    dataset: Dataset
    clock: Clock
    predictors: dict[str, Finite | Linearized | Infinite]
    targets: Targets
    limit: LimitKernels
    limit_posterior: tuple[np.ndarray, np.ndarray]
    critical_lr: float
    lr_bound: float


def prepare(config: Config, say: Callable[[str], None]) -> Experiment:
    """Loads the data, computes the limit kernels and sets up the predictors.

    Args:
      config: validated.
      say: told what is being done.

    Raises:
      UserError: a size that the data or the machine's memory does not allow.
    """
    say("loading data")
    vectors = config.data.flatten and not config.model.images
    dataset = load(dataclasses.replace(config.data, flatten=vectors))
    n, c = dataset.y_train.shape
    check_training_memory(config, dataset.input_shape, c)
    _check_probes(config, dataset)
    kind = family(config.model.kind)
    net = kind.network(config.model, c)
    x_train, x_test = kind.arrange(dataset.x_train), kind.arrange(dataset.x_test)
    say("computing the infinite-width kernels")
    kernel = infinite_kernel(net)(np.concatenate([x_train, x_test]).astype(np.float64))
    ntk = kernel.ntk
    if config.train.trained == "readout":
        ntk = readout_ntk(net, kernel.nngp)
    limit = LimitKernels.of(kernel.nngp, ntk, n)
    clock, bound, critical = _clock(config, limit)
    root = jax.random.key(config.train.seed)
    keys = {
        name: jax.random.fold_in(root, i)
        for i, name in enumerate(("networks", "batches", "draws"))
    }
    schedule = batch_schedule(keys["batches"], clock.steps, n, config.train.batch_size)
    t = config.train
    network = linen_network(net, x_train, t.trained)
    problem = Problem(
        init=network.init,
        apply=network.apply,
        layers=network.layers,
        x_train=x_train,
        y_train=dataset.y_train,
        x_test=x_test,
        clock=clock,
        key=keys["networks"],
        seeds=t.seeds,
        loss=t.loss,
        optimizer=t.optimizer,
        schedule=schedule,
        center=t.center,
        seed_axis=config.run.seed_axis,
        precision=t.precision,
    )
    say("initializing the networks")
    finite = Finite(problem, config.kernel.probes)
    predictors: dict[str, Finite | Linearized | Infinite] = {
        "finite": finite,
        "linearized": Linearized(finite),
    }
    if t.optimizer != "adam":
        predictors["infinite"] = Infinite(
            limit,
            dataset.y_train,
            clock,
            loss=t.loss,
            schedule=schedule,
            center=t.center,
            draws=config.kernel.draws,
            key=keys["draws"],
        )
    posterior = _posterior(config, dataset, limit)
    targets = _targets(config, dataset, limit)
    return Experiment(
        dataset, clock, predictors, targets, limit, posterior, critical, bound
    )


def _clock(config: Config, limit: LimitKernels) -> tuple[Clock, float, float]:
    t, n = config.train, limit.n_train
    momentum = t.momentum if t.optimizer == "momentum" else 0.0
    values = np.asarray(limit.system.values)
    if not 0 < values.max() < np.inf:
        raise RunError(
            f"the infinite-width kernel's largest eigenvalue is {values.max()}: it "
            "over- or underflows float64; bring model.alpha^2 + model.lam^2 nearer to "
            "1 or lower model.depth"
        )
    critical = critical_rate(values, n)
    bound = stability_bound(values, n, momentum)
    lr = t.lr if t.lr is not None else t.lr_fraction * critical
    if lr > bound and t.loss == "mse" and t.optimizer != "adam":
        warnings.warn(
            f"train.lr={lr:.4g} is above the stability bound {bound:.4g} = "
            "2 (1 + momentum) N / lambda_max of the infinite network: expect "
            "divergence; lower train.lr or train.lr_fraction",
            stacklevel=2,
        )
    steps = log_spaced_steps(
        t.steps, config.measure.times, config.measure.earlier_steps
    )
    clock = Clock(float(lr), n, steps, t.batch_size, momentum)
    return clock, bound, critical


def _check_probes(config: Config, dataset: Dataset) -> None:
    most = min(len(dataset.x_train), len(dataset.x_test))
    if config.kernel.probes > most:
        rule = f"must be at most the smaller split, {most} examples"
        raise UserError(
            "kernel.probes", config.kernel.probes, rule, f"use at most {most}"
        )


def _posterior(config: Config, dataset: Dataset, limit: LimitKernels):
    try:
        return gp_posterior(limit.nngp, dataset.y_train, config.kernel.ridge)
    except RunError as error:
        rule = f"is too small for this kernel ({error})"
        raise UserError("kernel.ridge", config.kernel.ridge, rule, "try 1e-6") from None


def _targets(config: Config, dataset: Dataset, limit: LimitKernels) -> Targets:
    labels = None
    if dataset.labels_train is not None and dataset.labels_test is not None:
        labels = {"train": dataset.labels_train, "test": dataset.labels_test}
    m, kernel = config.kernel.probes, None
    if m:
        n = len(dataset.x_train)
        rows = np.r_[0:m, n : n + m]
        kernel = limit.ntk[np.ix_(rows, rows)]
    y = {"train": dataset.y_train, "test": dataset.y_test}
    return Targets(y, labels, config.train.loss, kernel)
