"""Whether a folder holds a finished run, all of it as it was recorded."""

import warnings
from functools import partial
from typing import Any

from testbed.runs.digests import RECORDED_WITHOUT, ROWS
from testbed.runs.folder import RunFolder


def finished(folder: RunFolder) -> dict[str, Any] | None:
    """The summary of a run that is done and whole, or None: then it is to go on.

    What is damaged is named and set aside; from the checkpoints it is recorded again.
    """
    summary = folder.salvage("summary.json")
    if not summary or summary.get("status") != "done":
        return None
    reader = RunFolder(folder.path)
    if not reader.remember():
        warnings.warn(f"{folder.path}: {RECORDED_WITHOUT}", stacklevel=2)
        return summary
    known, whole = reader.records, True
    for name in known.names():
        read = reader.rows if name == ROWS else partial(known.check, folder.path, name)
        whole = folder.is_whole(name, read) and whole
    return summary if whole else None
