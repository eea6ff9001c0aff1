"""The boundary d*(n): at each width, the depth where a measure passes a threshold."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from testbed.config import Config
from testbed.divergence.boundary import Boundary, Run, boundary_fit, depth_grid, search
from testbed.divergence.scaling import PowerLaw
from testbed.errors import RunError, UserError, check_name
from testbed.runs.console import Console
from testbed.runs.folder import identity
from testbed.runs.job import run_job
from testbed.settings import flatten, override
from testbed.sweeps.gather import MEASURES, gather
from testbed.validation import validate

HALF = 0.5**0.5
NETWORKS: dict[str, dict[str, Any]] = {
    "vanilla": {"model.kind": "resnet", "model.branch": "fixed"},
    "balanced": {"model.kind": "balanced", "model.branch": "fixed"},
    "depth_scaled": {"model.kind": "balanced", "model.branch": "depth_scaled"},
}
"""What --networks may name; fixed branches have alpha = lam = 1/sqrt(2)."""
for _name in ("vanilla", "balanced"):
    NETWORKS[_name] |= {"model.alpha": HALF, "model.lam": HALF}

FALLS = ("departure_time",)
"""Measures that fall as networks get deeper."""
_MACHINE_RATE = 8e9  # multiply-adds a second that two CPU cores reach in these runs
_START_SECONDS = 12.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a boundary is searched for.

    Attributes:
      networks: names of `NETWORKS`.
      widths: n.
      depths: the grid, ascending.
      measure: of `MEASURES`.
      threshold: that it passes.
      seeds: networks trained at a time.
      most_seeds: at most at one depth.
      settings: of every run, by dotted name.
    """

    networks: tuple[str, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    measure: str = "relative_distance"
    threshold: float = 0.1
    seeds: int = 4
    most_seeds: int = 16
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        """Raises UserError for a plan that cannot be carried out."""
        for name in self.networks:
            check_name("networks", name, NETWORKS)
        check_name("measure", self.measure, MEASURES)
        if self.measure == "variance_ratio":
            rule = "is one number an ensemble: it has no boundary over networks"
            raise UserError("measure", self.measure, rule, "use relative_distance")
        if not self.threshold > 0:
            raise UserError("threshold", self.threshold, "must be positive", "e.g. 0.1")
        if self.seeds < 2 or self.most_seeds < self.seeds:
            rule = f"must be between 2 and most_seeds={self.most_seeds}"
            raise UserError("seeds", self.seeds, rule, "4 and 16 will do")
        for name in self.networks:
            for width in self.widths:
                for depth in (self.depths[0], self.depths[-1]):
                    self.config(name, width, depth, 0)

    def config(self, name: str, width: int, depth: int, batch: int) -> Config:
        """The config of the `batch`-th run of `seeds` networks at one place."""
        values = {
            **NETWORKS[name],
            **self.settings,
            "model.width": width,
            "model.depth": depth,
            "train.seeds": self.seeds,
            "train.seed": batch,
            "run.report": False,
        }
        return validate(override(Config(), values))

    def cost(self) -> tuple[int, float]:
        """How many runs to expect, and their seconds on two CPU cores."""
        each = math.ceil(math.log2(len(self.depths) + 1)) + 1
        seconds = 0.0
        for name in self.networks:
            for width in self.widths:
                middle = self.depths[len(self.depths) // 2]
                seconds += each * run_seconds(self.config(name, width, middle, 0))
        return each * len(self.networks) * len(self.widths), seconds


def run_seconds(config: Config) -> float:
    """Seconds of one run on two CPU cores, from its arithmetic; good to a factor of 2.

    A step is three passes through the network and two through its linear model, each
    of N d n^2 multiply-adds.
    """
    m, t = config.model, config.train
    assert m.depth is not None
    batch = t.batch_size or config.data.train_size
    passes = 3 * t.steps * t.seeds + 2 * t.steps * t.seeds
    return _START_SECONDS + passes * batch * m.depth * m.width**2 / _MACHINE_RATE


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """The boundary of one kind of network.

    Attributes:
      name: of `NETWORKS`.
      widths: n, (W,).
      boundaries: of each width.
      law: d* = A n^a.
    """

    name: str
    widths: tuple[int, ...]
    boundaries: tuple[Boundary, ...]
    law: PowerLaw


def find(
    plan: Plan, path: Path, reuse: Sequence[Path], console: Console
) -> list[Found]:
    """Trains what the search asks for, reusing finished runs, and returns d*(n).

    Runs are kept under path/points; started again, a search asks for the same ones and
    finds them done, or resumes them.

    Args:
      plan: checked.
      path: folder of the boundary.
      reuse: further folders of runs with the same settings.
      console: told what is asked for.

    Raises:
      RunError: the folder cannot be written.
    """
    known = _known(plan, [path / "points", *reuse])
    found = []
    for name in plan.networks:
        boundaries = []
        for width in plan.widths:
            boundaries.append(_search(plan, name, width, path, known, console))
        stars = [b.star for b in boundaries]
        law = boundary_fit(plan.widths, stars, [b.interval for b in boundaries])
        found.append(Found(name, plan.widths, tuple(boundaries), law))
    return found


def _search(plan: Plan, name: str, width: int, path: Path, known, console) -> Boundary:
    batches: dict[int, int] = {}
    measured: dict[int, list[float]] = {}
    for depth in plan.depths:
        for key, values in known.items():
            if key[:3] == (name, width, depth):
                measured.setdefault(depth, []).extend(values)
                batches[depth] = max(batches.get(depth, 0), key[3] + 1)
    options = {"seeds": plan.seeds, "most_seeds": plan.most_seeds}
    while True:
        step = search(
            measured,
            plan.threshold,
            plan.depths,
            rises=plan.measure not in FALLS,
            **options,
        )
        if isinstance(step, Boundary):
            console.say(f"{name}, width {width}: {describe(step)}")
            return step
        batch = batches.get(step.depth, 0)
        console.say(f"{name}, width {width}: training at depth {step.depth}")
        values = _train(plan, name, width, step, batch, path)
        measured.setdefault(step.depth, []).extend(values)
        batches[step.depth] = batch + 1


def describe(b: Boundary) -> str:
    """A boundary in a few words."""
    if math.isinf(b.star):
        return f"not passed at any depth tried ({b.depths} depths, {b.seeds} networks)"
    if b.star == 0:
        return f"passed at every depth tried ({b.depths} depths, {b.seeds} networks)"
    low, high = b.interval
    return (
        f"d* = {b.star:.3g} [{low:.3g}, {high:.3g}], {b.depths} depths, "
        f"{b.seeds} networks"
    )


def _train(
    plan: Plan, name: str, width: int, step: Run, batch: int, path: Path
) -> list[float]:
    config = plan.config(name, width, step.depth, batch)
    text = json.dumps(identity(flatten(config)), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = path / "points" / digest
    where = {"run.dir": str(folder), "run.resume": folder.exists()}
    try:
        run_job(override(config, where), _Silent())
    except RunError:  # of a network that diverged nothing is known but that
        summary = _read(folder / "summary.json")
        if summary is None or summary.get("status") != "failed":
            raise
        beyond = 0.0 if plan.measure in FALLS else math.inf
        return [max(beyond, 1e-12)] * plan.seeds
    return _values(gather([folder]).networks, plan.measure)


class _Silent(Console):
    """Says nothing: the search speaks for its runs."""

    def say(self, text: str) -> None:
        """Nothing."""

    def print(self, text: Any) -> None:
        """Nothing."""

    def comparison(self, *args: Any) -> None:
        """Nothing."""

    def result(self, *args: Any) -> None:
        """Nothing."""

    def _lines(self, *args: Any):
        return lambda step: None


def _known(plan: Plan, paths: Sequence[Path]) -> dict[tuple, list[float]]:
    """Values of finished runs by (name, width, depth, batch)."""
    paths = [path for path in paths if path.exists()]
    if not paths:
        return {}
    try:
        networks = gather(paths).networks
    except UserError:
        return {}
    known: dict[tuple, list[float]] = {}
    for _, run in networks.groupby("run"):
        first = run.iloc[0].to_dict()
        width, depth = int(first["model.width"]), int(first["model.depth"])
        for name in plan.networks:
            if width not in plan.widths or depth not in plan.depths:
                continue
            batch = int(first["train.seed"])
            wanted = identity(flatten(plan.config(name, width, depth, batch)))
            if all(_same(first.get(k), v) for k, v in wanted.items() if k in first):
                values = _values(run, plan.measure)
                known[(name, width, depth, batch)] = values
    return known


def _same(a: Any, b: Any) -> bool:
    if isinstance(b, list):
        return list(a) == b
    missing = a is None or (isinstance(a, float) and math.isnan(a))
    return missing if b is None else a == b


def _values(networks: pd.DataFrame, measure: str) -> list[float]:
    values = np.asarray(networks[measure], np.float64)
    return [float(v) if v > 0 else math.nan for v in values]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def plan_of(
    networks: str, widths: str, depths: str, settings: Sequence[str], **rest: Any
) -> Plan:
    """A checked plan from texts: "vanilla,balanced", "8,16", "1-256", ["a.b=c"].

    Raises:
      UserError: a text that cannot be read, or a plan that cannot be carried out.
    """
    given = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError("set", text, "must be NAME=VALUE", "--set train.steps=500")
        given[name] = value
    lowest, dash, highest = depths.partition("-")
    if not (dash and lowest.isdigit() and highest.isdigit()):
        raise UserError("depths", depths, "must be LOW-HIGH", "e.g. --depths 1-256")
    sizes = [part.strip() for part in widths.split(",") if part.strip()]
    if not sizes or not all(size.isdigit() for size in sizes):
        raise UserError("widths", widths, "must be numbers", "e.g. --widths 8,16,32")
    plan = Plan(
        tuple(part.strip() for part in networks.split(",")),
        tuple(sorted({int(size) for size in sizes})),
        tuple(depth_grid(int(lowest), int(highest))),
        settings=given,
        **rest,
    )
    plan.check()
    return plan
