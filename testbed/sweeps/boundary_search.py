"""The searches of a boundary: the proposer of its points.

What is asked for follows from the runs that have ended and from nothing else.  So it
is the same whoever asks, and a search that is started again goes on as it would have.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from testbed.config import Config
from testbed.divergence.boundary import Boundary, Run, search
from testbed.divergence.boundary_fit import boundary_fit
from testbed.errors import UserError
from testbed.settings import flatten, override
from testbed.sweeps.boundary import Found, Plan, in_words
from testbed.sweeps.boundary_runs import Runs, digest, runs_below, values, warnings_of
from testbed.sweeps.queue.store import Point, Proposer, Store

Say = Callable[[str], None]


class Search:
    """The search at one width.

    Args:
      plan: that is carried out.
      name: of the networks.
      width: n.
      runs: that were made before.

    Attributes:
      batches: {depth: {number of the run: y of its networks}}.
      ended: {folder: point} of those that have ended since this was made.
      asked: points that are asked for now, with their states.
      boundary: once it is found.
      error: of a point that failed; the search is set aside then.
    """

    def __init__(self, plan: Plan, name: str, width: int, runs: Runs):
        self.plan, self.name, self.width = plan, name, width
        self.batches: dict[int, dict[int, list[float]]] = {}
        self.ended: dict[Path, Point] = {}
        self.asked: list[tuple[Point, str]] = []
        self.boundary: Boundary | None = None
        self.error: str | None = None
        self._begun: set[str] = set()
        for depth in plan.depths:
            for batch in range(plan.most_batches):
                for folder in runs.get(self._point(depth, batch).name, ()):
                    self._take_in(depth, batch, folder)

    @property
    def measured(self) -> dict[int, list[float]]:
        """{depth: y of each network}, in the same order whichever run ended first."""
        return {
            depth: [v for _, y in sorted(runs.items()) for v in y]
            for depth, runs in self.batches.items()
        }

    def look(
        self, store: Store, session: str | None, say: Say, left: Callable[[], str]
    ) -> None:
        """Takes in what has ended, and asks for what is next.

        A search of which a run fails in this session, otherwise than by divergence, is
        set aside.

        Args:
          store: of the points.
          session: name of this start.
          say: told what is new.
          left: how much is left to do, in words.

        Raises:
          UserError: a run was refused, as every other would be.
        """
        step: Run | Boundary | None = self.boundary
        while not isinstance(step, Boundary):
            step = search(self.measured, **self.plan.options)
            points = self._points(step) if isinstance(step, Run) else []
            self.asked = [(point, store.state(point, session)) for point in points]
            ended = [point for point, state in self.asked if state == "done"]
            for point in ended:
                folder, depth = store.folder(point), point.settings["model.depth"]
                self._take_in(depth, point.index, folder)
                self.ended[folder] = point
                for line in warnings_of(folder, self.plan):
                    say(f"depth {depth}: warning: {line}")
            if not ended:
                break
        if isinstance(step, Boundary):
            if self.boundary is None:
                say(in_words(step))
            self.boundary = step
            return
        before, self.error = self.error, None
        for point, state in self.asked:
            if state == "failed":
                failure = store.failure(point) or {}
                self.asked = [one for one in self.asked if one[1] != "waiting"]
                self.error = str(failure.get("error"))
                if failure.get("mistake"):
                    raise UserError(*failure["mistake"])
                if before is None:
                    say(f"depth {step.depth}: failed: {self.error}")
            elif state == "running" and point.name not in self._begun:
                self._begun |= {point.name for point, _ in self.asked}
                say(f"depth {step.depth}, {step.seeds} networks ... {left()}")

    def _take_in(self, depth: int, batch: int, folder: Path) -> None:
        if (y := values(folder, self.plan)) is not None:
            self.batches.setdefault(depth, {})[batch] = y

    def _points(self, step: Run) -> list[Point]:
        """As many further runs as hold the networks that `step` asks for."""
        known = self.batches.get(step.depth, {})
        left = [i for i in range(self.plan.most_batches) if i not in known]
        count = math.ceil(step.seeds / self.plan.seeds)
        return [self._point(step.depth, batch) for batch in left[:count]]

    def _point(self, depth: int, batch: int) -> Point:
        settings = flatten(self.plan.config(self.name, self.width, depth, batch))
        return Point(batch, digest(settings), settings)


class Searches(Proposer):
    """Proposes the runs of all searches of a plan, those of the first ones first.

    Args:
      plan: checked.
      path: folder of the boundary.

    Attributes:
      runs: that were made before.
      all: the searches.
      say: told what is new.
      left: how much is left to do, in words.
    """

    program = "scripts/boundary.py"

    def __init__(self, plan: Plan, path: Path):
        self.plan = plan
        self.runs = runs_below([path / "points", *map(Path, plan.reuse)])
        self.all = [
            Search(plan, name, width, self.runs)
            for name in plan.networks
            for width in plan.widths
        ]
        self.say: Say = lambda text: None  # workers are silent
        self.left: Callable[[], str] = str

    def points(self, store: Store, session: str | None) -> list[Point]:
        """Those that have ended since the start, and those that are asked for now."""
        for one in self.all:
            who = f"{one.name}, width {one.width}"
            say = lambda text, who=who: self.say(f"{who}: {text}")
            one.look(store, session, say, self.left)
        ended = [point for one in self.all for point in one.ended.values()]
        return ended + [point for one in self.all for point, _ in one.asked]

    def config(self, point: Point) -> Config:
        """The validated config of a run."""
        return override(Config(), point.settings)

    def is_result(self, folder: Path, summary: Mapping[str, Any]) -> bool:
        """Whether a run is done, or ended in divergence."""
        return values(folder, self.plan) is not None

    def found(self) -> list[Found]:
        """What is known of each network."""
        return [self._found(name) for name in self.plan.networks]

    def _found(self, name: str) -> Found:
        own = [one for one in self.all if one.name == name]
        found = {one.width: one.boundary for one in own if one.boundary}
        widths, boundaries = tuple(found), tuple(found.values())
        stars = [b.star for b in boundaries]
        ends = np.reshape([b.interval for b in boundaries], (-1, 2))
        law = boundary_fit(widths, stars, ends)
        failed = {one.width: str(one.error) for one in own if one.boundary is None}
        return Found(name, widths, boundaries, law, failed)
