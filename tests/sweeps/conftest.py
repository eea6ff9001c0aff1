"""Small sweeps, finished runs made by hand, and wandb's own tools."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from testbed.config import SimulateConfig, preset
from testbed.programs import simulate
from testbed.runs.console import Console
from testbed.runs.folder import RunFolder
from testbed.settings import flatten, override
from testbed.sweeps.spec import read_sweep
from testbed.validation import validate, validate_simulation

ROOT = Path(__file__).resolve().parents[2]
SMALL = """# Question: which law?
program: scripts/simulate.py
method: {method}
run_cap: {cap}
metric: {{name: quantities.log_norm.var, goal: minimize}}
parameters:
  samples: {{value: 300}}
  model.width: {{values: [8, 12]}}
  model.depth: {{values: [2, 3]}}
  wandb.mode: {{value: disabled}}
  run.report: {{value: false}}
"""


@pytest.fixture
def sweep_file(tmp_path):
    """A grid of four points of scripts/simulate.py, or what is asked for."""

    def write(method="grid", cap="null"):
        path = tmp_path / "small.yaml"
        path.write_text(SMALL.format(method=method, cap=cap))
        return path

    return write


@pytest.fixture
def finished_run():
    """Makes a run folder that looks finished, with chosen relative distances."""

    def make(path: Path, relative, status="done", **settings) -> Path:
        relative = np.asarray(relative, float)  # (times, seeds)
        steps = np.arange(len(relative))
        values = {
            "train.steps": int(steps[-1]),
            "train.seeds": relative.shape[1],
            **settings,
        }
        config = validate(override(preset("smoke"), values))
        path.mkdir(parents=True)
        folder = RunFolder(path)
        folder.write_json("config.json", flatten(config))
        name = "distance/finite_linearized/test/relative"
        rows = [
            {
                "step": int(k),
                "t": 0.5 * k,
                name: [None if k == 0 else float(v) for v in row],
                "kernel/drift": [0.01 * k * (s + 1) for s in range(len(row))],
                "ensemble/spread/test": 0.1 * k,
                "ensemble/variance_ratio/test": 0.9 if k else None,
            }
            for k, row in zip(steps, relative, strict=True)
        ]
        folder.write_rows(rows)
        summary = {"status": status, "reading": "left", "error": None}
        folder.conclude(summary)
        return path

    return make


@pytest.fixture
def sweep_of(tmp_path):
    """Reads a sweep made of parameters, or of a whole text."""

    def read(parameters, method="grid", text=None, **more):
        path = tmp_path / "sweep.yaml"
        document = {"program": "scripts/train.py", "method": method, **more}
        path.write_text(text or yaml.safe_dump(document | {"parameters": parameters}))
        return read_sweep(path)

    return read


# wandb's own command line tools, without a network


@pytest.fixture
def server():
    """A stand-in of the wandb server on 127.0.0.1."""
    path = Path(__file__).with_name("fake_wandb.py")
    spec = importlib.util.spec_from_file_location("fake_wandb", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.FakeWandb() as fake:
        yield fake


@pytest.fixture
def agents(server, tmp_path):
    """Runs a sweep file by `wandb sweep` and two `wandb agent`s at the same time.

    agents(document, mode, count, **environment) returns the project's folder, in which
    runs/ is, and what the agents said; each takes `count` points.
    """
    project = tmp_path / "project"
    project.mkdir()
    (project / "scripts").symlink_to(ROOT / "scripts")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "netrc"),
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ERROR_REPORTING": "false",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
    }
    wandb = Path(sys.executable).with_name("wandb")

    def start(command, log, mode):
        with open(log, "w") as file:
            return subprocess.Popen(
                [wandb, *command],
                cwd=project,
                env=env | {"WANDB_MODE": mode},
                stdout=file,
                stderr=file,
            )

    def run(document, mode="online", count=1, **more):
        env.update(more)
        (project / "sweep.yaml").write_text(yaml.safe_dump(document))
        log = project / "sweep.log"
        assert start(["sweep", "sweep.yaml"], log, "online").wait(60) == 0
        assert "wandb agent me/depthwidth/sweep0" in log.read_text()
        logs = [project / f"agent{i}.log" for i in range(2)]
        command = ["agent", "--count", str(count), "me/depthwidth/sweep0"]
        running = [start(command, log, mode) for log in logs]
        try:
            for agent, log in zip(running, logs, strict=True):
                assert agent.wait(timeout=180) == 0, log.read_text()
                assert "Traceback" not in log.read_text()
        finally:
            for agent in running:
                agent.kill()
        return project, "".join(log.read_text() for log in logs)

    return run


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """A folder of two finished simulations, of widths 8 and 12."""
    path = tmp_path_factory.mktemp("simulated")
    for width in (8, 12):
        values = {
            "samples": 300,
            "model.width": width,
            "model.depth": 4,
            "run.dir": str(path / f"n{width}"),
            "run.report": False,
            "wandb.mode": "disabled",
        }
        config = validate_simulation(override(SimulateConfig(), values))
        simulate(config, Console())
    return path
