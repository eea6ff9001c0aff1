"""A worker process, of a sweep or a boundary: python -m testbed.worker DIR SESSION.

It ends when its standard input does, as it is open for as long as its runner lives.
"""

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from testbed.cli import guarded
from testbed.errors import RunError, UserError, in_a_line


def main() -> None:
    """Works at the points in DIR until none is waiting."""
    path, session = Path(sys.argv[1]), sys.argv[2]
    with guarded():
        from testbed.programs import PROGRAMS
        from testbed.sweeps.boundary_folder import open_boundary
        from testbed.sweeps.queue.leaving import leaving
        from testbed.sweeps.queue.store import accidents
        from testbed.sweeps.queue.sweep_store import open_store
        from testbed.sweeps.queue.work import work

        of_a_sweep = (path / "sweep.yaml").exists()
        store = open_store(None, path) if of_a_sweep else open_boundary(path)
        try:
            with accidents(store.path), leaving(store.release):
                threading.Thread(target=_leave_with_runner, daemon=True).start()
                work(store, session, PROGRAMS)
        except (UserError, RunError, OSError, MemoryError):
            raise
        except Exception as error:  # a defect: its cause ends the log
            traceback.print_exc()
            raise RunError(in_a_line(error)) from None


def _leave_with_runner() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever sent
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
