import json
import os

import numpy as np
import pytest

from testbed.config import preset
from testbed.errors import RunError, UserError
from testbed.runs.folder import open_folder
from testbed.settings import override
from testbed.validation import validate


def config_in(path, **values):
    settings = {"run.dir": str(path), **values}
    return validate(override(preset("smoke"), settings))


def test_a_folder_holds_one_run(tmp_path):
    """A second run is refused; resuming needs its settings, but for run.*, wandb.*."""
    path = tmp_path / "run"
    folder = open_folder(config_in(path), "digits")
    folder.append_row({"step": 0})
    assert json.loads((path / "config.json").read_text())["model.width"] == 32
    with pytest.raises(UserError, match="already holds a run; add --run.resume"):
        open_folder(config_in(path), "digits")
    same = config_in(path, **{"run.resume": True, "wandb.mode": "disabled"})
    with pytest.raises(UserError, match="in use by another process"):
        open_folder(same, "digits")
    folder.close()
    assert open_folder(same, "digits").path == folder.path
    other = config_in(path, **{"run.resume": True, "model.width": 33})
    with pytest.raises(UserError, match="model.width is 32 there and 33 here"):
        open_folder(other, "digits")
    empty = config_in(tmp_path / "none", **{"run.resume": True})
    with pytest.warns(UserWarning, match="nothing to resume in .*none; starting"):
        assert not open_folder(empty, "digits").resumed


def test_a_folder_in_which_nothing_was_recorded_is_free(tmp_path):
    """A mistake found after the folder was made does not block the corrected run."""
    first = open_folder(config_in(tmp_path / "run"), "digits")
    first.close()
    folder = open_folder(config_in(tmp_path / "run", **{"model.width": 9}), "digits")
    assert folder.read_json("config.json")["model.width"] == 9
    folder.discard_if_empty()
    assert not (tmp_path / "run" / "config.json").exists()
    made = open_folder(config_in(tmp_path / "made"), "digits")
    made.discard_if_empty()
    assert not (tmp_path / "made").exists()
    kept = open_folder(config_in(tmp_path / "kept"), "digits")
    kept.append_row({"step": 0})
    kept.discard_if_empty()
    assert kept.rows() == [{"step": 0}]


def test_a_folder_of_somebody_else_is_never_removed(tmp_path):
    """What was in run.dir before, or a run to resume, survives a refused config."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("kept")
    folder = open_folder(config_in(theirs), "digits")
    folder.discard_if_empty()
    assert [p.name for p in theirs.iterdir()] == ["thesis.tex"]
    folder.close()
    begun = open_folder(config_in(tmp_path / "begun"), "digits")
    begun.close()
    resume = config_in(tmp_path / "begun", **{"run.resume": True})
    resumed = open_folder(resume, "digits")
    resumed.discard_if_empty()
    assert resumed.resumed and (tmp_path / "begun" / "config.json").exists()


def test_damaged_files_are_not_trusted_and_raise_nothing(tmp_path):
    """A bad line ends the rows, a bad JSON is absent, bad arrays are not there."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    for step in (0, 1, 2):
        folder.append_row({"step": step})
    path = folder.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"step": 1}', b'{"step\xff 1}'))
    assert folder.rows() == [{"step": 0}]
    (folder.path / "summary.json").write_text('{"status": "do')
    assert folder.read_json("summary.json") is None
    folder.write_arrays("arrays/0.npz", {"a": np.ones(9)})
    assert folder.has_arrays("arrays/0.npz") and not folder.has_arrays("arrays/1.npz")
    damaged = folder.path / "arrays" / "0.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert not folder.has_arrays("arrays/0.npz")


def test_where_the_data_lies_is_not_part_of_a_run(tmp_path):
    """Moved data and another wandb mode resume; another seed axis is other bits."""
    open_folder(config_in(tmp_path / "run"), "digits").close()
    resume = {"run.resume": True, "data.data_dir": "elsewhere"}
    folder = open_folder(config_in(tmp_path / "run", **resume), "digits")
    assert folder.resumed
    folder.close()
    with pytest.raises(UserError, match="run.seed_axis is auto there and vmap here"):
        open_folder(
            config_in(tmp_path / "run", **resume, **{"run.seed_axis": "vmap"}), "digits"
        )


def test_resume_without_a_folder_finds_the_newest_of_the_config(tmp_path):
    """Among several runs under root, the newest with these settings is taken."""
    settings = {"run.dir": "", "run.root": str(tmp_path)}
    folders = []
    for width in (8, 8, 9):
        values = {**settings, "model.width": width}
        folders.append(
            open_folder(validate(override(preset("smoke"), values)), "digits")
        )
    for age, folder in enumerate(folders):
        folder.close()
        os.utime(folder.path / "config.json", (age, age))
    values = {**settings, "model.width": 8, "run.resume": True}
    found = open_folder(validate(override(preset("smoke"), values)), "digits")
    assert found.path == folders[1].path and found.resumed


def test_rows_survive_a_torn_line_and_are_cut_at_a_step(tmp_path):
    """What was flushed is read back; a half-written last line is not."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    for step in (0, 1, 5):
        folder.append_row({"step": step, "t": 0.1 * step, "x": np.float32(1 / 3)})
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "t": 0.')
    assert [row["step"] for row in folder.rows()] == [0, 1, 5]
    before = (folder.path / "metrics.jsonl").read_bytes()
    assert [row["step"] for row in folder.forget_after(1)] == [0, 1]
    after = (folder.path / "metrics.jsonl").read_bytes()
    assert before.startswith(after) and after.count(b"\n") == 2  # kept to the byte


def test_numbers_that_are_not_finite_become_null(tmp_path):
    """metrics.jsonl is strict JSON."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    folder.append_row({"step": 0, "x": np.array([1.0, np.nan]), "y": float("inf")})
    assert folder.rows()[0] == {"step": 0, "x": [1.0, None], "y": None}


def test_arrays_round_trip_with_slashes_in_their_names(tmp_path):
    """What is read is what was written, and no partial file is left."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    arrays = {"finite/outputs/train": np.arange(6.0).reshape(2, 3)}
    folder.write_arrays("arrays/000000001.npz", arrays)
    back = folder.read_arrays("arrays/000000001.npz")
    np.testing.assert_array_equal(
        back["finite/outputs/train"], np.arange(6.0).reshape(2, 3)
    )
    assert [p.name for p in (folder.path / "arrays").iterdir()] == ["000000001.npz"]


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path):
    """A path below a file is refused in one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        open_folder(config_in(tmp_path / "file" / "run"), "digits")


def test_a_write_that_fails_stops_the_run_and_keeps_the_records(tmp_path, monkeypatch):
    """No space left: a RunError that says so, rows before it intact."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    folder.append_row({"step": 0})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device.*--run.resume"):
        folder.append_row({"step": 1})
    monkeypatch.undo()
    assert folder.rows()[0] == {"step": 0}
