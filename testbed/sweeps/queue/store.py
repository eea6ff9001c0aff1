"""A folder of points: what is done, running, failed or waiting, shared by all who work.

    points/NAME/        a run folder for each point, NAME from its settings
    claims/NAME.json    who works on it; touched every few seconds
    failures/NAME.json  the error of a point that failed, and in which session
    logs/               what workers print

Which points there are, its `Proposer` says.  Everything is decided under one lock, and
a claim is made by exclusive creation, so two runners on one folder (also of a shared
file system) never take the same point.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from testbed.errors import RunError, UserError, shown
from testbed.files import clear_partial, write_whole
from testbed.runs import digests
from testbed.runs.parsing import Damaged
from testbed.sweeps.points import Settings
from testbed.sweeps.queue.claims import Claims

MOST_DEATHS = 3  # of workers on one point, before it counts as failed


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
      index: its place in the sweep; of a boundary, the number of the run at its depth.
      name: of its folder, from its settings.
      settings: by dotted name.
    """

    index: int
    name: str
    settings: Settings


class Proposer(Protocol):
    """Says which points a store has, and adds further ones as others end.

    Attributes:
      program: what runs a point, of `testbed.programs.PROGRAMS`.
    """

    program: str

    def points(self, store: "Store", session: str | None) -> list[Point]:
        """All points that are known so far."""
        ...

    def config(self, point: Point) -> Any:
        """The validated config of a point.

        Raises:
          UserError: settings that the program refuses.
        """
        ...

    def propose(self, store: "Store", session: str) -> None:
        """Adds what is next; called under the store's lock."""

    def ahead(self, store: "Store") -> int:
        """How many points may still be added, at most."""
        return 0

    def check(self, store: "Store") -> None:
        """Raises the UserError for which a worker may have stopped, if it did."""

    def is_result(self, folder: Path, summary: Mapping[str, Any]) -> bool:
        """Whether a point with this run folder and summary is done."""
        return summary.get("status") == "done"


class Store:
    """Reads and writes a folder of points.

    Args:
      path: of the folder.
      proposer: of its points.
      reading: to read alone; nothing is made or cleared.
    """

    def __init__(self, path: Path, proposer: Proposer, reading: bool = False):
        self.path, self.proposer = path, proposer
        for folder in () if reading else ("points", "claims", "failures", "logs", "."):
            (path / folder).mkdir(parents=True, exist_ok=True)
            clear_partial(path / folder)
        self._claims = Claims(path / "claims")
        self._done: set[str] = set()  # what is done stays so

    # Points

    def points(self, session: str | None = None) -> list[Point]:
        """All points that are known so far."""
        return self.proposer.points(self, session)

    def folder(self, point: Point) -> Path:
        """The point's run folder."""
        return self.path / "points" / point.name

    def summary(self, point: Point) -> dict[str, Any] | None:
        """The summary of a point that is done."""
        folder = self.folder(point)
        found = _read(folder / "summary.json")  # damaged: it is run again
        if not found or not self.proposer.is_result(folder, found):
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

    def look(self, session: str | None = None) -> list[tuple[Point, str]]:
        """Every point with its `state`; only of those begun are files read."""
        points = self.points(session)
        folders = ("points", "claims", "failures")
        there = [name for name in folders if (self.path / name).is_dir()]
        found = {file for name in there for file in os.listdir(self.path / name)}
        begun = {file.removesuffix(".json") for file in found}
        return [
            (p, self.state(p, session) if p.name in begun else "waiting")
            for p in points
        ]

    def states(self, session: str | None = None) -> list[str]:
        """The `state` of every point, in order."""
        return [state for _, state in self.look(session)]

    def fail(
        self,
        point: Point,
        error: str,
        session: str,
        trace: str = "",
        mistake: UserError | None = None,
    ) -> None:
        """Records that a point failed.

        Args:
          point: that did.
          error: in a line.
          session: in which it did.
          trace: tells where, if that was a defect.
          mistake: the error, if it was the user's.
        """
        known = self.failure(point) or {"deaths": 0, "sessions": []}
        sessions = [*known["sessions"], session]  # each start tries it once
        known |= {"error": error, "sessions": sessions, "settings": point.settings}
        known |= {"traceback": trace.splitlines()} if trace else {}
        known["mistake"] = mistake and [
            *(mistake.field, shown(mistake.value), mistake.rule, mistake.remedy)
        ]
        write(self._failure(point), known)

    def succeed(self, point: Point) -> None:
        """Forgets a failure that a later attempt made good."""
        self._failure(point).unlink(missing_ok=True)

    def _failure(self, point: Point) -> Path:
        return self.path / "failures" / f"{point.name}.json"

    # Claims

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time decides who does what."""
        with locked(self.path):
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
        write(self._failure(point), known)


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
        "model.kind", "model.branch", "model.width", "model.depth", "model.ratio",
        "model.head",
        "data.name", "data.train_size", "train.seeds", "train.optimizer", "train.loss",
    )  # fmt: skip
    return tuple(str(point.settings.get(key)) for key in keys)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a folder, which only one process does at a time."""
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


def write(path: Path, value: Any) -> None:
    """Writes a JSON file with its digest, whole or not at all."""
    plain = json.loads(json.dumps(value, default=str))
    text = json.dumps(digests.sealed(plain), indent=2) + "\n"
    write_whole(path, text.encode())
