import json
import os
import subprocess

import numpy as np
import pytest

from testbed.config import preset
from testbed.errors import RunError, UserError
from testbed.files import clear_partial, together
from testbed.runs.digests import Damaged
from testbed.runs.folder import RunFolder, open_folder
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


def test_damaged_files_are_named_and_never_believed(tmp_path):
    """A changed digit, another type, a torn archive: each file is named, with why."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    for step in (0, 1, 2):
        folder.append_row({"step": step, "t": step / 4})
    folder.write_arrays("arrays/0.npz", {"a": np.ones(9)})
    folder.conclude({"status": "done", "score": 0.25})

    def reader():
        found = RunFolder(folder.path)
        assert found.remember()
        return found

    assert len(reader().rows()) == 3 and reader().read_arrays("arrays/0.npz")
    path = folder.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.26"))
    with pytest.raises(Damaged, match="metrics.jsonl is damaged .its digest does not"):
        reader().rows()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match="metrics.jsonl is damaged .* bytes are left"):
        reader().rows()
    arrays = folder.path / "arrays" / "0.npz"
    whole = arrays.read_bytes()
    for data in (whole[:100], b"", whole.replace(b"\xf0?", b"\xf1?", 1)):
        arrays.write_bytes(data)
        with pytest.raises(Damaged, match="0.npz is damaged"):
            reader().read_arrays("arrays/0.npz")
        if data != whole[:100] and data:
            continue  # without its digest, a changed digit is a number like others
        with pytest.raises(Damaged, match="0.npz is damaged .its arrays cannot be"):
            RunFolder(folder.path).read_arrays("arrays/0.npz")
    summary = folder.path / "summary.json"
    summary.write_text(summary.read_text().replace("0.25", "0.75"))
    with pytest.raises(Damaged, match="summary.json is damaged .* or edited by hand"):
        reader()


@pytest.mark.parametrize(
    "text, why",
    [
        ("5", "holds a int"),
        ("[]", "holds a list"),
        ('"done"', "holds a str"),
        ('{"status": "do', "is not JSON"),
        ('{"t": NaN}', "NaN is no number of JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"n": ' + "9" * 5000 + "}", "is not JSON"),
        (b'{"status": "\xff"}', "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_json_that_is_no_object_is_damaged(tmp_path, text, why):
    """Whatever stands in a file that should hold settings or results, one line."""
    path = tmp_path / "summary.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Damaged, match=why) as caught:
        RunFolder(tmp_path).read_json("summary.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    path.write_text('{"a": 1}')  # of an older version: it has no digest
    assert RunFolder(tmp_path).read_json("summary.json") == {"a": 1}
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Damaged, match="not a regular file"):
        RunFolder(tmp_path).read_json("summary.json")


def test_what_killed_writers_left_behind_is_removed(tmp_path):
    """At the next start in one's own folder; elsewhere once its process is gone."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    folder.close()
    (folder.path / ".summary.json.123@elsewhere").write_text("{")
    (folder.path / ".summary.json.123").write_text("{")
    (folder.path / ".hidden.txt").write_text("somebody's")
    open_folder(config_in(tmp_path / "run", **{"run.resume": True}), "digits").close()
    kept = {p.name for p in folder.path.iterdir() if p.name.startswith(".")}
    assert kept == {".lock", ".hidden.txt"}
    shared = tmp_path / "shared"
    shared.mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f".a.{os.getpid()}", f".a.{gone.pid}", ".a.7@elsewhere", ".b.7@elsewhere"]
    for name in names:
        (shared / name).write_text("half")
    os.utime(shared / ".b.7@elsewhere", (0, 0))
    clear_partial(shared)
    assert sorted(p.name for p in shared.iterdir()) == sorted([names[0], names[2]])


def test_files_written_together_appear_together_or_not_at_all(tmp_path):
    """A failure after the first file leaves all as they were, and nothing beside."""
    old, new = tmp_path / "old.csv", tmp_path / "figures" / "new.png"
    old.write_text("old")
    with pytest.raises(ValueError), together() as files:
        files.write(old, b"changed")
        files.remove(tmp_path / "old.csv")
        files.partial(new).write_bytes(b"half")
        raise ValueError
    assert old.read_text() == "old" and not list(new.parent.iterdir())
    with together() as files:
        files.write(new, b"whole")
        files.remove(new)  # of an earlier time, and written anew
        files.remove(old)
    assert new.read_bytes() == b"whole" and not old.exists()


def test_a_folder_that_is_moved_away_is_one_line_and_not_made_again(tmp_path):
    """Nothing is written to the old place, also if another folder stands there now."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    folder.append_row({"step": 0})
    (tmp_path / "run").rename(tmp_path / "moved")
    row, arrays = {"step": 1}, {"a": np.ones(3)}
    for write in (
        lambda: folder.append_row(row),
        lambda: folder.write_arrays("arrays/1.npz", arrays),
        lambda: folder.conclude({"status": "failed"}),
    ):
        with pytest.raises(RunError, match="run: was moved or deleted during the run"):
            write()
        assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="moved or deleted"):
        folder.append_row(row)
    assert not list((tmp_path / "run").iterdir())


def test_a_folder_without_its_config_is_not_overwritten(tmp_path):
    """A run whose config.json was lost is refused, not begun anew over its records."""
    folder = open_folder(config_in(tmp_path / "run"), "digits")
    folder.append_row({"step": 0})
    folder.close()
    (folder.path / "config.json").unlink()
    with pytest.raises(UserError, match="holds a run whose config.json is missing"):
        open_folder(config_in(tmp_path / "run", **{"run.resume": True}), "digits")
    assert folder.rows() == [{"step": 0}]


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
    assert [row["step"] for row in RunFolder(folder.path).rows()] == [0, 1, 5]
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
    assert folder.rows(whole=False) == [{"step": 0}]
