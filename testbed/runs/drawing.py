"""A run's report, drawn at its end: a full disk then loses no record."""

import contextlib
from collections.abc import Iterator

from testbed.errors import RunError
from testbed.runs.console import Console


@contextlib.contextmanager
def drawing(console: Console) -> Iterator[None]:
    """Says that the report is drawn.

    Raises:
      RunError: it cannot be written.
    """
    console.say("drawing the report")
    try:
        yield
    except OSError as error:
        raise RunError(
            f"report: cannot be written ({error.strerror}); everything recorded is "
            "kept; make room and run again with --run.resume"
        ) from None
