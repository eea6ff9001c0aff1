"""Where the time of a program goes, by the profiler's own account."""

import collections
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from accelerator_parts.recorder import Recorder

MOST = 6  # of the operations that take longest, to be named
_NOT_WORK = ("wait", "Await", "ThunkExecutor::", "while")


def where_time_goes(record: Recorder, case: str, run: Callable[[], Any]) -> None:
    """Runs once under the profiler, and records what took longest.

    Recorded: the share of the time in which the device was at work, and the share of
    that which each of the longest operations took.  `run` must have been compiled.
    """

    def measure():
        with tempfile.TemporaryDirectory() as folder:
            jax.block_until_ready(run())
            with jax.profiler.trace(folder):
                start = time.perf_counter()
                jax.block_until_ready(run())
                passed = time.perf_counter() - start
            taken = operations(Path(folder))
        total = sum(taken.values())
        longest = [(k, v) for k, v in taken.most_common(MOST) if total]
        named = [f"{name[:60]} {seconds / total:.0%}" for name, seconds in longest]
        return {
            "s": passed,
            "at work": f"{total / passed:.0%}",
            "where": "; ".join(named) or "the profiler saw nothing",
        }

    record.case(f"{case}: where it goes", measure)


def operations(folder: Path) -> collections.Counter:
    """Seconds by name of operation, of the card or of a CPU's threads, from a trace."""
    found: collections.Counter = collections.Counter()
    for path in folder.rglob("*.xplane.pb"):
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
        cards = [plane for plane in planes if plane.name.startswith("/device:")]
        for plane in cards or planes:
            for line in plane.lines:
                if not (_of_card(line.name) if cards else "XLA" in line.name):
                    continue
                for event in line.events:
                    if not any(word in event.name for word in _NOT_WORK):
                        found[event.name] += event.duration_ns * 1e-9
    return found


def _of_card(line: str) -> bool:
    """Streams of an NVIDIA card, or the operations of a TPU; not their summaries."""
    return line.startswith("Stream") or line == "XLA Ops"
