"""Everything a run needs, in frozen dataclasses, validated once.

The dotted names (``model.depth``) are the same on the command line, in config.json, in
wandb and in a sweep file.  This module imports nothing heavy.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from testbed.data import names
from testbed.errors import UserError, check_name

MODELS = names.TEACHERS
BRANCHES = ("depth_scaled", "fixed")
HEADS = ("linear", "relu")
ACTIVATIONS = ("relu", "identity", "tanh")
PARAMETERIZATIONS = ("ntk", "standard")
OPTIMIZERS = ("gd", "momentum", "sgd", "adam")
LOSSES = ("mse", "cross_entropy")
TRAINED = ("all", "readout")
PRECISIONS = ("highest", "default")
SEED_AXES = ("auto", "vmap", "map")
WANDB_MODES = ("auto", "online", "offline", "disabled")
DEFAULT_DEPTH = 32
_REGRESSION = ("linear", "network", "gp")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    name: str = "digits"
    """Data set: digits, mnist, fashion_mnist, cifar10, cifar100, svhn_cropped, or a
    synthetic teacher: linear, network, gp, mixture."""
    train_size: int = 512
    """Training examples, balanced over classes."""
    test_size: int = 500
    """Test examples, balanced over classes."""
    classes: tuple[int, ...] = ()
    """Classes to keep, by number; empty keeps all. Two classes are coded as -1, +1,
    k classes as one-hot minus 1/k."""
    normalize: str = "image"
    """image: each input scaled to |x|^2 = n_in; feature: each feature standardized over
    the training set, then one factor so that |x|^2 = n_in on average; none."""
    flatten: bool = True
    """Whether `load` gives vectors; the networks here take vectors in any case."""
    seed: int = 0
    """Which examples are drawn (and the teacher, for synthetic data)."""
    data_dir: str = ""
    """Where tensorflow-datasets keeps prepared sets; empty is its default."""
    manual_dir: str = ""
    """Folder with a data set's raw files, for machines without a network."""
    teacher: str = "balanced"
    """Model kind of the network teacher, and of the kernel of the gp teacher."""
    n_in: int = 64
    """Input dimension of a synthetic teacher."""
    n_out: int = 1
    """Output dimension of a synthetic teacher (classes, for mixture)."""
    noise: float = 0.0
    """Standard deviation of a synthetic teacher's label noise."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network."""

    kind: str = "balanced"
    """mlp, resnet, or balanced."""
    width: int = 32
    """Units of a hidden layer, n."""
    depth: int | None = None
    """Residual blocks (hidden layers of the mlp), d; 32 unless ratio is given."""
    ratio: float | None = None
    """Sets depth = round(ratio * width), to hold d/n fixed."""
    branch: str = "depth_scaled"
    """depth_scaled: lam = c d^-exponent; fixed: alpha and lam as given."""
    c: float = 1.0
    """Branch weight before depth scaling."""
    exponent: float = 0.5
    """kappa in lam = c d^-kappa."""
    normalized: bool = False
    """alpha = sqrt(1 - lam^2) instead of 1, with depth_scaled."""
    alpha: float = 1.0
    """Skip weight, with fixed."""
    lam: float = 1.0
    """Branch weight, with fixed."""
    head: str = "linear"
    """linear: f = W z_d / sqrt(n); relu: f = sqrt(2/n) W phi(z_d)."""
    activation: str = "relu"
    """relu, identity, or tanh."""
    parameterization: str = "ntk"
    """ntk: unit-variance weights, scales in the forward pass; standard."""
    bias_std: float = 0.0
    """Standard deviation of biases; 0 means none."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How the finite network and its linearization are trained."""

    seeds: int = 4
    """Networks in the ensemble."""
    steps: int = 1000
    """Optimizer steps."""
    optimizer: str = "gd"
    """gd (full batch), momentum (heavy ball), sgd (gd on minibatches), adam."""
    batch_size: int = 0
    """Examples a step; 0 is the full training set."""
    momentum: float = 0.9
    """Heavy-ball coefficient, with momentum."""
    loss: str = "mse"
    """mse: 1/2 of the sum over outputs, mean over examples; cross_entropy."""
    lr: float | None = None
    """Learning rate; overrides lr_fraction."""
    lr_fraction: float = 0.1
    """Learning rate as a fraction of 2 N / (min + max eigenvalue) of the infinite NTK
    of the N training examples."""
    center: bool = True
    """Learn f - f_0: each network's output at initialization is subtracted from it. The
    Gaussian process then has a mean and no variance."""
    trained: str = "all"
    """all parameters, or only the readout."""
    seed: int = 0
    """Root of all random keys of the networks and batches."""
    precision: str = "highest"
    """Matrix-product precision of training: highest, or the device's default."""


@dataclasses.dataclass(frozen=True)
class KernelConfig:
    """How kernels are measured."""

    probes: int = 48
    """Examples of each split on which empirical kernels are computed; 0 for none."""
    every: int = 1
    """Empirical kernels at every so many recorded times (and the first and last)."""
    ridge: float = 1e-6
    """Ridge of the NNGP posterior, relative to the kernel's mean diagonal."""
    draws: int = 32
    """Functions drawn from the infinite network where its law has no closed form
    (cross_entropy)."""


@dataclasses.dataclass(frozen=True)
class MeasureConfig:
    """When and against what divergence is measured."""

    times: int = 25
    """Recorded times, spaced evenly in log(step), besides t = 0."""
    tolerance: float = 0.1
    """Relative distance to the linearization at which a network has left its kernel."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where and how the run is recorded."""

    dir: str = ""
    """Folder of the run; empty makes a new one under root."""
    root: str = "runs"
    """Parent of new run folders."""
    resume: bool = False
    """Continue the run in dir (or the newest of this config under root)."""
    checkpoint_seconds: float = 15.0
    """Least time between checkpoints."""
    seed_axis: str = "auto"
    """vmap: seeds are one batched program; map: one after another; auto: map on CPU."""
    report: bool = True
    """Whether to write figures and report.html."""


@dataclasses.dataclass(frozen=True)
class WandbConfig:
    """The wandb mirror of the run."""

    mode: str = "auto"
    """auto: online with a login or key, else offline; online, offline, disabled."""
    project: str = "depthwidth"
    """Project that runs are logged to."""
    entity: str = ""
    """User or team; empty is the login's default."""
    group: str = ""
    """Group of the run."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: a finite ensemble, its linearization and its infinite-width limit."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    kernel: KernelConfig = dataclasses.field(default_factory=KernelConfig)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    wandb: WandbConfig = dataclasses.field(default_factory=WandbConfig)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "data.train_size": 64,
        "data.test_size": 64,
        "model.width": 32,
        "model.depth": 8,
        "train.seeds": 2,
        "train.steps": 100,
        "kernel.probes": 16,
        "measure.times": 8,
    },
    "gpu": {
        "data.name": "mnist",
        "data.train_size": 1024,
        "data.test_size": 1000,
        "model.width": 1024,
        "model.depth": 256,
        "train.seeds": 4,
        "train.steps": 1000,
        "kernel.every": 4,
    },
}


def flatten(config: Config) -> dict[str, Any]:
    """Returns {dotted name: value}."""
    return {
        f"{group.name}.{field.name}": getattr(getattr(config, group.name), field.name)
        for group in dataclasses.fields(config)
        for field in dataclasses.fields(getattr(config, group.name))
    }


def field_types() -> dict[str, Any]:
    """Returns {dotted name: declared type}."""
    return {
        f"{group}.{name}": kind
        for group, cls in get_type_hints(Config).items()
        for name, kind in get_type_hints(cls).items()
    }


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """Returns `config` with dotted `values` replaced; texts are read as their type.

    Raises:
      UserError: an unknown name (with the nearest valid one), or a value of the wrong
        type.
    """
    types = field_types()
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in types:
            check_name("option", name, types)
        group, field = name.split(".")
        groups.setdefault(group, {})[field] = _read(name, value, types[name])
    changed = {
        group: dataclasses.replace(getattr(config, group), **fields)
        for group, fields in groups.items()
    }
    return dataclasses.replace(config, **changed)


def _read(name: str, value: Any, kind: Any) -> Any:
    """Reads `value` as the declared type of the field `name`."""
    options = get_args(kind)
    if type(None) in options:
        if value is None or value in ("None", "none", "null", ""):
            return None
        kind = options[0]
    try:
        if kind is bool:
            truth = {"true": True, "false": False, "1": True, "0": False}
            return truth[str(value).strip().lower()]
        if options and kind not in (int, float):
            text = value if isinstance(value, str) else ",".join(map(str, value))
            return tuple(int(v) for v in text.strip("()[] ").split(",") if v.strip())
        if kind is int:
            number = int(float(value))
            if isinstance(value, bool) or number != float(value):
                raise ValueError
            return int(value) if str(value).lstrip("-").isdigit() else number
        if kind is float and isinstance(value, bool):
            raise ValueError
        return kind(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        what = {int: "a whole number", float: "a number", bool: "True or False"}
        rule = f"must be {what.get(kind, 'whole numbers with commas between')}"
        raise UserError(name, value, rule, "correct the value") from None


def preset(name: str) -> Config:
    """Returns the preset called `name`; raises UserError for another name."""
    check_name("preset", name, PRESETS)
    return override(Config(), PRESETS[name])


def validate(config: Config) -> Config:
    """Checks every rule that needs no data and fills in `model.depth`.

    Raises:
      UserError: naming field, value, rule and remedy.
    """
    d, m, t = config.data, config.model, config.train
    for name, value, valid in (
        ("data.name", d.name, names.SOURCES),
        ("data.normalize", d.normalize, names.NORMALIZATIONS),
        ("data.teacher", d.teacher, MODELS),
        ("model.kind", m.kind, MODELS),
        ("model.branch", m.branch, BRANCHES),
        ("model.head", m.head, HEADS),
        ("model.activation", m.activation, ACTIVATIONS),
        ("model.parameterization", m.parameterization, PARAMETERIZATIONS),
        ("train.optimizer", t.optimizer, OPTIMIZERS),
        ("train.loss", t.loss, LOSSES),
        ("train.trained", t.trained, TRAINED),
        ("train.precision", t.precision, PRECISIONS),
        ("run.seed_axis", config.run.seed_axis, SEED_AXES),
        ("wandb.mode", config.wandb.mode, WANDB_MODES),
    ):
        check_name(name, value, valid)
    for name, value in flatten(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(name, value, "must be finite", "give a finite number")
    if m.depth is not None and m.ratio is not None:
        raise UserError(
            "model.ratio",
            m.ratio,
            f"cannot be given together with model.depth={m.depth}",
            "leave one of the two out",
        )
    for name, least in (
        ("data.train_size", 2),
        ("data.test_size", 1),
        ("data.n_in", 1),
        ("data.n_out", 1),
        ("data.seed", 0),
        ("model.width", 1),
        ("model.depth", 1),
        ("train.seeds", 1),
        ("train.steps", 1),
        ("train.batch_size", 0),
        ("train.seed", 0),
        ("kernel.probes", 0),
        ("kernel.every", 1),
        ("kernel.draws", 2),
        ("measure.times", 1),
    ):
        _at_least(config, name, least)
    for name in ("data.noise", "kernel.ridge", "model.bias_std", "train.momentum"):
        _at_least(config, name, 0.0)
    for name in ("model.ratio", "train.lr", "train.lr_fraction", "measure.tolerance"):
        _positive(config, name)
    _at_least(config, "run.checkpoint_seconds", 0.0)
    for name in ("data.seed", "train.seed"):
        if flatten(config)[name] >= 2**32:
            value = flatten(config)[name]
            raise UserError(name, value, "must be below 2^32", "use a smaller seed")
    depth = m.depth or (round(m.ratio * m.width) if m.ratio else DEFAULT_DEPTH)
    if depth < 1:
        rule = f"gives depth round({m.ratio} * {m.width}) = {depth}, must be at least 1"
        raise UserError(
            "model.ratio", m.ratio, rule, "raise model.ratio or model.width"
        )
    _check_classes(d)
    _check_branch(m, depth)
    _check_training(config)
    resolved = dataclasses.replace(m, depth=depth, ratio=None)
    return dataclasses.replace(config, model=resolved)


def unused(config: Config) -> list[str]:
    """One line for every setting that was changed but has no effect in this run."""
    m, t, d = config.model, config.train, config.data
    synthetic = d.name in names.SYNTHETIC_NAMES
    needs = {
        "model.alpha": (m.branch == "fixed", "model.branch=fixed"),
        "model.lam": (m.branch == "fixed", "model.branch=fixed"),
        "model.c": (m.branch == "depth_scaled", "model.branch=depth_scaled"),
        "model.exponent": (m.branch == "depth_scaled", "model.branch=depth_scaled"),
        "model.normalized": (m.branch == "depth_scaled", "model.branch=depth_scaled"),
        "train.momentum": (t.optimizer == "momentum", "train.optimizer=momentum"),
        "train.lr_fraction": (t.lr is None, "train.lr left out"),
        "data.n_in": (synthetic, "a synthetic data.name"),
        "data.n_out": (synthetic, "a synthetic data.name"),
        "data.teacher": (d.name in ("network", "gp"), "data.name=network or gp"),
        "data.flatten": (d.flatten, "a network that takes images"),
        "kernel.draws": (t.loss == "cross_entropy", "train.loss=cross_entropy"),
    }
    if m.kind == "mlp":
        why = (False, "model.kind=resnet or balanced")
        branch = ("branch", "alpha", "lam", "c", "exponent", "normalized")
        needs |= {f"model.{name}": why for name in branch}
    default, given = flatten(Config()), flatten(config)
    return [
        f"{name}={given[name]} has no effect: it needs {need}"
        for name, (used, need) in needs.items()
        if not used and given[name] != default[name]
    ]


def _at_least(config: Config, name: str, least: float) -> None:
    value = flatten(config)[name]
    if value is not None and value < least:
        rule = f"must be at least {least}"
        raise UserError(name, value, rule, f"use {least} or more")


def _positive(config: Config, name: str) -> None:
    value = flatten(config)[name]
    if value is not None and value <= 0:
        raise UserError(name, value, "must be positive", "use a value above 0")


def _check_classes(d: DataConfig) -> None:
    if len(d.classes) == 1 or len(set(d.classes)) != len(d.classes):
        rule = "must be at least two different classes"
        raise UserError("data.classes", d.classes, rule, "e.g. --data.classes 3,7")
    if d.classes and min(d.classes) < 0:
        raise UserError("data.classes", d.classes, "must be 0 or more", "count from 0")
    if d.name == "mixture" and d.n_out < 2:
        rule = "a mixture needs at least two classes"
        raise UserError("data.n_out", d.n_out, rule, "use --data.n_out=2 or more")


def _check_branch(m: ModelConfig, depth: int) -> None:
    lam = m.c * depth**-m.exponent
    if m.branch == "depth_scaled" and m.normalized and abs(lam) > 1:
        rule = f"gives lam = c d^-exponent = {lam:.3g} > 1, so sqrt(1 - lam^2) fails"
        remedy = f"use c of at most {depth**m.exponent:.3g}, or normalized=False"
        raise UserError("model.c", m.c, rule, remedy)
    if m.branch == "fixed" and m.alpha == 0 and m.lam == 0:
        rule = "alpha and lam are both 0: the network is constant"
        raise UserError("model.lam", m.lam, rule, "give lam or alpha a value")


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
