"""The printed sbatch script: bash reads it, and its jobs run the points."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.options import SweepOptions
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.slurm_script import script


@pytest.fixture
def printed(sweep_file, tmp_path, monkeypatch):
    """The script of four points: printed(folder=..., **options)."""
    monkeypatch.chdir(tmp_path)

    def make(folder="dir", **options):
        store = open_store(sweep_file(), Path(folder))
        return script(store, SweepOptions(Path(folder), **options))

    return make


def directives(text):
    """{name: value} of its #SBATCH lines, as sbatch splits them."""
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    words = [shlex.split(line)[1:] for line in map(lambda one: one[1:], lines)]
    assert all(len(word) == 1 for word in words), words
    return dict(word[0].removeprefix("--").split("=", 1) for word in words)


def test_the_defaults_ask_for_little(printed, tmp_path):
    """Two cores, 4 GB, an hour; no card, no partition, no throttle."""
    assert directives(printed()) == {
        "job-name": "small",
        "array": "0-3",
        "cpus-per-task": "2",
        "mem": "4G",
        "time": "01:00:00",
        "chdir": str(tmp_path),
        "output": "dir/logs/slurm-%A_%a.out",
    }


def test_options_reach_the_script(printed):
    """Cores also reach srun, which does not take them from sbatch."""
    more = {"gres": "gpu:a100:1", "partition": "gpu", "throttle": 4, "cpus": 8}
    text = printed(**more, mem="32G", time="2-00:00:00")
    asked = directives(text)
    assert asked["array"] == "0-3%4" and asked["gres"] == "gpu:a100:1"
    assert asked["partition"] == "gpu" and asked["time"] == "2-00:00:00"
    assert asked["mem"] == "32G" and asked["cpus-per-task"] == "8"
    assert "\nsrun --cpus-per-task=8 python " in text or sys.prefix == sys.base_prefix


@pytest.mark.parametrize("folder", ["a b", "it's $HOME", "100%", 'say "x";ls', "-x"])
def test_every_folder_is_run_in_the_environment_that_printed_it(
    printed, tmp_path, folder
):
    """bash takes the script; srun is given the point, there, with this Python."""
    text = printed(folder)
    assert directives(text)["output"].replace("%%", "%") == (
        f"{folder}/logs/slurm-%A_%a.out"
    )
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin" / "srun"
    srun.write_text(
        f"#!{sys.executable}\nimport json, os, shutil, sys\n"
        "print(json.dumps([sys.argv[1:], shutil.which('python'), os.getcwd()]))\n"
    )
    srun.chmod(0o755)
    file = tmp_path / "job.sh"
    file.write_text(text)
    subprocess.run(["bash", "-n", file], check=True)
    path = f"{srun.parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
    env = {"PATH": path, "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(
        ["bash", "-eu", file], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    arguments, python, where = json.loads(done.stdout)
    root = Path(__file__).resolve().parents[2]
    assert arguments[2:] == [
        str(root / "scripts" / "sweep.py"), f"--dir={folder}", "--index", "3"
    ]  # fmt: skip
    if sys.prefix != sys.base_prefix:
        assert Path(python).parent == Path(sys.prefix) / "bin"
    assert where == directives(text)["chdir"]


def test_a_conda_environment_is_activated_as_conda_does(printed, tmp_path, monkeypatch):
    """By its shell functions, from the conda that made it."""
    base = tmp_path / "conda"
    (base / "envs" / "e" / "conda-meta").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(base / "envs" / "e"))
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    monkeypatch.setenv("CONDA_EXE", str(base / "bin" / "conda"))
    lines = printed().splitlines()
    assert f"source {base}/etc/profile.d/conda.sh" in lines
    assert f"conda activate {base}/envs/e" in lines
    monkeypatch.delenv("CONDA_EXE")
    assert f"srun --cpus-per-task=2 {sys.executable} " in printed()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"mem": "4G\n#SBATCH --uid=0"}, "mem"),
        ({"time": "1 h"}, "time"),
        ({"gres": "gpu;ls"}, "gres"),
        ({"partition": ""}, "partition"),
    ],
)
def test_what_is_no_word_of_sbatch_is_refused(printed, options, field):
    """One line that names the option."""
    with pytest.raises(UserError, match=f"^{field}="):
        printed(**options)


def test_a_newline_in_a_path_is_refused(printed, tmp_path, monkeypatch):
    """It would end the comment and begin a command."""
    with pytest.raises(UserError, match=r"^dir=a\\ntouch x: holds"):
        printed("a\ntouch x")
    (tmp_path / "b\nc").mkdir()
    monkeypatch.chdir(tmp_path / "b\nc")
    with pytest.raises(UserError, match=r"^folder=.*b\\nc: holds"):
        printed(tmp_path / "dir")
