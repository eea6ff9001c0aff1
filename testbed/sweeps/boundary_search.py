"""The search for d*(n): which runs are asked for, which are there, what they say.

A run is named by the hash of the settings that decide its numbers, so that a search
started again, or another one, finds what was trained.  A network that diverged counts
as beyond the threshold.
"""

import dataclasses
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from testbed.config import Config
from testbed.divergence.boundary import Boundary, Run, search
from testbed.divergence.boundary_fit import boundary_fit
from testbed.errors import RunError, UserError
from testbed.runs.console import duration
from testbed.runs.folder import RunFolder
from testbed.runs.parsing import Damaged
from testbed.runs.stored import identity
from testbed.settings import flatten
from testbed.sweeps.boundary import Found, Plan, in_words
from testbed.sweeps.boundary_cost import Forecast
from testbed.sweeps.gather import gather

Start = Callable[[Config, Path], Future]
"""Begins the run of a config in a folder; its result are the run's warnings."""

POLL_SECONDS = 0.2
_KILLED = (
    "a run's process was killed, perhaps for want of memory; --jobs 1 or lower "
    "--widths and --depths take less"
)


@dataclasses.dataclass(eq=False)
class Search:
    """The search at one width.

    Attributes:
      name: of the networks.
      width: n.
      batches: {depth: {number of the run: y of its networks, None if under way}}.
      boundary: once it is found.
      error: of a run that failed; the search is set aside then.
    """

    name: str
    width: int
    batches: dict[int, dict[int, list[float] | None]] = dataclasses.field(
        default_factory=dict
    )
    boundary: Boundary | None = None
    error: str | None = None

    @property
    def measured(self) -> dict[int, list[float]]:
        """{depth: y of each network}, in the same order whichever run ended first."""
        found = {
            depth: [v for _, y in sorted(runs.items()) for v in y or []]
            for depth, runs in self.batches.items()
        }
        return {depth: y for depth, y in found.items() if y}

    def runs(self, plan: Plan, step: Run) -> Iterator[Config]:
        """As many further runs as hold the networks that `step` asks for."""
        asked = self.batches.setdefault(step.depth, {})
        for _ in range(math.ceil(step.seeds / plan.seeds)):
            batch = next(i for i in range(len(asked) + 1) if i not in asked)
            asked[batch] = None
            yield plan.config(self.name, self.width, step.depth, batch)


def find(
    plan: Plan,
    path: Path,
    searches: Sequence[Search],
    forecast: Forecast,
    start: Start,
    say: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> list[Found]:
    """Starts the runs that the searches ask for, and returns d*(n).

    A search of which a run fails, otherwise than by divergence, is set aside.

    Args:
      plan: checked.
      path: folder of the boundary; runs are kept under path/points.
      searches: from `begin`.
      forecast: of their cost; as many searches as it has jobs go on at a time.
      start: begins a run.
      say: told what is asked for and what was found.
      check: called every `POLL_SECONDS`; what it raises ends the search.

    Raises:
      UserError: a run was refused.
    """
    todo, done = list(searches), 0
    waiting: dict[Future, tuple[Search, int, int, Path]] = {}
    while todo or waiting:
        while todo and len({one for one, *_ in waiting.values()}) < forecast.jobs:
            one = todo.pop(0)
            who = f"{one.name}, width {one.width}"
            step = search(one.measured, **plan.options)
            if isinstance(step, Boundary):
                one.boundary = step
                say(f"{who}: {in_words(step)}")
                continue
            left = forecast.left(searches)
            say(
                f"{who}: depth {step.depth}, {step.seeds} networks ... [{done} of "
                f"about {done + left.runs[1]} runs, about "
                f"{duration(left.seconds[1])} left]"
            )
            for config in one.runs(plan, step):
                folder = path / "points" / digest(flatten(config))
                batch = config.train.seed
                waiting[start(config, folder)] = one, step.depth, batch, folder
        ready = wait(waiting, POLL_SECONDS, return_when=FIRST_COMPLETED).done
        check()
        for future in ready:
            one, depth, batch, folder = waiting.pop(future)
            place = f"{one.name}, width {one.width}, depth {depth}"
            try:
                warned = future.result()
                y = values(folder, plan)
                if y is None:
                    raise RunError(f"{folder}: damaged; remove it")
            except (RunError, BrokenProcessPool) as error:
                one.error = str(error) if isinstance(error, RunError) else _KILLED
                say(f"{place}: failed: {one.error}")
                continue
            if plan.rises and math.inf in y:
                warned = [f"{y.count(math.inf)} of {len(y)} networks diverged"]
            for line in warned:
                say(f"{place}: warning: {line}")
            one.batches[depth][batch] = y
            done += 1
            forecast.learn([folder])
            under_way = any(one is other for other, *_ in waiting.values())
            if not under_way and one.error is None:
                todo.insert(0, one)
    return [_found(name, searches) for name in plan.networks]


def begin(plan: Plan, runs: Mapping[str, Path]) -> list[Search]:
    """The searches of a plan, with what is known from `runs` (of `runs_below`)."""
    searches = []
    for name in plan.networks:
        for width in plan.widths:
            one = Search(name, width)
            for depth in plan.depths:
                for batch in range(plan.most_seeds // plan.seeds):
                    config = plan.config(name, width, depth, batch)
                    folder = runs.get(digest(flatten(config)))
                    y = values(folder, plan) if folder else None
                    if y is not None:
                        one.batches.setdefault(depth, {})[batch] = y
            searches.append(one)
    return searches


def runs_below(paths: Iterable[Path]) -> dict[str, Path]:
    """{digest: folder} of the runs at or below `paths`: a finished one if there is."""
    found: dict[str, Path] = {}
    for path in paths:
        for file in sorted(path.rglob("config.json")):
            config = _read(file.parent, "config.json")
            if "train.seeds" in config:
                name = digest(config)
                if name not in found or not _finished(found[name]):
                    found[name] = file.parent
    return found


def _finished(folder: Path) -> bool:
    summary = _read(folder, "summary.json")
    return summary.get("status") == "done" or bool(_lost(summary)["seeds"])


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A file of a run, {} if it is not there or damaged: the run is then made anew."""
    try:
        return RunFolder(folder).read_json(name) or {}
    except Damaged as damage:
        warnings.warn(f"{damage}; its run is not used", stacklevel=2)
        return {}


def _lost(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    return summary.get("diverged") or {"seeds": []}


def digest(flat: Mapping[str, Any]) -> str:
    """Names a run by the settings that decide its numbers."""
    text = json.dumps(identity(flat), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def values(folder: Path, plan: Plan) -> list[float] | None:
    """The measure of each network of a run that is done, or that ended in divergence.

    A network that diverged counts as beyond any threshold: inf, or the departure time
    that is known, at the latest that of divergence.  None of a run that failed
    otherwise, or is not finished.
    """
    summary = _read(folder, "summary.json")
    if not summary:
        return None
    lost = _lost(summary)
    y = [math.nan] * plan.seeds
    if summary["status"] == "done":
        try:
            found = gather([folder]).networks[plan.measure]
        except UserError as error:  # damaged: it is run again
            warnings.warn(f"{folder}: not used: {error.rule}", stacklevel=2)
            return None
        y = [float(v) if v > 0 else math.nan for v in np.asarray(found, np.float64)]
    elif not lost["seeds"]:
        return None
    elif not plan.rises and "departure" in summary:
        departed = summary["departure"]["test"]["seeds"]
        y = [math.nan if t is None else t for t in departed]
    for seed in lost["seeds"]:
        if plan.rises:
            y[seed] = math.inf
        elif math.isnan(y[seed]):
            y[seed] = max(lost["t"], summary["lr"])  # lr is the time of one step
    return y


def _found(name: str, searches: Sequence[Search]) -> Found:
    own = [one for one in searches if one.name == name]
    found = {one.width: one.boundary for one in own if one.boundary}
    widths, boundaries = tuple(found), tuple(found.values())
    stars = [b.star for b in boundaries]
    ends = np.reshape([b.interval for b in boundaries], (-1, 2))
    failed = {one.width: one.error for one in own if one.error is not None}
    return Found(name, widths, boundaries, boundary_fit(widths, stars, ends), failed)
