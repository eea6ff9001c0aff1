"""What scripts/boundary.py does, and what a person sees of it."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.errors import RunError, UserError
from testbed.options import BoundaryOptions
from testbed.runs.console import Console, duration
from testbed.surroundings import check_elsewhere
from testbed.sweeps.boundary import Found, Plan, in_words, law_text
from testbed.sweeps.boundary_cost import Forecast
from testbed.sweeps.boundary_folder import keep_plan, plan_in
from testbed.sweeps.boundary_search import Search, begin, find, runs_below
from testbed.sweeps.boundary_workers import Workers
from testbed.sweeps.gather import MEASURES
from testbed.sweeps.queue.leaving import heeding_interrupts

Write = Callable[[Plan, Sequence[Found], Path], Path]


def run(options: BoundaryOptions, write: Write) -> None:
    """Searches the boundary that the options describe.

    Args:
      options: of scripts/boundary.py.
      write: writes boundary.json and the report into a folder; returns the page.

    Raises:
      UserError: options that cannot be honoured.
      RunError: a run that failed, or a folder that cannot be written.
    """
    plan = plan_in(options)
    for path in options.reuse:
        if not path.exists():
            raise UserError("reuse", path, "does not exist", "give folders of runs")
    console = Console()
    runs = runs_below([options.dir / "points", *options.reuse])
    searches = begin(plan, runs)
    forecast = Forecast(plan, options.jobs)
    forecast.learn(runs.values())
    console.print(_opening(plan, forecast, searches))
    if options.dry:
        return
    check_elsewhere()
    keep_plan(plan, options.dir)
    console.print(f"Recording in {options.dir}\n")
    if options.jobs > 1:  # they share a card: each takes its memory as it needs it
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    workers = Workers(options.jobs)
    try:
        with heeding_interrupts() as check:
            found = find(
                plan, options.dir, searches, forecast, workers.start, console.say, check
            )
    except KeyboardInterrupt:
        print("stopped: started again, the search goes on", file=sys.stderr)
        sys.exit(130)
    finally:
        workers.stop()
    page = write(plan, found, options.dir)
    console.print("")
    for one in found:
        for width, boundary in zip(one.widths, one.boundaries, strict=True):
            console.print(f"{one.name}, width {width}: {in_words(boundary)}")
        console.print(f"{one.name}: {law_text(one)}")
    console.print(f"Report: {page}")
    failed = [
        f"{one.name}, width {width}: {error}"
        for one in found
        for width, error in one.failed.items()
    ]
    if failed:
        more = f"; {len(failed) - 1} more in the report" if failed[1:] else ""
        raise RunError(f"{failed[0]}{more}; started again, the search goes on")


def _opening(plan: Plan, forecast: Forecast, searches: Sequence[Search]) -> str:
    known = sum(len(runs) for one in searches for runs in one.batches.values())
    asked = (
        f"Boundary d*(n): where {MEASURES[plan.measure]} passes {plan.threshold:g}\n"
        f"{', '.join(plan.networks)}; widths {', '.join(map(str, plan.widths))}; "
        f"{len(plan.depths)} depths from {plan.depths[0]} to {plan.depths[-1]}\n"
        f"Finished before and used: {known} runs\n"
    )
    left = forecast.left(searches)
    least, middle, most = left.runs
    if not most:
        return f"{asked}Nothing is left to train"
    times = [duration(seconds) for seconds in left.seconds]
    basis = f"{forecast.known} finished runs" if forecast.known else "two CPU cores"
    return (
        f"{asked}Expected: about {middle} runs ({least} to {most}) of {plan.seeds} "
        f"networks, {times[1]} ({times[0]} to {times[2]}; from {basis})"
    )
