"""Times what a sweep saves by its compile cache, and by grouping points by shape.

    python benchmarks/sweeps.py [--quick]

Eight tiny trainings (two depths by four learning rates, depths alternating in the
shuffled order) are run in four ways: a process a point without and with a cache on
disk, one worker in shuffled order, and one worker with equal shapes in a row, as
scripts/sweep.py does.  Means a point: seconds and CPU seconds (with the start of
processes), seconds in XLA's compiler or in reading from the cache, seconds of tracing
and lowering; and how many programs were compiled in all, or read from the cache.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWEEP = """program: scripts/train.py
method: grid
parameters:
  model.depth: {values: [2, 4]}
  train.lr: {values: %s}
  model.width: {value: 16}
  data.train_size: {value: 64}
  data.test_size: {value: 32}
  train.seeds: {value: 2}
  train.steps: {value: 20}
  kernel.probes: {value: 8}
  measure.times: {value: 4}
  run.report: {value: false}
  wandb.mode: {value: disabled}
"""
COMPILE = ("/jax/core/compile/backend_compile_duration",)
TRACE = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
)
READ = "/jax/compilation_cache/cache_hits"


def work(folder: Path, pieces: list[list[int]], log: Path) -> None:
    """One process: these points, piece after piece; adds a line of measures to log."""
    import jax

    from testbed.programs import PROGRAMS
    from testbed.sweeps.queue.sweep_store import open_store
    from testbed.sweeps.queue.work import index_filter, work

    measures = {"compile": 0.0, "trace": 0.0, "compiled": 0, "read": 0}

    def duration(event, duration_secs, **_):
        measures["compile"] += duration_secs * (event in COMPILE)
        measures["compiled"] += event in COMPILE
        measures["trace"] += duration_secs * (event in TRACE)

    def happened(event, **_):
        measures["read"] += event == READ

    jax.monitoring.register_event_duration_secs_listener(duration)
    jax.monitoring.register_event_listener(happened)
    store = open_store(None, folder)
    for piece in pieces:
        work(store, "benchmark", PROGRAMS, index_filter(piece))
    with open(log, "a") as file:
        file.write(json.dumps(measures) + "\n")


def clock(sweep: Path, processes: list[list[list[int]]], cache: bool):
    """Runs processes, each with pieces of points, one after another; means a point."""
    from testbed.sweeps.queue.sweep_store import open_store

    folder, log = sweep.with_name("dir"), sweep.with_name("log")
    store = open_store(sweep, folder)
    environment = os.environ | {
        "JAX_ENABLE_COMPILATION_CACHE": str(cache),
        "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(),  # each way begins without
    }
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for pieces in processes:
        command = [sys.executable, __file__, "--work", json.dumps(pieces), str(folder)]
        out = subprocess.DEVNULL
        subprocess.run([*command, str(log)], env=environment, stdout=out, check=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert all(store.state(p) == "done" for p in store.points())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    total = {key: sum(line[key] for line in lines) for key in lines[0]}
    n, read = len(store.points()), total["read"]
    each = [value / n for value in (seconds, cpu, total["compile"], total["trace"])]
    return [*each, total["compiled"] - read, read]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="two points, for a test")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        pieces, folder, log = options.work
        work(Path(folder), json.loads(pieces), Path(log))
        return
    rates = [0.01] if options.quick else [0.01, 0.02, 0.03, 0.04]
    n = 2 * len(rates)
    shuffled = [i // 2 + (i % 2) * (n // 2) for i in range(n)]  # depths alternate
    each = [[[i]] for i in shuffled]
    ways = [
        ("a process a point, no cache", each, False),
        ("a process a point, cache", each, True),
        ("one worker, shuffled", [[[i] for i in shuffled]], True),
        ("one worker, grouped by shape", [[list(range(n))]], True),
    ]
    print(f"{n} points, {len(os.sched_getaffinity(0))} cores; means a point")
    print(f"{'':30}{'s':>8}{'CPU s':>8}{'compile':>9}{'trace':>8}", end="")
    print(f"{'compiled':>10}{'read':>7}")
    for name, processes, cache in ways:
        with tempfile.TemporaryDirectory() as path:
            sweep = Path(path) / "sweep.yaml"
            sweep.write_text(SWEEP % rates)
            row = clock(sweep, processes, cache)
        line = "{:30}{:8.1f}{:8.1f}{:9.2f}{:8.2f}{:10d}{:7d}"
        print(line.format(name, *row), flush=True)


if __name__ == "__main__":
    main()
