"""Worker processes of one runner: started, watched, replaced when they die."""

import os
import subprocess
import sys
from pathlib import Path

from testbed.errors import RunError
from testbed.sweeps.store import MOST_DEATHS, Store

_MODULE = "testbed.sweeps.worker"


class Workers:
    """Keeps up to `jobs` worker processes at a sweep until nothing is waiting.

    Args:
      store: of the sweep.
      session: name of this start.
      jobs: processes at a time.
    """

    def __init__(self, store: Store, session: str, jobs: int):
        self._store, self._session = store, session
        self._count = self._deaths = 0
        self._logs = store.path / "logs"
        self._processes = [self._start() for _ in range(jobs)]

    def busy(self) -> bool:
        """Whether a worker is at work; replaces those that died."""
        kept = []
        for process in self._processes:
            code = process.poll()
            if code is None:
                kept.append(process)
            elif code != 0 and self._waiting():
                self._deaths += 1
                if self._deaths > MOST_DEATHS * len(self._store.points()):
                    raise RunError(
                        f"workers keep dying; the last one's words are in {self._logs}"
                    )
                kept.append(self._start())
        self._processes = kept
        if not kept and self._waiting():  # a claim went stale meanwhile
            self._processes = [self._start()]
        return bool(self._processes)

    def stop(self) -> None:
        """Ends the workers; what they were at is resumed by the next start."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()

    def _waiting(self) -> bool:
        points = self._store.points()
        return any(self._store.state(p, self._session) == "waiting" for p in points)

    def _start(self) -> subprocess.Popen:
        self._count += 1
        log = open(self._logs / f"{self._session}-{self._count}.log", "w")
        here = Path(__file__).resolve().parents[2]
        paths = [str(here), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        # Workers share a card: each takes its memory as it needs it.
        environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        command = [sys.executable, "-m", _MODULE, str(self._store.path), self._session]
        with log:
            return subprocess.Popen(
                [*command, str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
