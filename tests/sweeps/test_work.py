"""A worker beside others, on a full disk, and killed: nothing is lost or doubled."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from testbed.errors import RunError
from testbed.runs.folder import RunFolder, open_folder
from testbed.sweeps.queue import claims, work
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.workers import Workers

SESSION = "one"
ROOT = Path(__file__).resolve().parents[2]


def scored(config):
    """A run in no time: its score is 0 at samples = 7000, lam = 0.1."""
    folder = open_folder(config, "scored")
    far = (config.samples - 7000) / 9000
    score = far**2 + (config.model.lam - 0.1) ** 2
    folder.write_json("summary.json", {"status": "done", "score": score})
    folder.close()


def programs(run):
    """Every point is run by `run`."""
    return {"scripts/train.py": run, "scripts/simulate.py": run}


@pytest.fixture
def quickly():
    """Points are run by `scored`."""
    return programs(scored)


def test_a_folder_in_use_is_left_to_who_has_it(
    sweep_file, tmp_path, quickly, monkeypatch
):
    """No failure is recorded, the others are run, and then it is tried again."""
    store = open_store(sweep_file(), tmp_path / "dir")
    point = store.points()[1]
    store.folder(point).mkdir()
    other = RunFolder(store.folder(point)).claim()
    assert work.run_point(store, point, SESSION, quickly) is False
    assert store.failure(point) is None
    pauses = []

    def pause(seconds):
        pauses.append(store.states(SESSION))
        if len(pauses) == 3:
            other.close()

    monkeypatch.setattr(work.time, "sleep", pause)
    work.work(store, SESSION, quickly)
    assert pauses == [["done", "waiting", "done", "done"]] * 3
    assert store.states(SESSION) == ["done"] * 4
    assert list((store.path / "failures").iterdir()) == []


@pytest.mark.parametrize("when", ["running", "recording"])
def test_a_full_disk_ends_the_worker(sweep_file, tmp_path, monkeypatch, when):
    """It stops with one line, blames no point for it, and gives its claim up."""
    store = open_store(sweep_file(), tmp_path / "dir")
    runs = []

    def full(config):
        runs.append(config)
        if when == "running":
            open_folder(config, "full").write_json("summary.json", {})
        raise ValueError("wrong")

    def replace(old, new, really=os.replace):
        if when == "running" and "points" not in Path(new).parts:
            return really(old, new)  # a failure would still find room
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((RunError, OSError), match="No space left on device") as told:
        work.work(store, SESSION, programs(full))
    assert "\n" not in str(told.value) and len(runs) == 1
    assert store.states(SESSION) == ["waiting"] * 4
    assert list((store.path / "claims").iterdir()) == []
    assert list((store.path / "failures").iterdir()) == []


def test_a_worker_that_cannot_go_on_is_not_started_again(sweep_file, tmp_path):
    """The runner stops, with the worker's own words in one line."""
    store = open_store(sweep_file(), tmp_path / "dir")
    workers = Workers(store, SESSION, 1)
    (store.path / "sweep.yaml").write_text("method: gird")
    try:
        with pytest.raises(RunError, match="a worker stopped: sweep=.*has no param"):
            while workers.busy():
                time.sleep(0.1)
    finally:
        workers.stop()
    assert len(list((store.path / "logs").iterdir())) == 1


def test_nothing_to_do_starts_no_worker(sweep_file, tmp_path, quickly):
    """All points are done: the runner ends at once."""
    store = open_store(sweep_file(), tmp_path / "dir")
    work.work(store, SESSION, quickly)
    workers = Workers(store, SESSION, 2)
    assert not workers.busy() and list((store.path / "logs").iterdir()) == []


def test_a_worker_takes_memory_as_it_needs_it(
    sweep_file, tmp_path, quickly, monkeypatch
):
    """Several may share a card; who has decided otherwise is left alone."""
    store = open_store(sweep_file(), tmp_path / "dir")
    for given, then in ((None, "false"), ("true", "true")):
        if given is None:
            monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
        else:
            monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", given)
        work.work(store, SESSION, quickly)
        assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == then


def test_a_piece_waits_for_who_has_its_point(
    sweep_file, tmp_path, quickly, monkeypatch
):
    """Silent for long enough, the other's claim is taken over; one line says so."""
    monkeypatch.setattr(claims, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(claims, "TOUCH_SECONDS", 0.1)
    monkeypatch.setattr(work, "WAIT_SECONDS", 0.1)
    store = open_store(sweep_file(), tmp_path / "dir")
    for point in store.points()[1:3]:
        with store.lock():
            assert store.claim(point, "other")
        claim = store.path / "claims" / f"{point.name}.json"
        claim.write_text(json.dumps(json.loads(claim.read_text()) | {"host": "far"}))
    second, third = store.points()[1:3]
    stop = threading.Event()

    def touch():  # the other is alive for a while longer than a claim lasts
        end = time.monotonic() + 1.5
        while not stop.wait(0.1) and time.monotonic() < end:
            store.touch(second)

    thread = threading.Thread(target=touch)
    thread.start()
    lines = []
    began = time.monotonic()
    piece = open_store(None, store.path)
    work.finish(piece, SESSION, quickly, work.index_filter([1]), lines.append)
    assert time.monotonic() - began > 2
    stop.set()
    thread.join()
    assert lines == ["waiting for another process, which works at point 1"]
    assert piece.state(second) == "done" and not piece.folder(third).exists()


BAYES = """program: scripts/simulate.py
method: bayes
run_cap: 8
metric: {name: score, goal: minimize}
parameters:
  samples: {distribution: int_uniform, min: 10, max: 9000}
  model.branch: {value: fixed}
  model.lam: {distribution: log_uniform_values, min: 0.01, max: 10.0}
"""
HANG_AT = """
import runpy, sys, time
from testbed import programs, worker
scored = runpy.run_path({file!r})["scored"]
count = 0
def run(config):
    global count
    count += 1
    if count == {last}:
        print("at it", flush=True)
        time.sleep(600)
    scored(config)
programs.PROGRAMS = {{"scripts/train.py": run, "scripts/simulate.py": run}}
worker.main()
"""


def test_a_bayes_sweep_that_is_killed_goes_on_as_it_was(tmp_path, quickly):
    """Killed between a proposal and its end: no point is lost, doubled or another."""
    (tmp_path / "s.yaml").write_text(BAYES)
    whole = open_store(tmp_path / "s.yaml", tmp_path / "whole")
    work.work(whole, SESSION, quickly)
    assert whole.states(SESSION) == ["done"] * 8
    store = open_store(tmp_path / "s.yaml", tmp_path / "killed")
    code = HANG_AT.format(file=__file__, last=7)
    command = [sys.executable, "-c", code, str(store.path), SESSION]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    worker = subprocess.Popen(command, cwd=ROOT, **pipes)
    assert worker.stdout.readline() == "at it\n"
    assert store.states(SESSION) == ["done"] * 6 + ["running"]
    worker.kill()
    worker.communicate()
    assert store.states(SESSION) == ["done"] * 6 + ["waiting"]
    work.work(store, "two", quickly)
    assert store.states("two") == ["done"] * 8
    assert store.points() == whole.points()
    assert len({p.name for p in store.points()}) == 8


def test_a_defect_is_told_by_its_type_and_message(sweep_file, tmp_path):
    """JAX ends its tracebacks with a remark on frames: that is not the cause."""

    def broken(config):
        error = ZeroDivisionError("a cause\nand more of it")
        error.add_note("For simplicity, JAX has removed its internal frames.")
        raise error

    store = open_store(sweep_file(), tmp_path / "dir")
    point = store.points()[0]
    assert work.run_point(store, point, SESSION, programs(broken))
    failure = store.failure(point)
    assert failure["error"] == "ZeroDivisionError: a cause"
    assert any("in broken" in line for line in failure["traceback"])
