"""What a wandb agent passes to our scripts, and how its runs share a machine.

That agents give the numbers of our own runner is in test_three_ways.py.
"""

import json
import os
import sys

import pytest

from testbed.cli import main
from testbed.commands import SIMULATE

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
NESTED = {
    "name": "nested",
    "project": "depthwidth",
    "program": "scripts/simulate.py",
    "method": "grid",
    "parameters": {
        "samples": {"value": 200},
        "model": {
            "parameters": {
                "depth": {"values": [2, 3]},
                "width": {"value": 8},
            }
        },
        "run": {"parameters": {"report": {"value": False}}},
    },
    "command": ["${env}", "${interpreter}", "${program}", "${args}"],
}
PLUGIN = f"""import os, pathlib
def initialize():  # jax calls this when it makes its backends, as that of its GPUs
    seen = os.environ.get("{PREALLOCATE}")
    (pathlib.Path(__file__).parent / str(os.getpid())).write_text(str(seen))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_nested_parameters_run_and_share_a_card(agents, server, tmp_path, mode):
    """Each point runs once; nothing of a run leaves the machine; and before jax makes
    its backend, it is told to take memory as it needs it, not most of the card.
    """
    plugin = tmp_path / "path" / "jax_plugins" / "probe"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(PLUGIN)
    project, said = agents(NESTED, mode, PYTHONPATH=str(plugin.parents[1]))
    assert said.count("\"--model={'depth': ") == 2
    runs = list((project / "runs").iterdir())
    depths = [json.loads((r / "config.json").read_text())["model.depth"] for r in runs]
    assert sorted(depths) == [2, 3]
    for run in runs:
        assert json.loads((run / "summary.json").read_text())["status"] == "done"
        kept = list(run.glob("wandb/offline-run-*/run-*.wandb"))
        assert bool(kept) == (mode == "offline")
    assert not server.configs and not server.history
    seen = [p.read_text() for p in plugin.iterdir() if p.name.isdigit()]
    assert len(seen) >= 2 and set(seen) == {"false"}


@pytest.mark.parametrize(
    ("sweep", "own", "seen"),
    [("abc", None, "false"), ("abc", "true", "true"), (None, None, None)],
)
def test_a_person_decides_about_memory(monkeypatch, sweep, own, seen):
    """An agent's run shares the card unless told otherwise; other runs are let be."""
    for name, value in (("WANDB_SWEEP_ID", sweep), (PREALLOCATE, own)):
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "argv", ["simulate.py"])
    found = []
    main(lambda config: found.append(os.environ.get(PREALLOCATE)), "", SIMULATE)
    assert found == [seen]
