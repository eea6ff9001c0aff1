"""scripts/boundary.py as people run it: interrupted, killed, and to its end."""

import functools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.errors import RunError
from testbed.runs.digests import plain
from testbed.settings import flatten
from testbed.sweeps.queue import workers
from testbed.sweeps.queue.work import run_point, take

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "boundary.py"
TINY = (
    "--widths=6 --depths=1-3 --networks=balanced --threshold=0.02 --seeds=2 "
    "--most-seeds=2 --set data.train_size=16 data.test_size=8 train.steps=6 "
    "kernel.probes=0 --set measure.times=2 wandb.mode=disabled train.lr_fraction=0.5"
).split()


@pytest.fixture
def boundary(here):
    """Runs the script in this process: boundary(*args, check=exit code)."""
    return functools.partial(here, "boundary.py")


STOPPED = "stopped: interrupted; rerun to resume\n"


def begin(environment, folder, *options):
    """The script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--dir", str(folder), *TINY, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition):
    """Waits; returns what the condition gives when it is true."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def at_work(process, runs):
    """Waits until it has begun as many runs; the processes of its workers."""
    for line in process.stdout:
        runs -= "networks ..." in line
        if not runs:
            break
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    children = until(lambda: path.read_text().split())
    assert all("testbed.worker" in command_of(pid) for pid in children)
    return children


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


def gone(pids):
    """Waits until none of the processes is at work any more."""
    until(lambda: not any(command_of(pid) for pid in pids))


@pytest.mark.slow
def test_a_boundary_is_found_whatever_happens(boundary, environment, tmp_path):
    """Ctrl-C ends at once, a kill leaves no process; then two searches end together.

    While a worker prepares data it holds locks, of which Python speaks when it is
    stopped: in its log, not on the console.
    """
    folder, made = tmp_path / "b", tmp_path / "tfds"
    process = begin(environment | {"TFDS_DATA_DIR": str(made)}, folder)
    children = at_work(process, 1)
    until(lambda: list(made.rglob("*")))
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=5)
    assert process.returncode == 130 and error == STOPPED
    gone(children)
    assert not list(folder.glob("claims/*"))

    process = begin(environment, folder)
    children = at_work(process, 2)
    process.kill()
    process.communicate(timeout=5)
    gone(children)
    assert len(list(folder.glob("points/*/summary.json"))) == 1

    said = boundary("--dir", folder, *TINY, "--dry").out
    assert "Finished before and used: 1 runs" in said and "Expected: about" in said
    for process in [begin(environment, folder, f"--jobs={n}") for n in (1, 2)]:
        said, error = process.communicate(timeout=120)
        assert process.returncode == 0 and error == "", error
        assert re.search(r"balanced, width 6: depth \d, 2 networks ... \[\d of", said)
        assert "Report: " in said and (folder / "report.html").exists()
    found = json.loads((folder / "boundary.json").read_text())
    assert boundary("--dir", folder).out.count("Nothing is left to train") == 1
    assert json.loads((folder / "boundary.json").read_text()) == found
    said = boundary("--dir", tmp_path / "c", *TINY, "--reuse", folder).out
    assert "Nothing is left to train" in said
    assert json.loads((tmp_path / "c" / "boundary.json").read_text()) == found


def test_a_refused_run_is_one_line(boundary, tmp_path):
    """What only a run can tell, here more probes than examples, ends the search."""
    args = ("--dir", tmp_path / "b", *TINY, "kernel.probes=9")
    said = boundary(*args, check=2)
    assert said.err.startswith("error: kernel.probes=9: must be at most")
    assert said.err.count("\n") == 1


@pytest.fixture
def made_up(monkeypatch):
    """No run takes place: a function of config and folder stands for it."""

    def use(outcome):
        programs = {"scripts/boundary.py": lambda c: outcome(c, Path(c.run.dir))}

        class Inside(workers.Workers):
            def busy(self):
                point = take(self._store, self._session)
                if point is None:
                    return False
                try:
                    run_point(self._store, point, self._session, programs)
                finally:
                    self._store.release()
                return True

            def _start(self):
                return None

            def stop(self):
                pass

        monkeypatch.setattr(workers, "Workers", Inside)
        monkeypatch.setattr(workers, "POLL_SECONDS", 0.0)

    return use


def rising(config, folder):
    """Leaves the record of networks at a relative distance of a tenth of the depth."""
    folder.mkdir(parents=True, exist_ok=True)
    y = [0.1 * config.model.depth] * config.train.seeds
    row = {"step": config.train.steps, "t": 1.0}
    row["distance/finite_linearized/test/relative"] = y
    (folder / "config.json").write_text(json.dumps(plain(flatten(config))))
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "summary.json").write_text('{"status": "done", "lr": 0.5}')


PLAN = (
    "--widths=6,8 --depths=1-8 --networks=balanced --threshold=0.35 --seeds=2 "
    "--most-seeds=4 --measure=relative_distance --set train.steps=7"
).split()


def test_ctrl_c_is_not_lost_in_a_finalizer(boundary, made_up, tmp_path):
    """Python drops what is raised there: the search would go on to its end."""

    class Dies:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def interrupted(config, folder):
        rising(config, folder)
        Dies()

    made_up(interrupted)
    said = boundary("--dir", tmp_path / "b", *PLAN, check=130)
    assert said.err == STOPPED
    assert len(list(tmp_path.glob("b/points/*"))) == 1


def test_dir_alone_goes_on(boundary, made_up, tmp_path):
    """The folder keeps its plan; what is given with it has to agree."""
    folder = tmp_path / "b"

    def stop(config, folder):
        raise KeyboardInterrupt

    made_up(stop)
    boundary("--dir", folder, *PLAN, check=130)
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["widths"] == [6, 8] and plan["settings"] == {"train.steps": "7"}
    made_up(rising)
    boundary("--dir", folder)
    found = json.loads((folder / "boundary.json").read_text())
    assert found["settings"]["threshold"] == 0.35 and len(found["boundaries"]) == 2
    # Written otherwise, and with a setting that decides no number.
    same = ["--widths", "8, 6", "--set", "train.steps=07", "wandb.mode=disabled"]
    assert "Nothing is left" in boundary("--dir", folder, *same).out
    plan = (folder / "plan.json").read_bytes()
    for other in ("--widths=6", "--threshold=0.3", "--depths=1-64", "--seeds=4"):
        said = boundary("--dir", folder, other, check=2).err
        assert said == (
            f"error: dir={folder}: belongs to another boundary; choose another folder\n"
        )
    assert boundary("--dir", folder, "--set", "train.steps=8", check=2)
    assert (folder / "plan.json").read_bytes() == plan
    again = json.loads((folder / "boundary.json").read_text())
    assert again["boundaries"] == found["boundaries"]


def test_folders_of_others_are_refused(boundary, tmp_path):
    """A sweep's folder, and one whose plan cannot be read."""
    args = ("--dir", tmp_path, "--dry")
    (tmp_path / "sweep.yaml").touch()
    assert "holds a sweep; choose another" in boundary(*args, check=2).err
    (tmp_path / "sweep.yaml").unlink()
    (tmp_path / "plan.json").write_text("{}")
    assert "holds a damaged plan.json" in boundary(*args, check=2).err


def test_what_failed_is_told_at_the_end(boundary, made_up, tmp_path):
    """Exit code 1 and one line, after the page of what was found."""

    def outcome(config, folder):
        if config.model.width == 6:
            raise RunError("memory is exhausted")
        rising(config, folder)

    made_up(outcome)
    said = boundary("--dir", tmp_path, *PLAN, check=1)
    assert said.err == (
        f"error: balanced, width 6: memory is exhausted; see {tmp_path / 'failures'}; "
        "started again, the search goes on\n"
    )
    assert "width 8: d* = 3.5" in said.out and (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--networks=resnett"], "did you mean 'resnet'?"),
        (["--measure=drift"], "did you mean 'kernel_drift'?"),
        (["--widths=a"], "widths=a: must be numbers"),
        (["--depths=5"], "depths=5: must be LOW-HIGH"),
        (["--reuse", "nowhere"], "reuse=nowhere: does not exist"),
        (["--set", "train.stepz=3"], "train.steps"),
        (["--set", "model.width=3"], "is decided by the search; use --widths"),
    ],
)
def test_a_bad_boundary_is_one_line(boundary, tmp_path, args, message):
    """Exit code 2, before anything is trained."""
    said = boundary("--dir", tmp_path / "b", *args, check=2)
    assert message in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "b").exists()
