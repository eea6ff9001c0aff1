"""Everything that README.md tells people to type."""

import re
import shlex
from pathlib import Path

import pytest

from testbed.cli import parse
from testbed.commands import SIMULATE
from testbed.programs import simulate, train
from testbed.reproduce.registry import NAMES
from testbed.runs.console import Console
from testbed.settings import override
from testbed.validation import validate, validate_simulation

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
LINES = [
    line.split("#")[0].strip() for _, block in BLOCKS for line in block.splitlines()
]
COMMANDS = [line for line in LINES if line.startswith("python scripts/train.py --")]
SIMULATIONS = [line for line in LINES if line.startswith("python scripts/simulate.py")]
REPRODUCTIONS = [line for line in LINES if "scripts/reproduce.py" in line]
SMALL = {
    "data.train_size": 16,
    "data.test_size": 10,
    "data.n_in": 6,
    "model.width": 8,
    "model.depth": 2,
    "train.seeds": 2,
    "train.steps": 3,
    "kernel.probes": 4,
    "run.report": False,
    "wandb.mode": "disabled",
}
RUNNABLE = [c for c in COMMANDS if not re.search("--help|--preset|--run.resume", c)]


def test_readme_has_the_commands_this_file_looks_for():
    """The two quickstart lines, and a handful of variations."""
    assert "pip install -c constraints.txt -e . && python scripts/train.py" in LINES
    assert "pip install -c constraints.txt -e '.[test]' && pytest" in LINES
    assert len(RUNNABLE) >= 5 and SIMULATIONS and REPRODUCTIONS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_accepted(command):
    """As written, it parses and passes validation."""
    words = shlex.split(command)[2:]
    if "--help" not in words:
        assert validate(parse(words)).model.depth


@pytest.mark.parametrize("command", RUNNABLE)
def test_every_variation_runs(command, tmp_path):
    """Made small, it runs to the end and keeps the variation that it shows."""
    config = parse(shlex.split(command)[2:])
    small = dict(SMALL)
    if config.model.ratio:
        small.pop("model.depth")
    if config.train.batch_size:
        small["train.batch_size"] = 4
    small["run.dir"] = str(tmp_path / "run")
    summary = train(validate(override(config, small)), Console())
    assert summary["status"] == "done" and summary["final"]["step"] == 3


@pytest.mark.parametrize("command", SIMULATIONS)
def test_every_simulation_runs(command, tmp_path):
    """As written it is accepted; with fewer networks it runs to the end."""
    config = validate_simulation(parse(shlex.split(command)[2:], "", SIMULATE))
    assert config.samples == 100_000
    small = {"samples": 500, "model.width": 16, "model.depth": 8, "run.report": False}
    small |= {"run.dir": str(tmp_path / "run"), "wandb.mode": "disabled"}
    summary = simulate(override(config, small), Console())
    assert summary["quantities"]["log_norm"]["count"] == 500


def test_the_reproductions_that_it_names_exist():
    """reproduce.py is called with --list, or a name that there is."""
    for command in REPRODUCTIONS:
        word = shlex.split(command)[2]
        assert word in ("--list", "all", *NAMES)


def test_the_python_blocks_run():
    """The lines about laws, models, a comparison and kernels, in order."""
    scope: dict = {}
    blocks = [block for language, block in BLOCKS if language == "python"]
    assert len(blocks) == 4
    comparison = next(i for i, block in enumerate(blocks) if "compare(" in block)
    small = blocks[comparison].replace("steps=400, probes=8", "steps=2, probes=1")
    assert small != blocks[comparison]
    blocks[comparison] = small
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["result"].departure_time.shape == (2,)
    assert scope["theta"].shape == scope["kernel"].ntk.shape == (8, 8)
    change = scope["jax"].tree.map(
        lambda a, b: float(abs(a - b).max()),
        scope["params"],
        scope["variables"]["params"],
    )
    assert max(scope["jax"].tree.leaves(change)) > 0
