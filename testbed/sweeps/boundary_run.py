"""What scripts/boundary.py does, and what a person sees of it."""

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.errors import RunError
from testbed.options import BoundaryOptions
from testbed.runs.console import Console, duration
from testbed.surroundings import check_elsewhere
from testbed.sweeps.boundary import Found, Plan, in_words, law_text
from testbed.sweeps.boundary_cost import Forecast
from testbed.sweeps.boundary_folder import keep_plan, plan_in
from testbed.sweeps.boundary_search import Searches
from testbed.sweeps.gather import MEASURES
from testbed.sweeps.queue.store import Store, accidents
from testbed.sweeps.queue.workers import keep_working

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
    plan, path, console = plan_in(options), options.dir, Console()
    searches = Searches(plan, path)
    forecast = Forecast(plan, options.jobs)
    for folders in searches.runs.values():
        forecast.learn(folders)
    console.print(_opening(searches, forecast))
    if options.dry:
        return
    check_elsewhere()
    keep_plan(plan, path)
    console.print(f"Recording in {path}\n")
    speak(searches, forecast, console.say)
    with accidents(path):
        store = Store(path, searches)
        session = f"{int(time.time())}-{secrets.token_hex(3)}"
        keep_working(store, session, options.jobs)
        found = searches.found()
        with store.lock():  # another process may be at its end, too
            page = write(plan, found, path)
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
        where = f"see {path / 'failures'}"
        raise RunError(f"{failed[0]}{more}; {where}; started again, the search goes on")


def speak(searches: Searches, forecast: Forecast, say: Callable[[str], None]) -> None:
    """Makes searches say what they ask for and find, and how much is left."""

    def left() -> str:
        folders = [folder for one in searches.all for folder in one.ended]
        forecast.learn(folders)
        rest, done = forecast.left(searches.all), len(folders)
        return (
            f"[{done} of about {done + rest.runs[1]} runs, about "
            f"{duration(rest.seconds[1])} left]"
        )

    searches.say, searches.left = say, left


def _opening(searches: Searches, forecast: Forecast) -> str:
    plan = searches.plan
    known = sum(len(runs) for one in searches.all for runs in one.batches.values())
    asked = (
        f"Boundary d*(n): where {MEASURES[plan.measure]} passes {plan.threshold:g}\n"
        f"{', '.join(plan.networks)}; widths {', '.join(map(str, plan.widths))}; "
        f"{len(plan.depths)} depths from {plan.depths[0]} to {plan.depths[-1]}\n"
        f"Finished before and used: {known} runs\n"
    )
    left = forecast.left(searches.all)
    least, middle, most = left.runs
    if not most:
        return f"{asked}Nothing is left to train"
    times = [duration(seconds) for seconds in left.seconds]
    basis = f"{forecast.known} finished runs" if forecast.known else "two CPU cores"
    return (
        f"{asked}Expected: about {middle} runs ({least} to {most}) of {plan.seeds} "
        f"networks, {times[1]} ({times[0]} to {times[2]}; from {basis})"
    )
