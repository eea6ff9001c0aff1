"""scripts/sweep.py as people run it; most of it in this process."""

import functools
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SIMULATIONS = """# Question: which law do small networks follow?
program: scripts/simulate.py
method: grid
parameters:
  samples: {value: 300}
  model.width: {values: [8, 12]}
  model.depth: {value: 2}
  seed: {values: [0, 1]}
  wandb.mode: {value: disabled}
  run.report: {value: false}
"""
PARTLY_REFUSED = """early_terminate: {type: hyperband, min_iter: 3}
program: scripts/simulate.py
method: grid
parameters:
  samples: {value: 300}
  model.branch: {value: depth_scaled}
  model.normalized: {values: [true, false]}
  model.c: {values: [1.0, 1.5]}
  model.depth: {value: 2}
  model.width: {value: 8}
  wandb.mode: {value: disabled}
  run.report: {value: false}
"""


def summaries(folder):
    """{point: what it measured}, without times and paths."""
    found = {}
    for path in sorted(folder.glob("points/*/summary.json")):
        value = json.loads(path.read_text())
        assert value["status"] == "done"
        assert value.pop("seconds") and value.pop("sha256")
        found[path.parent.name] = value
    return found


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in folder.glob("points/*/summary.json")}


@pytest.fixture
def sweep(here):
    """Runs the script in this process: sweep(*args, check=exit code)."""
    return functools.partial(here, "sweep.py")


@pytest.fixture
def file(tmp_path):
    """A sweep of four points."""
    (tmp_path / "small.yaml").write_text(SIMULATIONS)
    return tmp_path / "small.yaml"


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


def test_started_again_nothing_is_run_twice(sweep, whole):
    """The second start finds all points done, and needs no file."""
    before = stamps(whole / "dir")
    assert len(before) == 4
    said = sweep("--dir", whole / "dir")
    assert "4 points (4 done)" in said.out and stamps(whole / "dir") == before


def test_indices_and_shards_give_the_same_points(sweep, whole, tmp_path):
    """--index 0-1, --shard 0/2 and 1/2 together are the sweep, to the bit."""
    args = (whole / "s.yaml", "--dir", tmp_path / "dir")
    sweep(*args, "--index", "0-1")
    assert len(stamps(tmp_path / "dir")) == 2
    for shard in ("0/2", "1/2"):
        sweep(*args, "--shard", shard)
    assert summaries(tmp_path / "dir") == summaries(whole / "dir")


def test_a_cluster_script_addresses_every_point(sweep, file, tmp_path):
    """An array of as many jobs as there are points, named as the file is."""
    said = sweep(file, "--dir", tmp_path / "dir", "--print-slurm")
    assert said.out.startswith("#!/bin/bash\n")
    assert "#SBATCH --job-name=small\n#SBATCH --array=0-3\n" in said.out
    assert "export XLA_PYTHON_CLIENT_PREALLOCATE=false" in said.out
    assert f'--dir={tmp_path / "dir"} --index "$SLURM_ARRAY_TASK_ID"\n' in said.out


@pytest.mark.parametrize(("count", "last"), [(1001, 1000), (1002, 999)])
def test_more_points_than_an_array_holds_are_sharded(sweep, tmp_path, count, last):
    """Slurm's arrays end at 1001 jobs: 1002 points are 1000 shards."""
    text = f"""method: grid
program: scripts/simulate.py
parameters: {{samples: {{values: {list(range(10, 10 + count))}}}}}
"""
    (tmp_path / "s.yaml").write_text(text)
    said = sweep(tmp_path / "s.yaml", "--dir", tmp_path / "dir", "--print-slurm")
    assert f"#SBATCH --array=0-{last}\n" in said.out
    assert ('--shard "$SLURM_ARRAY_TASK_ID"/1000\n' in said.out) == (count > 1001)


def test_submitit_runs_the_shards(sweep, tmp_path):
    """Two local jobs run all but the point that is refused; the end says so."""
    (tmp_path / "s.yaml").write_text(PARTLY_REFUSED)
    args = (tmp_path / "s.yaml", "--dir", tmp_path / "dir", "--jobs", "2")
    said = sweep(*args, "--submitit", "cluster=local", "timeout_min=5", check=1)
    assert "refused: point 1 " in said.out and "submitted 2 jobs" in said.out
    assert "3 of 4 points done, 1 failed" in said.out
    assert "early_terminate is wandb's: here every point runs to its end" in said.out
    assert "1 points failed" in said.err and said.err.count("\n") == 1
    assert len(summaries(tmp_path / "dir")) == 3


def test_a_failed_point_does_not_stop_the_rest_and_is_retried(sweep, file, tmp_path):
    """One point's folder is a file: it fails, the others run; fixed, it runs too."""
    args = (file, "--dir", tmp_path / "dir")
    listed = sweep(*args, "--list").out
    name = [w for w in listed.split() if len(w) == 12 and w.isalnum()][0]
    blocked = tmp_path / "dir" / "points" / name
    blocked.write_text("in the way")
    said = sweep(*args, "--shard", "0/1", check=1)
    assert "3 of 4 points done, 1 failed" in said.out and name in said.out
    assert "run again to retry" in said.err
    blocked.unlink()
    assert "4 of 4 points done, 0 failed" in sweep(*args, "--shard", "0/1").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--print-slum"], "did you mean '--print-slurm'?"),
        (["--shard", "4/4"], "shard=4/4: must be I/N"),
        (["--index", "x"], "index=x: must be numbers"),
        (["--index", "4"], "index=4: is beyond the last point, 3"),
        (["--index", "1", "--shard", "0/2"], "cannot be given together"),
        (["--seed", "5"], "belongs to another sweep"),
        (["--submitit", "nodes"], "submitit=nodes: must be KEY=VALUE"),
        (["--submitit", "cluster=lunar"], "AutoExecutor doesn't know any executor"),
        (["--submitit", "cluster=local", "tme=5"], "is refused by submitit"),
    ],
)
def test_mistakes_are_one_line(sweep, file, tmp_path, args, message):
    """Exit code 2, and a line that names field, value, rule and remedy."""
    sweep(file, "--dir", tmp_path / "dir", "--list")
    said = sweep(file, "--dir", tmp_path / "dir", *args, check=2)
    assert message in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize("option", [["--quick"], ["--seed", "0"], ["--yes"]])
def test_what_only_counts_at_the_beginning_is_refused_later(
    sweep, file, tmp_path, option
):
    """Without a file the folder's own sweep goes on: it would be ignored."""
    sweep(file, "--dir", tmp_path / "dir", "--list")
    said = sweep("--dir", tmp_path / "dir", *option, check=2)
    assert f"{option[0][2:]}=" in said.err and "the folder's sweep" in said.err


def test_an_accident_with_the_folder_is_one_line(sweep, file, tmp_path):
    """Exit code 1, no traceback."""
    sweep(file, "--dir", tmp_path / "dir", "--list")
    (tmp_path / "dir" / "failures").rmdir()
    (tmp_path / "dir" / "failures").write_text("in the way")
    said = sweep("--dir", tmp_path / "dir", "--index", "0", check=1)
    assert said.err.count("\n") == 1 and "failures: File exists" in said.err
