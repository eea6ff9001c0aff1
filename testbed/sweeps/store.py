"""A sweep's folder: what is done, running, failed or waiting, shared by all who work.

    sweep.yaml          the file, as it was when the sweep began
    sweep.json          how it is run: quick or not, seed
    points/NAME/        a run folder for each point, NAME from its settings
    claims/NAME.json    who works on it; touched every few seconds
    failures/NAME.json  the error of a point that failed, and in which session
    proposals.jsonl     points of a bayes sweep, as they were proposed

Everything is decided under one lock, and a claim is made by exclusive creation, so two
runners on one folder (also of a shared file system) never take the same point.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from testbed.errors import RunError, UserError
from testbed.sweeps.points import Settings, drawn, grid, point_name, quick
from testbed.sweeps.spec import Sweep, read_sweep

STALE_SECONDS = 60.0
TOUCH_SECONDS = 5.0
MOST_DEATHS = 3  # of workers on one point, before it counts as failed


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
      index: its place in the sweep.
      name: of its folder, from its settings.
      settings: by dotted name.
    """

    index: int
    name: str
    settings: Settings


class Store:
    """Reads and writes a sweep's folder; make one with `open_store`."""

    def __init__(self, path: Path, sweep: Sweep, seed: int):
        self.path, self.sweep, self.seed = path, sweep, seed
        for name in ("points", "claims", "failures", "logs"):
            (path / name).mkdir(parents=True, exist_ok=True)
        self._fixed: list[Point] | None = None

    # Points

    def points(self) -> list[Point]:
        """All points that are known: of a bayes sweep, those proposed so far."""
        if self._fixed is not None:
            return self._fixed
        sweep = self.sweep
        if sweep.method == "bayes":
            settings = self._proposals()
        elif sweep.method == "random":
            assert sweep.run_cap is not None
            source = drawn(sweep, self.seed)
            settings = [next(source) for _ in range(sweep.run_cap)]
        else:
            settings = grid(sweep)[: sweep.run_cap]
        points = [Point(i, point_name(sweep, s), s) for i, s in enumerate(settings)]
        if sweep.method != "bayes":  # the others never change
            self._fixed = points
        return points

    def propose(self, settings: Settings) -> None:
        """Adds a point to a bayes sweep; call it under `lock`."""
        path = self.path / "proposals.jsonl"
        if path.exists():  # what a kill left behind the last newline goes
            whole, newline, _ = path.read_text().rpartition("\n")
            path.write_text(whole + newline)
        with open(path, "a") as file:
            file.write(json.dumps(settings) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _proposals(self) -> list[Settings]:
        path = self.path / "proposals.jsonl"
        if not path.exists():
            return []
        whole = path.read_text().split("\n")[:-1]  # what follows the last is torn
        return [json.loads(line) for line in whole]

    def folder(self, point: Point) -> Path:
        """The point's run folder."""
        return self.path / "points" / point.name

    def summary(self, point: Point) -> dict[str, Any] | None:
        """The summary of a point that is done."""
        found = _read(self.folder(point) / "summary.json")
        return found if found and found.get("status") == "done" else None

    def failure(self, point: Point) -> dict[str, Any] | None:
        """{error, sessions, deaths} of a point that failed or whose worker died."""
        return _read(self.path / "failures" / f"{point.name}.json")

    def state(self, point: Point, session: str | None = None) -> str:
        """done, running, failed (in this session; None: in any) or waiting."""
        if self.summary(point) is not None:
            return "done"
        if self._held(point):
            return "running"
        failure = self.failure(point)
        if failure and failure["error"]:
            if session is None or session in failure["sessions"]:
                return "failed"
        return "waiting"

    def fail(self, point: Point, error: str, session: str) -> None:
        """Records that a point failed."""
        known = self.failure(point) or {"deaths": 0, "sessions": []}
        sessions = [*known["sessions"], session]  # each start tries it once
        known |= {"error": error, "sessions": sessions, "settings": point.settings}
        _write(self.path / "failures" / f"{point.name}.json", known)

    def succeed(self, point: Point) -> None:
        """Forgets a failure that a later attempt mended."""
        (self.path / "failures" / f"{point.name}.json").unlink(missing_ok=True)

    # Claims

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time decides who does what."""
        with open(self.path / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def claim(self, point: Point, session: str) -> bool:
        """Takes the point if it is waiting; call it under `lock`."""
        if self.state(point, session) != "waiting":
            return False
        path = self._claim(point)
        if path.exists():  # of one who died at it
            self._count_death(point, session)
            path.unlink(missing_ok=True)
            if self.state(point, session) != "waiting":
                return False
        who = {"host": socket.gethostname(), "pid": os.getpid(), "session": session}
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            json.dump(who, file)
        return True

    def touch(self, point: Point) -> None:
        """Says that the claim is alive."""
        with contextlib.suppress(OSError):
            os.utime(self._claim(point))

    def release(self, point: Point) -> None:
        """Gives the claim up."""
        self._claim(point).unlink(missing_ok=True)

    def _claim(self, point: Point) -> Path:
        return self.path / "claims" / f"{point.name}.json"

    def _held(self, point: Point) -> bool:
        """Whether someone alive works on the point.

        A claim is stale when it has not been touched for a minute, or when its process
        was on this machine and is gone.
        """
        path = self._claim(point)
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            return False
        if age > STALE_SECONDS:
            return False
        who = _read(path)
        if who and who["host"] == socket.gethostname():
            return _alive(who["pid"])
        return True

    def _count_death(self, point: Point, session: str) -> None:
        known = self.failure(point) or {"error": None, "sessions": []}
        if known.get("died_in") != session:  # a start that was ended is no death
            known |= {"deaths": 0, "died_in": session}
        known["deaths"] += 1
        if known["deaths"] >= MOST_DEATHS:
            known["error"] = f"{known['deaths']} workers died at it (killed, or memory)"
            known["sessions"] = [*known["sessions"], session]
        known["settings"] = point.settings
        _write(self.path / "failures" / f"{point.name}.json", known)


MOST_POINTS = 1_000_000


def open_store(
    file: Path | None,
    path: Path,
    *,
    small: bool = False,
    seed: int = 0,
    many: bool = False,
) -> Store:
    """Makes a sweep's folder, or opens it to go on.

    Args:
      file: the sweep file; None: the folder must exist.
      path: of the folder.
      small: the quick variant.
      seed: of random and bayes sweeps.
      many: whether more than a million points are meant.

    Raises:
      UserError: a bad sweep file, or a folder of another sweep.
      RunError: a folder that cannot be written.
    """
    settings = {"small": small, "seed": seed}
    kept = path / "sweep.yaml"
    try:
        if file is None and not kept.exists():
            rule = "holds no sweep"
            raise UserError("dir", path, rule, "give a sweep file and this folder")
        if kept.exists():
            settings = _read(path / "sweep.json") or settings
            if file is not None:
                _check_same(file, kept, settings, small, seed)
        else:
            assert file is not None
            size = read_sweep(file).size
            if size > MOST_POINTS and not (many or small):
                rule = "is more than a million points"
                raise UserError("parameters", f"{size:,}", rule, "add --yes if meant")
            path.mkdir(parents=True, exist_ok=True)
            _write(path / "sweep.json", settings)
            shutil.copyfile(file, path / ".sweep.yaml")
            os.replace(path / ".sweep.yaml", kept)
        sweep = read_sweep(kept)
        if settings["small"]:
            sweep = quick(sweep)
        return Store(path, sweep, settings["seed"])
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def _check_same(file: Path, kept: Path, settings: dict, small: bool, seed: int) -> None:
    other = read_sweep(file)
    same = other.document == read_sweep(kept).document
    if not same or settings != {"small": small, "seed": seed}:
        rule = "belongs to another sweep file, seed or --quick"
        raise UserError("dir", kept.parent, rule, "choose another folder")


def shape_of(point: Point) -> tuple:
    """What shapes the compiled programs: points that share it are run in a row."""
    keys: Sequence[str] = (
        "model.kind", "model.width", "model.depth", "model.ratio", "model.head",
        "data.name", "data.train_size", "train.seeds", "train.optimizer", "train.loss",
    )  # fmt: skip
    return tuple(str(point.settings.get(key)) for key in keys)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed child that nobody has waited for yet still has its number.
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state != "Z"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or torn
        return None


def _write(path: Path, value: Any) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, path)
