"""Worker processes of one runner: started, watched, replaced when they die."""

import os
import subprocess
import sys
from pathlib import Path

from testbed.errors import RunError
from testbed.sweeps.queue.bayes import check_metric
from testbed.sweeps.queue.store import MOST_DEATHS, Store

GRACE_SECONDS = 10.0  # to leave in order
_MODULE = "testbed.worker"


class Workers:
    """Keeps up to `jobs` worker processes at a sweep until all points have ended.

    Args:
      store: of the sweep.
      session: name of this start.
      jobs: processes at a time.
    """

    def __init__(self, store: Store, session: str, jobs: int):
        self._store, self._session, self._jobs = store, session, jobs
        self._count = self._deaths = self._ended = 0
        left = self._states().count("waiting")
        if store.sweep.method == "bayes":  # and what has not been proposed yet
            left += (store.sweep.run_cap or 0) - len(store.points())
        self._processes = [self._start() for _ in range(min(jobs, left))]

    def busy(self) -> bool:
        """Whether a point is at work, here or elsewhere; replaces workers that died.

        Raises:
          RunError: a worker found that it cannot go on, or all die.
          UserError: it could not because the sweep's metric is misspelt.
        """
        kept = []
        for process, log in self._processes:
            code = process.poll()
            if code is None:
                kept.append((process, log))
            elif 0 < code < 128:  # stopped by itself, as the next one would
                words = log.read_text(errors="replace").strip().splitlines()
                why = (
                    words[-1].removeprefix("error: ") if words else "it printed nothing"
                )
                if self._store.sweep.method == "bayes":
                    check_metric(self._store)  # a mistake, told as one
                raise RunError(f"a worker stopped: {why}; see {log}")
            elif code != 0 and "waiting" in self._states():
                self._count_death()
                kept.append(self._start())
        self._processes = kept
        if kept:
            return True
        states = self._states()
        stale = min(self._jobs, states.count("waiting"))  # claims, meanwhile
        self._processes = [self._start() for _ in range(stale)]
        return stale > 0 or "running" in states

    def stop(self) -> None:
        """Ends the workers; what they were at is resumed by the next start."""
        for process, _ in self._processes:
            process.terminate()
        for process, _ in self._processes:
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _states(self) -> list[str]:
        return self._store.states(self._session)

    def _count_death(self) -> None:
        """Counts deaths without a point ending; a point that kills fails in the end."""
        states = self._states()
        ended = states.count("done") + states.count("failed")
        self._deaths = self._deaths + 1 if ended == self._ended else 1
        self._ended = ended
        if self._deaths > MOST_DEATHS * (self._jobs + 1):
            logs = self._store.path / "logs"
            raise RunError(f"workers keep dying; see the last log in {logs}")

    def _start(self) -> tuple[subprocess.Popen, Path]:
        self._count += 1
        log = self._store.path / "logs" / f"{self._session}-{self._count}.log"
        here = Path(__file__).resolve().parents[3]
        paths = [str(here), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "-m", _MODULE, str(self._store.path), self._session]
        with open(log, "w") as file:
            process = subprocess.Popen(
                [*command, str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return process, log
