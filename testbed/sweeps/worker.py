"""A worker process: python -m testbed.sweeps.worker DIR SESSION PARENT."""

import sys
from pathlib import Path

from testbed.cli import guarded


def main() -> None:
    """Works at the sweep in DIR until nothing is waiting or PARENT is gone."""
    folder, session, parent = sys.argv[1:]
    with guarded():
        from testbed.sweeps.leaving import leaving
        from testbed.sweeps.store import accidents, open_store
        from testbed.sweeps.work import work

        store = open_store(None, Path(folder))
        with accidents(store.path), leaving(store.release):
            work(store, session, parent=int(parent))


if __name__ == "__main__":
    main()
