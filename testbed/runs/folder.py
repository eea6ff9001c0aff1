"""A run's folder: the record of truth, written so that a kill at any moment costs at
most the line being written.

    config.json      every setting
    environment.json versions, commit, device
    metrics.jsonl    one flushed line a recorded time
    arrays/          one .npz a recorded time: outputs, kernels, layer statistics
    limits.npz       the infinite-width kernels, targets, spectrum
    checkpoints/     states to resume from
    summary.json     the result; its "status" is running, done or failed
    figures/, report.html

What is read back is checked against the digests of `testbed.runs.digests`.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import RunError, UserError
from testbed.files import clear_partial, write_whole
from testbed.runs import digests
from testbed.runs.digests import ROWS, Records, plain
from testbed.runs.parsing import Damaged, arrays_of, read_bytes, row_of
from testbed.runs.stored import (
    check_same,
    extends,
    fingerprint,
    newest,
    read_config,
    without_place,
)
from testbed.settings import flatten


@dataclasses.dataclass
class RunFolder:
    """Reads and writes one run's folder; make one with `open_folder`.

    Attributes:
      path: of the folder.
      resumed: whether it holds a run that goes on.
      made: by this run: nothing of anybody else's is in it.
      records: digests of what was written here, or is known of what is read.
      named: files that were found damaged, and told.
    """

    path: Path
    resumed: bool = False
    made: bool = False
    records: Records = dataclasses.field(default_factory=Records)
    named: set[str] = dataclasses.field(default_factory=set)

    def claim(self) -> "RunFolder":
        """Keeps other processes from writing here until `close`, or the process's end.

        Raises:
          UserError: another process is writing here.
        """
        try:
            self._claim = open(self.path / ".lock", "w")
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            rule = "is in use by another process"
            remedy = "wait for it, or choose another folder"
            raise UserError("run.dir", self.path, rule, remedy) from None
        except OSError as error:
            rule = f"cannot be written ({error.strerror})"
            raise UserError("run.dir", self.path, rule, "make room there") from None
        self._place = os.stat(self.path)
        for folder in (self.path, self.path / "arrays", self.path / "figures"):
            clear_partial(folder, alone=True)
        return self

    def close(self) -> None:
        """Gives up the claim."""
        self._claim.close()

    def check_there(self) -> None:
        """Raises RunError if the folder was moved or deleted since it was claimed."""
        claimed = getattr(self, "_place", None)
        with contextlib.suppress(OSError):
            if claimed is None or os.path.samestat(claimed, os.stat(self.path)):
                return
        raise RunError(
            f"{self.path}: was moved or deleted during the run; where it is now, it "
            "can be continued with --run.resume"
        )

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes `name` with its digest, whole or not at all."""
        text = json.dumps(digests.sealed(value), indent=2, allow_nan=False)
        self._write(name, (text + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads `name`, or None if it is not there.

        Raises:
          Damaged: it holds something else, or not what was written.
        """
        return digests.read_json(self.path / name)

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json, with the digests of all that was recorded."""
        self.write_json("summary.json", {**summary, "records": self.records.as_json()})

    def salvage(self, name: str) -> dict[str, Any] | None:
        """Reads `name` if it is whole; a damaged one is named and set aside."""
        found = None

        def read() -> None:
            nonlocal found
            found = self.read_json(name)

        self.is_whole(name, read)
        return found

    def is_whole(self, name: str, read: Callable[[], Any]) -> bool:
        """Whether `read` reads the file `name`; if not, it is named and set aside."""
        try:
            read()
            return True
        except FileNotFoundError:
            said = f"{self.path / name} is missing"
        except Damaged as damage:
            said = f"{damage}; it is kept as {self._set_aside(name)}"
        if name not in self.named:
            self.named.add(name)
            warnings.warn(f"{said}; it is written anew", stacklevel=3)
        return False

    def _set_aside(self, name: str) -> str:
        """Keeps a damaged file under another name, which is returned.

        Of metrics.jsonl a copy is kept: what stands in it before the damage may count.
        """
        path = self.path / name
        for count in range(1, 1000):
            kept = path.with_name(f"{path.name}.damaged{count if count > 1 else ''}")
            with contextlib.suppress(OSError):
                if kept.exists() and kept.read_bytes() == path.read_bytes():
                    break  # kept before
            if not kept.exists():
                with contextlib.suppress(OSError):
                    if name == ROWS:
                        shutil.copy2(path, kept)
                    else:
                        os.replace(path, kept)
                break
        return kept.name

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes an .npz, whole or not at all; a slash in a key is kept."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
        self._write(name, buffer.getbuffer())
        self.records.wrote(name, buffer.getbuffer())

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Reads an .npz.

        Raises:
          FileNotFoundError: it is not there.
          Damaged: it cannot be read, or is not what was written.
        """
        return arrays_of(self.path / name, self.records.check(self.path, name))

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.jsonl, whole or not at all."""
        lines = [json.dumps(plain(row), allow_nan=False) + "\n" for row in rows]
        data = "".join(lines).encode()
        self._write(ROWS, data)
        self.records.wrote(ROWS, data)

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl and sees it onto the disk."""
        line = (json.dumps(plain(row), allow_nan=False) + "\n").encode()
        self.check_there()
        path = self.path / ROWS
        try:
            with open(path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _disk(path, error) from None
        self.records.appended(line)

    def rows(self, whole: bool = True) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; what follows the last newline is torn.

        Args:
          whole: False: those that `records` knows, without what came later.

        Raises:
          Damaged: a line cannot be read, or is not what was written.
        """
        path = self.path / ROWS
        try:
            data = self.records.check(self.path, ROWS)
        except FileNotFoundError:
            if self.records.rows_bytes():
                raise Damaged(path, "it is missing") from None
            return []
        known = self.records.rows_bytes() or len(data)
        if whole and b"\n" in data[known:]:
            raise Damaged(path, "lines were added to it")
        lines = data[:known].split(b"\n")[:-1]
        return [row_of(path, i, line) for i, line in enumerate(lines, 1)]

    def rows_there(self) -> bool:
        """Whether anything was recorded."""
        return (self.path / ROWS).exists()

    def remember(self) -> bool:
        """Reads the digests of what was recorded; False of an older version's run.

        They are in summary.json, and of a run that has not ended in its checkpoints.

        Raises:
          Damaged: summary.json is.
        """
        summary = self.read_json("summary.json")
        if summary is not None:
            return self._recall(self.path / "summary.json", summary.get("records"))
        steps = (p for p in self.checkpoints.glob("[0-9]*") if p.name.isdigit())
        for step in sorted(steps, key=lambda p: -int(p.name)):
            file = step / "digest" / "metadata"
            with contextlib.suppress(Damaged):
                if found := digests.read_json(file):
                    return self._recall(file, found.get("records"))
        return False

    def _recall(self, path: Path, stored: Any) -> bool:
        if stored is None:
            return False
        try:
            self.records = Records.read(stored)
        except ValueError as error:
            raise Damaged(path, str(error)) from None
        return True

    def discard_if_empty(self) -> None:
        """Removes what was written for a run that recorded nothing.

        A folder that was there before, or that holds a run to resume, is kept.
        """
        if self.resumed or self.rows_there():
            return
        if self.made:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for name in ("config.json", "environment.json", ".lock"):
                (self.path / name).unlink(missing_ok=True)

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Drops what was recorded after `step`; returns the rows that stay."""
        path, kept, lines = self.path / ROWS, [], []
        if step >= 0 and path.exists():
            for i, line in enumerate(read_bytes(path).split(b"\n")[:-1], 1):
                try:
                    row = row_of(path, i, line)
                except Damaged:  # all that counts was checked before
                    break
                if row["step"] > step:
                    break
                kept.append(row)
                lines.append(line + b"\n")
        self._write(ROWS, b"".join(lines))
        self.records.wrote(ROWS, b"".join(lines))
        return kept

    def _write(self, name: str, data: bytes | memoryview) -> None:
        self.check_there()
        try:
            write_whole(self.path / name, data)
        except OSError as error:
            raise _disk(self.path / name, error) from None


def arrays_name(step: int) -> str:
    """Name of the arrays file of a recorded step."""
    return f"arrays/{step:09d}.npz"


def open_folder(config: Any, label: str) -> RunFolder:
    """Makes the run's folder, or opens it to resume.

    Args:
      config: of the run; its `run` says where.
      label: what a new folder's name says after the time, e.g. "digits-balanced".

    Raises:
      UserError: the folder belongs to another config, or holds a run and resume was
        not asked for, or another process writes to it, or it cannot be written.
    """
    run = config.run
    path = Path(run.dir) if run.dir else None
    if run.resume:
        path = path or newest(Path(run.root), config)
        if path is not None and (path / "config.json").exists():
            return _reopen(path, config)
        if path is not None and _holds_a_run(path):
            rule = "holds a run whose config.json is missing"
            remedy = "put it there again, or choose another folder"
            raise UserError("run.dir", path, rule, remedy)
        warnings.warn(
            f"nothing to resume in {run.dir or run.root}; starting a new run",
            stacklevel=2,
        )
    elif path is not None and _holds_a_run(path):
        rule = "already holds a run"
        remedy = "add --run.resume to continue it, or choose another folder"
        raise UserError("run.dir", path, rule, remedy)
    try:
        made = path is None or not path.exists()
        path = _make(path, config, label)
    except OSError as error:
        name, value = ("run.dir", run.dir) if run.dir else ("run.root", run.root)
        rule = f"cannot be made ({error.strerror})"
        raise UserError(name, value, rule, "choose a writable folder") from None
    folder = RunFolder(path, made=made, records=Records(fingerprint(config))).claim()
    folder.write_json("config.json", flatten(config))
    return folder


def _reopen(path: Path, config: Any) -> RunFolder:
    """The folder of a run that goes on, also beyond its end."""
    stored = read_config(path, type(config))
    check_same(path, stored, config)
    before = without_place(path, config)
    records = Records(fingerprint(config, before))
    folder = RunFolder(path, resumed=True, records=records).claim()
    if extends(stored, config):
        # In this order a kill between the two leaves a run that goes on to its old end.
        (path / "summary.json").unlink(missing_ok=True)
        folder.write_json("config.json", {**flatten(config), **before})
    return folder


def _holds_a_run(path: Path) -> bool:
    saved = (path / "checkpoints").glob("[0-9]*")
    return (path / "metrics.jsonl").exists() or any(saved)


def _make(path: Path | None, config: Any, label: str) -> Path:
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        return path
    m = config.model
    when = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{when}-{label}-{m.kind}-n{m.width}-d{m.depth}"
    for count in range(1000):
        path = Path(config.run.root) / (f"{name}-{count}" if count else name)
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
    raise FileExistsError(17, "too many runs of this name", str(path))


def _disk(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be written ({error.strerror}); everything recorded before is "
        "kept; make room and continue with --run.resume"
    )
