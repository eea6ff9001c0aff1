"""The loop: advance, observe, measure, record, and keep what is needed to resume."""

import time
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from testbed.config import Config
from testbed.divergence import movement
from testbed.divergence.table import divergence_row
from testbed.dynamics import Linearized
from testbed.errors import NotFinite
from testbed.runs.checkpoints import Checkpoints
from testbed.runs.console import Console
from testbed.runs.experiment import Experiment
from testbed.runs.folder import RunFolder, arrays_name
from testbed.runs.tracker import Tracker

_MOVEMENT = jax.jit(jax.vmap(movement))
STRETCH_SECONDS = 1.0  # of training between two looks at the clock


def follow(
    config: Config,
    experiment: Experiment,
    folder: RunFolder,
    console: Console,
    tracker: Tracker,
) -> None:
    """Follows the predictors from the last checkpoint to the end, recording all.

    Raises:
      NotFinite: a value that is not finite.
      RunError: a disk that is full.
    """
    predictors, clock = experiment.predictors, experiment.clock
    states: dict[str, Any] = {name: p.start() for name, p in predictors.items()}
    initial = states["finite"]["value"]
    checkpoints = Checkpoints(folder.checkpoints, config.run.checkpoint_seconds)
    position = -1
    if folder.resumed:
        position, states = _restore(checkpoints, states, folder, clock.recorded)
        console.say(f"resuming at step {max(position, 0)}")
    console.say("compiling")
    if position < 0:
        _warn_of_instability(config, experiment)
    rows = folder.forget_after(position)
    for row in rows:
        tracker.log(row)
    due = [step for step in clock.recorded if step > position]
    first, previous = _remembered(folder, clock, rows)
    position = max(position, 0)
    stretch = _Stretch()
    with console.progress(clock.steps, position) as progress:
        for step in due:
            while position < step:
                stop = min(step, position + stretch.steps)
                with stretch:
                    for name, predictor in predictors.items():
                        states[name] = predictor.advance(states[name], position, stop)
                    jax.block_until_ready(states)
                stretch.took(stop - position)
                position = stop
                progress(position)
                _check_losses(states, clock)
                if position < step:
                    checkpoints.save_if_due(position, states)
            kernels = _kernels_wanted(config, clock.recorded, step)
            seen = {
                name: p.observe(states[name], step, kernels)
                for name, p in predictors.items()
            }
            t = clock.time(step)
            _check_seen(seen, step, t)
            first = first or seen
            row = {"step": step, "t": t}
            row |= divergence_row(experiment.targets, seen, first, previous, t)
            row |= _movement(states["finite"]["value"], initial)
            if "kernel" in seen["finite"]:
                previous = (t, seen["finite"]["kernel"])
            folder.write_arrays(arrays_name(step), _flat(seen))
            folder.append_row(row)
            tracker.log(row)
            checkpoints.save_if_due(step, states)
    checkpoints.close()


def _restore(checkpoints, states, folder, recorded) -> tuple[int, Any]:
    """The newest state whose record is whole, or the start."""
    restored = checkpoints.restore(states)
    if restored is None:
        return -1, states
    position, found = restored
    rows = {row["step"] for row in folder.rows()}
    past = [step for step in recorded if step <= position]
    if not all(k in rows and folder.has_arrays(arrays_name(k)) for k in past):
        warnings.warn(
            f"{folder.path}: records up to step {position} are damaged; starting over",
            stacklevel=2,
        )
        return -1, states
    return position, jax.tree.map(jax.numpy.asarray, found)


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


def _kernels_wanted(config: Config, recorded: tuple[int, ...], step: int) -> bool:
    index = recorded.index(step)
    return index % config.kernel.every == 0 or step == recorded[-1]


def _remembered(folder: RunFolder, clock, rows):
    """Observations at t = 0, and the kernels measured last, of a resumed run."""
    if not rows:
        return None, None
    first = _unflat(folder.read_arrays(arrays_name(0)))
    for row in reversed(rows):
        arrays = folder.read_arrays(arrays_name(row["step"]))
        if "finite/kernel" in arrays:
            return first, (clock.time(row["step"]), arrays["finite/kernel"])
    return first, None


def _flat(seen) -> dict[str, np.ndarray]:
    return {f"{who}/{k}": v for who, obs in seen.items() for k, v in obs.items()}


def _unflat(arrays) -> dict[str, dict[str, np.ndarray]]:
    seen: dict[str, dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        who, key = name.split("/", 1)
        seen.setdefault(who, {})[key] = value
    return seen


def _movement(params, initial) -> dict[str, np.ndarray]:
    moved = _MOVEMENT(params, initial)
    return {f"parameters/movement/{k}": np.asarray(v) for k, v in moved.items()}


def _warn_of_instability(config: Config, experiment: Experiment) -> None:
    """Warns if a network's own kernel is too stiff for the learning rate."""
    clock, t = experiment.clock, config.train
    if t.loss != "mse" or t.optimizer == "adam":
        return
    linearized = experiment.predictors["linearized"]
    assert isinstance(linearized, Linearized)
    bounds = 2 * (1 + clock.momentum) * clock.n_train / linearized.stiffness()
    stiff = np.flatnonzero(bounds < clock.lr)
    if stiff.size:
        warnings.warn(
            f"train.lr={clock.lr:.4g} is above the stability bound {bounds.min():.4g} "
            f"of the linearization of seed {', '.join(map(str, stiff))}: expect it to "
            "diverge; lower train.lr or train.lr_fraction",
            stacklevel=2,
        )


def _check_losses(states, clock) -> None:
    """Raises NotFinite if a training loss has stopped being a number."""
    whose = ("finite", "linearized")
    failed = {who: np.asarray(states[who]["failed_at"]) for who in whose}
    diverged = np.flatnonzero(np.any([f >= 0 for f in failed.values()], 0))
    for who, at in failed.items():
        if (at >= 0).any():
            seed = int(np.where(at >= 0, at, np.iinfo(np.int32).max).argmin())
            step = int(at[seed])
            name = f"{who}/loss/train of seed {seed}"
            raise _not_finite(name, step, clock.time(step), diverged)


def _check_seen(seen, step: int, t: float) -> None:
    """Raises NotFinite if anything observed is not finite."""
    bad = {k: ~np.isfinite(v) for k, v in _flat(seen).items()}
    bad = {name: where for name, where in bad.items() if where.any()}
    if bad:
        # What the infinite network gives has no axis of seeds.
        seeded = [v for k, v in bad.items() if not k.startswith("infinite/")]
        each = [v.reshape(len(v), -1).any(1) for v in seeded]
        diverged = np.flatnonzero(np.any(each, 0)) if each else []
        raise _not_finite(next(iter(bad)), step, t, diverged)


def _not_finite(name: str, step: int, t: float, seeds: Iterable[int]) -> NotFinite:
    remedy = "lower train.lr or train.lr_fraction"
    if step == 0:
        remedy = (
            "the network over- or underflows float32 at initialization: bring "
            "alpha^2 + lam^2 nearer to 1, use model.branch=depth_scaled, or lower "
            "model.depth"
        )
    message = (
        f"{name} is not finite at step {step}, t = {t:.4g}; {remedy}; everything "
        "recorded before is kept"
    )
    return NotFinite(message, map(int, seeds), t)
