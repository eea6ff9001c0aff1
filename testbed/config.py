"""Everything a run needs, in frozen dataclasses.

The model part is of the class that `model.kind` has (`testbed.kinds`).
The dotted names (``model.depth``) are the same on the command line, in config.json, in
wandb and in a sweep file.  Rules are in `testbed.validation`.  This module imports
nothing heavy.
"""

import dataclasses
from typing import Any, Literal

from testbed.errors import check_name
from testbed.kinds import KINDS
from testbed.kinds.balanced import SETTINGS as BALANCED
from testbed.kinds.common import Kind, ModelConfig
from testbed.settings import CHOSEN_BY, override

DEFAULT_DEPTH = 32
_BY_KIND = {CHOSEN_BY: ("kind", KINDS)}


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
    normalize: Literal["image", "feature", "none"] = "image"
    """image: each input scaled to |x|^2 = n_in; feature: each feature standardized over
    the training set, then one factor so that |x|^2 = n_in on average; none."""
    flatten: bool = True
    """Whether `load` gives vectors; a network gets what its kind takes in any case."""
    seed: int = 0
    """Which examples are drawn (and the teacher, for synthetic data)."""
    data_dir: str = ""
    """Where tensorflow-datasets keeps prepared sets; empty is its default."""
    manual_dir: str = ""
    """Folder with a data set's raw files, for machines without a network."""
    teacher: Kind = "balanced"
    """Model kind of the network teacher, and of the kernel of the gp teacher."""
    n_in: int = 64
    """Input dimension of a synthetic teacher."""
    n_out: int = 1
    """Output dimension of a synthetic teacher (classes, for mixture)."""
    noise: float = 0.0
    """Standard deviation of a synthetic teacher's label noise."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How the finite network and its linearization are trained."""

    seeds: int = 4
    """Networks in the ensemble."""
    steps: int = 1000
    """Optimizer steps."""
    optimizer: Literal["gd", "momentum", "sgd", "adam"] = "gd"
    """gd (full batch), momentum (heavy ball), sgd (gd on minibatches), adam."""
    batch_size: int = 0
    """Examples a step; 0 is the full training set."""
    momentum: float = 0.9
    """Heavy-ball coefficient, with momentum."""
    loss: Literal["mse", "cross_entropy"] = "mse"
    """mse: 1/2 of the sum over outputs, mean over examples; cross_entropy."""
    lr: float | None = None
    """Learning rate; overrides lr_fraction."""
    lr_fraction: float = 0.1
    """Learning rate as a fraction of 2 N / (min + max eigenvalue) of the infinite NTK
    of the N training examples."""
    center: bool = True
    """Learn f - f_0: each network's output at initialization is subtracted from it. The
    Gaussian process then has a mean and no variance."""
    trained: Literal["all", "readout"] = "all"
    """all parameters, or only the readout."""
    seed: int = 0
    """Root of all random keys of the networks and batches."""
    precision: Literal["highest", "default"] = "highest"
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
    earlier_steps: tuple[int, ...] = ()
    """Ends, in steps, of a run that was then made longer: recorded times up to them
    stay, and their spacing goes on."""
    target: float | None = None
    """Departure time aimed at: the summary's target_miss is |log(departure / target)|,
    for sweeps that minimize it."""


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
    seed_axis: Literal["auto", "vmap", "map"] = "auto"
    """vmap: seeds are one batched program; map: one after another; auto: map on CPU."""
    report: bool = True
    """Whether to write figures and report.html."""
    compile_cache: bool = True
    """Whether compiled programs are kept for later starts: in JAX_COMPILATION_CACHE_DIR
    if that is set, else in the user's cache folder, ~/.cache/depthwidth/compiled."""


@dataclasses.dataclass(frozen=True)
class WandbConfig:
    """The wandb mirror of the run."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
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
    model: ModelConfig = dataclasses.field(default_factory=BALANCED, metadata=_BY_KIND)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    kernel: KernelConfig = dataclasses.field(default_factory=KernelConfig)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    wandb: WandbConfig = dataclasses.field(default_factory=WandbConfig)


def _critical_model() -> ModelConfig:
    """Balanced at alpha = lam = 1/sqrt(2), d = n: depth and width matter together."""
    half = 0.5**0.5
    return BALANCED(
        kind="balanced", width=64, depth=64, branch="fixed", alpha=half, lam=half
    )


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
    """Many networks at initialization, beside the laws of their norms."""

    samples: int = 100_000
    """Networks to draw."""
    seed: int = 0
    """Root of all random keys."""
    n_out: int = 10
    """Outputs of the linear head."""
    antithetic: bool = False
    """Each network with a copy whose Gaussian numbers are negated: smaller errors of
    active fractions, none of norms."""
    model: ModelConfig = dataclasses.field(
        default_factory=_critical_model, metadata=_BY_KIND
    )
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    wandb: WandbConfig = dataclasses.field(default_factory=WandbConfig)


SIMULATE_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {"samples": 4000, "model.width": 16, "model.depth": 16},
}

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


def preset(name: str) -> Config:
    """Returns the preset called `name`; raises UserError for another name."""
    check_name("preset", name, PRESETS)
    return override(Config(), PRESETS[name])
