"""Bytes are changed, cut off and removed in every file of a run: nothing is silent.

After each damage the three who read a folder, report.py of many runs, the report of the
run and --run.resume, either have the same numbers as before or name the file.
report.html and figures/ are not read by anybody; they are drawn anew from the others.
"""

import itertools
import json
import shutil
import warnings

import numpy as np
import pytest

from testbed.config import preset
from testbed.errors import RunError, UserError
from testbed.programs import train
from testbed.reports import load_record
from testbed.runs import job, moments
from testbed.runs.console import Console
from testbed.runs.digests import Damaged
from testbed.runs.folder import RunFolder
from testbed.settings import override
from testbed.sweeps.gather import gather
from testbed.validation import validate

TINY = {
    "data.name": "mixture",
    "data.train_size": 12,
    "data.test_size": 8,
    "data.n_in": 6,
    "data.n_out": 3,
    "model.width": 8,
    "model.depth": 3,
    "train.steps": 20,
    "train.seeds": 2,
    "kernel.probes": 3,
    "measure.times": 4,
    "wandb.mode": "disabled",
    "run.report": False,
}
OUTPUTS = ("report.html", "figures")
OF_CHECKPOINTS = "checkpoints"
SIMILAR = [f"arrays/{step:09d}.npz" for step in (1, 3, 7)]  # to the first and last


def config_in(path, **values):
    settings = {**TINY, "run.dir": str(path), **values}
    return validate(override(preset("smoke"), settings))


@pytest.fixture(scope="module")
def prepared():
    """Experiments by their settings, set up and compiled once."""
    real, kept = job.prepare, {}

    def prepare(config, say):
        key = (config.train, config.measure)
        if key not in kept:
            kept[key] = real(config, say)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "prepare", prepare)
        yield


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """A finished run with two checkpoints and a report."""
    path = tmp_path_factory.mktemp("damage") / "run"
    values = {"run.checkpoint_seconds": 0, "run.report": True}
    train(config_in(path, **values), Console())
    assert sum(p.name.isdigit() for p in (path / OF_CHECKPOINTS).iterdir()) == 2
    RunFolder(path).write_json("wandb.json", {"id": "c0ffee"})  # as with its mirror
    return path


def numbers(path):
    """Everything that was recorded, in bytes."""
    found = {p.name: p.read_bytes() for p in sorted((path / "arrays").glob("*.npz"))}
    found["metrics.jsonl"] = (path / "metrics.jsonl").read_bytes()
    summary = RunFolder(path).read_json("summary.json")
    del summary["seconds"]
    limits = RunFolder(path).read_arrays("limits.npz")
    arrays = {name: value.tobytes() for name, value in limits.items()}
    return found, json.dumps(summary, sort_keys=True), arrays


def files_of(path):
    """Names of all files that anybody reads back, by their place in the folder."""
    names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    return [n for n in names if not n.startswith((*OUTPUTS, ".lock"))]


def flip(place):
    def damage(file):
        data = bytearray(file.read_bytes())
        data[int(place * (len(data) - 1))] ^= 1
        file.write_bytes(data)

    return damage


DAMAGES = {
    "first bit": flip(0.0),
    "a bit": flip(0.37),
    "another bit": flip(0.74),
    "last bit": flip(1.0),
    "half": lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]),
    "empty": lambda f: f.write_bytes(b""),
    "gone": lambda f: f.unlink(),
}


def copies(whole, tmp_path, names, damages):
    for name in names:
        for what in damages:
            path = tmp_path / "run"
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(whole, path)
            DAMAGES[what](path / name)
            yield path, name, what


def read_by_gather(path):
    found = gather([path.parent])
    return found.networks.drop(columns="run").to_json(), found.rows.to_json()


def read_by_report(path):
    record = load_record(path)
    if "damaged" in record.environment:
        raise Damaged(path / "environment.json", record.environment["damaged"])
    arrays = [
        {key: record.at(i, key).tobytes() for key in ("finite/outputs/test",)}
        for i in range(len(record.steps))
    ]
    parts = (record.metrics, record.limits)
    return [
        *({k: v.tobytes() for k, v in part.items()} for part in parts),
        arrays,
        record.summary,
        record.config,
        record.environment,
    ]


@pytest.mark.parametrize("read", [read_by_gather, read_by_report])
def test_who_reads_a_damaged_folder_names_the_file_or_has_the_numbers(
    whole, tmp_path, read
):
    """Every file, seven damages each; what is drawn of it alone is said too."""
    want, named = read(whole), 0
    names = [n for n in files_of(whole) if not n.startswith(OF_CHECKPOINTS)]
    for path, name, what in copies(whole, tmp_path, names, DAMAGES):
        try:
            assert read(path) == want, (name, what)
        except (UserError, Damaged) as error:
            named += 1
            words = (path / name).name
            if (name, what) == ("config.json", "gone"):
                words = "no"  # it is no run's folder then
            if (name, what) == ("summary.json", "gone"):
                words = "not finished"
            assert words in str(error) and "\n" not in str(error), (name, what, error)
        except AssertionError:
            gone = read is read_by_report and what == "gone"
            assert gone and name in ("summary.json", "environment.json"), (name, what)
    assert named > len(DAMAGES)  # metrics.jsonl and more


def test_a_finished_run_that_was_damaged_is_recorded_again(whole, prepared, tmp_path):
    """--run.resume names the file, keeps what is left of it, and ends the same."""
    want = numbers(whole)
    names = [n for n in files_of(whole) if not n.startswith(OF_CHECKPOINTS)]
    names = [n for n in names if n not in SIMILAR]
    kinds = ("another bit", "half", "gone")
    again = {"run.resume": True, "run.checkpoint_seconds": 1000}
    for i, name in enumerate(names):
        for path, _, what in copies(whole, tmp_path, [name], [kinds[i % 3]]):
            left = (path / name).read_bytes() if what != "gone" else None
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    train(config_in(path, **again), Console())
                except UserError as error:
                    assert name == "config.json" and name in str(error)
                    continue
            assert numbers(path) == want, (name, what)
            if name in ("environment.json", "wandb.json", "config.json"):
                continue  # no number depends on them
            said = " ".join(str(w.message) for w in caught)
            file = path / name
            assert file.name in said or name == "summary.json" and what == "gone", name
            if left is not None:
                kept = file.with_name(f"{file.name}.damaged")
                assert kept.read_bytes() == left, (name, what)


def test_a_damaged_checkpoint_changes_no_number(whole, prepared, tmp_path):
    """Every file of the newest one, of a run that was killed at its end."""
    want = numbers(whole)
    newest = max(int(p.name) for p in (whole / OF_CHECKPOINTS).iterdir())
    prefix = f"{OF_CHECKPOINTS}/{newest}/"
    names = [n for n in files_of(whole) if n.startswith(prefix)]
    assert len(names) > 8
    again = {"run.resume": True, "run.checkpoint_seconds": 1000}
    for i, name in enumerate(names):
        kinds = ["a bit", ("half", "empty", "gone")[i % 3]]
        for path, _, what in copies(whole, tmp_path, [name], kinds):
            (path / "summary.json").unlink()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                train(config_in(path, **again), Console())
            assert numbers(path) == want, (name, what)


def test_damage_before_a_checkpoint_is_noticed_and_mended(whole, prepared, tmp_path):
    """A changed digit in a row, an array that is gone: recorded again, to the byte."""
    want = numbers(whole)
    for name in ("arrays/000000020.npz", "metrics.jsonl"):
        path = tmp_path / name.replace("/", "-")
        shutil.copytree(whole, path)
        (path / "summary.json").unlink()
        flip(0.5)(path / name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(config_in(path, **{"run.resume": True}), Console())
        said = [str(w.message) for w in caught]
        assert any(f"{name} is damaged" in s and "written anew" in s for s in said)
        assert len(said) == 1 + (name == "metrics.jsonl")  # that it starts over
        assert numbers(path) == want


def test_a_run_without_checkpoints_starts_over_and_says_so(whole, prepared, tmp_path):
    """Also one whose digests are those of an older version, which has none."""
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    shutil.rmtree(path / OF_CHECKPOINTS)
    (path / "summary.json").unlink()
    with pytest.warns(UserWarning, match="no checkpoint can be used; starting over"):
        train(config_in(path, **{"run.resume": True}), Console())
    assert numbers(path) == numbers(whole)


def test_a_folder_moved_away_ends_the_run_in_one_line(
    whole, prepared, tmp_path, monkeypatch
):
    """Nothing is made at the old place; where it is now, the run goes on."""
    real, count = moments.divergence_row, itertools.count()
    often = {"run.checkpoint_seconds": 0}

    def move(*args):
        if next(count) == 3:
            (tmp_path / "run").rename(tmp_path / "moved")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(moments, "divergence_row", move)
        with pytest.raises(
            RunError, match="was moved or deleted during the run"
        ) as told:
            train(config_in(tmp_path / "run", **often), Console())
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()
    train(config_in(tmp_path / "moved", **{"run.resume": True}), Console())
    assert numbers(tmp_path / "moved") == numbers(whole)


def test_a_run_made_longer_keeps_what_it_has_and_goes_on(whole, prepared, tmp_path):
    """Rows up to the old end stay to the byte; all are those of one that never stopped.

    The spacing in log(step) goes on; a second time too.  A shorter run is refused.
    """
    path, straight = tmp_path / "run", tmp_path / "straight"
    shutil.copytree(whole, path)
    before = (whole / "metrics.jsonl").read_bytes()
    for steps in (60, 200):
        longer = {"run.resume": True, "train.steps": steps}
        summary = train(config_in(path, **longer), Console())
        assert summary["final"]["step"] == steps and summary["status"] == "done"
    after = (path / "metrics.jsonl").read_bytes()
    assert after.startswith(before) and not list(path.rglob("*.damaged"))
    recorded = [row["step"] for row in RunFolder(path).rows()]
    assert recorded == [0, 1, 3, 7, 20, 54, 60, 147, 200]
    ends = {"measure.earlier_steps": (20, 60), "train.steps": 200}
    train(config_in(straight, **ends), Console())
    assert numbers(straight) == numbers(path)
    assert len(gather([path]).rows) == 9 * 2
    shorter = config_in(path, **{"run.resume": True, "train.steps": 100})
    with pytest.raises(UserError, match="was run to train.steps=200, and 100 is asked"):
        train(shorter, Console())
    assert np.array_equal(recorded, [r["step"] for r in RunFolder(path).rows()])
