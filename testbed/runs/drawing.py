"""A run's report, drawn at its end: a full disk then loses no record."""

from collections.abc import Callable
from pathlib import Path

from testbed.errors import RunError
from testbed.runs.console import Console
from testbed.runs.folder import RunFolder

Report = Callable[[Path], list[Path]]
"""Draws a report of the run in a folder; returns its figures' files."""


def draw(report: Report, folder: RunFolder, console: Console) -> list[Path]:
    """Draws the report, and says so.

    Raises:
      RunError: it cannot be written.
    """
    console.say("drawing the report")
    try:
        return report(folder.path)
    except OSError as error:
        raise RunError(
            f"report: cannot be written ({error.strerror}); everything recorded is "
            "kept; make room and run again with --run.resume"
        ) from None
