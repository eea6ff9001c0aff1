import time

import pytest

from testbed.config import preset
from testbed.runs import tracker
from testbed.runs.folder import RunFolder
from testbed.runs.tracker import Tracker, resolve_mode
from testbed.settings import override


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")


def config(**values):
    return override(preset("smoke"), values)


def test_without_a_login_the_mode_is_offline(monkeypatch, tmp_path):
    """A key, a login in netrc or WANDB_MODE decide; else nobody is asked."""
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


def test_an_offline_run_is_written_without_prompt_or_delay(tmp_path):
    """Config, rows and summary go into an offline run inside the folder."""
    began = time.perf_counter()
    mirror = Tracker(config(), RunFolder(tmp_path))
    assert mirror.mode == "offline"
    assert mirror._run.config["model.width"] == 32
    mirror.log({"step": 0, "t": 0.0, "finite/loss/train": [1.0, 3.0], "x": None})
    mirror.log({"step": 1, "t": 0.5, "finite/loss/train": [1.0, 2.0, 9.0]})
    summary = mirror._run.summary
    assert summary["finite/loss/train"] == 2.0  # the median over seeds
    mirror.finish({"status": "done", "departure": {"median": 1.5}})
    assert time.perf_counter() - began < 20
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def test_a_wandb_failure_is_one_warning(tmp_path, monkeypatch):
    """Whatever wandb raises, the run goes on and says so once."""

    def broken(name):
        raise RuntimeError("wandb is not well\nsecond line")

    monkeypatch.setattr(tracker.importlib, "import_module", broken)
    with pytest.warns(UserWarning, match="start failed .wandb is not well.;") as caught:
        mirror = Tracker(config(), RunFolder(tmp_path))
    mirror.log({"t": 0.0})
    mirror.finish({"status": "done"})
    assert len(caught) == 1


def test_disabled_touches_nothing(tmp_path):
    """No folder is made."""
    mirror = Tracker(config(**{"wandb.mode": "disabled"}), RunFolder(tmp_path))
    mirror.log({"t": 0.0})
    mirror.finish({})
    assert not list(tmp_path.iterdir())
