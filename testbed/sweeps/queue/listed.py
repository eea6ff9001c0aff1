"""The points of a grid or a random sweep, which are all known from the start."""

import functools
import itertools
from collections.abc import Iterable
from typing import Any

from testbed.sweeps.points import Settings, drawn, grid, point_name
from testbed.sweeps.queue.store import Point, Proposer, Store
from testbed.sweeps.spec import Sweep, config_of


class Listed(Proposer):
    """Enumerates or draws the points of a sweep.

    Args:
      sweep: that was read.
      seed: of what is drawn.

    Attributes:
      independent: whether no point depends on the results of others.
    """

    independent = True

    def __init__(self, sweep: Sweep, seed: int):
        self.sweep, self.seed, self.program = sweep, seed, sweep.program

    def points(self, store: Store, session: str | None) -> list[Point]:
        """All of them."""
        return self._all

    @functools.cached_property
    def _all(self) -> list[Point]:
        sweep = self.sweep
        source = grid(sweep) if sweep.method == "grid" else drawn(sweep, self.seed)
        return self.named(itertools.islice(source, sweep.run_cap))

    def named(self, settings: Iterable[Settings]) -> list[Point]:
        """The points of these settings, in order."""
        name = functools.partial(point_name, self.sweep)
        return [Point(i, name(s), s) for i, s in enumerate(settings)]

    def ending(self, store: Store) -> str:
        """Why no further point is proposed, at the end."""
        return "all are known"

    def config(self, point: Point) -> Any:
        """The validated config of a point."""
        return config_of(self.sweep, point.settings)
