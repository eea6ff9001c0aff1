"""Measurements on their way to disk: each is in the file as soon as it is made."""

import dataclasses
import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from accelerator_parts import PARTS
from accelerator_parts.page import APART, number
from testbed.config import Config
from testbed.dynamics import Finite
from testbed.dynamics.problem import Problem
from testbed.errors import UserError, one_line
from testbed.files import write_whole
from testbed.kernels.memory import USABLE, available_bytes, readable
from testbed.runs.console import Console
from testbed.runs.experiment import prepare

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of the first call, with its compilation, and of those after it."""

    first: float
    seconds: float
    lowest: float
    highest: float

    def columns(self) -> Row:
        """As columns of a table."""
        return {
            "first call s": self.first,
            "s": self.seconds,
            "s, range": [self.lowest, self.highest],
        }


def clock(run: Callable[[], Any], seconds: float = 1.0, most: int = 50) -> Timing:
    """Times `run`, whose result is waited for: one call to warm up, then the others.

    At least three calls, unless three seconds' worth of them are fewer.
    """

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(run())
        return time.perf_counter() - start

    first, times = once(), [once()]
    while len(times) < most:
        total = sum(times)
        if total > 3 * seconds or (total > seconds and len(times) >= 3):
            break
        times.append(once())
    return Timing(first, statistics.median(times), min(times), max(times))


class Compiling:
    """What was compiled since the last `take`, counted where JAX does it."""

    EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self):
        self._seen: list[tuple[float, str]] = []
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, seconds: float, **known: Any) -> None:
        if event == self.EVENT:
            self._seen.append((seconds, str(known.get("fun_name", "?"))))

    def take(self) -> Row:
        """Seconds and programs, and which took longest: [name, programs, seconds]."""
        seen, self._seen = self._seen, []
        names: dict[str, list[float]] = {}
        for seconds, name in seen:
            names.setdefault(name, []).append(seconds)
        longest = sorted(names.items(), key=lambda item: -sum(item[1]))[:8]
        return {
            "compiling s": sum(seconds for seconds, _ in seen),
            "programs": len(seen),
            "longest": [[name, len(each), sum(each)] for name, each in longest],
        }


class OutOfTime(Exception):
    """The part's time is over, or would be."""


class Recorder:
    """Results of all parts, in one JSON file that is whole after every measurement.

    Args:
      path: the file; what it holds is kept.
      until: `time.time()` at which the last measurement should be over.

    Attributes:
      folder: where the file is.
      results: what it holds.
      quick: whether sizes are small, for a test.
    """

    def __init__(self, path: Path, until: float):
        self.folder, self._path, self._until = path.parent, path, until
        self.results: dict[str, Any] = json.loads(path.read_text())
        self.quick: bool = self.results["quick"]
        self._deadline, self._part = until, ""
        self._compiling = Compiling()

    @property
    def floor(self) -> dict[str, float]:
        """What the card can do: see `floor.run`."""
        return self.results.get("floor", {})

    def begin(self, part: str, title: str, why: str, seconds: float) -> None:
        """Starts a part that may take so many seconds."""
        self._part = part
        self._deadline = min(self._until, time.time() + seconds)
        self._started = time.time()
        self._compiling.take()
        parts = self.results["parts"] | {
            part: {
                "title": title,
                "why": why,
                "state": "running",
                "rows": [],
                "notes": [],
            }
        }
        self.results["parts"] = {name: parts[name] for name in PARTS if name in parts}
        self.write()

    def protect(self, run: Callable[[], None]) -> None:
        """Runs the part that was begun to its end; no failure of it gets out."""
        state = "done"
        try:
            run()
        except Exception as error:
            state = "failed"
            self.note(_word(error))
            self._keep_trace(self._part, error)
        part = self.results["parts"][self._part]
        if not any("skipped" not in row for row in part["rows"]):
            state = "skipped" if state == "done" else state
        part |= {"state": state, "seconds": time.time() - self._started}
        part["compiled"] = self._compiling.take()
        self.write()

    def write(self) -> None:
        """Writes the file."""
        write_whole(self._path, json.dumps(self.results, indent=1).encode())

    def left(self) -> float:
        """Seconds that are left to this part."""
        return self._deadline - time.time()

    def note(self, text: str) -> None:
        """Adds a sentence to the part."""
        self.results["parts"][self._part]["notes"].append(text)
        self._say(text)
        self.write()

    def case(
        self,
        name: str,
        measure: Callable[[], Row],
        *,
        predicted: float = 0.0,
        needed: float = 0.0,
    ) -> Row | None:
        """Measures a case and records its row; what goes wrong is a word in it.

        Args:
          name: of the case.
          measure: returns the row's numbers, by column.
          predicted: seconds that it must take at least.
          needed: bytes of the device's memory that it must take at least.

        Returns:
          The row, or None if the case was skipped.
        """
        row: Row = {"case": name}
        try:
            if predicted > max(self.left(), 0) or self.left() <= 0:
                told = f"needs {predicted:.0f} s or more, " if predicted else ""
                raise OutOfTime(f"{told}{max(self.left(), 0):.0f} s were left")
            if needed > USABLE * available_bytes():
                there = readable(available_bytes())
                raise MemoryError(f"needs {readable(int(needed))} of {there}")
            row |= measure()
        except Exception as error:  # no failure of a case ends the run
            row["skipped"] = _word(error)
            self._keep_trace(name, error)
        if "skipped" in row:
            gc.collect()  # the arrays of a program that did not fit
            jax.clear_caches()
        self.row(row)
        return None if "skipped" in row else row

    def row(self, row: Row) -> None:
        """Records what is known already, whatever time is left."""
        self.results["parts"][self._part]["rows"].append(row)
        self._say(_line(row))
        self.write()

    def beside_floor(
        self,
        seconds: float,
        *,
        flops: float = 0.0,
        rate: str = "highest",
        moved: float = 0.0,
        special: float = 0.0,
        host: float = 0.0,
        iterations: float = 0.0,
    ) -> Row:
        """Columns that put a time beside what the card could do.

        The floor is the longest of operations over their rate, bytes over bandwidth,
        special functions over theirs, and what is copied to the host.  Beside it
        stands the time that as many iterations of an empty loop take: what a deep and
        narrow network cannot go below.

        Args:
          seconds: measured.
          flops: of matrix products.
          rate: which of the floor's rates they have.
          moved: bytes read and written.
          special: float64 arc tangents with their square roots.
          host: bytes copied from the device to the host.
          iterations: of loops, one after another.
        """
        floor = self.floor
        floors = {
            "arithmetic": flops / floor.get(rate, float("inf")),
            "memory": moved / floor.get("bytes", float("inf")),
            "special functions": special / floor.get("special", float("inf")),
            "the copy to the host": host / floor.get("to_host", float("inf")),
        }
        bound = max(floors, key=lambda name: floors[name])
        lowest = floors[bound]
        row: Row = {"floor s": lowest, "bound by": bound}
        if lowest > 0:
            row["x floor"] = seconds / lowest
        if iterations and "loop" in floor:
            row["empty loop s"] = iterations * floor["loop"]
        if flops:
            row["TFLOP/s"] = flops / seconds / 1e12
        return row

    def _keep_trace(self, what: str, error: Exception) -> None:
        """Where an error came from, for whoever mends it far from the card."""
        if not isinstance(error, OutOfTime | MemoryError | UserError):
            text = "".join(traceback.format_exception(error)[-6:])
            self.results.setdefault("errors", {})[what] = text

    def _say(self, text: str) -> None:
        passed = time.time() - self.results["began"]
        whole = self.results["minutes"] * 60
        print(f"[{passed:4.0f} of {whole:.0f} s] {self._part}: {text}", flush=True)


def _word(error: Exception) -> str:
    """What went wrong, in a few words."""
    text = one_line(str(error), 200)
    if isinstance(error, OutOfTime):
        return f"out of time: {text}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory: {one_line(str(error), 120)}"
    if isinstance(error, UserError):
        return text
    return f"failed: {type(error).__name__}: {text}"


def _line(row: Row) -> str:
    """A row for the console."""
    shown = [f"{k} {number(v)}" for k, v in row.items() if k not in _NOT_SAID]
    return f"{row['case']}: {', '.join(shown)}"


_NOT_SAID = (*APART, "case", "floor s", "empty loop s", "value")


class Silent(Console):
    """Says nothing: what runs of the main job take is a line of the benchmark."""

    def __init__(self):
        super().__init__()
        self.rich.quiet = True


def problem_of(config: Config) -> Problem:
    """The training problem of a validated config."""
    finite = prepare(config, lambda text: None).predictors["finite"]
    assert isinstance(finite, Finite)
    return finite.problem


def peak_memory() -> Row:
    """The most that the device's memory has held up to now, where it says so."""
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return {"peak GiB": peak / 2**30} if peak else {}
