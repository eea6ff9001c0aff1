"""The scripts as people run them, on a machine of no one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A machine with no login."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    return env | {
        "JAX_PLATFORMS": "cpu",
        "NETRC": str(tmp_path_factory.mktemp("kept") / "netrc"),
        "COLUMNS": "120",
    }


@pytest.fixture(scope="module")
def call(environment):
    """Runs a script to its end: call("sweep.py", *args, check=exit code)."""

    def run(script, *args, check=0):
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / script), *map(str, args)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == check, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run
