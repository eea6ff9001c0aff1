"""One worker: claims points of a sweep and runs them, one after another."""

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from testbed.errors import RunError, UserError
from testbed.settings import override
from testbed.sweeps.bayes import propose
from testbed.sweeps.spec import config_of
from testbed.sweeps.store import TOUCH_SECONDS, Point, Store, shape_of

Only = Callable[[Point], bool]


def work(
    store: Store,
    session: str,
    only: Only = lambda point: True,
    parent: int | None = None,
) -> None:
    """Runs points until none is waiting.

    A point that fails is recorded and does not stop the rest.  Points whose programs
    have the same shapes are taken in a row, and what XLA compiles is kept in the
    sweep's folder.

    Args:
      store: of the sweep.
      session: name of this start of the sweep; what failed in another is tried again.
      only: which points this worker may take.
      parent: process without which to stop after the point at hand.
    """
    _share_compiled(store.path)
    last: tuple | None = None
    while parent is None or os.getppid() == parent:
        point = take(store, session, only, last)
        if point is None:
            return
        last = shape_of(point)
        with _claimed(store, point):
            run_point(store, point, session)


def take(
    store: Store, session: str, only: Only = lambda point: True, last=None
) -> Point | None:
    """Claims a waiting point, of the last shape if there is one."""
    with store.lock():
        if store.sweep.method == "bayes":
            propose(store, session)
        points = [p for p in store.points() if only(p)]
        for point in sorted(points, key=lambda p: (shape_of(p) != last, p.index)):
            if store.claim(point, session):
                return point
    return None


def refuse(
    store: Store, session: str, only: Only = lambda point: True
) -> list[tuple[Point, UserError]]:
    """Fails the points whose settings the program refuses, before any is run."""
    refused = []
    for point in store.points():
        try:
            config_of(store.sweep, point.settings)
        except UserError as error:
            if only(point):
                store.fail(point, str(error), session)
                refused.append((point, error))
    return refused


def run_point(store: Store, point: Point, session: str) -> None:
    """Runs, or resumes, one claimed point in this process."""
    folder = store.folder(point)
    where: dict[str, Any] = {"run.dir": str(folder), "run.resume": folder.exists()}
    try:
        config = override(config_of(store.sweep, point.settings), where)
        _program(store.sweep.program)(config)
    except (UserError, RunError) as error:
        store.fail(point, str(error), session)
    except Exception:  # one point's accident is not the sweep's
        store.fail(point, traceback.format_exc(limit=-3), session)
    else:
        store.succeed(point)


def index_filter(indices: Sequence[int]) -> Only:
    """Takes the points of these indices only."""
    chosen = set(indices)
    return lambda point: point.index in chosen


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
        store.release(point)


def _program(program: str) -> Callable[[Any], Any]:
    from testbed.runs.console import Console

    if program == "scripts/simulate.py":
        from testbed.runs.simulation import run_simulation as run
    else:
        from testbed.runs.job import run_job as run
    return lambda config: run(config, Console())


def _share_compiled(path: Path) -> None:
    """Keeps compiled programs in the sweep's folder, for workers and later starts."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(path / ".compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
