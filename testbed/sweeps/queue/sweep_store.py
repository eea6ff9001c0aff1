"""The folder of a sweep: a store of points, and the file that they come from.

sweep.yaml       the file, as it was when the sweep began
sweep.json       how it is run: its name, quick or not, seed
proposals.jsonl  points of a bayes sweep, as they were proposed
"""

import dataclasses
from pathlib import Path

from testbed.errors import UserError
from testbed.files import write_whole
from testbed.runs import digests
from testbed.sweeps.document import read_document
from testbed.sweeps.points import quick
from testbed.sweeps.queue.bayes import Bayes
from testbed.sweeps.queue.listed import Listed
from testbed.sweeps.queue.store import Store, accidents, locked, write
from testbed.sweeps.spec import Sweep, read_sweep

MOST_POINTS = 1_000_000  # without asking
MOST_LISTED = 10_000_000  # at all: each takes about a kilobyte
_FILE = "sweep.yaml"  # under which sweep.json has the digest of that file


class SweepStore(Store):
    """Reads and writes a sweep's folder; make one with `open_store`."""

    def __init__(
        self, path: Path, sweep: Sweep, name: str, seed: int, reading: bool = False
    ):
        propose = Bayes if sweep.method == "bayes" else Listed
        super().__init__(path, propose(sweep, seed), reading)
        self.proposer: Listed
        self.sweep, self.name, self.seed = sweep, name, seed


def open_store(
    file: Path | None,
    path: Path,
    *,
    small: bool = False,
    seed: int = 0,
    many: bool = False,
    reading: bool = False,
) -> SweepStore:
    """Makes a sweep's folder, or opens it to go on.

    Args:
      file: the sweep file; None: the folder must exist.
      path: of the folder.
      small: the quick variant.
      seed: of random and bayes sweeps.
      many: whether more than a million points are meant.
      reading: to read alone; nothing is made or cleared.

    Raises:
      UserError: a bad sweep file, or a folder of another sweep.
      RunError: a folder that cannot be written.
    """
    kept = path / "sweep.yaml"
    with accidents(path):
        if file is None and not kept.exists():
            rule = "holds no sweep"
            raise UserError("dir", path, rule, "give a sweep file and this folder")
        sweep = read_sweep(kept if file is None else file)
        if file is not None and not kept.exists():
            _check_size(quick(sweep) if small else sweep, many)
            path.mkdir(parents=True, exist_ok=True)
            with locked(path):  # of several that start at once, one makes it
                if not kept.exists():
                    data = file.read_bytes()
                    how = {"name": file.stem, "small": small, "seed": seed}
                    write(path / "sweep.json", how | {_FILE: digests.of_bytes(data)})
                    write_whole(kept, data)
        how = {"name": path.name, "small": small, "seed": seed}
        how |= digests.read_json(path / "sweep.json") or {}
        if how.get(_FILE, "") not in ("", digests.of_bytes(kept.read_bytes())):
            rule = "holds a sweep.yaml that was changed since the sweep began"
            remedy = "put the first one there, or give the new one another folder"
            raise UserError("dir", path, rule, remedy)
        if file is not None:
            same = read_document(kept)[1] == sweep.document
            if not same or (how["small"], how["seed"]) != (small, seed):
                rule = "belongs to another sweep file, seed or --quick"
                raise UserError("dir", path, rule, "choose another folder")
        sweep = dataclasses.replace(sweep, path=kept)
        if how["small"]:
            sweep = quick(sweep)
        return SweepStore(path, sweep, how["name"], how["seed"], reading)


def _check_size(sweep: Sweep, many: bool) -> None:
    if sweep.size > MOST_LISTED:
        rule = "is more than ten million points, which take 10 GB to list"
        raise UserError("parameters", f"{sweep.size:,}", rule, "lower run_cap")
    if sweep.size > MOST_POINTS and not many:
        rule = "is more than a million points"
        raise UserError("parameters", f"{sweep.size:,}", rule, "add --yes if meant")
