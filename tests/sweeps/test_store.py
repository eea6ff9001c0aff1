import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.sweeps.store import MOST_DEATHS, STALE_SECONDS, open_store
from testbed.sweeps.work import index_filter, shard_filter, take

SESSION = "one"
ROOT = Path(__file__).resolve().parents[2]


CLAIM_ALL = """
import sys, time
from pathlib import Path
from testbed.sweeps.store import open_store
from testbed.sweeps.work import take
store = open_store(None, Path(sys.argv[1]))
while (point := take(store, "one")) is not None:
    print(point.name, flush=True)
    time.sleep(0.01)
print("end", flush=True)
sys.stdin.read()  # alive, so that its claims stay its own
"""


def test_two_processes_never_take_the_same_point(sweep_file, tmp_path):
    """Four processes claim a grid of four points: each point is taken once."""
    store = open_store(sweep_file(), tmp_path / "dir")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", CLAIM_ALL, str(tmp_path / "dir")]
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(4)]
    taken = []
    for process in processes:
        while (line := process.stdout.readline().strip()) not in ("end", ""):
            taken.append(line)
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert sorted(taken) == sorted(p.name for p in store.points())
    assert len(set(taken)) == 4


def test_a_claim_goes_stale_when_its_process_is_gone_or_silent(sweep_file, tmp_path):
    """A dead pid of this host at once; of another host after a minute, not before."""
    store = open_store(sweep_file(), tmp_path / "dir")
    point = take(store, SESSION)
    assert point is not None and store.state(point, SESSION) == "running"
    claim = store.path / "claims" / f"{point.name}.json"
    who = json.loads(claim.read_text())
    claim.write_text(json.dumps(who | {"pid": 2**22 + 1}))  # above any pid
    assert store.state(point, SESSION) == "waiting"
    claim.write_text(json.dumps(who | {"host": "elsewhere", "pid": 2**22 + 1}))
    assert store.state(point, SESSION) == "running"
    old = time.time() - STALE_SECONDS - 1
    os.utime(claim, (old, old))
    assert store.state(point, SESSION) == "waiting"
    store.touch(point)
    assert store.state(point, SESSION) == "running"


def test_a_point_at_which_workers_keep_dying_counts_as_failed(sweep_file, tmp_path):
    """After three deaths it is left, and the next start tries it again."""
    store = open_store(sweep_file(), tmp_path / "dir")
    point = store.points()[0]
    claim = store.path / "claims" / f"{point.name}.json"
    for _ in range(MOST_DEATHS):
        with store.lock():
            assert store.claim(point, SESSION)
        who = json.loads(claim.read_text())
        claim.write_text(json.dumps(who | {"pid": 2**22 + 1}))
    with store.lock():
        assert not store.claim(point, SESSION)
    assert store.state(point, SESSION) == "failed"
    assert "3 workers died" in store.failure(point)["error"]
    assert store.state(point, "two") == "waiting"


def test_failures_belong_to_a_session_and_success_forgets_them(sweep_file, tmp_path):
    """What failed is not tried again in the same start, but in the next."""
    store = open_store(sweep_file(), tmp_path / "dir")
    first, second, *_ = store.points()
    store.fail(first, "model.width=0: must be at least 1", SESSION)
    assert store.state(first, SESSION) == "failed"
    assert store.state(first, "two") == "waiting" and store.state(first) == "failed"
    with store.lock():
        assert not store.claim(first, SESSION) and store.claim(second, SESSION)
    store.fail(first, "again", "two")  # of another runner: neither tries it again
    assert store.state(first, SESSION) == store.state(first, "two") == "failed"
    store.succeed(first)
    assert store.failure(first) is None


def test_a_folder_belongs_to_one_sweep(sweep_file, tmp_path):
    """Another file, seed or --quick is refused; comments may change."""
    file = sweep_file()
    open_store(file, tmp_path / "dir")
    file.write_text("# Question: another wording\n" + file.read_text())
    open_store(file, tmp_path / "dir")
    with pytest.raises(UserError, match="another sweep"):
        open_store(file, tmp_path / "dir", seed=3)
    file.write_text(file.read_text().replace("[8, 12]", "[8, 13]"))
    with pytest.raises(UserError, match="another sweep"):
        open_store(file, tmp_path / "dir")
    with pytest.raises(UserError, match="holds no sweep"):
        open_store(None, tmp_path / "nothing")


def test_every_index_and_every_shard_together_are_the_sweep(sweep_file, tmp_path):
    """The points of all shards, or of all indices, are all points, each once."""
    points = open_store(sweep_file(), tmp_path / "dir").points()
    shards = [[p for p in points if shard_filter(i, 3)(p)] for i in range(3)]
    assert sorted(p.index for shard in shards for p in shard) == [0, 1, 2, 3]
    assert [p.index for p in points if index_filter([1, 3])(p)] == [1, 3]


def test_a_torn_proposal_is_not_a_point(sweep_file, tmp_path):
    """What follows the last newline of proposals.jsonl was being written at a kill."""
    store = open_store(sweep_file("bayes", 3), tmp_path / "dir")
    with store.lock():
        store.propose({"model.width": 8, "model.depth": 2, "samples": 300})
    with open(store.path / "proposals.jsonl", "a") as file:
        file.write('{"model.width": 1')
    assert [p.settings["model.width"] for p in store.points()] == [8]
    with store.lock():
        store.propose({"model.width": 12, "model.depth": 2, "samples": 300})
    assert [p.settings["model.width"] for p in store.points()] == [8, 12]
