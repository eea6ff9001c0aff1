"""What scripts/sweep.py does, and what a person sees of it."""

import collections
import secrets
import time

from rich.live import Live
from rich.table import Table

from testbed.errors import RunError, UserError, one_line, shown
from testbed.options import SweepOptions
from testbed.runs.console import Console, duration
from testbed.settings import count_of
from testbed.surroundings import check_elsewhere
from testbed.sweeps import slurm
from testbed.sweeps.queue.leaving import leaving
from testbed.sweeps.queue.store import Point, accidents
from testbed.sweeps.queue.sweep_store import SweepStore, open_store
from testbed.sweeps.queue.work import (
    Only,
    Programs,
    finish,
    index_filter,
    refuse,
    shard_filter,
)
from testbed.sweeps.queue.workers import keep_working
from testbed.sweeps.slurm_script import script
from testbed.sweeps.spec import left_out, placed


def run(options: SweepOptions, programs: Programs) -> None:
    """Runs the sweep that the arguments describe, by these programs.

    Raises:
      UserError: arguments that cannot be honoured.
      RunError: points that failed.
    """
    only = _filter(options)
    _check_begun(options)
    if not (options.print_slurm or options.list):
        check_elsewhere()
    store = open_store(
        options.file,
        options.dir,
        small=options.quick,
        seed=options.seed or 0,
        many=options.yes,
    )
    with accidents(store.path):
        if options.print_slurm:
            slurm.check_independent(store)
            print(script(store, options))
        elif options.list:
            Console().print(_listing(store))
        else:
            _run(store, only, options, programs, Console())


def _run(
    store: SweepStore,
    only: Only,
    options: SweepOptions,
    programs: Programs,
    console: Console,
) -> None:
    piece = options.index is not None or options.shard is not None
    if piece or options.submitit is not None:
        slurm.check_independent(store)
    if options.index is not None and not any(map(only, store.points())):
        rule = f"is beyond the last point, {len(store.points()) - 1}"
        raise UserError("index", options.index, rule, "see --list")
    console.print(_opening(store, options.jobs))
    session = f"{int(time.time())}-{secrets.token_hex(3)}"
    for point, error in refuse(store, session, only):
        told = f"refused: point {point.index} ({point.name}): {one_line(error)}"
        console.print(told)
    if piece:
        with leaving(store.release):
            finish(store, session, programs, only, console.say)
    elif options.submitit is not None:
        given = options.jobs, options.submitit
        for line in slurm.submit(store, session, programs, *given):
            console.print(line)
    else:
        _run_workers(store, session, options.jobs, console)
    _close(store, only, console)


def _run_workers(store: SweepStore, session: str, jobs: int, console: Console) -> None:
    began, before = time.perf_counter(), store.states().count("done")
    shown = ""
    with Live(console=console.rich, auto_refresh=False) as live:

        def tell() -> None:
            nonlocal shown
            table, line = _status(store, session, began, before)
            if console.rich.is_terminal:
                live.update(table, refresh=True)
            elif line.split(", about")[0] != shown:
                console.say(line)
            shown = line.split(", about")[0]

        keep_working(store, session, jobs, tell)


def _status(store: SweepStore, session: str, began: float, before: int):
    """The live table, and the same as one line."""
    found = store.look(session)
    count = collections.Counter(state for _, state in found)
    total = len(found) + store.proposer.ahead(store)
    ended = count["done"] - before
    left = ""
    if ended > 0:
        each = (time.perf_counter() - began) / ended
        remaining = total - count["done"] - count["failed"]
        left = f", about {duration(each * remaining)} left"
    line = (
        f"{count['done']} of {total} done, {count['running']} running, "
        f"{count['failed']} failed{left}"
    )
    table = Table(title=line, title_justify="left")
    for column in ("point", *store.sweep.varied, "state"):
        table.add_column(column)
    for point, state in found:
        if state in ("running", "failed"):
            cells = _cells(store, point)
            table.add_row(f"{point.index} {point.name}", *cells, state)
    return table, line


def _cells(store: SweepStore, point: Point) -> list[str]:
    settings = placed(store.sweep, point.settings)
    return [shown(settings.get(name, "")) for name in store.sweep.varied]


def _opening(store: SweepStore, jobs: int) -> str:
    sweep = store.sweep
    question = sweep.header.get("question", "")
    states = store.states()
    total = len(states) + store.proposer.ahead(store)
    early = "early_terminate" in sweep.document
    return (
        f"{sweep.path.parent}: {sweep.method} over {', '.join(sweep.varied)}, "
        f"{total} points ({states.count('done')} done), {jobs} at a time"
        + (f"\nQuestion: {one_line(question)}" if question else "")
        + "".join(f"\n{line}" for line in left_out(sweep))
        + ("\nearly_terminate is wandb's: here every point runs to its end" * early)
        + f"\nRecording in {store.path}\n"
    )


def _listing(store: SweepStore) -> Table:
    table = Table(title=f"{store.path}", title_justify="left")
    for column in ("index", "name", *store.sweep.varied, "state"):
        table.add_column(column)
    for point, state in store.look():
        cells = _cells(store, point)
        table.add_row(str(point.index), point.name, *cells, state)
    return table


def _close(store: SweepStore, only: Only, console: Console) -> None:
    points = [(point, state) for point, state in store.look() if only(point)]
    failed = [point for point, state in points if state == "failed"]
    done = sum(state == "done" for _, state in points)
    for point in failed:
        failure = store.failure(point) or {}
        error = str(failure.get("error")).strip().splitlines()[-1]
        told = f"failed: point {point.index} ({point.name}): {one_line(error)}"
        console.print(told)
    ahead = max(0, store.proposer.ahead(store))
    total = len(points) + ahead
    console.print(f"{done} of {total} points done, {len(failed)} failed.")
    if ahead and done + len(failed) == len(points):
        why = store.proposer.ending(store)
        console.print(f"No further point is proposed: {why}.")
    console.print(f"Map and report: python scripts/report.py {store.path}")
    if failed:
        raise RunError(
            f"{len(failed)} points failed; their errors are in "
            f"{store.path / 'failures'}; run again to retry them"
        )
    if not points:
        raise RunError("no point was run")
    if done < len(points):
        left = len(points) - done
        raise RunError(f"{left} points were not run to their end; rerun to resume")


def _check_begun(options: SweepOptions) -> None:
    """Refuses what only counts when a sweep begins, where it goes on."""
    begins = {"quick": options.quick, "seed": options.seed, "yes": options.yes}
    for name, value in begins.items():
        if options.file is None and value is not None and value is not False:
            rule = "goes with a sweep file: the folder's sweep has its own"
            raise UserError(name, value, rule, "leave it out, or give the file")


def _filter(options: SweepOptions) -> Only:
    if options.index is not None and options.shard is not None:
        rule = f"cannot be given together with --shard={options.shard}"
        raise UserError("index", options.index, rule, "leave one of the two out")
    if options.index is not None:
        return index_filter(*_indices(options.index))
    if options.shard is not None:
        shard, _, shards = options.shard.partition("/")
        one, of = count_of(shard), count_of(shards)
        if one is None or of is None or one >= of:
            rule = "must be I/N with 0 <= I < N"
            raise UserError("shard", options.shard, rule, "e.g. --shard 0/8")
        return shard_filter(one, of)
    return lambda point: True


def _indices(text: str) -> list[range]:
    chosen: list[range] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = count_of(first), count_of(last if dash else first)
        if low is None or high is None or high < low:
            rule = "must be numbers, or ranges of them from low to high"
            raise UserError("index", text, rule, "e.g. --index 0-7 or --index 3,5")
        chosen.append(range(low, high + 1))
    return chosen
