"""Every number has a range, with its reason; paths and texts fit a line."""

import math
import os

import pytest

from testbed.bounds import BOUNDS, check_bounds, check_path, check_text
from testbed.cli import parse
from testbed.commands import SIMULATE, TRAIN
from testbed.config import Config, SimulateConfig
from testbed.errors import UserError
from testbed.options import BoundaryOptions, SweepOptions
from testbed.runs.memory import check_simulation_memory, check_training_memory
from testbed.settings import count_of, field_types, override
from testbed.validation import validate, validate_simulation

NUMBERS = (int, float, int | None, float | None)


def test_every_number_of_every_command_has_a_bound():
    """A setting that is a number and not in the table could be anything."""
    for config in (Config, SimulateConfig, SweepOptions, BoundaryOptions):
        for name, kind in field_types(config).items():
            assert (kind in NUMBERS) == (name in BOUNDS), name


def test_the_defaults_and_presets_are_within_bounds_and_memory():
    """No rule refuses what the project itself asks for."""
    for command, check in (
        (TRAIN, check_training_memory),
        (SIMULATE, check_simulation_memory),
    ):
        for name in command.presets:
            config = command.validate(parse([f"--preset={name}"], "", command))
            if name != "gpu":  # what it takes is the device's matter
                check(config)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_holds_at_its_ends_and_not_beyond(name):
    """The ends themselves pass, unless excluded; NaN and inf never do."""
    bound = BOUNDS[name]
    least = -bound.most if bound.least is None else bound.least
    check_bounds({name: bound.most})
    beyond = [bound.most * 2, 10**400, -(10**400), math.inf, -math.inf, math.nan]
    beyond += [-1.0 if least >= 0 else 2 * least]
    if bound.above:
        beyond.append(least)
    else:
        check_bounds({name: least})
    for value in beyond:
        with pytest.raises(UserError, match="must be") as caught:
            check_bounds({name: value})
        assert str(caught.value).isprintable() and caught.value.field == name


ASKED = {
    "train.steps=1e300": "train.steps=a number of about 300 digits: must be at most",
    "train.steps=1e400": "train.steps=1e400: is beyond the largest number",
    "model.ratio=1e308": "model.ratio=1e.308: must be at most 2147483647: depth =",
    "model.ratio=1e9": r"gives depth round\(1000000000.0 \* 32\) = 32000000000, at",
    "model.width=1e18": "model.width=1000000000000000000: must be at most 2147483647",
    f"model.width={'9' * 5000}": "is beyond the largest number",
    "model.width=١٢": "model.width=١٢: must be a whole number",
    "model.width=1_000": "model.width=1_000: must be a whole number",
    "model.width=0x10": "must be a whole number",
    "model.width=nan": "must be a whole number",
    "kernel.ridge=1e308": "kernel.ridge=1e.308: must be at most 1e.15: float64",
    "model.bias_std=1e300": "model.bias_std=1e.300: must be at most 1e.18: its square",
    "model.alpha=-1e19": "model.alpha=-1e.19: must be at least -1e.18",
    "model.exponent=1e5": "must be at most 100",
    "model.c=inf": "must be finite",
    "train.lr=1e400": "train.lr=inf: must be finite",
    "train.lr=1_0": "train.lr=1_0: must be a number",
    "train.seed=4294967296": "must be at most 4294967295: a seed has 32 bits",
    "measure.times=100000": "must be at most 10000: each recorded time has a file",
    "data.classes=1,99999999999": "must be numbers from 0 to 9999",
    "wandb.project=a\nb": r"wandb.project=a\\nb: holds characters that cannot",
    f"wandb.group={'x' * 500}": "has 500 characters, of at most 128",
    "data.data_dir=a\0b": r"data.data_dir=a\\x00b: holds \\x00, a character",
    f"run.dir={'x' * 300}": "has a name of 300 bytes, of at most 255",
    f"run.root={'x/' * 3000}": "has 6[0-9]{3} bytes, of at most 3584",
    f"data.manual_dir={'x/' * 300}": "folders deep, of at most 200",
}


@pytest.mark.parametrize("setting", ASKED, ids=range(len(ASKED)))
def test_a_setting_beyond_its_bound_is_refused_before_anything_is_made(setting):
    """One line with the field, the value, the bound and its reason."""
    with pytest.raises(UserError, match=ASKED[setting]) as caught:
        validate(parse([f"--{setting}"]))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("data.name=linear data.n_in=1e9", "data.n_in=1000000000: its inputs take"),
        ("data.name=linear data.n_out=1e9", "data.n_out=1000000000: its outputs"),
        ("data.train_size=1e7", "data.train_size=10000000: its kernels take"),
        ("data.test_size=1e7", "data.test_size=10000000: its kernels take"),
        ("model.width=600000", "model.width=600000: training takes"),
        ("model.depth=1e8", "model.depth=100000000: training takes"),
        ("train.seeds=1e8", "train.seeds=100000000: training takes"),
        ("kernel.probes=1e7", "kernel.probes=10000000: its kernels take"),
        (
            "train.optimizer=sgd train.batch_size=32 train.steps=1e9",
            "train.steps=1000000000: its batches take 238 GiB",
        ),
        ("train.loss=cross_entropy kernel.draws=1e7", "kernel.draws=10000000: they"),
    ],
)
def test_what_memory_cannot_hold_is_refused_by_what_it_takes(settings, words):
    """From the config alone: before there is a folder, or data."""
    config = validate(parse([f"--{one}" for one in settings.split()]))
    with pytest.raises(UserError, match=words) as caught:
        check_training_memory(config)
    assert " available" in caught.value.rule


@pytest.mark.parametrize("setting", ["model.width=1e9", "n_out=1e9", "model.depth=1e8"])
def test_simulations_know_their_memory_too(setting):
    """Networks are drawn without weights, but every layer has its row."""
    config = validate_simulation(parse([f"--{setting}"], "", SIMULATE))
    with pytest.raises(UserError, match="takes .* available; lower"):
        check_simulation_memory(config)


def test_a_branch_without_weight_has_no_law():
    """lam = 0 by c, by exponent (underflow) or by itself."""
    for values, field in (
        ({"model.branch": "depth_scaled", "model.c": 0}, "model.c"),
        ({"model.branch": "depth_scaled", "model.exponent": 100,
          "model.depth": 10**6}, "model.exponent"),
        ({"model.branch": "fixed", "model.lam": 0}, "model.lam"),
    ):  # fmt: skip
        with pytest.raises(UserError, match="without a branch") as caught:
            validate_simulation(override(SimulateConfig(), values))
        assert caught.value.field == field


def test_paths_and_texts():
    """What is usual passes: spaces, accents, dots, brackets, other scripts."""
    for path in (".", "a b/é/(c)[d]/#%?.yaml", "данные", "/" + "a/" * 100):
        check_path("dir", path)
        check_text("wandb.group", path[:100])
    for bad in ("a\tb", "a\x7fb", "a\udcffb", "a\u2028b", os.sep.join("ab" * 200)):
        with pytest.raises(UserError, match="^dir=") as caught:
            check_path("dir", bad)
        assert str(caught.value).isprintable()


def test_a_count_is_in_plain_digits():
    """What str.isdigit calls a digit, int may refuse."""
    assert count_of("007") == 7 and count_of("0") == 0
    for text in ("²", "١", "", "-1", "+1", " 1", "1.0", "9" * 19, "9" * 5000):
        assert count_of(text) is None
