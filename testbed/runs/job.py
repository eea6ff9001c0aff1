"""The main job, from a config to a complete folder."""

import time
from typing import Any

import jax
import numpy as np

from testbed.config import Config
from testbed.errors import RunError, UserError
from testbed.runs.console import Console
from testbed.runs.drawing import Report, draw
from testbed.runs.environment import machine, note_environment
from testbed.runs.experiment import Experiment, prepare
from testbed.runs.finished import finished
from testbed.runs.folder import RunFolder, open_folder
from testbed.runs.follow import follow
from testbed.runs.memory import check_training_memory
from testbed.runs.stored import beyond
from testbed.runs.summary import summarize
from testbed.runs.tracker import Tracker


def run_job(
    config: Config, console: Console, report: Report | None = None
) -> dict[str, Any]:
    """Runs, or resumes, the job of a validated config; returns its summary.

    Args:
      config: validated.
      console: told what is done.
      report: draws a report of the folder, where `run.report` asks for one.

    Raises:
      UserError: a setting that cannot be honoured.
      RunError: the run had to stop; everything recorded is kept.
    """
    if jax.process_count() > 1:
        rule = f"{jax.process_count()} processes: one run uses one process"
        raise UserError("jax.distributed", "on", rule, "start one run a host")
    config = beyond(config)
    check_training_memory(config)  # before there is a folder, or data
    folder = open_folder(config, config.data.name)
    try:
        if folder.resumed and (stored := finished(folder)):
            return _show(config, folder, stored, console, report)
        return _run_in(folder, config, console, report)
    except UserError:
        folder.discard_if_empty()
        raise
    finally:
        folder.close()


def _run_in(
    folder: RunFolder, config: Config, console: Console, report: Report | None
) -> dict[str, Any]:
    started = time.perf_counter()
    note_environment(folder, machine())
    (folder.path / "summary.json").unlink(missing_ok=True)  # it is not over yet
    experiment = prepare(config, console.say)
    folder.write_arrays("limits.npz", _limits(config, experiment))
    console.comparison(config, experiment, folder.path)
    tracker = Tracker(config, folder)
    seconds = {"setup": time.perf_counter() - started}
    failure: RunError | None = None
    try:
        follow(config, experiment, folder, console, tracker)
    except RunError as error:
        failure = error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        failure = RunError(
            "the device's memory is exhausted; lower model.width, model.depth, "
            "train.seeds or data.train_size; everything recorded before is kept"
        )
    seconds["run"] = time.perf_counter() - started - seconds["setup"]
    folder.check_there()  # else there is nothing to sum up
    rows, figures = folder.rows(whole=False), []
    summary = summarize(config, experiment, rows, failure)
    summary["seconds"] = seconds
    try:
        folder.conclude(summary)
        if config.run.report and rows and report:
            figures = draw(report, folder, console)
        seconds["total"] = time.perf_counter() - started
        folder.conclude(summary)
    except RunError as error:
        failure = failure or error  # the first thing that went wrong is the cause
    tracker.finish(summary, figures)
    if rows:
        console.result(summary, folder.path)
    if failure:
        raise failure
    return summary


def _show(
    config: Config,
    folder: RunFolder,
    summary: dict,
    console: Console,
    report: Report | None,
) -> dict:
    """Shows a complete run again, with the report that may be missing."""
    console.say(f"{folder.path} is complete")
    if config.run.report and report and not (folder.path / "report.html").exists():
        draw(report, folder, console)
    console.result(summary, folder.path)
    return summary


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
