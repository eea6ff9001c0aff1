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
"""

import dataclasses
import fcntl
import io
import json
import math
import os
import shutil
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import RunError, UserError
from testbed.settings import flatten

# What does not decide a run's numbers.
_NOT_IDENTITY = ("run.", "wandb.", "data.data_dir", "data.manual_dir")


@dataclasses.dataclass
class RunFolder:
    """Reads and writes one run's folder; make one with `open_folder`."""

    path: Path
    resumed: bool = False
    made: bool = False  # by this run: nothing of anybody else's is in it

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
        return self

    def close(self) -> None:
        """Gives up the claim."""
        self._claim.close()

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    def write_json(self, name: str, value: Any) -> None:
        """Writes `name`, whole or not at all."""
        text = json.dumps(plain(value), indent=2, allow_nan=False)
        self._write(name, (text + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Reads `name`, or None if it is not there or damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes an .npz, whole or not at all; a slash in a key is kept."""
        (self.path / name).parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
        self._write(name, buffer.getbuffer())

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Reads an .npz."""
        with np.load(self.path / name) as stored:
            return {key: stored[key] for key in stored.files}

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.jsonl, whole or not at all."""
        lines = [json.dumps(plain(row), allow_nan=False) + "\n" for row in rows]
        self._write("metrics.jsonl", "".join(lines).encode())

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl and sees it onto the disk."""
        line = json.dumps(plain(row), allow_nan=False) + "\n"
        path = self.path / "metrics.jsonl"
        try:
            with open(path, "a") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _disk(path, error) from None

    def rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, up to the first that is not whole."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last is torn
        rows = []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def has_arrays(self, name: str) -> bool:
        """Whether an .npz is there and can be read."""
        try:
            self.read_arrays(name)
        except (OSError, ValueError, zipfile.BadZipFile):
            return False
        return True

    def discard_if_empty(self) -> None:
        """Removes what was written for a run that recorded nothing.

        A folder that was there before, or that holds a run to resume, is kept.
        """
        if self.resumed or self.rows():
            return
        if self.made:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for name in ("config.json", "environment.json", ".lock"):
                (self.path / name).unlink(missing_ok=True)

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Drops what was recorded after `step`; returns the rows that stay."""
        kept = [row for row in self.rows() if row["step"] <= step]
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept)
        self._write("metrics.jsonl", text.encode())
        return kept

    def _write(self, name: str, data: bytes | memoryview) -> None:
        path = self.path / name
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _disk(path, error) from None


def plain(value: Any) -> Any:
    """`value` in JSON's types; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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
        path = path or _newest(Path(run.root), config)
        if path is not None and (path / "config.json").exists():
            _check_same(path, config)
            return RunFolder(path, resumed=True).claim()
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
    folder = RunFolder(path, made=made).claim()
    folder.write_json("config.json", flatten(config))
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


def identity(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide a run's numbers, to the last bit."""
    kept = {
        k: v
        for k, v in flat.items()
        if k == "run.seed_axis" or not k.startswith(_NOT_IDENTITY)
    }
    return json.loads(json.dumps(kept))


def _check_same(path: Path, config: Any) -> None:
    try:
        stored = identity(json.loads((path / "config.json").read_text()))
    except (ValueError, AttributeError):
        rule = "holds a damaged config.json"
        raise UserError("run.dir", path, rule, "choose another folder") from None
    wanted = identity(flatten(config))
    for name in sorted({*stored, *wanted}):
        if stored.get(name) != wanted.get(name):
            rule = (
                f"belongs to another config: {name} is {stored.get(name)} there and "
                f"{wanted.get(name)} here"
            )
            remedy = "choose another folder, or give the settings of that run"
            raise UserError("run.dir", path, rule, remedy)


def _newest(root: Path, config: Any) -> Path | None:
    wanted = identity(flatten(config))
    found = []
    for path in root.glob("*/config.json"):
        try:
            if identity(json.loads(path.read_text())) == wanted:
                found.append((path.stat().st_mtime, path.parent))
        except (ValueError, AttributeError, OSError):
            continue
    return max(found)[1] if found else None


def _disk(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be written ({error.strerror}); everything recorded before is "
        "kept; make room and continue with --run.resume"
    )
