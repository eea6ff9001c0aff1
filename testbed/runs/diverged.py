"""Networks that diverged: left out of what is measured, while the others go on.

A network diverges when its training loss, that of its linearization, or anything that
is observed of the two stops being finite.  From then on it is measured no more.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from testbed.dynamics.trajectory import Observation
from testbed.errors import NotFinite

TRAINED = ("finite", "linearized")


class Remedies(NamedTuple):
    """What to do about numbers that are not finite.

    Attributes:
      at_start: at initialization.
      later: in training.
    """

    at_start: str
    later: str


_ANY = Remedies("see to its parameters and inputs", "lower the learning rate")


class Diverged:
    """Which networks of an ensemble are still finite.

    Args:
      seeds: how many networks there are.
      rows: what was recorded before, where a run is resumed.
      remedies: what messages advise.

    Attributes:
      alive: which are finite, (E,).
    """

    def __init__(
        self,
        seeds: int,
        rows: Sequence[Mapping[str, Any]] = (),
        remedies: Remedies = _ANY,
    ):
        self._remedies = remedies
        self.alive = np.full(seeds, True)
        if rows:
            losses = np.array(rows[-1]["finite/loss/train"], np.float64)
            self.alive &= np.isfinite(losses)

    def check_losses(self, states: Mapping[str, Any], clock: Any) -> None:
        """Leaves out networks whose training loss failed, or their linearizations'.

        Raises:
          NotFinite: none is left.
        """
        for who in TRAINED:
            failed_at = np.asarray(states[who]["failed_at"])
            for seed in map(int, np.flatnonzero((failed_at >= 0) & self.alive)):
                step = int(failed_at[seed])
                self._lose(seed, f"{who}/loss/train", step, clock.time(step))

    def check_seen(self, seen: Mapping[str, Observation], step: int, t: float) -> None:
        """Leaves out networks of which something observed is not finite.

        Raises:
          NotFinite: none is left, something is wrong at initialization, or with the
            infinite network.
        """
        for who, observed in seen.items():
            for key, value in observed.items():
                name = f"{who}/{key}"
                if who not in TRAINED:
                    if not np.isfinite(value).all():
                        raise self._not_finite(name, step, t, [])
                    continue
                finite = np.isfinite(value.reshape(len(value), -1)).all(1)
                if step == 0 and not finite.all():
                    raise self._not_finite(name, step, t, np.flatnonzero(~finite))
                for seed in map(int, np.flatnonzero(~finite & self.alive)):
                    self._lose(seed, name, step, t)

    def observable(self, params: Any, initial: Any) -> Any:
        """Parameters that can be observed: diverged networks' are those at t = 0."""
        if self.alive.all():
            return params
        alive = jnp.asarray(self.alive)
        pick = lambda now, then: jnp.where(
            alive.reshape(-1, *[1] * (now.ndim - 1)), now, then
        )
        return jax.tree.map(pick, params, initial)

    def blank(self, seen: Mapping[str, Observation]) -> dict[str, Observation]:
        """What was seen, nan for diverged networks."""
        if self.alive.all():
            return dict(seen)
        blanked = dict(seen)
        for who in TRAINED:
            blanked[who] = {k: self._nan(v) for k, v in seen[who].items()}
        return blanked

    def row(
        self, measure: Callable[..., Mapping[str, Any]], *ensembles: Any
    ) -> dict[str, Any]:
        """What `measure` says of the networks that are left, nan for the others.

        Args:
          measure: of `ensembles`; returns a number, or one a network, by name.
          ensembles: trees of arrays (E, ...), of all networks.
        """
        if self.alive.all():
            return dict(measure(*ensembles))
        row = measure(*jax.tree.map(lambda v: np.asarray(v)[self.alive], ensembles))
        whole: dict[str, Any] = {}
        for name, value in row.items():
            whole[name] = value
            if np.ndim(value):
                whole[name] = np.full(len(self.alive), np.nan)
                whole[name][self.alive] = value
        return whole

    def _nan(self, value: np.ndarray) -> np.ndarray:
        value = np.array(value)
        value[~self.alive] = np.nan
        return value

    def _lose(self, seed: int, name: str, step: int, t: float) -> None:
        self.alive[seed] = False
        lost = np.flatnonzero(~self.alive)
        error = self._not_finite(f"{name} of seed {seed}", step, t, lost)
        if not self.alive.any():
            raise error
        left = f"{self.alive.sum()} of {len(self.alive)} networks go on"
        warnings.warn(f"{error}; {left}", stacklevel=3)

    def _not_finite(self, name: str, step: int, t: float, seeds: Any) -> NotFinite:
        remedy = self._remedies.later if step else self._remedies.at_start
        message = f"{name} is not finite at step {step}, t = {t:.4g}; {remedy}"
        return NotFinite(message, map(int, seeds), t)
