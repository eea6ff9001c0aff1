"""The loop: advance, observe, measure, record, and keep what is needed to resume."""

import time
import warnings
from functools import partial
from typing import Any

import jax
import numpy as np

from testbed.config import Config
from testbed.divergence import movement
from testbed.divergence.table import divergence_row
from testbed.dynamics import Linearized
from testbed.runs.checkpoints import Checkpoints
from testbed.runs.console import Console
from testbed.runs.digests import RECORDED_WITHOUT, ROWS, Records
from testbed.runs.diverged import TRAINED, Diverged
from testbed.runs.experiment import Experiment
from testbed.runs.folder import RunFolder, arrays_name
from testbed.runs.parsing import Damaged
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
      NotFinite: no network is finite any more.
      RunError: a disk that is full.
    """
    predictors, clock = experiment.predictors, experiment.clock
    states: dict[str, Any] = {name: p.start() for name, p in predictors.items()}
    initial = states["finite"]["value"]
    seconds = config.run.checkpoint_seconds
    checkpoints = Checkpoints(folder.checkpoints, seconds, folder.records)
    position = -1
    if folder.resumed:
        position, states = restore(checkpoints, states, folder, clock.recorded)
        console.say(f"resuming at step {max(position, 0)}")
    console.say("compiling")
    if position < 0:
        _warn_of_instability(config, experiment)
    rows = folder.forget_after(position)
    for row in rows:
        tracker.log(row, again=True)
    due = [step for step in clock.recorded if step > position]
    first, previous = _remembered(folder, clock, rows)
    position = max(position, 0)
    stretch, networks = _Stretch(), Diverged(config.train.seeds, rows)
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
                networks.check_losses(states, clock)
                if position < step:
                    folder.check_there()
                    checkpoints.save_if_due(position, states)
            kernels = _kernels_wanted(config, clock.recorded, step)
            params = networks.observable(states["finite"]["value"], initial)
            finite = {**states["finite"], "value": params}
            seen = {
                name: p.observe(
                    finite if name == "finite" else states[name], step, kernels
                )
                for name, p in predictors.items()
            }
            t = clock.time(step)
            networks.check_seen(seen, step, t)
            seen = networks.blank(seen)
            first = first or seen
            row = {"step": step, "t": t}
            before, kernel = previous or (None, None)
            measure = partial(_measure, experiment, seen, first, before, t)
            trained = [{who: obs[who] for who in TRAINED} for obs in (seen, first)]
            moved = _MOVEMENT(params, initial)
            row |= networks.row(measure, *trained, kernel, moved)
            if "kernel" in seen["finite"]:
                previous = (t, seen["finite"]["kernel"])
            folder.write_arrays(arrays_name(step), _flat(seen))
            folder.append_row(row)
            tracker.log(row)
            if step == clock.steps:  # kept, so that the run can be made longer
                checkpoints.save(step, states)
            else:
                checkpoints.save_if_due(step, states)
    checkpoints.close()


def restore(
    checkpoints: Checkpoints,
    states: Any,
    folder: RunFolder,
    recorded: tuple[int, ...],
) -> tuple[int, Any]:
    """The newest state whose record is whole, as (step, states), or (-1, `states`).

    What is damaged is named and set aside, to be recorded again.
    """
    older: list[str] = []

    def trusted(step: int, records: Records | None) -> bool:
        if records is None and not older:
            older.append(RECORDED_WITHOUT)
            warnings.warn(f"{folder.path}: {RECORDED_WITHOUT}", stacklevel=2)
        past = [k for k in recorded if k <= step]
        return _is_whole(folder, records or Records(folder.records.settings), past)

    restored = checkpoints.restore(states, trusted)
    if restored is None:
        if folder.rows_there():
            warnings.warn(
                f"{folder.path}: no checkpoint can be used; starting over", stacklevel=2
            )
        return -1, states
    return restored[0], jax.tree.map(jax.numpy.asarray, restored[1])


def _is_whole(folder: RunFolder, known: Records, past: list[int]) -> bool:
    """Whether all that was recorded up to a checkpoint is as it was."""
    if known.settings != folder.records.settings:
        warnings.warn(
            f"{folder.path}: a checkpoint of other settings is not used", stacklevel=2
        )
        return False
    reader = RunFolder(folder.path, records=known)
    whole = folder.is_whole(ROWS, lambda: _check_rows(reader, past))
    for name in map(arrays_name, past):
        read = partial(reader.read_arrays, name)
        whole = folder.is_whole(name, read) and whole
    if whole:
        folder.records.keep(known, "arrays/")
    return whole


def _check_rows(reader: RunFolder, past: list[int]) -> None:
    if [row["step"] for row in reader.rows(whole=False)][: len(past)] != past:
        raise Damaged(reader.path / ROWS, "not every recorded time is in it")


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
    ends = (*config.measure.earlier_steps, recorded[-1])
    return index % config.kernel.every == 0 or step in ends


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


def _measure(experiment, seen, first, before, t, left, start, kernel, moved):
    """A row of the divergence table, and how far parameters are from where they began.

    `seen` and `first` are of all predictors, at t and at 0; `left` and `start` of the
    networks that are left, as are `kernel`, measured last at the time `before`, and
    `moved`.
    """
    previous = None if before is None else (before, kernel)
    row = divergence_row(
        experiment.targets, {**seen, **left}, {**first, **start}, previous, t
    )
    return row | {f"parameters/movement/{k}": np.asarray(v) for k, v in moved.items()}


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
