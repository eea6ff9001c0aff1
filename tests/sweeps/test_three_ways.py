"""One sweep file, three ways to run it: the same points, and the same numbers."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from testbed.programs import PROGRAMS
from testbed.settings import flatten
from testbed.sweeps.points import drawn
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.work import index_filter, shard_filter, work
from testbed.sweeps.spec import config_of

ROOT = Path(__file__).resolve().parents[2]
GRID = {
    "name": "three_ways",
    "project": "depthwidth",
    "program": "scripts/train.py",
    "method": "grid",
    "parameters": {
        "data.classes": {"values": [[0, 1], [2, 7]]},
        "train.lr": {"values": [None]},
        "train.center": {"values": [False]},
        "data.train_size": {"value": 16},
        "data.test_size": {"value": 12},
        "model.width": {"value": 6},
        "model.depth": {"value": 2},
        "train.seeds": {"value": 2},
        "train.steps": {"value": 4},
        "kernel.probes": {"value": 2},
        "measure.times": {"value": 3},
        "run.report": {"value": False},
    },
    "command": ["${env}", "${interpreter}", "${program}", "${args}"],
}
RANDOM = """program: scripts/simulate.py
method: random
run_cap: 6
parameters:
  model.c: {distribution: log_uniform_values, min: 0.5, max: 2.0}
  model.depth: {min: 2, max: 9}
"""


@pytest.fixture
def sweep_script(monkeypatch):
    """scripts/sweep.py in this process: sweep_script(*arguments)."""
    spec = importlib.util.spec_from_file_location("sweep", ROOT / "scripts/sweep.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["sweep.py", *map(str, args)])
        script.main()

    return run


def recorded(runs):
    """{settings: what was measured}, without places and times, of run folders."""
    found = {}
    for folder in sorted(runs.iterdir()):
        config = json.loads((folder / "config.json").read_text())
        assert config.pop("sha256")  # of the places too
        kept = {k: v for k, v in config.items() if not k.startswith(("run.", "wandb."))}
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["status"] == "done"
        assert summary.pop("seconds") and summary.pop("sha256")
        key = json.dumps(kept, sort_keys=True)
        assert key not in found
        found[key] = (summary, (folder / "metrics.jsonl").read_text())
    return found


@pytest.mark.slow
def test_three_ways_give_the_same_numbers(
    agents, server, sweep_script, tmp_path, monkeypatch
):
    """A grid with a list, a null and a boolean among its values, to the last bit: by
    two wandb agents, by two workers of scripts/sweep.py, and by pieces (an index and
    shards, or jobs of submitit).  wandb holds the settings of each run, flat.

    A random sweep cannot be compared so: wandb's server draws points of its own.
    """
    project, _ = agents(GRID, count=1)
    agreed = recorded(project / "runs")
    assert len(agreed) == 2

    monkeypatch.setenv("WANDB_MODE", "disabled")
    file = project / "sweep.yaml"
    sweep_script(file, "--dir", tmp_path / "jobs", "--jobs", 2)
    assert recorded(tmp_path / "jobs" / "points") == agreed

    store = open_store(file, tmp_path / "pieces")
    for only in (index_filter([1]), shard_filter(0, 2), shard_filter(1, 2)):
        work(store, "one", PROGRAMS, only)
    assert recorded(tmp_path / "pieces" / "points") == agreed

    submitted = (file, "--dir", tmp_path / "submitted", "--jobs", 2)
    sweep_script(*submitted, "--submitit", "cluster=local", "timeout_min=5")
    assert recorded(tmp_path / "submitted" / "points") == agreed

    assert len({agent for agent, _, _ in server.handed}) == 2
    assert len(server.configs) == 2 and not server.unknown
    for _, run, settings in server.handed:
        config = server.configs[run]
        assert {name: config[name] for name in settings} == settings
        assert set(config) == set(flatten(config_of(store.sweep, settings)))
        assert server.history[run][-1]["step"] == 4
        assert server.summaries[run]["status"] == "done"


def test_a_random_sweep_is_its_seed(tmp_path):
    """The same points for whoever opens the sweep with the same --seed, whole or in
    pieces; others for another.
    """
    file = tmp_path / "s.yaml"
    file.write_text(RANDOM)
    store = open_store(file, tmp_path / "one", seed=3)
    points = store.points()
    assert len({p.name for p in points}) == 6
    assert open_store(file, tmp_path / "two", seed=3).points() == points
    assert open_store(None, tmp_path / "one").points() == points  # as workers do
    shards = [[p for p in points if shard_filter(i, 2)(p)] for i in range(2)]
    assert sorted(p.index for shard in shards for p in shard) == list(range(6))
    again = drawn(store.sweep, 3)
    assert [p.settings for p in points] == [next(again) for _ in points]
    others = open_store(file, tmp_path / "three", seed=4).points()
    assert not {p.name for p in points} & {p.name for p in others}
