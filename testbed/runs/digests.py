"""Digests of what is recorded, so that a changed digit is named and never believed.

Every JSON file of a run carries ``sha256``, that of its other entries in canonical
form.  Files of numbers have theirs in each checkpoint and in summary.json, under
``records``: size and sha256 of their bytes, of metrics.jsonl those up to then.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.runs.parsing import Damaged, parse, read_bytes

SEAL = "sha256"
ROWS = "metrics.jsonl"
RECORDED_WITHOUT = "recorded by an older version, without digests: read unchecked"
_CHANGED = "its digest does not match what is in it: it was damaged, or edited by hand"


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


def of_bytes(data: bytes | memoryview) -> str:
    """The sha256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def of_json(value: Mapping[str, Any]) -> str:
    """The sha256 of a JSON object in canonical form, whatever its file looks like."""
    text = json.dumps(plain(value), sort_keys=True, allow_nan=False)
    return of_bytes(text.encode())


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its own digest."""
    return {**plain(value), SEAL: of_json(value)}


def unsealed(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object without its digest, which is checked if it has one."""
    seal = value.pop(SEAL, None)
    if seal is not None and seal != of_json(value):
        raise Damaged(path, _CHANGED)
    return value


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if it is not there.

    Raises:
      Damaged: it cannot be read, holds something else, or its digest does not match.
    """
    try:
        return unsealed(path, parse(path, read_bytes(path)))
    except FileNotFoundError:
        return None


class Records:
    """Sizes and digests of the files of numbers that a run has recorded.

    Args:
      settings: digest of the settings that decide the numbers.
    """

    def __init__(self, settings: str = ""):
        self.settings = settings
        self._files: dict[str, tuple[int, str]] = {}
        self._rows, self._size = hashlib.sha256(), 0

    @classmethod
    def read(cls, value: Any) -> "Records":
        """Those of a checkpoint or a summary.

        Raises:
          ValueError: `value` is something else.
        """
        try:
            records = cls(value["settings"])
            for name, entry in value["files"].items():
                records._files[name] = int(entry["bytes"]), str(entry[SEAL])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no records: {error}") from None
        return records

    def as_json(self) -> dict[str, Any]:
        """What `read` reads."""
        files = dict(self._files)
        if self._size:
            files[ROWS] = self._size, self._rows.hexdigest()
        named = {k: {"bytes": n, SEAL: d} for k, (n, d) in sorted(files.items())}
        return {"settings": self.settings, "files": named}

    def wrote(self, name: str, data: bytes | memoryview) -> None:
        """Notes a file that was written whole."""
        if name == ROWS:
            self._files.pop(ROWS, None)
            self._rows, self._size = hashlib.sha256(data), len(data)
        else:
            self._files[name] = len(data), of_bytes(data)

    def appended(self, data: bytes) -> None:
        """Notes a line that was added to metrics.jsonl."""
        self._rows.update(data)
        self._size += len(data)

    def rows_bytes(self) -> int:
        """How much of metrics.jsonl they know."""
        return self._size or self._files.get(ROWS, (0, ""))[0]

    def names(self) -> list[str]:
        """The files they know."""
        return list(self.as_json()["files"])

    def keep(self, other: "Records", prefix: str) -> None:
        """Takes over what `other` knows of files whose names begin with `prefix`."""
        known = {k: v for k, v in other._files.items() if k.startswith(prefix)}
        self._files |= known

    def check(self, folder: Path, name: str) -> bytes:
        """The bytes of a file, checked if it is known; metrics.jsonl may have grown.

        Raises:
          FileNotFoundError: it is not there.
          Damaged: it is not as it was recorded.
        """
        data = read_bytes(folder / name)
        entry = self._files.get(name)
        if name == ROWS and self._size:
            entry = self._size, self._rows.hexdigest()
        if entry is None:
            return data
        size, digest = entry
        if len(data) < size:
            raise Damaged(folder / name, f"{len(data)} of its {size} bytes are left")
        if of_bytes(data[:size] if name == ROWS else data) != digest:
            raise Damaged(folder / name, _CHANGED)
        return data
