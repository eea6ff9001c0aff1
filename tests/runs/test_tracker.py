import os
import signal
import time

import numpy as np
import pytest
from matplotlib.image import imsave

from testbed.config import preset
from testbed.errors import UserError
from testbed.runs import tracker
from testbed.runs.folder import RunFolder
from testbed.runs.tracker import Tracker, resolve_mode
from testbed.settings import override


@pytest.fixture(autouse=True)
def nobody(nobody_logged_in):
    pass


def config(**values):
    return override(preset("smoke"), values)


def test_without_a_login_the_mode_is_offline(monkeypatch, tmp_path):
    """A key, a login in netrc or WANDB_MODE decide; else nobody is asked."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    assert resolve_mode("offline") == "offline"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0\n")
    assert resolve_mode("auto") == "online"


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("dryrun", "offline"),
        ("run", "online"),
        (" Offline\n", "offline"),
        ("DISABLED", "disabled"),
        ("", "online"),
        ("  ", "online"),
    ],
)
def test_wandb_mode_is_read_as_wandb_means_it(monkeypatch, given, mode):
    """Also wandb's older names, in any case and with blanks; nothing is no mode."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", given)
    assert resolve_mode("auto") == mode


def test_an_unknown_wandb_mode_uploads_nothing(monkeypatch, tmp_path):
    """Who misspelt offline wants nothing sent: a mistake, before anything is written;
    a mode given as a setting counts instead.
    """
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match="^WANDB_MODE=ofline: must be one of online, "):
        Tracker(config(), RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())
    assert resolve_mode("disabled") == "disabled"


def test_offline_runs_are_whole_and_asked_for_nothing(tmp_path, recorded):
    """Config, rows (a metric of several seeds as its median), figures, summary and exit
    code are in wandb's file; and so are those of the next run of the same process.
    """
    figure = tmp_path / "curve.png"
    imsave(figure, np.eye(3))
    for name, status in (("one", "done"), ("two", "failed")):
        (folder := tmp_path / name).mkdir()
        mirror = Tracker(config(), RunFolder(folder))
        assert mirror.mode == "offline"
        mirror.log({"step": 0, "t": 0.0, "finite/loss/train": [1.0, 3.0], "x": None})
        mirror.log({"step": 1, "t": 0.5, "finite/loss/train": [1.0, 2.0, 9.0]})
        mirror.finish({"status": status, "departure": {"median": 1.5}}, [figure])
        found = recorded(next(folder.glob("wandb/offline-run-*")))
        assert found["id"] == RunFolder(folder).read_json("wandb.json")["id"]
        assert found["config"]["model.width"] == 32
        assert [row["t"] for row in found["rows"][:2]] == [0.0, 0.5]
        assert [row["finite/loss/train"] for row in found["rows"][:2]] == [2.0, 2.0]
        assert found["rows"][2]["figures/curve._type"] == "image-file"
        assert found["summary"]["status"] == status
        assert found["summary"]["departure"] == {"median": 1.5}
        assert found["exit"] == (0 if status == "done" else 1)


def test_a_resumed_run_is_the_same_wandb_run(server, tmp_path):
    """The server holds each recorded time once, also those that it never got from the
    process that recorded them.
    """
    folder = RunFolder(tmp_path)
    mirror = Tracker(config(), folder)
    for step in range(3):
        mirror.log({"step": step, "t": 0.5 * step})
    mirror.finish({"status": "failed"})
    mirror = Tracker(config(), folder)
    for step in range(4):
        mirror.log({"step": step, "t": 0.5 * step}, again=True)
    for step in range(4, 6):
        mirror.log({"step": step, "t": 0.5 * step})
    mirror.finish({"status": "done"})
    assert mirror.mode == "online"
    ((run, rows),) = server.history.items()
    assert run == folder.read_json("wandb.json")["id"]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert server.summaries[run]["status"] == "done"


def test_a_wandb_that_cannot_be_imported_is_one_warning(tmp_path, monkeypatch):
    """Whatever wandb raises, the run goes on and says so once, in one line."""
    (tmp_path / "wandb.py").write_text("raise RuntimeError('not well\\nsecond line')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mirror = Tracker(config(), RunFolder(tmp_path))
    with pytest.warns(UserWarning) as caught:
        mirror.log({"t": 0.0})
        mirror.finish({"status": "done"})
    assert [str(w.message) for w in caught] == [
        "wandb failed (not well second line); the run goes on without it"
    ]


def test_a_mirror_that_hangs_is_given_up(tmp_path, monkeypatch):
    """Rows are never waited for long, nor is the end, when its process is stopped."""
    monkeypatch.setattr(tracker, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(tracker, "OFFLINE_SECONDS", 0.5)
    for name, rows in (("log", 3), ("finish", 0)):
        (folder := tmp_path / name).mkdir()
        mirror = Tracker(config(), RunFolder(folder))
        assert mirror._mirror is not None
        process = mirror._mirror._process.pid
        os.kill(process, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.warns(UserWarning, match="the run goes on without it$") as caught:
            for _ in range(rows):
                mirror.log({"x": "y" * 100_000})  # more than a pipe holds
            mirror.finish({"status": "done"})
        assert len(caught) == 1 and time.monotonic() - began < 5
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_disabled_touches_nothing(tmp_path):
    """No folder is made."""
    mirror = Tracker(config(**{"wandb.mode": "disabled"}), RunFolder(tmp_path))
    mirror.log({"t": 0.0})
    mirror.finish({})
    assert not list(tmp_path.iterdir())
