"""scripts/train.py as people run it: real processes, real files, real kills."""

import functools
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "--preset=smoke",
    "--data.train_size=24",
    "--data.test_size=20",
    "--model.width=16",
    "--model.depth=3",
    "--train.steps=60",
    "--train.lr_fraction=0.1",
    "--measure.tolerance=0.03",
    "--kernel.probes=6",
    "--run.checkpoint_seconds=0",
    "--wandb.mode=disabled",
)


@pytest.fixture(scope="module")
def environment(environment, tmp_path_factory):
    """The same, with data of its own that are kept between runs."""
    return environment | {"TFDS_DATA_DIR": str(tmp_path_factory.mktemp("data"))}


@pytest.fixture(scope="module")
def train(call):
    """Runs the script to its end: train(*args, check=exit code)."""
    return functools.partial(call, "train.py")


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A run that nobody disturbed."""
    path = tmp_path_factory.mktemp("whole") / "run"
    done = train(*TINY, f"--run.dir={path}")
    return path, done.stdout


def test_a_run_says_what_it_compares_and_what_came_of_it(whole):
    """The console names the three predictors and ends with a reading in a sentence."""
    path, out = whole
    for words in (
        "24 training and 20 test examples of digits",
        "1 finite networks: 2 x balanced, width 16, depth 3",
        "2 their linearizations",
        "3 the infinite-width limit",
        "step 60 of 60",
        "test accuracy",
        "left its kernel at t =",
        str(path / "report.html"),
    ):
        assert words in out, out


def test_a_run_leaves_a_complete_folder(whole):
    """Every file of the record is there and says the same thing."""
    path, _ = whole
    rows = [json.loads(line) for line in (path / "metrics.jsonl").open()]
    steps = [row["step"] for row in rows]
    assert steps[0] == 0 and steps[-1] == 60 and steps == sorted(set(steps))
    arrays = sorted(p.name for p in (path / "arrays").iterdir())
    assert arrays == [f"{step:09d}.npz" for step in steps]
    summary = json.loads((path / "summary.json").read_text())
    assert summary["status"] == "done" and summary["final"]["step"] == 60
    relative = rows[-1]["distance/finite_linearized/test/relative"]
    final = summary["final"]["distance/finite_linearized/test/relative"]
    np.testing.assert_allclose(final, np.median(relative))
    np.testing.assert_allclose([r["t"] for r in rows], summary["lr"] * np.array(steps))
    described = json.loads((path / "environment.json").read_text())
    assert described["packages"]["jax"] and described["backend"] == "cpu"
    assert json.loads((path / "config.json").read_text())["model.depth"] == 3
    html = (path / "report.html").read_text()
    assert "data:image/png;base64" in html and "http" not in html.split("<body")[0]
    assert not list(path.rglob("*.tmp*"))


def test_rows_are_what_the_arrays_say(whole):
    """Distances, drift and losses recomputed from the recorded arrays, in numpy."""
    path, _ = whole
    rows = [json.loads(line) for line in (path / "metrics.jsonl").open()]
    first = dict(np.load(path / "arrays" / "000000000.npz"))
    last = dict(np.load(path / "arrays" / "000000060.npz"))
    y = np.load(path / "limits.npz")["y/test"]
    f, g = last["finite/outputs/test"], last["linearized/outputs/test"]
    rms = lambda a: np.sqrt((a.astype(float) ** 2).mean((-2, -1)))
    want = rms(f - g) / rms(g - first["linearized/outputs/test"])
    row = rows[-1]
    np.testing.assert_allclose(
        row["distance/finite_linearized/test/relative"], want, rtol=1e-5
    )
    loss = 0.5 * ((f - y) ** 2).sum(-1).mean(-1)
    np.testing.assert_allclose(row["finite/loss/test"], loss, rtol=1e-5)
    k, k0 = last["finite/kernel"], first["finite/kernel"]
    drift = [
        np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(k, k0, strict=True)
    ]
    np.testing.assert_allclose(row["kernel/drift"], drift, rtol=1e-5)
    assert rows[0]["distance/finite_linearized/test/rms"] == pytest.approx(
        [0, 0], abs=1e-5
    )
    assert rows[0]["kernel/drift"] == [0, 0]


def start(environment, *args):
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *args]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)


def kill_after(process, path, rows):
    """SIGKILL as soon as `rows` lines are recorded."""
    metrics, deadline = path / "metrics.jsonl", time.time() + 200
    while process.poll() is None and time.time() < deadline:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(
    environment, train, whole, tmp_path
):
    """SIGKILL during set-up, after rows 1, 3 and 5, and with a damaged checkpoint.

    The metrics of the run that survived all of it are those of the undisturbed run, to
    the last byte, and no time is in them twice.
    """
    path = tmp_path / "run"
    args = (*TINY, f"--run.dir={path}", "--run.resume")
    process = start(environment, *args)
    time.sleep(2.0)
    process.kill()
    process.wait()
    killed = 0
    for rows in (1, 3, 5):
        process = start(environment, *args)
        killed += kill_after(process, path, rows)
    assert killed == 3
    steps = sorted(
        int(p.name) for p in (path / "checkpoints").iterdir() if p.name.isdigit()
    )
    assert steps
    newest = path / "checkpoints" / str(steps[-1])
    for file in newest.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    done = train(*args)
    assert f"checkpoint of step {steps[-1]} is damaged" in done.stderr
    want = (whole[0] / "metrics.jsonl").read_bytes()
    assert (path / "metrics.jsonl").read_bytes() == want
    (path / "report.html").unlink()  # as after a kill while it was drawn
    again = train(f"--run.dir={path}", "--run.resume")
    assert "is complete" in again.stdout and "left its kernel" in again.stdout
    assert (path / "report.html").exists()


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_loses_nothing(train, whole, tmp_path):
    """A file-size limit makes writes fail; without it the run resumes, to the bit."""
    path = tmp_path / "run"
    args = (*TINY, f"--run.dir={path}")
    size = (whole[0] / "metrics.jsonl").stat().st_size
    limit = (size + (whole[0] / "arrays" / "000000000.npz").stat().st_size) // 2
    assert limit < size  # arrays fit, and metrics.jsonl does after some rows not

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    late = ("--run.checkpoint_seconds=1000", "--run.compile_cache=False")
    done = train(*args, *late, check=1, preexec_fn=limited)
    assert (
        "metrics.jsonl: cannot be written" in done.stderr
        and "--run.resume" in done.stderr
    )
    assert done.stderr.strip().count("\n") <= 2, done.stderr
    assert 1 <= (path / "metrics.jsonl").read_bytes().count(b"\n") < 9
    train(*args, "--run.resume")
    want = (whole[0] / "metrics.jsonl").read_bytes()
    assert (path / "metrics.jsonl").read_bytes() == want


def test_too_large_a_learning_rate_warns_and_stops_with_everything_kept(
    train, tmp_path
):
    """Above the bound: a warning, exit 1 at the first value that is not finite."""
    path = tmp_path / "run"
    # Recorded at every step, so that the first bad value is met there.
    rate = ("--train.lr_fraction=30", "--train.steps=40", "--measure.times=400")
    args = (*TINY, *rate, f"--run.dir={path}")
    done = train(*args, check=1)
    assert "warning: train.lr=" in done.stderr and "stability bound" in done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(error) == 1 and "is not finite at step" in error[0]
    assert "lower train.lr" in error[0] and "t = " in error[0]
    summary = json.loads((path / "summary.json").read_text())
    assert summary["status"] == "failed" and summary["final"]["step"] >= 1
    assert (path / "metrics.jsonl").read_text().count("\n") >= 2
    assert (path / "report.html").exists()


@pytest.mark.parametrize(
    "args, words",
    [
        (["--model.widht=3"], "did you mean '--model.width'?"),
        (["--data.train_size=5000"], "data.train_size=5000"),
        (["--model={'depth':"], "must be a dictionary of settings"),
        (["--model.width=600000"], "training takes"),
        (["--kernel.probes=900"], "kernel.probes=900: must be at most"),
        (["--data.name=linear", "--data.train_size=100000"], "its kernels take"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(train, tmp_path, args, words):
    """Field, value, rule and remedy; no traceback."""
    done = train(*args, f"--run.root={tmp_path}", check=2)
    assert words in done.stderr and done.stderr.startswith("error: ")
    assert done.stderr.strip().count("\n") == 0, done.stderr
    assert not list(tmp_path.iterdir())  # no folder is left behind


def test_a_network_that_overflows_at_the_start_says_so(train, tmp_path):
    """float32 overflow at step 0 is a failed run with a remedy, not a traceback."""
    branch = ("--model.branch=fixed", "--model.depth=300")
    done = train(*TINY, *branch, f"--run.dir={tmp_path / 'run'}", check=1)
    assert "not finite at step 0" in done.stderr and "depth_scaled" in done.stderr


def test_a_folder_of_another_config_is_refused(train, whole):
    """Resuming with another width names what differs."""
    args = (*TINY, f"--run.dir={whole[0]}", "--run.resume", "--model.width=17")
    done = train(*args, check=2)
    assert "belongs to another config: model.width is 16 there and 17" in done.stderr
    done = train(*TINY, f"--run.dir={whole[0]}", check=2)
    assert "already holds a run" in done.stderr


def test_help_answers_within_a_second(train):
    """No heavy import comes before the arguments are read."""
    fastest = np.inf
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = train("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: what the wall clock shows when nothing else runs.
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        fastest = min(fastest, used)
    assert "--model.width" in done.stdout and "--run.resume" in done.stdout
    assert fastest < 1.0, f"{fastest:.2f} s"


def test_another_models_package_is_named(environment, train, tmp_path):
    """A `models` that shadows ours is an error that says where it is."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    env = environment | {"PYTHONPATH": str(tmp_path)}
    done = train(*TINY, check=2, env=env)
    assert f"{tmp_path / 'models'}" in done.stderr and "shadowed" in done.stderr


def test_a_run_on_the_default_data_never_imports_tensorflow(environment, tmp_path):
    """Nor where neural-tangents, which declares it, is used: tanh has its kernels."""
    given = [*TINY, "--model.activation=tanh", "--run.report=False"]
    program = f"""
import sys
sys.argv = ["train.py", *{given!r}, "--run.dir={tmp_path / "run"}"]
sys.path.insert(0, {str(ROOT / "scripts")!r})
import train
train.main(train.run, "")
loaded = {{m.split(".")[0] for m in sys.modules}}
assert "jax" in loaded and "neural_tangents" in loaded
assert not loaded & {{"tensorflow", "tf2jax", "keras"}}, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
