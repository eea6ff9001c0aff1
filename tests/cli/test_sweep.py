"""scripts/sweep.py and report.py as people run them, with real kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]

SIMULATIONS = """# Question: which law do small networks follow?
program: scripts/simulate.py
method: grid
parameters:
  samples: {value: 300}
  model.width: {values: [8, 12]}
  model.depth: {values: [2, 3]}
  wandb.mode: {value: disabled}
  run.report: {value: false}
"""
TRAININGS = """# Question: where do tiny networks leave their kernel?
program: scripts/train.py
method: grid
parameters:
  model.width: {values: [6, 10]}
  model.depth: {value: 2}
  data.train_size: {value: 20}
  data.test_size: {value: 10}
  train.seeds: {value: 3}
  train.steps: {value: 4000}
  kernel.probes: {value: 4}
  measure.times: {value: 60}
  run.checkpoint_seconds: {value: 0.2}
  wandb.mode: {value: disabled}
  run.report: {value: false}
"""


def summaries(folder):
    """{point: what it measured}, without times and paths."""
    found = {}
    for path in sorted(folder.glob("points/*/summary.json")):
        value = json.loads(path.read_text())
        assert value["status"] == "done"
        value.pop("seconds")
        found[path.parent.name] = value
    return found


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in folder.glob("points/*/summary.json")}


@pytest.fixture(scope="module")
def whole(call, tmp_path_factory):
    """The simulations run by two workers, uninterrupted."""
    path = tmp_path_factory.mktemp("whole")
    (path / "s.yaml").write_text(SIMULATIONS)
    args = (path / "s.yaml", "--dir", path / "dir", "--jobs", "2")
    done = call("sweep.py", *args)
    assert "4 of 4 points done, 0 failed" in done.stdout
    assert "Question: which law do small networks follow?" in done.stdout
    return path


def test_started_again_nothing_is_run_twice(call, whole):
    """The second start finds all points done, and needs no file."""
    before = stamps(whole / "dir")
    assert len(before) == 4
    done = call("sweep.py", "--dir", whole / "dir")
    assert "4 points (4 done)" in done.stdout and stamps(whole / "dir") == before


def test_indices_and_shards_give_the_same_points(call, whole, tmp_path):
    """--index 0-1, --shard 0/2 and 1/2 together are the sweep, to the bit."""
    args = (whole / "s.yaml", "--dir", tmp_path / "dir")
    call("sweep.py", *args, "--index", "0-1")
    assert len(stamps(tmp_path / "dir")) == 2
    for shard in ("0/2", "1/2"):
        call("sweep.py", *args, "--shard", shard)
    assert summaries(tmp_path / "dir") == summaries(whole / "dir")


def test_a_cluster_script_addresses_every_point(call, whole):
    """--print-slurm prints an array of as many jobs as there are points."""
    done = call("sweep.py", "--dir", whole / "dir", "--print-slurm")
    assert done.stdout.startswith("#!/bin/bash\n")
    assert "#SBATCH --array=0-3\n" in done.stdout
    assert '--index "$SLURM_ARRAY_TASK_ID"' in done.stdout


def test_submitit_runs_the_shards(call, whole, tmp_path):
    """Through its local executor, two jobs run the whole sweep."""
    args = (whole / "s.yaml", "--dir", tmp_path / "dir", "--jobs", "2")
    call("sweep.py", *args, "--submitit", "cluster=local", "timeout_min=5")
    assert summaries(tmp_path / "dir") == summaries(whole / "dir")


def test_a_failed_point_does_not_stop_the_rest_and_is_retried(call, tmp_path):
    """One point's folder is a file: it fails, the others run; mended, it runs too."""
    (tmp_path / "s.yaml").write_text(SIMULATIONS)
    args = (tmp_path / "s.yaml", "--dir", tmp_path / "dir")
    listed = call("sweep.py", *args, "--list").stdout
    name = [w for w in listed.split() if len(w) == 12 and w.isalnum()][0]
    blocked = tmp_path / "dir" / "points" / name
    blocked.write_text("in the way")
    done = call("sweep.py", *args, check=1)
    assert "3 of 4 points done, 1 failed" in done.stdout and name in done.stdout
    assert "run again to retry" in done.stderr
    blocked.unlink()
    done = call("sweep.py", *args)
    assert "4 of 4 points done, 0 failed" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--jobs", "0"], "jobs=0: must be at least 1"),
        (["--shard", "4/4"], "shard=4/4: must be I/N"),
        (["--index", "x"], "index=x: must be numbers"),
        (["--index", "1", "--shard", "0/2"], "cannot be given together"),
        (["--seed", "5"], "belongs to another sweep"),
    ],
)
def test_mistakes_are_one_line(call, whole, args, message):
    """Exit code 2, and a line that names field, value, rule and remedy."""
    base = (whole / "s.yaml", "--dir", whole / "dir")
    done = call("sweep.py", *base, *args, check=2)
    assert message in done.stderr and done.stderr.count("\n") == 1


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.mark.slow
def test_killing_worker_and_runner_loses_nothing(call, environment, tmp_path):
    """SIGKILL a worker, then the runner and its workers; started again, the table is
    that of an uninterrupted sweep, and report.py reads it.
    """
    (tmp_path / "s.yaml").write_text(TRAININGS)
    args = [str(tmp_path / "s.yaml"), "--dir"]
    call("sweep.py", *args, tmp_path / "whole")
    script = str(ROOT / "scripts" / "sweep.py")
    folder = tmp_path / "killed"

    def begun():
        return [p for p in folder.glob("points/*/metrics.jsonl") if p.stat().st_size]

    runner = subprocess.Popen(
        [sys.executable, script, *args, str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.time() + 120
    while not begun() and time.time() < deadline:
        time.sleep(0.1)
    (worker,) = children(runner.pid)
    os.kill(worker, signal.SIGKILL)
    while children(runner.pid) in ([], [worker]) and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(3)  # the next worker is at it
    last = children(runner.pid)
    runner.kill()
    runner.wait()
    for pid in last:
        os.kill(pid, signal.SIGKILL)
    assert len(list(folder.glob("points/*/summary.json"))) < 2
    done = call("sweep.py", *args, folder)
    assert "2 of 2 points done, 0 failed" in done.stdout
    for name in ("whole", "killed"):
        call("report.py", tmp_path / name)
    one, other = (
        pd.read_csv(tmp_path / name / "divergence.csv").drop(columns="run")
        for name in ("whole", "killed")
    )
    pd.testing.assert_frame_equal(one, other)
    first = {
        p.parent.name: p.read_text() for p in folder.glob("points/*/metrics.jsonl")
    }
    for path in (tmp_path / "whole").glob("points/*/metrics.jsonl"):
        assert path.read_text() == first[path.parent.name]
