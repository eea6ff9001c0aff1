import errno
import fcntl
import json
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from testbed.errors import RunError, UserError
from testbed.runs.digests import read_json, sealed
from testbed.sweeps.queue import sweep_store
from testbed.sweeps.queue.bayes import PROPOSALS, add_proposal
from testbed.sweeps.queue.store import MOST_DEATHS
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.work import index_filter, shard_filter

SESSION = "one"
ROOT = Path(__file__).resolve().parents[2]


CLAIM_ALL = """
import sys, time
from pathlib import Path
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.work import take
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


def test_a_point_at_which_workers_keep_dying_counts_as_failed(sweep_file, tmp_path):
    """After three deaths it is left, and the next start tries it again."""
    store = open_store(sweep_file(), tmp_path / "dir")
    point = store.points()[0]
    claim = store.path / "claims" / f"{point.name}.json"
    for _ in range(MOST_DEATHS):
        with store.lock():
            assert store.claim(point, SESSION)
        who = read_json(claim)
        claim.write_text(json.dumps(sealed(who | {"pid": 2**22 + 1})))
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


def test_of_several_that_begin_a_sweep_at_once_one_makes_it(
    sweep_file, tmp_path, monkeypatch
):
    """Eight with seeds of their own find no folder: one makes it, seven are told."""
    file, made, told, together = sweep_file("random", 3), [], [], threading.Barrier(8)
    monkeypatch.setattr(sweep_store, "_check_size", lambda *_: together.wait())

    def begin(seed):
        try:
            made.append(open_store(file, tmp_path / "dir", seed=seed).seed)
        except UserError as error:
            told.append(str(error))

    threads = [threading.Thread(target=begin, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 7 and all("belongs to another" in line for line in told)
    assert made == [open_store(None, tmp_path / "dir").seed]
    files = {p.name for p in (tmp_path / "dir").iterdir() if p.is_file()}
    assert files == {".lock", "sweep.json", "sweep.yaml"}


def test_a_sweep_keeps_the_name_of_its_file(sweep_file, tmp_path):
    """Also when it goes on without the file."""
    assert open_store(sweep_file(), tmp_path / "dir").name == "small"
    assert open_store(None, tmp_path / "dir").name == "small"


def test_a_folder_without_locks_is_told_in_one_line(sweep_file, tmp_path, monkeypatch):
    """As some network file systems are: what to do is said."""
    file = sweep_file()

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunError, match="cannot be locked .No locks available") as told:
        open_store(file, tmp_path / "dir")
    assert "\n" not in str(told.value)


def test_a_folder_that_cannot_be_made_is_told_in_one_line(sweep_file, tmp_path):
    """A file is in its way."""
    (tmp_path / "dir").write_text("in the way")
    with pytest.raises(RunError, match="dir: File exists; fix it") as told:
        open_store(sweep_file(), tmp_path / "dir")
    assert "\n" not in str(told.value)


def test_what_is_done_is_read_once(sweep_file, tmp_path, monkeypatch):
    """The states of all points ask nothing of what is done, or was not begun."""
    store = open_store(sweep_file(), tmp_path / "dir")
    first, second, *_ = store.points()
    store.folder(first).mkdir()
    (store.folder(first) / "summary.json").write_text('{"status": "done"}')
    store.fail(second, "error", SESSION)
    expected = ["done", "failed", "waiting", "waiting"]
    assert store.states(SESSION) == expected
    asked = []
    monkeypatch.setattr(store, "summary", lambda p: asked.append(p))
    assert store.states(SESSION) == expected and asked == [second]
    assert store.states("two") == ["done", "waiting", "waiting", "waiting"]


def test_every_index_and_every_shard_together_are_the_sweep(sweep_file, tmp_path):
    """The points of all shards, or of all indices, are all points, each once."""
    points = open_store(sweep_file(), tmp_path / "dir").points()
    shards = [[p for p in points if shard_filter(i, 3)(p)] for i in range(3)]
    assert sorted(p.index for shard in shards for p in shard) == [0, 1, 2, 3]
    assert [p.index for p in points if index_filter([1, 3])(p)] == [1, 3]


def test_a_torn_proposal_is_not_a_point(sweep_file, tmp_path):
    """What follows the last newline of proposals.jsonl was being written at a kill."""
    store = open_store(sweep_file("bayes", 3), tmp_path / "dir")
    add_proposal(store.path / PROPOSALS, {"model.width": 8, "model.depth": 2})
    with open(store.path / PROPOSALS, "a") as file:
        file.write('{"model.width": 1')
    assert [p.settings["model.width"] for p in store.points()] == [8]
    add_proposal(store.path / PROPOSALS, {"model.width": 12, "model.depth": 2})
    assert [p.settings["model.width"] for p in store.points()] == [8, 12]


def test_a_changed_proposal_is_named(sweep_file, tmp_path):
    """A digit of a point that was run would make it another point."""
    store = open_store(sweep_file("bayes", 3), tmp_path / "dir")
    file = store.path / PROPOSALS
    for width in (8, 12):
        add_proposal(file, {"model.width": width, "model.depth": 2})
    text = file.read_text()
    for wrong in (text.replace('width": 12', 'width": 16'), text + "[]\n5\n"):
        file.write_text(wrong)
        with pytest.raises(
            RunError, match="proposals.jsonl: line [23] is damaged"
        ) as told:
            store.points()
        assert "\n" not in str(told.value)


def test_a_sweep_file_changed_in_the_folder_is_named(sweep_file, tmp_path):
    """Points are named by what it says: the sweep would be another one."""
    store = open_store(sweep_file(), tmp_path / "dir")
    kept = store.path / "sweep.yaml"
    kept.write_text(kept.read_text().replace("[8, 12]", "[8, 13]"))
    with pytest.raises(UserError, match="sweep.yaml that was changed since"):
        open_store(None, store.path)
    how = store.path / "sweep.json"
    how.write_text(how.read_text().replace("false", "true"))
    with pytest.raises(RunError, match="sweep.json is damaged .its digest"):
        open_store(None, store.path)


@pytest.mark.parametrize("text", ["5", "[]", '{"a": 1}', "{", ""])
def test_a_damaged_failure_or_claim_stops_nothing(sweep_file, tmp_path, text):
    """The failure is named and the point tried again; the claim's age decides."""
    store = open_store(sweep_file(), tmp_path / "dir")
    first, second, *_ = store.points()
    store.fail(first, "an error", SESSION)
    (store.path / "failures" / f"{first.name}.json").write_text(text)
    (store.path / "claims" / f"{second.name}.json").write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert store.states(SESSION)[:2] == ["waiting", "running"]
    damaged = [str(w.message) for w in caught if "is damaged" in str(w.message)]
    assert len(damaged) == (text != '{"a": 1}')
