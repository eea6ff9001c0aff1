"""What a person sees: what is compared, how far it is, what came of it."""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from testbed.errors import one_line

if TYPE_CHECKING:
    from testbed.config import Config
    from testbed.runs.experiment import Experiment


class Console:
    """Prints to a terminal with a live bar, elsewhere as plain lines."""

    def __init__(self):
        # Names and values are shown as they are: [x] is no style, :x: no picture.
        plain: Any = {"highlight": False, "markup": False, "emoji": False}
        self._out = RichConsole(soft_wrap=True, **plain)
        self._started = time.perf_counter()

    @property
    def rich(self) -> RichConsole:
        """What it prints with."""
        return self._out

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        seconds = time.perf_counter() - self._started
        self._out.print(f"[{seconds:5.1f} s] {one_line(text)}", markup=False)

    def print(self, text: Any) -> None:
        """A text, or anything that rich can draw."""
        self._out.print(text, markup=False)

    def comparison(
        self, config: "Config", experiment: "Experiment", path: Path
    ) -> None:
        """Says what is about to be compared."""
        m, t, data = config.model, config.train, experiment.dataset
        clock = experiment.clock
        batch = f"batches of {t.batch_size}" if t.batch_size else "full batch"
        infinite = (
            "3 the infinite-width limit: mean and variance of the NTK Gaussian process"
            if "infinite" in experiment.predictors
            else "(no infinite-width limit: no kernel describes adam's steps)"
        )
        self._out.print(
            f"\nComparing, on {len(data.x_train)} training and {len(data.x_test)} test "
            f"examples of {data.name}:\n"
            f"  1 finite networks: {t.seeds} x {m.kind}, width {m.width}, depth "
            f"{m.depth} (d/n = {(m.depth or 0) / m.width:.3g})\n"
            f"  2 their linearizations at initialization, trained alike\n"
            f"  {infinite}\n"
            f"Training: {t.optimizer}, {batch}, {t.loss}, lr = {clock.lr:.4g} "
            f"({clock.lr / experiment.critical_lr:.3g} x critical), {t.steps} steps, "
            f"t = lr * step up to {clock.time(clock.steps):.4g}\n"
            f"Recording in {path}\n",
            markup=False,
        )

    @contextlib.contextmanager
    def progress(
        self, steps: int, done: int, doing: str = "training", unit: str = "step"
    ):
        """Yields a function that is told the step (or other unit) reached."""
        if not self._out.is_terminal:
            yield self._lines(steps, done, unit)
            return
        columns = (
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}s, left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._out) as bar:
            task = bar.add_task("", total=steps, completed=done)
            yield lambda step: bar.update(task, completed=step)

    def _lines(self, steps: int, done: int, unit: str):
        shown = [done * 10 // steps]

        def tell(step: int) -> None:
            tenth = step * 10 // steps
            if tenth > shown[0]:
                shown[0] = tenth
                self.say(f"{unit} {step} of {steps}")

        return tell

    def result(self, summary: dict[str, Any], path: Path) -> None:
        """The table of the result, and its one-sentence reading."""
        final = summary["final"]
        table = Table(
            title=f"At t = {final['t']:.4g}, after {final['step']:.0f} steps "
            "(median over seeds)",
            title_justify="left",
        )
        table.add_column("")
        for name in ("finite", "linearized", "infinite"):
            table.add_column(name, justify="right")

        def row(title: str, metric: str, form: str = ".4g") -> None:
            values = [
                final.get(f"{who}/{metric}")
                for who in ("finite", "linearized", "infinite")
            ]
            if any(v is not None for v in values):
                table.add_row(title, *(_number(v, form) for v in values))

        for split in ("train", "test"):
            row(f"{split} loss", f"loss/{split}")
            row(f"{split} accuracy", f"accuracy/{split}", ".1%")
        self._out.print(table)
        measures = Table(title="How far they are apart", title_justify="left")
        measures.add_column("")
        for split in ("train", "test"):
            measures.add_column(split, justify="right")
        for title, name in (
            ("|finite - linearized| / movement", "distance/finite_linearized"),
            ("|finite - infinite| / movement", "distance/finite_infinite"),
            ("|linearized - infinite| / movement", "distance/linearized_infinite"),
        ):
            values = [final.get(f"{name}/{s}/relative") for s in ("train", "test")]
            if any(v is not None for v in values):
                measures.add_row(title, *(_number(v, ".3g") for v in values))
        for title, name in (
            ("standard deviation over networks", "ensemble/spread"),
            ("standard deviation of the GP", "infinite/spread"),
        ):
            values = [final.get(f"{name}/{s}") for s in ("train", "test")]
            if any(values):  # with centred outputs the process has none
                measures.add_row(title, *(_number(v, ".3g") for v in values))
        ratio = [final.get(f"ensemble/variance_ratio/{s}") for s in ("train", "test")]
        if any(v is not None and v == v for v in ratio):
            title = "ensemble variance / GP variance"
            measures.add_row(title, *(_number(v, ".3g") for v in ratio))
        self._out.print(measures)
        if final.get("kernel/drift") is not None:
            drift = _number(final["kernel/drift"], ".3g")
            text = f"Kernel drift |Theta_T - Theta_0| / |Theta_0|: {drift}"
            if final.get("kernel/error_infinite") is not None:
                error = _number(final["kernel/error_infinite"], ".3g")
                text += f"; against the infinite one |Theta_T - Theta|/|Theta|: {error}"
            self._out.print(text, markup=False)
        for split in ("train", "test"):
            text = summary["departure"][split]["text"]
            self._out.print(
                f"Departure time on {split} (first t with |finite - linearized| / "
                f"movement above {summary['tolerance']:g}): {text}",
                markup=False,
            )
        self._out.print(f"\n{summary['reading']}", markup=False)
        report = path / "report.html"
        self._out.print(
            f"Report: {report}" if report.exists() else f"Records: {path}", markup=False
        )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else format(value, form)


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
