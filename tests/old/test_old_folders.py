"""Folders that an older version made, when every kind of model had all settings.

folders.tar.xz holds a run of a fully connected network with a skip weight that it had
no use for, a simulation of one, and a sweep over kind and skip weight; figures, wandb's
files and locks were left out.
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from testbed.cli import parse
from testbed.commands import SIMULATE
from testbed.config import SimulateConfig
from testbed.errors import UserError
from testbed.options import BoundaryOptions
from testbed.programs import train
from testbed.reports import write_report
from testbed.reports.simulation import write_simulation_report
from testbed.reports.sweeps.groups import groups_of
from testbed.runs.console import Console
from testbed.runs.folder import RunFolder
from testbed.runs.stored import read_config
from testbed.sweeps.boundary import Plan
from testbed.sweeps.boundary_folder import keep_plan, plan_in
from testbed.sweeps.gather import gather
from testbed.sweeps.queue.sweep_store import open_store
from testbed.validation import validate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def old(tmp_path):
    """The folders, unpacked."""
    with tarfile.open(Path(__file__).parent / "folders.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path


def quiet():
    console = Console()
    console.rich.quiet = True
    return console


def test_a_run_goes_on_and_keeps_what_it_was_told(old):
    """Extended to twice its steps, its old rows untouched; the skip weight stays."""
    path = old / "run"
    before = (path / "metrics.jsonl").read_bytes()
    more = [f"--run.dir={path}", "--run.resume", "--train.steps=12"]
    config = validate(parse([*more, "--wandb.mode=disabled", "--run.report=False"]))
    assert config.model.kind == "mlp" and not hasattr(config.model, "alpha")
    summary = train(config, quiet())
    assert summary["status"] == "done"
    assert json.loads((path / "config.json").read_text())["model.alpha"] == 0.5
    after = (path / "metrics.jsonl").read_bytes()
    assert after.startswith(before) and len(after) > len(before)
    again = validate(parse([*more, "--wandb.mode=disabled", "--run.report=False"]))
    assert train(again, quiet())["status"] == "done"
    assert (path / "metrics.jsonl").read_bytes() == after
    write_report(path)
    page = (path / "report.html").read_text()
    assert "--model.kind=mlp" in page and "--model.alpha" not in page


def test_another_run_is_not_taken_for_it(old):
    """A setting that does decide numbers is still compared."""
    given = [f"--run.dir={old / 'run'}", "--run.resume", "--model.activation=tanh"]
    with pytest.raises(Exception, match="model.activation is relu there"):
        parse(given)


def test_a_simulation_is_drawn_again(old):
    """Its law is that of a network without a skip."""
    path = old / "simulation"
    config = read_config(path, SimulateConfig)
    assert config.model.kind == "mlp" and SIMULATE.validate(config) == config
    write_simulation_report(path)
    assert "model.alpha" not in (path / "report.html").read_text()


def test_a_sweep_is_read_and_goes_on(old):
    """Two points of the mlp were one; a point that was lost is made again."""
    gathered = gather([old / "sweep"])
    assert len(gathered.runs) == 3
    ((_, reason),) = gathered.problems
    assert reason.startswith("the same run as ")
    assert gathered.varied == ["model.kind", "model.alpha"]
    labels = [group.label for group in groups_of(gathered)]
    assert sorted(labels) == [
        "kind = mlp",
        "kind = resnet, alpha = 0.5",
        "kind = resnet, alpha = 1",
    ]
    store = open_store(None, old / "sweep")
    kinds = [
        (p.settings["model.kind"], p.settings["model.alpha"]) for p in store.points()
    ]
    assert kinds == [("mlp", 0.5), ("resnet", 0.5), ("resnet", 1.0)]
    assert all((old / "sweep/points" / p.name).is_dir() for p in store.points())
    (old / "sweep/points" / store.points()[2].name / "summary.json").unlink()
    command = [sys.executable, "scripts/sweep.py", "--dir", str(old / "sweep")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model.kind=mlp has no model.alpha, model.branch: left out" in done.stdout
    assert "(2 done)" in done.stdout and "3 of 3 points done" in done.stdout


def test_a_boundary_knows_its_networks_by_their_old_names(tmp_path):
    """Those of plan.json, and those of --networks."""
    keep_plan(Plan(networks=("resnet", "balanced", "balanced_scaled")), tmp_path)
    path = tmp_path / "plan.json"
    stored = json.loads(path.read_text())
    stored = {name: value for name, value in stored.items() if name != "sha256"}
    stored["networks"] = ["vanilla", "balanced", "depth_scaled"]
    RunFolder(tmp_path).write_json("plan.json", stored)
    for given in (None, "vanilla,balanced,depth_scaled"):
        plan = plan_in(BoundaryOptions(tmp_path, given))
        assert plan.networks == ("resnet", "balanced", "balanced_scaled")
    with pytest.raises(UserError, match="belongs to another boundary"):
        plan_in(BoundaryOptions(tmp_path, "resnet"))
