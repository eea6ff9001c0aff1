"""A sweep's folder: what is done, running, failed or waiting, shared by all who work.

    sweep.yaml          the file, as it was when the sweep began
    sweep.json          how it is run: its name, quick or not, seed
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
import itertools
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from testbed.errors import RunError, UserError
from testbed.files import clear_partial, write_whole
from testbed.runs import digests, parsing
from testbed.runs.parsing import Damaged
from testbed.sweeps.document import read_document
from testbed.sweeps.points import Settings, drawn, grid, point_name, quick
from testbed.sweeps.queue.claims import Claims
from testbed.sweeps.spec import Sweep, read_sweep

MOST_DEATHS = 3  # of workers on one point, before it counts as failed
MOST_POINTS = 1_000_000  # without asking
MOST_LISTED = 10_000_000  # at all: each takes about a kilobyte
_FILE = "sweep.yaml"  # under which sweep.json has the digest of that file


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

    def __init__(
        self, path: Path, sweep: Sweep, name: str, seed: int, reading: bool = False
    ):
        self.path, self.sweep, self.name, self.seed = path, sweep, name, seed
        for folder in () if reading else ("points", "claims", "failures", "logs", "."):
            (path / folder).mkdir(parents=True, exist_ok=True)
            clear_partial(path / folder)
        self._claims = Claims(path / "claims")
        self._fixed: list[Point] | None = None
        self._done: set[str] = set()  # what is done stays so

    # Points

    def points(self) -> list[Point]:
        """All points that are known: of a bayes sweep, those proposed so far."""
        if self._fixed is not None:
            return self._fixed
        sweep = self.sweep
        if sweep.method == "bayes":
            settings = self._proposals()
        else:
            source = grid(sweep) if sweep.method == "grid" else drawn(sweep, self.seed)
            settings = itertools.islice(source, sweep.run_cap)
        points = [Point(i, point_name(sweep, s), s) for i, s in enumerate(settings)]
        if sweep.method != "bayes":  # the others never change
            self._fixed = points
        return points

    def propose(self, settings: Settings) -> None:
        """Adds a point to a bayes sweep; call it under `lock`."""
        path = self.path / "proposals.jsonl"
        if path.exists():  # what a kill left behind the last newline goes
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        with open(path, "a") as file:
            line = digests.sealed(json.loads(json.dumps(settings, default=str)))
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _proposals(self) -> list[Settings]:
        path = self.path / "proposals.jsonl"
        if not path.exists():
            return []
        found = []
        # What follows the last newline is torn.
        for i, line in enumerate(parsing.read_bytes(path).split(b"\n")[:-1], 1):
            try:
                found.append(digests.unsealed(path, parsing.parse(path, line)))
            except Damaged as damage:
                raise RunError(
                    f"{path}: line {i} is damaged ({damage.reason}); put the right one "
                    "there, or begin the sweep in another folder"
                ) from None
        return found

    def folder(self, point: Point) -> Path:
        """The point's run folder."""
        return self.path / "points" / point.name

    def summary(self, point: Point) -> dict[str, Any] | None:
        """The summary of a point that is done."""
        found = _read(self.folder(point) / "summary.json")  # damaged: it is run again
        if not found or found.get("status") != "done":
            return None
        self._done.add(point.name)
        return found

    def failure(self, point: Point) -> dict[str, Any] | None:
        """{error, sessions, deaths} of a point that failed or whose worker died."""
        found = _read(self._failure(point), told=True)
        if found is None:
            return None
        sessions = found.get("sessions")
        return found | {
            "error": found.get("error"),
            "sessions": sessions if isinstance(sessions, list) else [],
            "deaths": int(found.get("deaths") or 0),
        }

    def state(self, point: Point, session: str | None = None) -> str:
        """done, running, failed (in this session; None: in any) or waiting."""
        if point.name in self._done or self.summary(point) is not None:
            return "done"
        if self._claims.held(point.name):
            return "running"
        failure = self.failure(point)
        if failure and failure["error"]:
            if session is None or session in failure["sessions"]:
                return "failed"
        return "waiting"

    def states(self, session: str | None = None) -> list[str]:
        """`state` of every point, in order; only of those begun are files read."""
        folders = ("points", "claims", "failures")
        there = [name for name in folders if (self.path / name).is_dir()]
        found = {file for name in there for file in os.listdir(self.path / name)}
        begun = {file.removesuffix(".json") for file in found}
        return [
            self.state(point, session) if point.name in begun else "waiting"
            for point in self.points()
        ]

    def fail(self, point: Point, error: str, session: str, trace: str = "") -> None:
        """Records that a point failed; `trace` tells where, if that was a defect."""
        known = self.failure(point) or {"deaths": 0, "sessions": []}
        sessions = [*known["sessions"], session]  # each start tries it once
        known |= {"error": error, "sessions": sessions, "settings": point.settings}
        known |= {"traceback": trace.splitlines()} if trace else {}
        _write(self._failure(point), known)

    def succeed(self, point: Point) -> None:
        """Forgets a failure that a later attempt made good."""
        self._failure(point).unlink(missing_ok=True)

    def _failure(self, point: Point) -> Path:
        return self.path / "failures" / f"{point.name}.json"

    # Claims

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time decides who does what."""
        with _locked(self.path):
            yield

    def claim(self, point: Point, session: str) -> bool:
        """Takes the point if it is waiting; call it under `lock`."""
        if self.state(point, session) != "waiting":
            return False
        if self._claims.exists(point.name):  # of one who died at it
            self._count_death(point, session)
            self._claims.clear(point.name)
            if self.state(point, session) != "waiting":
                return False
        return self._claims.take(point.name, session)

    def touch(self, point: Point) -> None:
        """Says that the claim is alive."""
        self._claims.touch(point.name)

    def release(self) -> None:
        """Gives up what is claimed here, and nobody else's claims."""
        with self.lock():
            for name in self._claims.mine:
                self._claims.release(name)

    def _count_death(self, point: Point, session: str) -> None:
        known = self.failure(point) or {"error": None, "sessions": []}
        if known.get("died_in") != session:  # a start that was ended is no death
            known |= {"deaths": 0, "died_in": session}
        known["deaths"] += 1
        if known["deaths"] >= MOST_DEATHS:
            known["error"] = f"{known['deaths']} workers died at it (killed, or memory)"
            known["sessions"] = [*known["sessions"], session]
        known["settings"] = point.settings
        _write(self._failure(point), known)


def open_store(
    file: Path | None,
    path: Path,
    *,
    small: bool = False,
    seed: int = 0,
    many: bool = False,
    reading: bool = False,
) -> Store:
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
            with _locked(path):  # of several that start at once, one makes it
                if not kept.exists():
                    data = file.read_bytes()
                    how = {"name": file.stem, "small": small, "seed": seed}
                    _write(path / "sweep.json", how | {_FILE: digests.of_bytes(data)})
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
        return Store(path, sweep, how["name"], how["seed"], reading)


def _check_size(sweep: Sweep, many: bool) -> None:
    if sweep.size > MOST_LISTED:
        rule = "is more than ten million points, which take 10 GB to list"
        raise UserError("parameters", f"{sweep.size:,}", rule, "lower run_cap")
    if sweep.size > MOST_POINTS and not many:
        rule = "is more than a million points"
        raise UserError("parameters", f"{sweep.size:,}", rule, "add --yes if meant")


@contextlib.contextmanager
def accidents(path: Path) -> Iterator[None]:
    """Turns an accident with a sweep's files into a `RunError` of one line."""
    try:
        yield
    except BrokenPipeError:  # nobody reads what is printed: no matter of files
        raise
    except OSError as error:
        where = error.filename or path
        what = error.strerror or error
        raise RunError(f"{where}: {what}; fix it and rerun to resume") from error


def shape_of(point: Point) -> tuple:
    """What shapes the compiled programs: points that share it are run in a row."""
    keys: Sequence[str] = (
        "model.kind", "model.width", "model.depth", "model.ratio", "model.head",
        "data.name", "data.train_size", "train.seeds", "train.optimizer", "train.loss",
    )  # fmt: skip
    return tuple(str(point.settings.get(key)) for key in keys)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path / ".lock", "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            rule = f"cannot be locked ({error.strerror}); use a folder that can"
            raise RunError(f"{path}: {rule}") from error
        yield


def _read(path: Path, told: bool = False) -> dict[str, Any] | None:
    """A JSON object; None if it is not there or damaged, which is `told` or known."""
    try:
        return digests.read_json(path)
    except Damaged as damage:
        if told:
            warnings.warn(f"{damage}; it does not count", stacklevel=3)
        return None


def _write(path: Path, value: Any) -> None:
    plain = json.loads(json.dumps(value, default=str))
    text = json.dumps(digests.sealed(plain), indent=2) + "\n"
    write_whole(path, text.encode())
