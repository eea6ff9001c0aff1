"""What scripts/sweep.py does, and what a person sees of it."""

import argparse
import secrets
import time

from rich.live import Live
from rich.table import Table

from testbed.errors import RunError, UserError
from testbed.runs.console import Console
from testbed.sweeps import slurm
from testbed.sweeps.store import Point, Store, open_store
from testbed.sweeps.work import Only, index_filter, refuse, shard_filter, work
from testbed.sweeps.workers import Workers

POLL_SECONDS = 0.5


def run(options: argparse.Namespace) -> None:
    """Runs the sweep that the arguments describe.

    Raises:
      UserError: arguments that cannot be honoured.
      RunError: points that failed.
    """
    only = _filter(options)
    if options.jobs < 1:
        raise UserError("jobs", options.jobs, "must be at least 1", "use 1 or more")
    store = open_store(
        options.file,
        options.dir,
        small=options.quick,
        seed=options.seed,
        many=options.yes,
    )
    console = Console()
    if options.print_slurm:
        print(slurm.script(store))
        return
    if options.submitit is not None:
        slurm.submit(store, options.jobs, options.submitit)
        return
    if options.list:
        console.print(_listing(store))
        return
    console.print(_opening(store, options.jobs))
    session = f"{int(time.time())}-{secrets.token_hex(3)}"
    for point, error in refuse(store, session, only):
        console.print(f"refused: point {point.index} ({point.name}): {error}")
    if options.index is not None or options.shard is not None:
        _check_piece(store, only, options)
        work(store, session, only)
    else:
        _run_workers(store, session, options.jobs, console)
    _close(store, only, console)


def _run_workers(store: Store, session: str, jobs: int, console: Console) -> None:
    workers = Workers(store, session, jobs)
    began = time.perf_counter()
    before = sum(store.state(p) == "done" for p in store.points())
    try:
        with Live(console=console.rich, auto_refresh=False) as live:
            shown = ""
            while workers.busy():
                table, line = _status(store, session, began, before)
                if console.rich.is_terminal:
                    live.update(table, refresh=True)
                elif line.split(", about")[0] != shown:
                    console.say(line)
                shown = line.split(", about")[0]
                time.sleep(POLL_SECONDS)
    finally:
        workers.stop()


def _status(store: Store, session: str, began: float, before: int):
    """The live table, and the same as one line."""
    points = store.points()
    states = [store.state(p, session) for p in points]
    count = {s: states.count(s) for s in ("done", "running", "failed", "waiting")}
    total = _total(store, points)
    ended = count["done"] - before
    left = ""
    if ended > 0:
        each = (time.perf_counter() - began) / ended
        remaining = total - count["done"] - count["failed"]
        left = f", about {_duration(each * remaining)} left"
    line = (
        f"{count['done']} of {total} done, {count['running']} running, "
        f"{count['failed']} failed{left}"
    )
    table = Table(title=line, title_justify="left")
    for column in ("point", *store.sweep.varied, "state"):
        table.add_column(column)
    for point, state in zip(points, states, strict=True):
        if state in ("running", "failed"):
            cells = [str(point.settings.get(name, "")) for name in store.sweep.varied]
            table.add_row(f"{point.index} {point.name}", *cells, state)
    return table, line


def _total(store: Store, points: list[Point]) -> int:
    cap = store.sweep.run_cap
    return cap if store.sweep.method == "bayes" and cap else len(points)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _opening(store: Store, jobs: int) -> str:
    sweep = store.sweep
    question = sweep.header.get("question", "")
    total = _total(store, store.points())
    done = sum(store.state(p) == "done" for p in store.points())
    return (
        f"{sweep.path.parent}: {sweep.method} over {', '.join(sweep.varied)}, "
        f"{total} points ({done} done), {jobs} at a time"
        + (f"\nQuestion: {question}" if question else "")
        + f"\nRecording in {store.path}\n"
    )


def _listing(store: Store) -> Table:
    table = Table(title=f"{store.path}", title_justify="left")
    for column in ("index", "name", *store.sweep.varied, "state"):
        table.add_column(column)
    for point in store.points():
        cells = [str(point.settings.get(name, "")) for name in store.sweep.varied]
        table.add_row(str(point.index), point.name, *cells, store.state(point))
    return table


def _close(store: Store, only: Only, console: Console) -> None:
    points = [p for p in store.points() if only(p)]
    failed = [p for p in points if store.state(p) == "failed"]
    done = sum(store.state(p) == "done" for p in points)
    for point in failed:
        failure = store.failure(point) or {}
        error = str(failure.get("error")).strip().splitlines()[-1]
        console.print(f"failed: point {point.index} ({point.name}): {error}")
    total = len(points)
    if store.sweep.method == "bayes":
        total = max(total, _total(store, points))
    console.print(f"{done} of {total} points done, {len(failed)} failed.")
    console.print(f"Map and report: python scripts/report.py {store.path}")
    if failed:
        raise RunError(
            f"{len(failed)} points failed; their errors are in "
            f"{store.path / 'failures'}; run again to retry them"
        )


def _check_piece(store: Store, only: Only, options: argparse.Namespace) -> None:
    slurm.check_independent(store)
    if options.index is not None and not any(map(only, store.points())):
        rule = f"is beyond the last point, {len(store.points()) - 1}"
        raise UserError("index", options.index, rule, "see --list")


def _filter(options: argparse.Namespace) -> Only:
    if options.index is not None and options.shard is not None:
        rule = f"cannot be given together with --shard={options.shard}"
        raise UserError("index", options.index, rule, "leave one of the two out")
    if options.index is not None:
        return index_filter(_indices(options.index))
    if options.shard is not None:
        shard, _, shards = options.shard.partition("/")
        if not (shard.isdigit() and shards.isdigit() and int(shard) < int(shards)):
            rule = "must be I/N with 0 <= I < N"
            raise UserError("shard", options.shard, rule, "e.g. --shard 0/8")
        return shard_filter(int(shard), int(shards))
    return lambda point: True


def _indices(text: str) -> list[int]:
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            rule = "must be numbers, or ranges of them"
            raise UserError("index", text, rule, "e.g. --index 0-7 or --index 3,5")
        chosen += range(int(first), int(last or first) + 1)
    return chosen
