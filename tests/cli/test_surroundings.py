"""What commands find around them: variables of jax, matplotlib, wandb; limits."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.surroundings import NO_EFFECT, refused_by_jax, settle

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "module://backend_of_a_notebook"
TINY = ("--preset=smoke", "--samples=200", "--model.width=8", "--model.depth=2")
NOISY = {  # what must change nothing, all at once
    "MPLBACKEND": NOTEBOOK,
    "JAX_ENABLE_X64": "0",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEFAULT_MATMUL_PRECISION": "a lot",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_COMPILATION_CACHE_DIR": "/proc/not/there",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii",
    "LANG": "C",
    "LC_ALL": "C",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "COLUMNS": "0",
    "HOME": "/proc/not/there",
    "TMPDIR": "/proc/not/there",
    "WANDB_MODE": " Disabled ",
}


QUIET = "import testbed.cli, sys; assert 'numpy' not in sys.modules"


def start(environment, script, *args, **options):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / script), *map(str, args)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_what_is_set_around_a_run_changes_no_number(environment, tmp_path):
    """The same bits, and figures, in a profile made for notebooks and debugging."""
    runs = {}
    for name, more in (("plain", {}), ("noisy", NOISY)):
        where = f"--run.dir={tmp_path / name}"
        args = (*TINY, where) + (("--wandb.mode=disabled",) if not more else ())
        runs[name] = start(environment | more, "simulate.py", *args)
    for name, process in runs.items():
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        assert "Traceback" not in err and len(err.splitlines()) <= (name == "noisy")
        assert out.isascii() == (name == "noisy")
        assert len(list((tmp_path / name / "figures").glob("*.png"))) == 3
    for file in ("metrics.jsonl", "histograms.npz"):
        plain, noisy = ((tmp_path / name / file).read_bytes() for name in runs)
        assert plain == noisy, file


def test_a_run_trains_the_same_under_strict_promotion(environment, tmp_path):
    """A user's choice for their own code is not that of a run's process."""
    tiny = ("--preset=smoke", "--data.name=linear", "--data.train_size=8")
    tiny += ("--data.test_size=8", "--model.width=6", "--model.depth=2")
    tiny += ("--train.steps=4", "--kernel.probes=2", "--measure.times=3")
    where = f"--run.dir={tmp_path / 'run'}"
    more = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "MPLBACKEND": NOTEBOOK}
    args = (*tiny, "--wandb.mode=disabled", where)
    process = start(environment | more, "train.py", *args)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0 and err == "", err
    assert (tmp_path / "run" / "report.html").exists()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "done"


SWEEP = "program: scripts/simulate.py\nmethod: grid\nparameters: {seed: {value: 1}}\n"


def test_a_device_that_is_not_there_is_one_line(environment, tmp_path):
    """From every script that computes, before anything is written; a script that only
    reads does not need it.
    """
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "empty").mkdir()
    commands = {
        "cuda": ("train.py", "--preset=smoke", f"--run.root={tmp_path / 'a'}"),
        "gpu,foo": ("simulate.py", *TINY, f"--run.root={tmp_path / 'b'}"),
        "foo": ("sweep.py", tmp_path / "sweep.yaml", "--dir", tmp_path / "c"),
        "rocm": ("boundary.py", "--dir", tmp_path / "d", "--widths=4"),
        "tpu": ("reproduce.py", "depth_then_width", "--quick", "--dir", tmp_path / "e"),
    }
    running = {
        value: start(environment | {"JAX_PLATFORMS": value}, *command)
        for value, command in commands.items()
    }
    for value, process in running.items():
        _, err = process.communicate(timeout=200)
        line = f"JAX_PLATFORMS={value}: no such device here; unset it, or set cpu"
        assert err == f"error: {line}\n" and process.returncode == 2
    assert {p.name for p in tmp_path.iterdir()} == {"sweep.yaml", "empty"}
    listed = start(
        environment | {"JAX_PLATFORMS": "cuda"},
        *("sweep.py", tmp_path / "sweep.yaml", "--dir", tmp_path / "c", "--list"),
    )
    assert listed.communicate(timeout=200)[1] == "" and listed.returncode == 0


def test_what_jax_does_not_take_is_one_line(environment, tmp_path):
    """Variables that keep their effect, set to what they cannot be."""
    values = {"JAX_DEBUG_NANS": "maybe", "JAX_NUM_CPU_DEVICES": "x"}
    values |= {"WANDB_MODE": "ofline"}
    running = {
        name: start(
            environment | {name: value}, "simulate.py", *TINY, f"--run.root={tmp_path}"
        )
        for name, value in values.items()
    }
    for name, process in running.items():
        _, err = process.communicate(timeout=200)
        assert err.startswith(f"error: {name}={values[name]}: "), err
        assert err.count("\n") == 1 and "unset it" in err and process.returncode == 2
    assert not list(tmp_path.iterdir())


def test_too_few_threads_are_one_line(environment, tmp_path):
    """Also memory without room for their stacks; nobody has interrupted anything."""

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (100 * 2**20, 100 * 2**20))

    args = (*TINY, f"--run.root={tmp_path}")
    process = start(environment, "simulate.py", *args, preexec_fn=limited)
    _, err = process.communicate(timeout=60)
    assert err.startswith("error: threads=") and "ulimit -u" in err, err
    assert err.count("\n") == 1 and process.returncode == 2
    # OpenBLAS starts its threads when numpy is imported: not before they are counted.
    subprocess.run([sys.executable, "-c", QUIET], env=environment, check=True)


def test_a_library_draws_whatever_backend_is_named(tmp_path):
    """And leaves the variable, and matplotlib's settings, to its user."""
    program = """
import os, sys
from testbed.reports.toolkit.style import in_style, load_matplotlib
load_matplotlib()
assert os.environ["MPLBACKEND"] == sys.argv[1]
import testbed.reproduce.claim
from testbed.reports.toolkit import Drawing, blank
with in_style():
    figure, axes = blank(1, 1, 2.0)
    axes[0, 0].plot([1, 2])
assert Drawing("a", "b", "c", figure).png.startswith(b"\\x89PNG")
import matplotlib
assert sys.argv[1] != "svg" or matplotlib.get_backend() == "svg"
"""
    for backend in (NOTEBOOK, "no such backend", "svg"):
        done = subprocess.run(
            [sys.executable, "-c", program, backend],
            env=os.environ | {"MPLBACKEND": backend},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr


def test_only_jax_errors_about_variables_are_told_as_mistakes(monkeypatch):
    """An error of our own stays a defect, whatever is set."""
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    try:
        raise ValueError("Invalid value for JAX flag jax_platforms")
    except ValueError as error:
        assert refused_by_jax(error) is None


def test_settling_touches_nothing_else(monkeypatch):
    """Devices, caches, logs and debugging stay a person's choice."""
    kept = {"JAX_PLATFORMS": "cpu", "JAX_DEBUG_NANS": "1", "JAX_LOG_COMPILES": "1"}
    for name in (*NO_EFFECT, *kept, "MPLBACKEND"):
        monkeypatch.setenv(name, kept.get(name, "1"))
    before = dict(os.environ)
    settle()
    changed = {name for name in before if os.environ.get(name) != before[name]}
    assert changed == {*NO_EFFECT, "MPLBACKEND"}
    monkeypatch.setattr("testbed.surroundings.os.cpu_count", lambda: 10**6)
    with pytest.raises(UserError, match="of the 2000008 threads that jax needs"):
        resource_limited(settle)


def resource_limited(call):
    """Calls it where new threads have no room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20, hard))
    try:
        call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
