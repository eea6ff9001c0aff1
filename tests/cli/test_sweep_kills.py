"""Workers and runners are killed: started again, the sweep is as if they had not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from testbed.sweeps.gather import gather

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "sweep.py"

TRAININGS = """# Question: where do tiny networks leave their kernel?
program: scripts/train.py
method: grid
parameters:
  model.width: {value: 6}
  model.depth: {value: 2}
  data.train_size: {value: 20}
  data.test_size: {value: 10}
  train.seeds: {value: 3}
  train.seed: {values: [0, 1, 2]}
  train.steps: {value: 2000}
  kernel.probes: {value: 4}
  measure.times: {value: 60}
  run.checkpoint_seconds: {value: 0.2}
  wandb.mode: {value: disabled}
  run.report: {value: false}
"""


@pytest.fixture
def start(environment, tmp_path):
    """Starts the script: start(*args); what still lives at the end is killed."""
    runners = []

    def run(*args):
        runner = subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, args)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        runners.append(runner)
        return runner

    yield run
    for runner in runners:
        for pid in children(runner.pid):
            os.kill(pid, signal.SIGKILL)
        runner.kill()
        runner.communicate()


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def until(condition, seconds=120):
    """Waits; returns what the condition gives when it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come in time")


def table(folder):
    """What the networks did, and every line that was recorded of them."""
    networks = gather([folder]).networks.drop(columns="run")
    lines = {
        p.parent.name: p.read_text() for p in folder.glob("points/*/metrics.jsonl")
    }
    return networks, lines


@pytest.mark.slow
def test_killing_workers_and_runner_loses_nothing(call, start, tmp_path):
    """SIGKILL one of two workers in a run, later the runner and all workers; started
    again, the table is that of an uninterrupted sweep, to the bit.
    """
    (tmp_path / "s.yaml").write_text(TRAININGS)
    args = (tmp_path / "s.yaml", "--jobs", "2", "--dir")
    call("sweep.py", *args, tmp_path / "whole")
    folder = tmp_path / "killed"
    runner = start(*args, folder)

    def begun():
        rows = folder.glob("points/*/metrics.jsonl")
        return {p.parent.name for p in rows if p.stat().st_size}

    def ended():
        return {p.parent.name for p in folder.glob("points/*/summary.json")}

    until(lambda: begun() - ended())
    first = children(runner.pid)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    second = until(lambda: set(children(runner.pid)) - set(first))
    until(lambda: len(begun()) > len(ended()) and len(list(folder.glob("logs/*"))) > 2)
    last = children(runner.pid)
    assert second <= set(last)
    runner.kill()
    runner.wait()
    for pid in last:
        with contextlib.suppress(ProcessLookupError):  # it may have noticed
            os.kill(pid, signal.SIGKILL)
    assert len(ended()) < 3
    done = call("sweep.py", *args, folder)
    assert "3 of 3 points done, 0 failed" in done.stdout
    (one, lines), (other, again) = table(tmp_path / "whole"), table(folder)
    pd.testing.assert_frame_equal(one, other)
    assert lines == again and len(lines) == 3


def test_a_runner_that_is_told_to_end_stops_its_workers(start, tmp_path):
    """SIGTERM: it and its worker are gone, and no claim is left."""
    (tmp_path / "s.yaml").write_text(TRAININGS.replace("2000", "4000000"))
    runner = start(tmp_path / "s.yaml", "--dir", tmp_path / "dir")
    until(lambda: list(tmp_path.glob("dir/claims/*")))
    (worker,) = children(runner.pid)
    runner.terminate()
    assert runner.wait(20) == 143
    assert not Path(f"/proc/{worker}").exists()
    assert list(tmp_path.glob("dir/claims/*")) == []
