"""scripts/simulate.py as people run it: real processes, real files, real kills."""

import functools
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "scripts" / "simulate.py")
QUIET = "--wandb.mode=disabled"


@pytest.fixture(scope="module")
def environment(environment):
    """With XLA's newer emitters, which draw networks twice as fast as the suite's."""
    return environment | {"XLA_FLAGS": "--xla_backend_optimization_level=1"}


@pytest.fixture(scope="module")
def simulate(call):
    """Runs the script to its end: simulate(*args, check=exit code)."""
    return functools.partial(call, "simulate.py")


def rows_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").open()]


def summary_of(path):
    return json.loads((path / "summary.json").read_text())


@pytest.fixture(scope="module")
def smoke(simulate, tmp_path_factory):
    """--preset smoke, nothing else but its folder; wandb as it comes."""
    path = tmp_path_factory.mktemp("smoke") / "run"
    done = simulate("--preset", "smoke", f"--run.dir={path}")
    return path, done


def test_smoke_says_which_law_the_networks_follow(smoke):
    """The console has both laws, their z and KS, active units and one sentence."""
    path, done = smoke
    for words in (
        "Drawing 4,000 networks at initialization: balanced, width 16, depth 16",
        "log-Gaussian",
        "KS distance",
        "Hypoactivation at layer 15, in units of 1/n",
        "the log-Gaussian law, KS",
        "misses the Gaussian one by KS",
        str(path / "report.html"),
    ):
        assert words in done.stdout, done.stdout
    assert done.stderr == ""


def test_smoke_leaves_a_complete_folder(smoke):
    """Rows for layers 0 to d, a summary that agrees, and counts of all networks."""
    path, _ = smoke
    rows, summary = rows_of(path), summary_of(path)
    assert [row["layer"] for row in rows] == list(range(17))
    assert rows[0]["log_norm/mean"] == rows[0]["log_norm/var"] == 0
    assert all(row["alive"] == 4000 for row in rows) and summary["dead"] == 0
    found = summary["quantities"]["log_norm"]
    assert summary["status"] == "done" and found["count"] == 4000
    assert found["mean"] == rows[-1]["log_norm/mean"]
    with np.load(path / "histograms.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    assert set(arrays) == {
        f"{q}/{what}"
        for q in ("log_norm", "log_output")
        for what in ("edges", "counts")
    }
    # The mean again, from the counts: off by a fraction of a bin.
    edges, counts = arrays["log_norm/edges"], arrays["log_norm/counts"]
    assert counts.sum() == 4000 and counts[0] == counts[-1] == 0
    middle = (edges[1:] + edges[:-1]) / 2
    mean = middle @ counts[1:-1] / 4000
    np.testing.assert_allclose(mean, found["mean"], atol=np.diff(edges).max() / 2)
    described = json.loads((path / "environment.json").read_text())
    assert described["packages"]["jax"]
    assert not list(path.rglob("*.tmp*"))


def test_smoke_agrees_with_the_law_and_not_with_the_other(smoke):
    """Means within 4 s.e. and 1/n of the log-Gaussian law; the Gaussian one is far."""
    laws = summary_of(smoke[0])["quantities"]["log_norm"]
    error = laws["mean_se"]
    gap = abs(laws["mean"] - laws["laws"]["log-Gaussian"]["mean"])
    assert gap < 4 * error + 1.125 / 16  # -1.125 d/n, corrected by 1/n of itself
    assert abs(laws["laws"]["Gaussian"]["mean_z"]) > 20
    assert laws["laws"]["log-Gaussian"]["ks"] < 0.05 < laws["laws"]["Gaussian"]["ks"]


def test_the_report_stands_alone_with_three_figures(smoke):
    """One HTML file: three pictures inside it, also as PNG, and the numbers."""
    path, _ = smoke
    html = (path / "report.html").read_text()
    assert html.count("data:image/png;base64") == 3
    assert "http" not in html.split("<body")[0]
    names = sorted(p.name for p in (path / "figures").iterdir())
    assert names == ["activity.png", "density.png", "layers.png"]
    for name in names:
        png = (path / "figures" / name).read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 10_000
    mean = summary_of(path)["quantities"]["log_norm"]["mean"]
    assert f"{mean:.4f}" in html and "--model.width=16" in html


def test_without_a_login_wandb_is_offline_in_the_folder(smoke):
    """Nobody is asked: the mirror is an offline run in the run's own folder."""
    assert list((smoke[0] / "wandb").glob("offline-run-*/run-*.wandb"))


def test_a_complete_run_is_shown_again_and_its_report_redrawn(simulate, smoke):
    """--run.resume on a complete folder draws nothing anew but a missing report."""
    path, first = smoke
    args = ("--preset=smoke", f"--run.dir={path}")
    before = (path / "metrics.jsonl").stat().st_mtime_ns
    (path / "report.html").unlink()  # as after a kill while it was drawn
    done = simulate(*args, "--run.resume", QUIET)
    assert f"{path} is complete" in done.stdout
    assert first.stdout[first.stdout.index("log(|z_d|^2") :] in done.stdout
    assert (path / "report.html").exists()
    assert (path / "metrics.jsonl").stat().st_mtime_ns == before
    done = simulate(*args, check=2)
    assert "already holds a run" in done.stderr
    done = simulate(*args, "--run.resume", "--samples=4001", check=2)
    assert "samples is 4000 there and 4001" in done.stderr


def test_the_documented_command(simulate, tmp_path):
    """Options after a space, as in the docstring; wandb disabled leaves no folder."""
    words = "--model.kind balanced --model.width 24 --model.depth 12 --samples 3000"
    root = f"--run.root={tmp_path}"
    done = simulate(*words.split(), root, QUIET)
    assert (
        "Drawing 3,000 networks" in done.stdout and "width 24, depth 12" in done.stdout
    )
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("simulate-balanced-n24-d12")
    assert not (path / "wandb").exists()
    # Vanilla by d/n, the third of them.
    words = "--model.kind=resnet --model.ratio=0.5 --model.width=24 --samples=3000"
    done = simulate(*words.split(), root, QUIET)
    assert "resnet, width 24, depth 12 (d/n = 0.5)" in done.stdout


def test_a_fully_connected_network_meets_its_exact_law(simulate, tmp_path):
    """MLP: a column for the exact product law, within the noise; the others are not."""
    path = tmp_path / "run"
    size = ("--model.kind=mlp", "--model.width=12", "--model.depth=12")
    count = ("--samples=20000", "--run.report=False")
    done = simulate(*size, *count, f"--run.dir={path}", QUIET)
    assert "exact product" in done.stdout
    found = summary_of(path)["quantities"]["log_norm"]
    laws = found["laws"]
    # 99.9 % of samples of the law stay below 1.95/1.358 of the 95 % noise.
    assert laws["exact product"]["ks"] < 1.44 * laws["exact product"]["ks_noise"]
    assert abs(laws["exact product"]["mean_z"]) < 4
    assert abs(laws["exact product"]["var_z"]) < 4
    assert abs(laws["log-Gaussian"]["mean_z"]) > 4
    assert found["nearest"] == "exact product"
    assert not (path / "report.html").exists()


def test_an_antithetic_run_has_smaller_errors_of_active_units(simulate, tmp_path):
    """Pairs with negated numbers: a third of the active share's error, or less."""
    errors = []
    for name, extra in (("plain", ()), ("pairs", ("--antithetic",))):
        size = ("--model.kind=resnet", "--model.width=16", "--model.depth=8")
        rest = ("--samples=4000", "--run.report=False", QUIET, *extra)
        path = tmp_path / name
        simulate(*size, *rest, f"--run.dir={path}")
        errors.append(rows_of(path)[4]["active_fraction/mean_se"])
    assert errors[1] < errors[0] / 3


@pytest.mark.slow
def test_ten_thousand_layers_stay_finite(simulate, tmp_path):
    """d = 10^4 at n = 16: norms of e^{-700}, every number recorded is finite."""
    path = tmp_path / "run"
    size = ("--model.width=16", "--model.depth=10000", "--samples=64")
    done = simulate(*size, f"--run.dir={path}", QUIET)
    assert "width 16, depth 10000 (d/n = 625)" in done.stdout
    printed = done.stdout.replace("log-Gaussian", "")
    assert "nan" not in printed and "inf" not in printed.replace("infinite", "")
    rows = rows_of(path)
    assert len(rows) == 10_001
    assert all(v is not None and math.isfinite(v) for row in rows for v in row.values())
    last = rows[-1]
    # Its size: float32 ends at e^{-103}.
    assert last["log_norm/mean"] < -500 and last["alive"] == 64
    # Of the law's -.0703 a layer finite width takes a share of order 1/n.
    mean = last["log_norm/law/mean"]
    assert abs(last["log_norm/mean"] / mean - 1) < 1 / 16
    assert (path / "report.html").exists()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(environment, simulate, tmp_path):
    """SIGKILL after a checkpoint: metrics and counts are the undisturbed ones."""
    # Four calls of the compiled program, with a checkpoint after the first.
    args = (
        "--model.width=256",
        "--model.depth=64",
        "--samples=32000",
        "--run.checkpoint_seconds=0.1",
        "--run.report=False",
        QUIET,
    )
    whole, path = tmp_path / "whole", tmp_path / "killed"
    simulate(*args, f"--run.dir={whole}")
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *args, f"--run.dir={path}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 200
    while process.poll() is None and time.time() < deadline:
        saved = (path / "checkpoints").glob("*")
        if any(p.name.isdigit() for p in saved):  # others are still being written
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (path / "metrics.jsonl").exists()
    done = simulate(*args, f"--run.dir={path}", "--run.resume")
    (resumed,) = [w for w in done.stdout.splitlines() if "resuming at network" in w]
    at = int(resumed.split()[-1].replace(",", ""))
    assert 0 < at < 32_000
    want = (whole / "metrics.jsonl").read_bytes()
    assert (path / "metrics.jsonl").read_bytes() == want
    with (
        np.load(whole / "histograms.npz") as a,
        np.load(path / "histograms.npz") as b,
    ):
        assert a.files == b.files
        for key in a.files:
            np.testing.assert_array_equal(a[key], b[key])
    quantities = [summary_of(p)["quantities"] for p in (whole, path)]
    assert quantities[0] == quantities[1]


@pytest.mark.parametrize(
    "args, words",
    [
        (["--model.branch=depth_scaled", "--model.c=0"], "model.c=0.0: without a"),
        (["--smaples=30"], "did you mean '--samples'?"),
        (["--model.head=relu"], "model.head=relu"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(simulate, tmp_path, args, words):
    """Field, value, rule and remedy; no traceback, and no folder left behind."""
    done = simulate(*args, f"--run.root={tmp_path}", check=2)
    assert words in done.stderr and done.stderr.startswith("error: ")
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_mistake_leaves_the_files_of_others_alone(simulate, tmp_path):
    """A refused config removes nothing from a folder that was there before."""
    (tmp_path / "notes.txt").write_text("mine")
    args = ("--model.branch=depth_scaled", "--model.c=0", f"--run.dir={tmp_path}")
    simulate(*args, check=2)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_networks_that_all_die_are_one_line(simulate, tmp_path):
    """Width 1 without a skip dies within a few layers: exit 1, and what to change."""
    size = ("--model.kind=mlp", "--model.width=1", "--model.depth=60")
    rest = ("--samples=100", f"--run.dir={tmp_path / 'run'}", QUIET)
    done = simulate(*size, *rest, check=1)
    assert "only 0 of 100 networks are alive at the last layer" in done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr
