"""scripts/boundary.py as people run it."""

import json

import pytest


@pytest.mark.slow
def test_a_boundary_is_found_resumed_and_reused(call, tmp_path):
    """A tiny boundary: costs said first, started again nothing is trained twice."""
    small = (
        "data.train_size=16 data.test_size=8 train.steps=6 kernel.probes=4 "
        "measure.times=3 wandb.mode=disabled train.lr_fraction=0.5"
    )
    args = (
        "--dir",
        tmp_path / "b",
        "--widths=6",
        "--depths=1-4",
        "--networks=balanced",
        "--threshold=0.02",
        "--seeds=2",
        "--most-seeds=2",
        "--set",
        *small.split(),
    )
    done = call("boundary.py", *args, "--dry")
    assert "Expected: about" in done.stdout and not (tmp_path / "b").exists()
    done = call("boundary.py", *args)
    assert "balanced, width 6: " in done.stdout and "training at depth" in done.stdout
    found = json.loads((tmp_path / "b" / "boundary.json").read_text())
    again = call("boundary.py", *args)
    assert "training at depth" not in again.stdout
    assert json.loads((tmp_path / "b" / "boundary.json").read_text()) == found
    other = ("--dir", tmp_path / "c", *args[2:])
    reused = call("boundary.py", *other, "--reuse", tmp_path / "b")
    assert "training at depth" not in reused.stdout
    assert (tmp_path / "c" / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--networks=vanila"], "did you mean 'vanilla'?"),
        (["--measure=drift"], "did you mean 'kernel_drift'?"),
        (["--threshold=0"], "threshold=0.0: must be positive"),
        (["--widths=a"], "widths=a: must be numbers"),
        (["--depths=5"], "depths=5: must be LOW-HIGH"),
        (["--set", "train.stepz=3"], "train.steps"),
    ],
)
def test_a_bad_boundary_is_one_line(call, tmp_path, args, message):
    """Exit code 2, before anything is trained."""
    done = call("boundary.py", "--dir", tmp_path / "b", *args, check=2)
    assert message in done.stderr and not (tmp_path / "b").exists()
