"""The rules that settings must satisfy, checked before anything is computed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from testbed import sources
from testbed.bounds import BOUNDS, MOST_CLASSES, check_bounds, check_path, check_text
from testbed.config import (
    DEFAULT_DEPTH,
    Config,
    DataConfig,
    SimulateConfig,
)
from testbed.errors import UserError, check_name
from testbed.kinds import of_vectors
from testbed.kinds.common import ModelConfig
from testbed.settings import changed, choices, flatten

_PATHS = ("run.dir", "run.root", "data.data_dir", "data.manual_dir")
_REGRESSION = ("linear", "network", "gp")


def validate(config: Config) -> Config:
    """Checks every rule that needs no data and fills in `model.depth`.

    Raises:
      UserError: naming field, value, rule and remedy.
    """
    d, t, flat = config.data, config.train, flatten(config)
    check_name("data.name", d.name, sources.SOURCES)
    _check_shared(config, flat)
    if config.model.images and d.name in sources.SYNTHETIC_NAMES:
        rule = f"gives vectors, and model.kind={config.model.kind} takes images"
        raise UserError("data.name", d.name, rule, "e.g. --data.name=digits")
    check_name("data.teacher", d.teacher, of_vectors())
    ends = (0, *config.measure.earlier_steps, t.steps)
    if sorted(set(ends)) != list(ends):
        rule = f"must rise from 1 to below train.steps={t.steps}"
        value = config.measure.earlier_steps
        raise UserError("measure.earlier_steps", value, rule, "leave it out")
    _check_classes(d)
    _check_training(config)
    return dataclasses.replace(config, model=_resolve(config.model))


def validate_simulation(config: SimulateConfig) -> SimulateConfig:
    """The same for `scripts/simulate.py`.

    Raises:
      UserError: naming field, value, rule and remedy.
    """
    flat = flatten(config)
    _check_shared(config, flat)
    m = config.model
    if m.activation != "relu":
        rule = "the laws of norms are those of relu networks"
        raise UserError("model.activation", m.activation, rule, "use relu")
    if m.bias_std:
        rule = "the laws of norms are those of networks without biases"
        raise UserError("model.bias_std", m.bias_std, rule, "use 0")
    if m.head != "linear":
        rule = "the output's law is that of a linear head"
        raise UserError("model.head", m.head, rule, "use linear")
    model = _resolve(m)
    model.check_random()
    return dataclasses.replace(config, model=model)


def _check_shared(config: Any, flat: Mapping[str, Any]) -> None:
    """What holds for all settings, and for model and run, whatever the command."""
    m = config.model
    for name, valid in choices(type(config)).items():
        if name in flat:
            check_name(name, flat[name], valid)
    for name, value in flat.items():
        if name in _PATHS:
            check_path(name, value)
        elif isinstance(value, str):
            check_text(name, value)
    if m.depth is not None and m.ratio is not None:
        raise UserError(
            "model.ratio",
            m.ratio,
            f"cannot be given together with model.depth={m.depth}",
            "leave one of the two out",
        )
    check_bounds(flat)


def _resolve(m: ModelConfig) -> ModelConfig:
    """The model with its depth filled in, checked."""
    depth = m.depth or (round(m.ratio * m.width) if m.ratio else DEFAULT_DEPTH)
    gives = f"gives depth round({m.ratio} * {m.width}) = {depth}"
    if depth < 1:
        remedy = "raise model.ratio or model.width"
        raise UserError("model.ratio", m.ratio, f"{gives}, must be at least 1", remedy)
    if depth > (most := BOUNDS["model.depth"].most):
        remedy = "lower model.ratio or model.width"
        raise UserError("model.ratio", m.ratio, f"{gives}, at most {most}", remedy)
    resolved = dataclasses.replace(m, depth=depth, ratio=None)
    resolved.check()
    return resolved


def unused(config: Config) -> list[str]:
    """One line for every setting that was changed but has no effect in this run."""
    t, d = config.train, config.data
    synthetic = d.name in sources.SYNTHETIC_NAMES
    needs = config.model.needs() | {
        "train.momentum": (t.optimizer == "momentum", "train.optimizer=momentum"),
        "train.lr_fraction": (t.lr is None, "train.lr left out"),
        "data.n_in": (synthetic, "a synthetic data.name"),
        "data.n_out": (synthetic, "a synthetic data.name"),
        "data.teacher": (d.name in ("network", "gp"), "data.name=network or gp"),
        "data.flatten": (
            d.flatten,
            "a call of testbed.data.load",
        ),
        "kernel.draws": (t.loss == "cross_entropy", "train.loss=cross_entropy"),
    }
    return _without_effect(config, Config(), needs)


def unused_simulation(config: SimulateConfig) -> list[str]:
    """The same for `scripts/simulate.py`."""
    needs = config.model.needs() | {
        "model.parameterization": (False, "training: the law at t = 0 is the same"),
        "run.seed_axis": (False, "scripts/train.py"),
    }
    return _without_effect(config, SimulateConfig(), needs)


def _without_effect(config: Any, base: Any, needs: dict) -> list[str]:
    given = changed(config, base)
    return [
        f"{name}={given[name]} has no effect: it needs {need}"
        for name, (used, need) in needs.items()
        if not used and name in given
    ]


def _check_classes(d: DataConfig) -> None:
    if len(d.classes) == 1 or len(set(d.classes)) != len(d.classes):
        rule = "must be at least two different classes"
        raise UserError("data.classes", d.classes, rule, "e.g. --data.classes 3,7")
    if d.classes and not 0 <= min(d.classes) <= max(d.classes) < MOST_CLASSES:
        rule = f"must be numbers from 0 to {MOST_CLASSES - 1}"
        raise UserError("data.classes", d.classes, rule, "count from 0")
    if d.name == "mixture" and d.n_out < 2:
        rule = "a mixture needs at least two classes"
        raise UserError("data.n_out", d.n_out, rule, "use --data.n_out=2 or more")


def _check_training(config: Config) -> None:
    t, d = config.train, config.data
    if t.momentum >= 1:
        raise UserError("train.momentum", t.momentum, "must be below 1", "e.g. 0.9")
    if t.batch_size > d.train_size:
        rule = f"must be at most data.train_size={d.train_size}"
        raise UserError("train.batch_size", t.batch_size, rule, "0 is the full set")
    if t.optimizer == "sgd" and not t.batch_size:
        remedy = "add --train.batch_size=32, or use --train.optimizer=gd"
        raise UserError("train.optimizer", "sgd", "needs a batch size", remedy)
    if t.optimizer == "gd" and t.batch_size:
        rule = f"is full-batch, but train.batch_size={t.batch_size}"
        raise UserError("train.optimizer", "gd", rule, "use --train.optimizer=sgd")
    if t.optimizer == "adam" and t.lr is None:
        rule = "has no critical learning rate to take a fraction of"
        raise UserError("train.optimizer", "adam", rule, "add --train.lr=1e-3")
    if t.loss == "cross_entropy" and d.name in _REGRESSION:
        rule = f"needs classes, but data.name={d.name} has real targets"
        raise UserError("train.loss", t.loss, rule, "use --train.loss=mse")
