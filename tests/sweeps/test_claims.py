"""Whose a point is: who lives holds it, who is gone or silent does not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.runs.digests import read_json, sealed
from testbed.sweeps.queue import claims
from testbed.sweeps.queue.claims import STALE_SECONDS
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.work import take

SESSION = "one"
ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = [{"host": "elsewhere"}, {"boot": "another"}, {"namespace": "pid:[1]"}]


@pytest.fixture
def claimed(sweep_file, tmp_path):
    """A store, a point of it that is claimed here, and the file of the claim."""
    store = open_store(sweep_file(), tmp_path / "dir")
    point = take(store, SESSION)
    assert point is not None and store.state(point, SESSION) == "running"
    return store, point, store.path / "claims" / f"{point.name}.json"


def edit(file, **changed):
    file.write_text(json.dumps(sealed(read_json(file) | changed)))


def age(file, seconds):
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_a_process_that_lives_here_holds_its_claim(claimed):
    """However long it has not touched it: the machine may have slept."""
    store, point, file = claimed
    age(file, 100 * STALE_SECONDS)
    assert store.state(point, SESSION) == "running"


@pytest.mark.parametrize("gone", [{"pid": 2**22 + 1}, {"started": "1"}])
def test_a_process_that_is_gone_holds_nothing(claimed, gone):
    """Nor does a later process that was given its number."""
    store, point, file = claimed
    edit(file, **gone)
    assert store.state(point, SESSION) == "waiting"


@pytest.mark.parametrize("where", ELSEWHERE)
def test_elsewhere_the_age_of_the_touch_decides(claimed, monkeypatch, where):
    """On another host, boot or container; by the file system's clock, not by ours."""
    store, point, file = claimed
    edit(file, pid=2**22 + 1, **where)
    monkeypatch.setattr(time, "time", lambda clock=time.time: clock() + 3600)
    assert store.state(point, SESSION) == "running"
    age(file, 3600 + STALE_SECONDS - 10)
    assert store.state(point, SESSION) == "running"
    age(file, 3600 + STALE_SECONDS + 10)
    assert store.state(point, SESSION) == "waiting"
    store.touch(point)
    assert store.state(point, SESSION) == "running"


def test_a_torn_claim_goes_stale_too(claimed):
    """Its writer was killed at once: nobody knows who it was."""
    store, point, file = claimed
    file.write_text('{"host')
    assert store.state(point, SESSION) == "running"
    age(file, STALE_SECONDS + 10)
    assert store.state(point, SESSION) == "waiting"


def test_who_was_overtaken_leaves_the_new_claim_alone(claimed):
    """Neither its touch nor its release reaches the claim of the one after it."""
    store, point, file = claimed
    edit(file, host="elsewhere")
    age(file, STALE_SECONDS + 10)
    other = open_store(None, store.path)
    with other.lock():
        assert other.claim(point, "two")
    text = file.read_text()
    age(file, 30)
    before = file.stat().st_mtime_ns
    store.touch(point)
    store.release()
    assert file.read_text() == text and file.stat().st_mtime_ns == before
    other.touch(point)
    assert file.stat().st_mtime_ns > before
    other.release()
    assert not file.exists()


def test_a_full_disk_leaves_no_claim_behind(sweep_file, tmp_path, monkeypatch):
    """What could not be written whole is taken away."""
    store = open_store(sweep_file(), tmp_path / "dir")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claims.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        take(store, SESSION)
    assert list((store.path / "claims").iterdir()) == []


HANG = """
import ctypes
from testbed.runs.digests import read_json, sealed
from testbed import programs, worker
def never(config):  # as a long computation does not
    mutex, lock = (ctypes.c_char * 64)(), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    print("at it", flush=True)
    lock(mutex)
programs.PROGRAMS = {"scripts/train.py": never, "scripts/simulate.py": never}
worker.main()
"""


def test_a_worker_that_is_told_to_end_gives_its_point_back(sweep_file, tmp_path):
    """SIGTERM, or the end of its runner, ends it at once, although it computes; killed,
    its claim is stale.
    """
    store = open_store(sweep_file(), tmp_path / "dir")
    point = store.points()[0]
    claim = store.path / "claims" / f"{point.name}.json"
    command = [sys.executable, "-c", HANG, str(store.path), SESSION]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    for ending, code in ((signal.SIGTERM, 143), (None, 143), (signal.SIGKILL, -9)):
        worker = subprocess.Popen(command, cwd=ROOT, **pipes)
        assert worker.stdout.readline() == "at it\n"
        assert store.state(point, SESSION) == "running"
        if ending is not None:
            worker.send_signal(ending)
        worker.communicate(timeout=20)
        assert worker.returncode == code
        assert claim.exists() == (ending == signal.SIGKILL)
        assert store.state(point, SESSION) == "waiting"
