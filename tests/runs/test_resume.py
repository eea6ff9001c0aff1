"""--run.resume: the folder says what is run, and what is given must agree with it."""

import json

import pytest

from testbed.cli import parse
from testbed.commands import SIMULATE, TRAIN
from testbed.config import Config, SimulateConfig
from testbed.errors import UserError
from testbed.runs import preflight
from testbed.runs.folder import RunFolder
from testbed.settings import flatten, override
from testbed.validation import validate, validate_simulation

SETTINGS = {"model.width": 48, "model.ratio": 0.25, "train.steps": 100}


@pytest.fixture
def begun(tmp_path):
    """The folder of a run of `SETTINGS`."""
    path = tmp_path / "run"
    path.mkdir()
    config = validate(override(Config(), SETTINGS))
    RunFolder(path).write_json("config.json", flatten(config))
    return path


def resumed(path, *given):
    return parse([f"--run.dir={path}", "--run.resume", *given])


def test_the_folder_is_enough(begun):
    """No setting but run.dir: all are as they are stored."""
    config = resumed(begun)
    assert config.model.width == 48 and config.model.depth == 12
    stored = RunFolder(begun).read_json("config.json")
    found = json.loads(json.dumps(flatten(config)))
    changed = {name for name in found if found[name] != stored[name]}
    assert changed == {"run.dir", "run.resume"}
    assert flatten(validate(config)) == flatten(config)


def test_what_is_given_may_agree_and_where_it_is_recorded_may_differ(begun):
    """The same settings, depth by its ratio too; wandb, run and where data lies."""
    config = resumed(
        begun, "--model.width=48", "--model.ratio=0.25", "--preset=default"
    )
    assert config.model.depth == 12
    config = resumed(begun, "--wandb.mode=offline", "--run.report=False")
    assert config.wandb.mode == "offline" and not config.run.report


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--model.width=64", "model.width is 48 there and 64 here"),
        ("--model.ratio=0.5", "model.depth is 12 there and 24 here"),
        ("--model={'kind': 'resnet'}", "model.kind is balanced there and resnet here"),
        ("--preset=smoke", "data.test_size is 500 there and 64 here"),
        ("--train.steps=99", "was run to train.steps=100, and 99 is asked for"),
        ("--train.steps=0", "train.steps=0: must be at least 1"),
    ],
)
def test_what_does_not_agree_is_one_line_that_names_both(begun, given, words):
    """Another setting, or fewer steps; nothing is written."""
    before = (begun / "config.json").read_bytes()
    with pytest.raises(UserError) as caught:
        resumed(begun, given)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert (begun / "config.json").read_bytes() == before


def test_more_steps_make_the_run_longer(begun):
    """The config knows where it ended before, and so where it was recorded."""
    config = resumed(begun, "--train.steps=400")
    assert config.train.steps == 400 and config.measure.earlier_steps == (100,)
    RunFolder(begun).write_json("config.json", flatten(config))
    with pytest.raises(UserError, match="was run to train.steps=400, and 50 is asked"):
        resumed(begun, "--train.steps=50")


def test_a_config_of_an_older_version_lacks_what_it_did_not_know(begun):
    """A missing setting is as by default; an unknown one, or damage, is told."""
    folder = RunFolder(begun)
    stored = folder.read_json("config.json")
    older = {k: v for k, v in stored.items() if k != "measure.earlier_steps"}
    (begun / "config.json").write_text(json.dumps(older))
    assert resumed(begun, "--train.steps=200").measure.earlier_steps == (100,)
    folder.write_json("config.json", {**stored, "model.magic": 3})
    with pytest.raises(UserError, match="cannot be read here .*model.magic"):
        resumed(begun)
    folder.write_json("config.json", stored)
    text = (begun / "config.json").read_text().replace('width": 48', 'width": 49')
    (begun / "config.json").write_text(text)
    with pytest.raises(UserError, match="holds a damaged config.json: its digest"):
        resumed(begun)


def test_a_simulation_needs_no_other_setting_either(tmp_path):
    """Its number of networks is drawn as it was begun: another one is refused."""
    config = override(SimulateConfig(), {"samples": 500, "model.width": 8})
    flat = flatten(validate_simulation(config))
    RunFolder(tmp_path).write_json("config.json", flat)
    argv = [f"--run.dir={tmp_path}", "--run.resume"]
    assert parse(argv, "", SIMULATE).samples == 500
    with pytest.raises(UserError, match="samples is 500 there and 900 here"):
        parse([*argv, "--samples=900"], "", SIMULATE)


def test_a_preset_for_accelerators_says_at_once_that_there_is_none(monkeypatch):
    """Before data, folder or network; JAX_PLATFORMS=cpu insists on the processor."""
    config = validate(parse(["--preset=gpu"]))
    assert TRAIN.accelerated == ("gpu",)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setattr(preflight.jax, "default_backend", lambda: "cpu")
    with pytest.raises(UserError, match="JAX finds none here; .* JAX_PLATFORMS=cpu"):
        preflight.check_accelerated(config)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    small = {"data.name": "linear", "data.train_size": 8, "data.test_size": 4}
    small |= {"model.width": 16, "model.depth": 4, "kernel.probes": 2}
    config = validate(override(config, small))
    preflight.check_accelerated(config)
    large = validate(override(config, {"model.width": 10**6}))
    with pytest.raises(UserError, match="training takes"):
        preflight.check_accelerated(large)
