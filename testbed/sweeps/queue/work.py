"""One worker: claims points and runs them, one after another."""

import contextlib
import errno
import os
import threading
import time
import traceback
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from testbed.errors import RunError, UserError, in_a_line
from testbed.settings import override
from testbed.sweeps.queue.claims import TOUCH_SECONDS
from testbed.sweeps.queue.store import Point, Store, shape_of

Only = Callable[[Point], bool]
Programs = Mapping[str, Callable[[Any], Any]]
WAIT_SECONDS = 2.0  # between looks at what another process works at
MOST_REFUSED = 10_000  # points, of more than these none is checked before it is run


def work(
    store: Store,
    session: str,
    programs: Programs,
    only: Only = lambda point: True,
) -> None:
    """Runs points until none is waiting.

    A point that fails is recorded and does not stop the rest.  Points whose programs
    have the same shapes are taken in a row.

    Args:
      store: of the points.
      session: name of this start; what failed in another is tried again.
      programs: what runs a config, by the proposer's `program`.
      only: which points this worker may take.

    Raises:
      RunError: the disk is full, or the folder cannot be written.
    """
    # Workers and jobs may share a card: each takes memory as it needs it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    last: tuple | None = None
    in_use: set[str] = set()  # folders in which another process writes
    while True:
        point = take(store, session, lambda p: only(p) and p.name not in in_use, last)
        if point is not None:
            last = shape_of(point)
            with _claimed(store, point):
                ours = run_point(store, point, session, programs)
            if not ours:
                in_use.add(point.name)
        elif in_use:
            time.sleep(TOUCH_SECONDS)
            in_use.clear()
        else:
            return


def finish(
    store: Store,
    session: str,
    programs: Programs,
    only: Only,
    say: Callable[[str], None] = print,
) -> None:
    """Works until none of these points is waiting, nor at work in another process.

    What another process has claimed is waited for, and taken over if it goes stale.
    """
    told = False
    while True:
        work(store, session, programs, only)
        found = store.look(session)
        running = [p.index for p, state in found if state == "running" and only(p)]
        if not running:
            return
        if not told:
            which = ", ".join(map(str, running[:5])) + (", ..." if running[5:] else "")
            say(f"waiting for another process, which works at point {which}")
            told = True
        time.sleep(WAIT_SECONDS)


def take(
    store: Store, session: str, only: Only = lambda point: True, last=None
) -> Point | None:
    """Claims a waiting point, of the last shape if there is one."""
    with store.lock():
        store.proposer.propose(store, session)
        found = store.look(session)
        waiting = [p for p, state in found if state == "waiting" and only(p)]
        for point in _in_order(waiting, last):
            if store.claim(point, session):
                return point
    return None


def _in_order(points: Sequence[Point], last: tuple | None) -> Iterator[Point]:
    """Those of the last shape first; no shape is asked for that is not needed."""
    if last is not None:
        yield from (p for p in points if shape_of(p) == last)
    yield from points


def refuse(
    store: Store, session: str, only: Only = lambda point: True
) -> list[tuple[Point, UserError]]:
    """Fails the points whose settings the program refuses, before any is run."""
    points = list(filter(only, store.points()))
    refused = []
    for point in points if len(points) <= MOST_REFUSED else ():
        try:
            store.proposer.config(point)
        except UserError as error:
            store.fail(point, str(error), session)
            refused.append((point, error))
    return refused


def run_point(store: Store, point: Point, session: str, programs: Programs) -> bool:
    """Runs, or resumes, one claimed point in this process.

    Returns:
      False if another process writes in its folder: the point is left to that one.

    Raises:
      RunError: the disk is full or cannot be written, which no other point survives.
    """
    folder = store.folder(point)
    resume = (folder / "config.json").exists()
    where: dict[str, Any] = {"run.dir": str(folder), "run.resume": resume}
    try:
        config = override(store.proposer.config(point), where)
        programs[store.proposer.program](config)
    except Exception as error:  # one point's accident is not the sweep's
        cause = _cause(error)
        if isinstance(cause, BlockingIOError) and isinstance(error, UserError):
            return False
        if cause is not None and cause.errno in _OF_THE_DISK:
            raise RunError(str(error).replace("\n", " ")) from error
        if isinstance(error, UserError):
            store.fail(point, str(error), session, mistake=error)
        elif isinstance(error, RunError):
            store.fail(point, str(error), session)
        else:
            store.fail(point, in_a_line(error), session, traceback.format_exc())
    else:
        if store.summary(point) is not None:
            store.succeed(point)
        else:
            store.fail(point, f"{folder}: damaged; remove it", session)
    return True


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _cause(error: BaseException | None) -> OSError | None:
    """The system's error behind an error."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def index_filter(*indices: Container[int]) -> Only:
    """Takes the points whose index is in one of these."""
    return lambda point: any(point.index in some for some in indices)


def shard_filter(shard: int, shards: int) -> Only:
    """Takes every `shards`-th point, from `shard` on."""
    return lambda point: point.index % shards == shard


@contextlib.contextmanager
def _claimed(store: Store, point: Point):
    """Touches the claim until the end, then gives it up."""
    stop = threading.Event()

    def keep():
        while not stop.wait(TOUCH_SECONDS):
            store.touch(point)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        store.release()
