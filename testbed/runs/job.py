"""The main job: follow three predictors along one time axis, and record all of it."""

import time
import warnings
from typing import Any

import jax
import numpy as np

from testbed.config import Config
from testbed.divergence import movement
from testbed.divergence.table import divergence_row
from testbed.dynamics import Linearized
from testbed.errors import RunError
from testbed.runs.checkpoints import Checkpoints
from testbed.runs.console import Console
from testbed.runs.environment import describe
from testbed.runs.experiment import Experiment, prepare
from testbed.runs.folder import RunFolder, arrays_name, open_folder
from testbed.runs.summary import summarize
from testbed.runs.tracker import Tracker

_MOVEMENT = jax.jit(jax.vmap(movement))
STRETCH_SECONDS = 1.0  # of training between two looks at the clock


def run_job(config: Config, console: Console) -> dict[str, Any]:
    """Runs, or resumes, the job of a validated config; returns its summary.

    Raises:
      UserError: a setting that cannot be honoured.
      RunError: the run had to stop; everything recorded is kept.
    """
    folder = open_folder(config)
    try:
        return _run_in(folder, config, console)
    finally:
        folder.close()


def _run_in(folder: RunFolder, config: Config, console: Console) -> dict[str, Any]:
    started = time.perf_counter()
    stored = folder.read_json("summary.json")
    if folder.resumed and stored and stored["status"] == "done":
        console.say(f"{folder.path} is complete")
        console.result(stored, folder.path)
        return stored
    folder.write_json("environment.json", describe())
    experiment = prepare(config, console.say)
    folder.write_arrays("limits.npz", _limits(config, experiment))
    console.comparison(config, experiment, folder.path)
    tracker = Tracker(config, folder.path)
    seconds = {"setup": time.perf_counter() - started}
    failure = None
    try:
        _follow(config, experiment, folder, console, tracker)
    except RunError as error:
        failure = error
    seconds["run"] = time.perf_counter() - started - seconds["setup"]
    rows = folder.rows()
    summary = summarize(config, experiment, rows, failure)
    figures = []
    if config.run.report and rows:
        from testbed.reports import write_report

        console.say("drawing the report")
        folder.write_json("summary.json", {**summary, "seconds": seconds})
        try:
            figures = write_report(folder.path)
        except OSError as error:
            failure = failure or RunError(
                f"report: cannot be written ({error.strerror}); everything recorded is "
                "kept; make room and run again with --run.resume"
            )
            summary |= {"status": "failed", "error": str(failure)}
    seconds["total"] = time.perf_counter() - started
    summary["seconds"] = seconds
    folder.write_json("summary.json", summary)
    tracker.finish(summary, figures)
    if rows:
        console.result(summary, folder.path)
    if failure:
        raise failure
    return summary


def _follow(
    config: Config,
    experiment: Experiment,
    folder: RunFolder,
    console: Console,
    tracker: Tracker,
) -> None:
    """Advances, observes and records from the last checkpoint to the end."""
    predictors, clock = experiment.predictors, experiment.clock
    states: dict[str, Any] = {name: p.start() for name, p in predictors.items()}
    initial = states["finite"]["value"]
    checkpoints = Checkpoints(folder.checkpoints)
    position = -1
    if not folder.resumed:
        _warn_of_instability(config, experiment)
    restored = checkpoints.restore(states) if folder.resumed else None
    if restored:
        position, states = restored
        states = jax.tree.map(jax.numpy.asarray, states)
        console.say(f"resuming at step {position}")
    rows = folder.forget_after(position)
    for row in rows:
        tracker.log(row)
    due = [step for step in clock.recorded if step > position]
    first, previous = _remembered(folder, clock, rows)
    position, saved = max(position, 0), time.perf_counter()
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
                _check_finite(states, clock)
                waited = time.perf_counter() - saved
                if position < step and waited > config.run.checkpoint_seconds:
                    checkpoints.save(position, states)
                    saved = time.perf_counter()
            kernels = _kernels_wanted(config, clock.recorded, step)
            seen = {
                name: p.observe(states[name], step, kernels)
                for name, p in predictors.items()
            }
            first = first or seen
            t = clock.time(step)
            row = {"step": step, "t": t}
            row |= divergence_row(experiment.targets, seen, first, previous, t)
            row |= _movement(states["finite"]["value"], initial)
            _check_row(row, step, t)
            if "kernel" in seen["finite"]:
                previous = (t, seen["finite"]["kernel"])
            folder.write_arrays(arrays_name(step), _flat(seen))
            folder.append_row(row)
            tracker.log(row)
            if time.perf_counter() - saved > config.run.checkpoint_seconds:
                checkpoints.save(step, states)
                saved = time.perf_counter()
    checkpoints.close()


def _limits(config: Config, experiment: Experiment) -> dict[str, np.ndarray]:
    """What figures need besides the recorded times: targets and limits on probes."""
    m, n = config.kernel.probes, len(experiment.dataset.x_train)
    kept = {"eigenvalues": np.asarray(experiment.limit.system.values)}
    for split, y in experiment.targets.y.items():
        kept[f"y/{split}"] = y
        if experiment.targets.labels is not None:
            kept[f"labels/{split}"] = experiment.targets.labels[split]
    if m:
        rows = np.r_[0:m, n : n + m]
        kept["ntk"] = experiment.limit.ntk[np.ix_(rows, rows)]
        kept["nngp"] = experiment.limit.nngp[np.ix_(rows, rows)]
    return kept


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


def _check_finite(states, clock) -> None:
    """Raises RunError if a training loss has stopped being a number."""
    for who in ("finite", "linearized"):
        failed = np.asarray(states[who]["failed_at"])
        if (failed >= 0).any():
            seed = int(np.where(failed >= 0, failed, np.iinfo(np.int32).max).argmin())
            step = int(failed[seed])
            raise RunError(
                f"{who}/loss/train of seed {seed} is not finite at step {step}, "
                f"t = {clock.time(step):.4g}; lower train.lr or train.lr_fraction; "
                "everything recorded before is kept"
            )


def _check_row(row: dict[str, Any], step: int, t: float) -> None:
    for name, value in row.items():
        if "/loss/" in name and not np.isfinite(value).all():
            raise RunError(
                f"{name} is not finite at step {step}, t = {t:.4g}; lower train.lr or "
                "train.lr_fraction; everything recorded before is kept"
            )
