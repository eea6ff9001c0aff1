"""The scripts as people run them, on a machine without a login."""

import os
import runpy
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

    def run(script, *args, check=0, **options):
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / script), *map(str, args)],
            **{"env": environment} | options,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == check, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def here(monkeypatch, capsys, environment):
    """Runs a script in this process: here("sweep.py", *args, check=exit code)."""

    def run(script, *args, check=0):
        monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # Else it shuts all handlers of logging, and absl's shuts pytest's stream.
        monkeypatch.setenv("SUBMITIT_LOG_LEVEL", "NOCONFIG")
        code = 0
        try:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        assert code == check, said.out + said.err
        return said

    return run
