"""Whole image sets as .npz files that know their checksum."""

import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from testbed.data.dataset import RawImages
from testbed.files import write_whole


def read(path: Path) -> RawImages | None:
    """The set stored at `path`; None if there is none, or a damaged one (it warns)."""
    try:
        # From memory: np.load leaves files open when it fails half-way.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            fields = {f.name: stored[f.name] for f in dataclasses.fields(RawImages)}
            checksum = str(stored["checksum"])
        fields["classes"] = tuple(map(str, fields["classes"]))
        fields["white"] = int(fields["white"])
        raw = RawImages(**fields)
        if raw.checksum != checksum:
            raise ValueError("its checksum does not match")
        return raw
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # zipfile, zlib and numpy fail in a dozen ways
        _warn(f"cached data {path} is damaged and will be rebuilt", error)
        return None


def write(path: Path, raw: RawImages) -> None:
    """Stores a set; readers see the old file or the new one, never a part.

    Several processes may write at once: each has its own temporary file, and the last
    to rename it wins with the same content.  If the folder cannot be written, it warns.
    """
    fields: dict[str, Any] = dict(vars(raw), checksum=raw.checksum)
    data = io.BytesIO()
    np.savez(data, **fields)
    try:
        write_whole(path, data.getbuffer())
    except OSError as error:
        _warn(f"data cannot be cached in {path.parent}, going on without", error)


def _warn(what: str, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    warnings.warn(f"{what} ({reason})", stacklevel=3)
