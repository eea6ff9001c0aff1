"""A boundary d*(n): what is searched for, and the words for what was found."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from testbed.bounds import check_bounds
from testbed.config import Config
from testbed.divergence.boundary import Boundary, depth_grid
from testbed.divergence.scaling import PowerLaw
from testbed.errors import UserError, check_name
from testbed.options import BoundaryOptions
from testbed.settings import count_of, override
from testbed.sweeps.gather import MEASURES, OF_ENSEMBLES
from testbed.validation import validate

HALF = 0.5**0.5
_FIXED = {"model.branch": "fixed", "model.alpha": HALF, "model.lam": HALF}
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {"model.kind": "resnet", **_FIXED},
    "balanced": {"model.kind": "balanced", **_FIXED},
    "balanced_scaled": {"model.kind": "balanced", "model.branch": "depth_scaled"},
}
"""What --networks may name: kinds with a fixed branch, alpha = lam = 1/sqrt(2), and one
whose branch is scaled with depth."""

_ONCE = {"vanilla": "resnet", "depth_scaled": "balanced_scaled"}

MOST_RUNS = 20_000
"""Runs that a search may ask for: each is looked up before it begins."""

FALLS = ("departure_time",)
"""Measures that fall as networks get deeper."""

_OPTIONS = {
    "model.kind": "--networks",
    "model.branch": "--networks",
    "model.alpha": "--networks",
    "model.lam": "--networks",
    "model.width": "--widths",
    "model.depth": "--depths",
    "model.ratio": "--depths",
    "train.seeds": "--seeds",
    "train.seed": "--seeds and --most-seeds",
    "run.dir": "--dir",
    "run.root": "--dir",
    "run.resume": "--dir",
    "run.report": "--dir",
}
"""Settings that the search makes itself, and the option that decides them."""

_PLAIN = ("measure", "threshold", "seeds", "most_seeds")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a boundary is searched for.

    Attributes:
      networks: names of `NETWORKS`.
      widths: n.
      depths: the grid, ascending.
      measure: of `MEASURES`.
      threshold: that it passes.
      seeds: networks of one run.
      most_seeds: at most at one depth, a multiple of seeds.
      settings: of every run, by dotted name.
      reuse: further folders whose finished runs are used.
    """

    networks: tuple[str, ...] = tuple(NETWORKS)
    widths: tuple[int, ...] = (8, 16, 32, 64)
    depths: tuple[int, ...] = tuple(depth_grid(1, 64))
    measure: str = "relative_distance"
    threshold: float = 0.3
    seeds: int = 4
    most_seeds: int = 16
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reuse: tuple[str, ...] = ()

    @property
    def rises(self) -> bool:
        """Whether the measure rises with depth."""
        return self.measure not in FALLS

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `testbed.divergence.boundary.search`."""
        return {
            "threshold": self.threshold,
            "depths": self.depths,
            "rises": self.rises,
            "seeds": self.seeds,
            "most_seeds": self.most_seeds,
        }

    @property
    def most_batches(self) -> int:
        """Runs at one depth, at most."""
        return self.most_seeds // self.seeds

    def check(self) -> None:
        """Raises UserError for a plan that cannot be carried out."""
        for name in self.networks:
            check_name("networks", name, NETWORKS)
        check_name("measure", self.measure, MEASURES)
        if self.measure in OF_ENSEMBLES:
            rule = "is one number an ensemble: it has no boundary over networks"
            raise UserError("measure", self.measure, rule, "use relative_distance")
        sizes = {"seeds": self.seeds, "most_seeds": self.most_seeds}
        check_bounds({"threshold": self.threshold, **sizes})
        if self.most_seeds < self.seeds or self.most_seeds % self.seeds:
            rule = f"must be a multiple of seeds={self.seeds}, the networks of one run"
            remedy = f"e.g. {4 * self.seeds}"
            raise UserError("most_seeds", self.most_seeds, rule, remedy)
        places = len(self.networks) * len(self.widths) * len(self.depths)
        if (runs := places * self.most_batches) > MOST_RUNS:
            rule = f"a search of up to {runs:,} runs is beyond {MOST_RUNS:,}"
            remedy = "give fewer widths, or lower most_seeds"
            raise UserError("widths", self.widths, rule, remedy)
        for name, option in _OPTIONS.items():
            if name in self.settings:
                rule = "is decided by the search"
                raise UserError(
                    f"set {name}", self.settings[name], rule, f"use {option}"
                )
        for name in self.networks:
            for width in self.widths:
                for depth in (self.depths[0], self.depths[-1]):
                    self.config(name, width, depth)

    def config(self, name: str, width: int, depth: int, batch: int = 0) -> Config:
        """The config of the `batch`-th run of `seeds` networks at one place."""
        values = {
            **self.settings,
            **NETWORKS[name],
            "model.width": width,
            "model.depth": depth,
            "train.seeds": self.seeds,
            "train.seed": batch,
            "run.report": False,
        }
        return validate(override(Config(), values))


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """The boundary of one kind of network.

    Attributes:
      name: of `NETWORKS`.
      widths: n, (W,).
      boundaries: of each of these widths.
      law: d* = A n^a.
      failed: {width: error} of the widths at which a run failed.
    """

    name: str
    widths: tuple[int, ...]
    boundaries: tuple[Boundary, ...]
    law: PowerLaw
    failed: Mapping[int, str]


def in_words(b: Boundary) -> str:
    """A boundary in a few words, with what is wrong with it."""
    size = f"{b.depths} depths, {b.seeds} networks"
    if math.isnan(b.star):
        text = f"unknown: no network gave a number ({size})"
    elif math.isinf(b.star):
        text = f"not passed at any depth tried ({size})"
    elif b.star == 0:
        text = f"passed at every depth tried ({size})"
    else:
        low, high = (end_text(end) for end in b.interval)
        text = f"d* = {b.star:.3g}, 95 % {low} to {high} ({size})"
    if b.missing:
        text += f"; nothing known at depth {', '.join(map(str, b.missing))}"
    for shallow, deep in b.violations:
        text += f"; depth {shallow} is further than depth {deep}, against assumption"
    return text


def end_text(end: float) -> str:
    """An end of an interval of d*: a depth, or where none bounds it."""
    return "below" if end == 0 else "beyond" if math.isinf(end) else f"{end:.3g}"


def law_text(one: Found) -> str:
    """The fitted law in a few words."""
    if not math.isfinite(one.law.exponent):
        return f"no law: {one.law.reason}"
    low, high = one.law.interval
    return f"d* ~ n^{one.law.exponent:.2f} (95 %: {low:.2f} to {high:.2f})"


def todays_names(networks: Sequence[str]) -> tuple[str, ...]:
    """Names of networks, each once; those of older versions as they are called now."""
    return tuple(dict.fromkeys(_ONCE.get(name, name) for name in networks))


def plan_of(base: Plan, options: BoundaryOptions) -> Plan:
    """`base` with what is given.

    Raises:
      UserError: a text that cannot be read, or a plan that cannot be carried out.
    """
    plain = {name: getattr(options, name) for name in _PLAIN}
    given = {name: value for name, value in plain.items() if value is not None}
    widths, depths = options.widths, options.depths
    if options.networks is not None:
        names = [part.strip() for part in options.networks.split(",")]
        given["networks"] = todays_names(names)
    if widths is not None:
        sizes = [part.strip() for part in widths.split(",") if part.strip()]
        read = {count_of(size) for size in sizes}
        if not read or None in read:
            rule = "must be numbers"
            raise UserError("widths", widths, rule, "e.g. --widths 8,16,32")
        given["widths"] = tuple(sorted(size for size in read if size is not None))
    if depths is not None:
        lowest, highest = map(count_of, (depths.partition("-")[i] for i in (0, 2)))
        if lowest is None or highest is None:
            raise UserError("depths", depths, "must be LOW-HIGH", "e.g. --depths 1-256")
        check_bounds({"model.depth": highest})
        given["depths"] = tuple(depth_grid(lowest, highest))
    if options.reuse:
        for path in options.reuse:
            if not path.exists():
                raise UserError("reuse", path, "does not exist", "give folders of runs")
        given["reuse"] = tuple(str(path.resolve()) for path in options.reuse)
    if options.set is not None:
        given["settings"] = dict(map(_setting, options.set))
    plan = dataclasses.replace(base, **given)
    plan.check()
    return plan


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError("set", text, "must be NAME=VALUE", "--set train.steps=500")
    return name, value
