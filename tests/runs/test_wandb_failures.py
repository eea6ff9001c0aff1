"""wandb itself, and servers on 127.0.0.1 that refuse, are silent or vanish.

Times are bounds of a machine whose cores other tests share; on idle ones a run of no
length loses 5 s to a server that does not answer, of which START_SECONDS are 3.
"""

import contextlib
import http.server
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from testbed.config import preset
from testbed.programs import PROGRAMS
from testbed.runs import mirror, tracker
from testbed.runs.folder import RunFolder
from testbed.runs.tracker import Tracker
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.work import work

ROOT = Path(__file__).resolve().parents[2]
SYNC = re.compile(r"; mirrored offline, to upload later: (wandb sync \S+)$")
SWEEP = """program: scripts/simulate.py
method: grid
parameters:
  samples: {value: 200}
  model.width: {value: 8}
  model.depth: {value: 2}
  seed: {values: [0, 1]}
  run.report: {value: false}
"""
TINY = ("--preset=smoke", "--model.depth=2", "--run.report=False")


@contextlib.contextmanager
def closed():
    """The URL of a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def silent():
    """The URL of a server that accepts every connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def answering(code, text):
    """The URL of a server that has one answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.daemon_threads = True
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@contextlib.contextmanager
def nowhere():
    """A URL whose host has no address: a machine without a network."""
    yield "http://wandb.invalid"


BAD = {
    "closed": closed,
    "silent": silent,
    "nowhere": nowhere,
    "500": lambda: answering(500, b"{}"),
    "401": lambda: answering(401, b"{}"),
    "html": lambda: answering(200, b"<html>Log in to the network</html>"),
}


@pytest.fixture
def key(nobody_logged_in, monkeypatch):
    """A login, so that runs begin online."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)


def stop_answering(server, way):
    """From now on the server is gone, or takes what it gets and says nothing."""
    if way == "gone":
        server.__exit__()
    else:
        server.answer = server.stream = lambda *_: time.sleep(100)


def left(marked):
    """Processes that inherited an environment with this in it."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if marked.encode() in file.read_bytes():
                found.append(file.parent.name)
    return found


def test_a_server_that_does_not_take_a_run_costs_seconds_and_no_row(
    key, monkeypatch, tmp_path, recorded
):
    """Whatever is wrong with it, the mirror is whole, offline, under the run's own id,
    and one warning has the command that uploads it.  Rows are never waited for.
    """
    with contextlib.ExitStack() as stack:
        runs = {}
        for name, bad in BAD.items():  # all begin, then all end: they mostly wait
            monkeypatch.setenv("WANDB_BASE_URL", stack.enter_context(bad()))
            (path := tmp_path / name).mkdir()
            began = time.monotonic()
            runs[name] = Tracker(preset("smoke"), RunFolder(path))
            assert runs[name].mode == "online"
            for step in range(300):
                runs[name].log({"step": step, "t": 0.5 * step, "x": [1.0, None, 3.0]})
            assert time.monotonic() - began < 2
        for name, run in runs.items():
            began = time.monotonic()
            with pytest.warns(UserWarning) as caught:
                run.finish({"status": "done"})
            assert time.monotonic() - began < 12, name
            (warning,) = {str(w.message) for w in caught}
            assert len(caught) == 1 and "\n" not in warning
            command = SYNC.search(warning)
            assert command, warning
            path = Path(shlex.split(command[1])[2])
            assert path.parents[1] == tmp_path / name
            found = recorded(path)
            known = RunFolder(tmp_path / name).read_json("wandb.json")["id"]
            assert found["id"] == known, name
            assert [row["step"] for row in found["rows"]] == list(range(300))
            assert found["summary"]["status"] == "done" and found["exit"] == 0
            assert found["config"]["model.width"] == 32


@pytest.mark.parametrize("way", ["gone", "silent"])
def test_what_a_vanished_server_lacks_is_uploaded_later(
    server, monkeypatch, tmp_path, until, way
):
    """The end is bounded; then the command of the one warning, with a server that is
    there again, gives it the whole run under the same id.
    """
    monkeypatch.setattr(tracker, "FINISH_SECONDS", 1.0)
    run = Tracker(preset("smoke"), RunFolder(tmp_path))
    run.log({"step": 0, "t": 0.0})
    until(lambda: server.configs)
    stop_answering(server, way)
    for step in range(1, 400):
        run.log({"step": step, "t": 0.5 * step})
    began = time.monotonic()
    with pytest.warns(UserWarning) as caught:
        run.finish({"status": "done"})
    assert time.monotonic() - began < 15
    (warning,) = [str(w.message) for w in caught]
    command = SYNC.search(warning)
    assert command and warning.startswith("wandb: the server did not take everything;")
    with type(server)() as back:
        env = os.environ | {"WANDB_BASE_URL": back.url}
        words = shlex.split(command[1])
        tool = Path(sys.executable).with_name(words[0])
        subprocess.run(
            [tool, *words[1:]], env=env, check=True, capture_output=True, timeout=60
        )
        ((name, rows),) = back.history.items()
        assert name == RunFolder(tmp_path).read_json("wandb.json")["id"]
        assert [row["step"] for row in rows] == list(range(400))
        assert back.summaries[name]["status"] == "done"


def test_a_sweeps_worker_gives_up_its_claim_in_time(
    server, monkeypatch, tmp_path, until
):
    """A server that vanishes keeps no point from being done, nor the next from being
    begun; no claim stays.
    """
    monkeypatch.setattr(tracker, "FINISH_SECONDS", 1.0)
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    store = open_store(file, tmp_path / "sweep")

    def vanish():
        until(lambda: server.configs)
        stop_answering(server, "silent")

    thread = threading.Thread(target=vanish)
    thread.start()
    began = time.monotonic()
    with pytest.warns(UserWarning, match="; mirrored offline, ") as caught:
        work(store, "one", PROGRAMS)
    thread.join()
    assert time.monotonic() - began < 60
    assert store.states() == ["done", "done"]
    assert not list((store.path / "claims").glob("*.json"))
    assert 1 <= len(caught) <= 2  # the first may have been through in time


def test_whole_runs_end_with_one_line_in_time(key, tmp_path):
    """scripts/simulate.py with a server that never answers, beside one with no mirror:
    complete, at its exit nothing holds its output, and it took seconds longer.
    """
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    script = [sys.executable, str(ROOT / "scripts" / "simulate.py"), *TINY]
    with silent() as url:
        took, said = {}, {}
        for mode in ("disabled", "online"):
            where = (f"--run.dir={tmp_path / mode}", f"--wandb.mode={mode}")
            began = time.monotonic()
            done = subprocess.run(
                [*script, *where],
                env=env | {"WANDB_BASE_URL": url},
                capture_output=True,
                text=True,
                timeout=120,
            )
            took[mode] = time.monotonic() - began
            said[mode] = done.stderr.strip()
            assert done.returncode == 0, done.stderr
    assert said["disabled"] == ""
    assert said["online"].startswith("warning: wandb: the server has not answered; ")
    assert SYNC.search(said["online"]) and "\n" not in said["online"]
    assert took["online"] - took["disabled"] < 12


def test_sigterm_is_obeyed_while_a_server_is_waited_for(
    server, monkeypatch, tmp_path, until
):
    """The process ends at once, nothing holds its output, and what talks to wandb ends
    soon after it.
    """
    mark = f"WANDB_NOTES=of {tmp_path}"
    monkeypatch.setenv(*mark.split("=", 1))
    program = f"""
from pathlib import Path
from testbed.config import preset
from testbed.runs.folder import RunFolder
from testbed.runs.tracker import Tracker
run = Tracker(preset("smoke"), RunFolder(Path({str(tmp_path)!r})))
run.log({{"step": 0, "t": 0.0}})
print("logged", flush=True)
input()
run.finish({{"status": "done"}})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    until(lambda: server.configs)
    stop_answering(server, "silent")
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(1.0)  # it waits for the server now
    assert process.poll() is None and len(left(mark)) >= 3
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=5)[0] == ""
    assert process.returncode == -signal.SIGTERM and time.monotonic() - began < 5
    until(lambda: not left(mark), mirror.LEAVE_SECONDS + 10)
