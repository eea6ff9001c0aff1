"""A reader of what wandb wrote offline, and a stand-in of its server."""

import importlib.util
import json
import struct
import time
import zlib
from pathlib import Path

import pytest

BLOCK, HEADER = 32768, 7  # bytes, of LevelDB's log format


@pytest.fixture
def nobody_logged_in(monkeypatch, tmp_path_factory):
    """No login, no key, and no setting of wandb's in the environment."""
    for name in ("MODE", "API_KEY", "BASE_URL", "RUN_ID", "SWEEP_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.mktemp("login") / "netrc"))


@pytest.fixture
def server(nobody_logged_in, monkeypatch):
    """A stand-in of the wandb server on 127.0.0.1, which runs of this process find."""
    path = Path(__file__).parents[1] / "sweeps" / "fake_wandb.py"
    spec = importlib.util.spec_from_file_location("fake_wandb", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.FakeWandb() as fake:
        monkeypatch.setenv("WANDB_BASE_URL", fake.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield fake


@pytest.fixture
def recorded():
    """recorded(folder of an offline wandb run): what is in its .wandb file."""
    return _recorded


@pytest.fixture
def until():
    """Waits until something is true: until(function, seconds)."""

    def wait(true, seconds=60.0):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not come true"
            time.sleep(0.02)

    return wait


def _recorded(folder: Path) -> dict:
    """Id, config, rows, summary, files and exit code of an offline wandb run."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = Path(folder).glob("run-*.wandb")
    found: dict = {"config": {}, "rows": [], "summary": {}, "files": [], "exit": None}
    for data in _records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["id"] = record.run.run_id
            found["config"] |= _values(record.run.config.update)
        elif kind == "history":
            found["rows"].append(_values(record.history.item))
        elif kind == "summary":
            found["summary"] |= _values(record.summary.update)
        elif kind == "files":
            found["files"] += [one.path for one in record.files.files]
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def _values(items) -> dict:
    named = ((".".join(i.nested_key) or i.key, i.value_json) for i in items)
    return {name: json.loads(value) for name, value in named}


def _records(data: bytes):
    """The records of LevelDB's log format, whose checksums must hold."""
    assert struct.unpack("<4sHB", data[:HEADER])[:2] == (b":W&B", 0xBEE1)
    place, parts = HEADER, b""
    while True:
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
        if place + HEADER > len(data):
            return
        check, size, kind = struct.unpack("<IHB", data[place : place + HEADER])
        part = data[place + HEADER : place + HEADER + size]
        assert check == zlib.crc32(part, zlib.crc32(bytes([kind])))
        place += HEADER + size
        parts += part
        if kind in (1, 4):  # whole, or the last of several
            yield parts
            parts = b""
