"""The loop: advance, observe, measure, at every recorded time.

It writes nothing: whoever goes through it records what it yields, in a run's folder
(`testbed.runs.follow`) or in memory (`testbed.comparison`).
"""

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from testbed.divergence import movement
from testbed.divergence.table import Targets, divergence_row
from testbed.dynamics import Clock, Finite
from testbed.dynamics.stiffness import stiffness
from testbed.dynamics.trajectory import Observation, Predictor
from testbed.numerics import float64
from testbed.runs.diverged import TRAINED, Diverged, Remedies

_MOVEMENT = jax.jit(jax.vmap(movement))
STRETCH_SECONDS = 1.0  # of training between two looks at the clock


@dataclasses.dataclass(frozen=True)
class Course:
    """What is followed, and when it is observed.

    Attributes:
      predictors: "finite", "linearized" and, if there is one, "infinite".
      clock: their time axis.
      targets: what divergence is measured against.
      kernels_at: recorded steps at which empirical kernels are computed.
      remedies: what to do about numbers that are not finite.
    """

    predictors: Mapping[str, Predictor]
    clock: Clock
    targets: Targets
    kernels_at: frozenset[int]
    remedies: Remedies

    @property
    def finite(self) -> Finite:
        """The finite networks."""
        finite = self.predictors["finite"]
        assert isinstance(finite, Finite)
        return finite


class Past(NamedTuple):
    """What is known of a run that goes on.

    Attributes:
      position: the step it goes on from; -1 of a new one.
      rows: what was recorded up to there.
      first: observations at t = 0.
      kernel: time and empirical kernels (E, m, m) measured last.
    """

    position: int = -1
    rows: Sequence[Mapping[str, Any]] = ()
    first: Mapping[str, Observation] | None = None
    kernel: tuple[float, np.ndarray] | None = None


_NONE = Past()


class Moment(NamedTuple):
    """A recorded time.

    Attributes:
      step: optimizer steps taken.
      row: of the divergence table, with step and t.
      seen: each predictor's observations; nan for networks that diverged.
      states: of the predictors.
    """

    step: int
    row: dict[str, Any]
    seen: dict[str, Observation]
    states: dict[str, Any]


def start(course: Course) -> dict[str, Any]:
    """The states of all predictors at step 0."""
    return {name: p.start() for name, p in course.predictors.items()}


def moments(
    course: Course,
    states: dict[str, Any],
    past: Past = _NONE,
    progress: Callable[[int], None] = lambda step: None,
    between: Callable[[int, Any], None] = lambda step, states: None,
) -> Iterator[Moment]:
    """Yields every recorded time that is left.

    Args:
      course: what is followed.
      states: at the step that `past` has, or at step 0.
      past: what is known of a run that goes on.
      progress: told the step that is reached, about once a second.
      between: told step and states where nothing is recorded, as often.

    Raises:
      NotFinite: no network is finite any more.
    """
    clock, initial = course.clock, course.finite.initial
    position, rows, first, previous = past
    due = [step for step in clock.recorded if step > position]
    position = max(position, 0)
    networks = Diverged(course.finite.problem.seeds, rows, course.remedies)
    stretch = _Stretch()
    for step in due:
        while position < step:
            stop = min(step, position + stretch.steps)
            with stretch:
                for name, predictor in course.predictors.items():
                    states[name] = predictor.advance(states[name], position, stop)
                jax.block_until_ready(states)
            stretch.took(stop - position)
            position = stop
            progress(position)
            networks.check_losses(states, clock)
            if position < step:
                between(position, states)
        params = networks.observable(states["finite"]["value"], initial)
        observed = {**states, "finite": {**states["finite"], "value": params}}
        kernels = step in course.kernels_at
        seen = {
            name: p.observe(observed[name], step, kernels)
            for name, p in course.predictors.items()
        }
        t = clock.time(step)
        networks.check_seen(seen, step, t)
        seen = networks.blank(seen)
        first = first or seen
        before, kernel = previous or (None, None)
        measure = partial(_measure, course.targets, seen, first, before, t)
        trained = [{who: obs[who] for who in TRAINED} for obs in (seen, first)]
        with float64():
            moved = jax.tree.map(np.asarray, _MOVEMENT(params, initial))
        row = {"step": step, "t": t}
        row |= networks.row(measure, *trained, kernel, moved)
        if "kernel" in seen["finite"]:
            previous = (t, seen["finite"]["kernel"])
        yield Moment(step, row, seen, states)


def _measure(targets, seen, first, before, t, left, begun, kernel, moved):
    """A row of the divergence table, and how far parameters are from where they began.

    `seen` and `first` are of all predictors, at t and at 0; `left` and `begun` of the
    networks that are left, as are `kernel`, measured last at the time `before`, and
    `moved`.
    """
    previous = None if before is None else (before, kernel)
    row = divergence_row(targets, {**seen, **left}, {**first, **begun}, previous, t)
    return row | {f"parameters/movement/{k}": np.asarray(v) for k, v in moved.items()}


def warn_of_instability(course: Course, rate: str, stiff: Any = None) -> None:
    """Warns if a network's own kernel is too stiff for the learning rate.

    Args:
      course: what is to be followed.
      rate: the setting of the learning rate.
      stiff: `stiffness` of the networks, where it is known already.
    """
    finite, clock = course.finite, course.clock
    problem = finite.problem
    if problem.loss != "mse" or problem.optimizer == "adam":
        return
    if stiff is None:
        stiff = stiffness(problem, finite.initial, finite.constant)
    bounds = 2 * (1 + clock.momentum) * clock.n_train / stiff
    found = np.flatnonzero(bounds < clock.lr)
    if found.size:
        warnings.warn(
            f"{rate}={clock.lr:.4g} is above the stability bound {bounds.min():.4g} "
            f"of the linearization of seed {', '.join(map(str, found))}: expect it to "
            f"diverge; {course.remedies.later}",
            stacklevel=3,
        )


class _Stretch:
    """How many steps to take between two looks at the clock."""

    def __init__(self):
        self.steps, self._seconds, self._warm = 1, 0.0, False

    def __enter__(self):
        self._begin = time.perf_counter()

    def __exit__(self, *exception):
        self._seconds = time.perf_counter() - self._begin

    def took(self, steps: int) -> None:
        """Aims at a second a stretch; the first one compiles and does not count."""
        if self._warm:
            pace = self._seconds / steps
            self.steps = max(1, min(4 * self.steps, int(STRETCH_SECONDS / pace)))
        self._warm = True
