"""wandb's own `wandb sweep` and `wandb agent` on our sweep files, without a network."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from testbed.runs.folder import RunFolder
from testbed.settings import flatten
from testbed.sweeps.points import grid, quick
from testbed.sweeps.spec import config_of, read_sweep

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WANDB = Path(sys.executable).with_name("wandb")
STEPS = 6
ALWAYS = {
    "model.width": {"value": 8},
    "model.depth": {"value": 2},
    "train.steps": {"value": STEPS},
    "train.lr": {"value": None},
}
"""Of every sweep here; each point then varies what the names of folders do not tell."""


@pytest.fixture
def server():
    path = Path(__file__).with_name("fake_wandb.py")
    spec = importlib.util.spec_from_file_location("fake_wandb", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.FakeWandb() as fake:
        yield fake


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Data and compilations, kept between runs."""
    path = tmp_path_factory.mktemp("kept")
    return {
        "TFDS_DATA_DIR": str(path / "data"),
        "JAX_COMPILATION_CACHE_DIR": str(path / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
    }


@pytest.fixture
def environment(server, kept, tmp_path):
    """A machine whose login is for the stand-in, and that has no other."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return env | kept | {
        "PATH": path,
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "netrc"),
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "false",
    }  # fmt: skip


@pytest.fixture
def project(tmp_path):
    """A folder to start agents in, with the project's scripts."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "scripts").symlink_to(ROOT / "scripts")
    return path


def write_sweep(project, varied, nested=False):
    """sweeps/depth_width.yaml with tiny values; returns what was written, read."""
    file = ROOT / "sweeps" / "depth_width.yaml"
    document = yaml.safe_load(file.read_text())
    tiny = {
        n: {"value": p.values[0]} for n, p in quick(read_sweep(file)).parameters.items()
    }
    parameters = tiny | ALWAYS | varied
    if nested:
        flat, parameters = parameters, {}
        for name, spec in flat.items():
            group, _, field = name.partition(".")
            block = parameters.setdefault(group, {"parameters": {}})
            block["parameters"][field] = spec
    path = project / "sweep.yaml"
    path.write_text(yaml.safe_dump(document | {"parameters": parameters}))
    return read_sweep(path)


def start_sweep(project, environment):
    """`wandb sweep`."""
    done = subprocess.run(
        [WANDB, "sweep", "sweep.yaml"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "wandb agent me/depthwidth/sweep0" in done.stderr


def run_agents(project, environment, count, agents=2):
    """`wandb agent --count`, several at the same time; returns what they said."""
    command = [WANDB, "agent", "--count", str(count), "me/depthwidth/sweep0"]
    logs = [project / f"agent{i}.log" for i in range(agents)]
    running = []
    for log in logs:
        with open(log, "w") as file:
            running.append(
                subprocess.Popen(
                    command, cwd=project, env=environment, stdout=file, stderr=file
                )
            )
    try:
        for agent, log in zip(running, logs, strict=True):
            assert agent.wait(timeout=120) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
    finally:
        for agent in running:
            agent.kill()
    return "".join(log.read_text() for log in logs)


def check_runs(project, sweep):
    """Every point of our own grid was run once, to the end; returns the folders."""
    folders = [RunFolder(path) for path in sorted((project / "runs").iterdir())]
    configs = [folder.read_json("config.json") for folder in folders]
    text = lambda settings: json.dumps(settings, sort_keys=True)
    seen = [text({name: c[name] for name in sweep.parameters}) for c in configs]
    assert sorted(seen) == sorted(map(text, grid(sweep)))
    for folder in folders:
        assert folder.read_json("summary.json")["status"] == "done"
        assert folder.rows()[-1]["step"] == STEPS
    return folders


def test_two_agents_share_a_sweep_online(project, environment, server):
    """Each point runs once, and wandb holds its settings under flat dotted names."""
    classes = {"data.classes": {"values": [[0, 1], [2, 7], [3, 8]]}}
    sweep = write_sweep(project, classes)
    start_sweep(project, environment)
    run_agents(project, environment, count=2)
    folders = check_runs(project, sweep)
    assert len({agent for agent, _, _ in server.handed}) == 2
    assert not server.unknown
    assert len(server.configs) == len(folders) == 3
    for _, run, settings in server.handed:
        config = server.configs[run]
        assert {name: config[name] for name in settings} == settings
        assert set(config) == set(flatten(config_of(sweep, settings)))
        assert [row["step"] for row in server.history[run]][-1] == STEPS
        assert server.summaries[run]["status"] == "done"


def test_nested_parameters_run_offline(project, environment, server):
    """The same points, and nothing of a run leaves the machine."""
    center = {
        "train.center": {"values": [True, False]},
        "data.classes": {"value": [0, 1]},
    }
    sweep = write_sweep(project, center, nested=True)
    start_sweep(project, environment)
    said = run_agents(project, environment | {"WANDB_MODE": "offline"}, count=1)
    assert said.count("\"--model={'depth': 2") == 2
    for folder in check_runs(project, sweep):
        assert list(folder.path.glob("wandb/offline-run-*/run-*.wandb"))
    assert not server.configs and not server.history


def test_dotted_parameters_run_with_wandb_disabled(project, environment, server):
    """The agent serves settings; the run records only in its own folder."""
    center = {
        "train.center": {"values": [True, False]},
        "data.classes": {"value": [0, 1]},
    }
    sweep = write_sweep(project, center)
    start_sweep(project, environment)
    said = run_agents(project, environment | {"WANDB_MODE": "disabled"}, count=1)
    assert said.count("--model.depth=2") == 2
    for folder in check_runs(project, sweep):
        assert not (folder.path / "wandb").exists()
    assert not server.configs and not server.history
