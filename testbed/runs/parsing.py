"""What may stand in a run's files: JSON objects, rows of numbers, arrays.

Whatever else is found in them, by damage or by hand, is told in one line.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import RunError


class Damaged(RunError):
    """A file that is not as it was recorded.

    Args:
      path: of the file.
      reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path} is damaged ({reason})")
        self.path, self.reason = path, reason

    def __reduce__(self):  # else it could not be sent from one process to another
        return type(self), (self.path, self.reason)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
      FileNotFoundError: it is not there.
      Damaged: it cannot be read, or is no file but a folder, a pipe, a device.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe might never end
            raise Damaged(path, "it is not a regular file")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(path, f"it cannot be read: {error.strerror}") from None


def parse(path: Path, text: bytes | str) -> dict[str, Any]:
    """A JSON object out of a file; raises `Damaged` for anything else."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0][:80] or type(error).__name__
        raise Damaged(path, f"it is not JSON: {reason}") from None
    if not isinstance(value, dict):
        raise Damaged(path, f"it holds a {type(value).__name__}, not an object")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def arrays_of(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz; raises `Damaged` for anything else."""
    try:
        with np.load(io.BytesIO(data)) as stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, LookupError, AttributeError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, TypeError) as error:
        reason = str(error).split("\n")[0]
    raise Damaged(path, f"its arrays cannot be read: {reason[:80]}")


def row_of(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """One line of metrics.jsonl, checked: a number of the row, or one a network."""
    try:
        row = parse(path, line)
    except Damaged as damage:
        raise Damaged(path, f"line {number}: {damage.reason}") from None
    for name, value in row.items():
        if not all(map(_is_number, value if isinstance(value, list) else [value])):
            raise Damaged(path, f"line {number}: {name} is no number")
    place = row.get("step", row.get("layer"))
    if not isinstance(place, int) or isinstance(place, bool):
        raise Damaged(path, f"line {number}: it has no step")
    return row


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number or value is None
