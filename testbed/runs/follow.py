"""Records what is followed in a run's folder, with what is needed to resume."""

import warnings
from functools import partial
from typing import Any

import jax
import numpy as np

from testbed.config import Config
from testbed.runs import moments
from testbed.runs.checkpoints import Checkpoints
from testbed.runs.console import Console
from testbed.runs.digests import RECORDED_WITHOUT, ROWS, Records
from testbed.runs.diverged import Remedies
from testbed.runs.experiment import Experiment
from testbed.runs.folder import RunFolder, arrays_name
from testbed.runs.moments import Course, Past
from testbed.runs.parsing import Damaged
from testbed.runs.tracker import Tracker

_KEPT = "everything recorded before is kept"
_REMEDIES = Remedies(
    at_start="the network over- or underflows float32 at initialization: bring "
    "alpha^2 + lam^2 nearer to 1, use model.branch=depth_scaled, or lower model.depth; "
    + _KEPT,
    later=f"lower train.lr or train.lr_fraction; {_KEPT}",
)


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
    clock = experiment.clock
    kernels = _kernels_at(config, clock.recorded)
    course = Course(
        experiment.predictors, clock, experiment.targets, kernels, _REMEDIES
    )
    states = moments.start(course)
    seconds = config.run.checkpoint_seconds
    checkpoints = Checkpoints(folder.checkpoints, seconds, folder.records)
    position = -1
    if folder.resumed:
        position, states = restore(checkpoints, states, folder, clock.recorded)
        console.say(f"resuming at step {max(position, 0)}")
    console.say("compiling")
    if position < 0:
        moments.warn_of_instability(course, "train.lr")
    rows = folder.forget_after(position)
    for row in rows:
        tracker.log(row, again=True)
    past = Past(position, rows, *_remembered(folder, clock, rows))

    def between(step: int, states: Any) -> None:
        folder.check_there()
        checkpoints.save_if_due(step, states)

    with console.progress(clock.steps, max(position, 0)) as progress:
        for now in moments.moments(course, states, past, progress, between):
            folder.write_arrays(arrays_name(now.step), flat(now.seen))
            folder.append_row(now.row)
            tracker.log(now.row)
            if now.step == clock.steps:  # kept, so that the run can be made longer
                checkpoints.save(now.step, now.states)
            else:
                checkpoints.save_if_due(now.step, now.states)
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


def _kernels_at(config: Config, recorded: tuple[int, ...]) -> frozenset[int]:
    ends = (*config.measure.earlier_steps, recorded[-1])
    return frozenset((*recorded[:: config.kernel.every], *ends))


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


def flat(seen) -> dict[str, np.ndarray]:
    """Observations of all predictors by "who/what", as an arrays file has them."""
    return {f"{who}/{k}": v for who, obs in seen.items() for k, v in obs.items()}


def _unflat(arrays) -> dict[str, dict[str, np.ndarray]]:
    seen: dict[str, dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        who, key = name.split("/", 1)
        seen.setdefault(who, {})[key] = value
    return seen
