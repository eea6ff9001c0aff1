"""Processes that carry out the runs of a search, each one run at a time."""

import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from testbed.config import Config
from testbed.errors import NotFinite, RunError, UserError, in_a_line
from testbed.runs.console import Console
from testbed.settings import override


class Workers:
    """A pool of processes that ends at once, with this process if that is killed.

    Args:
      jobs: how many.
    """

    def __init__(self, jobs: int):
        self._jobs = jobs
        self._pool = self._new()

    def start(self, config: Config, folder: Path) -> Future[list[str]]:
        """Begins `train` in one of the processes; in new ones if these were killed."""
        try:
            return self._pool.submit(train, config, folder)
        except BrokenProcessPool:
            self._pool = self._new()
            return self._pool.submit(train, config, folder)

    def stop(self) -> None:
        """Ends the processes; what they were at is resumed by the next start."""
        for process in multiprocessing.active_children():
            process.terminate()
        # Its threads end before this process does: one that is cut off at the exit
        # leaves a semaphore behind, and Python warns of it on the console.
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._jobs, context, _prepare)


def train(config: Config, folder: Path) -> list[str]:
    """Runs, or resumes, one run and returns its warnings; divergence is a result.

    Raises:
      UserError: the run was refused.
      RunError: it failed, otherwise than by networks that diverged.
    """
    from testbed.compiled import keep_compiled
    from testbed.numerics import use_float64
    from testbed.runs.job import run_job

    keep_compiled(config.run.compile_cache)
    use_float64()
    resume = (folder / "config.json").exists()
    config = override(config, {"run.dir": str(folder), "run.resume": resume})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            run_job(config, _Silent())
        except NotFinite as error:
            if not error.seeds:
                raise RunError(f"{folder}: {error}") from None
        except RunError as error:
            raise RunError(f"{folder}: {error}") from None
        except UserError:
            raise
        except Exception as error:  # a defect: told in one line, kept in full
            file = folder / "error.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(traceback.format_exc())
            raise RunError(f"{in_a_line(error)}; see {file}") from None
    return [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


def _prepare() -> None:
    """In a new process: Ctrl-C is the parent's matter, and so is its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Silent(Console):
    """Says nothing: the search speaks for its runs."""

    def say(self, text: str) -> None:
        """Nothing."""

    def print(self, text: Any) -> None:
        """Nothing."""

    def comparison(self, *args: Any) -> None:
        """Nothing."""

    def result(self, *args: Any) -> None:
        """Nothing."""

    def _lines(self, *args: Any):
        return lambda step: None
