"""What every predictor produces: its observations along one time axis."""

import dataclasses
from typing import Any, Protocol

import numpy as np

from testbed.dynamics.clock import Clock

Observation = dict[str, np.ndarray]


class Predictor(Protocol):
    """Something that predicts outputs at every recorded step.

    A new predictor (another limit, another linearization point) is one class with these
    three methods.  Observations hold ``outputs/train`` and ``outputs/test``, of shape
    (seeds, examples, outputs) for an ensemble and (examples, outputs) for a law's mean,
    and whatever else the predictor knows.
    """

    name: str

    def start(self) -> Any:
        """The state at step 0; a pytree of arrays, or None."""
        ...

    def advance(self, state: Any, start: int, stop: int) -> Any:
        """The state at step `stop`, from that at step `start`."""
        ...

    def observe(self, state: Any, step: int, kernels: bool = True) -> Observation:
        """What is recorded at `step`; `kernels` asks for the costly part too."""
        ...


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Observations of one predictor, stacked over the recorded times.

    Attributes:
      name: of the predictor.
      steps: recorded steps, (T,).
      times: lr * steps, (T,).
      observations: {name: (T, ...)}.
    """

    name: str
    steps: np.ndarray
    times: np.ndarray
    observations: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.observations[name]


def trace(predictor: Predictor, clock: Clock) -> Trajectory:
    """Follows `predictor` through all recorded steps of `clock`.

    Example:
      >>> finite = trace(Finite(...), clock)             # doctest: +SKIP
      >>> finite["outputs/test"].shape                   # doctest: +SKIP
      (26, 4, 500, 10)
    """
    state = predictor.start()
    seen = []
    previous = 0
    for step in clock.recorded:
        state = predictor.advance(state, previous, step)
        seen.append(predictor.observe(state, step))
        previous = step
    stacked = {name: np.stack([o[name] for o in seen]) for name in seen[0]}
    return Trajectory(predictor.name, np.asarray(clock.recorded), clock.times, stacked)
