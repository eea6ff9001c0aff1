"""Small sweeps, and finished runs made by hand."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from testbed.config import preset
from testbed.runs.folder import RunFolder
from testbed.settings import flatten, override
from testbed.sweeps.spec import read_sweep
from testbed.validation import validate

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
                "ensemble/variance_ratio/test": 0.9 if k else None,
            }
            for k, row in zip(steps, relative, strict=True)
        ]
        folder.write_rows(rows)
        summary = {"status": status, "reading": "left", "error": None}
        folder.write_json("summary.json", summary)
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
