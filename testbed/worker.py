"""A worker process: python -m testbed.worker DIR SESSION PARENT."""

import sys
import traceback
from pathlib import Path

from testbed.cli import guarded
from testbed.errors import RunError, UserError, in_a_line


def main() -> None:
    """Works at the sweep in DIR until nothing is waiting or PARENT is gone."""
    folder, session, parent = sys.argv[1:]
    with guarded():
        from testbed.programs import PROGRAMS
        from testbed.sweeps.queue.leaving import leaving
        from testbed.sweeps.queue.store import accidents, open_store
        from testbed.sweeps.queue.work import work

        store = open_store(None, Path(folder))
        try:
            with accidents(store.path), leaving(store.release):
                work(store, session, PROGRAMS, parent=int(parent))
        except (UserError, RunError, OSError, MemoryError):
            raise
        except Exception as error:  # a defect: its cause ends the log
            traceback.print_exc()
            raise RunError(in_a_line(error)) from None


if __name__ == "__main__":
    main()
