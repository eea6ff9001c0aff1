"""Worker processes of one runner: started, watched, replaced when they die."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.errors import RunError
from testbed.sweeps.queue.leaving import heeding_interrupts
from testbed.sweeps.queue.store import MOST_DEATHS, Store

POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0  # to leave in order
_MODULE = "testbed.worker"


def keep_working(
    store: Store, session: str, jobs: int, tell: Callable[[], None] = lambda: None
) -> None:
    """Keeps workers at a store until all its points have ended.

    Args:
      store: of the points.
      session: name of this start.
      jobs: processes at a time.
      tell: called every `POLL_SECONDS`.

    Raises:
      RunError: a worker found that it cannot go on, or all die.
      UserError: it could not because of a mistake.
      KeyboardInterrupt: Ctrl-C came.
    """
    # A runner that is told to end stops its workers on the way out.
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    workers = Workers(store, session, jobs)
    try:
        with heeding_interrupts() as check:
            while workers.busy():
                tell()
                time.sleep(POLL_SECONDS)
                check()
    finally:
        workers.stop()
        signal.signal(signal.SIGTERM, handler)


class Workers:
    """Keeps up to `jobs` worker processes at work until all points have ended.

    Args:
      store: of the points.
      session: name of this start.
      jobs: processes at a time.
    """

    def __init__(self, store: Store, session: str, jobs: int):
        self._store, self._session, self._jobs = store, session, jobs
        self._count = self._deaths = self._ended = 0
        self._pipe = os.pipe()  # its end tells workers that this process is gone
        left = self._states().count("waiting") + store.proposer.ahead(store)
        self._processes = [self._start() for _ in range(min(jobs, left))]

    def busy(self) -> bool:
        """Whether a point is at work, here or elsewhere; replaces workers that died.

        Raises:
          RunError: a worker found that it cannot go on, or all die.
          UserError: it could not because the sweep's metric is misspelt.
        """
        kept, states = [], self._states()
        for process, log in self._processes:
            code = process.poll()
            if code is None:
                kept.append((process, log))
            elif 0 < code < 128:  # stopped by itself, as the next one would
                words = log.read_text(errors="replace").strip().splitlines()
                last = words[-1].removeprefix("error: ") if words else ""
                self._store.proposer.check(self._store)  # a mistake, told as one
                why = last or "it printed nothing"
                raise RunError(f"a worker stopped: {why}; see {log}")
            elif code != 0 and "waiting" in states:
                self._count_death(states)
        # Points come to wait when others have ended, or their workers have died.
        waiting, running = states.count("waiting"), states.count("running")
        wanted = min(self._jobs, waiting + running) - len(kept)
        kept += [self._start() for _ in range(min(wanted, waiting))]
        self._processes = kept
        return bool(kept) or running > 0

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
        for end in self._pipe:
            os.close(end)

    def _states(self) -> list[str]:
        return self._store.states(self._session)

    def _count_death(self, states: Sequence[str]) -> None:
        """Counts deaths without a point ending; a point that kills fails in the end."""
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
        with open(log, "w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(self._store.path), self._session],
                env=environment,
                stdin=self._pipe[0],
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return process, log
