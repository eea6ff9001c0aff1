import dataclasses
import json
import runpy
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from testbed.cli import parse
from testbed.commands import SIMULATE
from testbed.config import (
    PRESETS,
    SIMULATE_PRESETS,
    Config,
    SimulateConfig,
    preset,
)
from testbed.errors import UserError
from testbed.settings import field_types, flatten, override
from testbed.validation import (
    unused,
    unused_simulation,
    validate,
    validate_simulation,
)

BAD = {
    "model.width=0": "model.width=0: must be at least 1",
    "model.depth=0": "model.depth=0: must be at least 1",
    "model.depth=-3": "model.depth=-3: must be at least 1",
    "model.kind=balancd": "did you mean 'balanced'?",
    "model.branch=fixd": "did you mean 'fixed'?",
    "model.head=rel": "did you mean 'relu'?",
    "data.name=digit": "did you mean 'digits'?",
    "train.optimizer=momentun": "did you mean 'momentum'?",
    "train.loss=crossentropy": "did you mean 'cross_entropy'?",
    "train.optimizer=sgd": "needs a batch size",
    "train.optimizer=adam": "has no critical learning rate",
    "train.batch_size=32": "is full-batch",
    "train.batch_size=4096": "must be at most data.train_size",
    "train.lr=0": "must be positive",
    "train.lr=nan": "must be finite",
    "train.lr_fraction=-1": "must be positive",
    "train.momentum=1.0": "must be below 1",
    "train.steps=0": "must be at least 1",
    "train.seeds=two": "must be a whole number",
    "train.seeds=2.5": "must be a whole number",
    "train.center=maybe": "must be True or False",
    "data.classes=3": "at least two different classes",
    "data.classes=3,3": "at least two different classes",
    "model.ratio=0.0001": "gives depth",
    "measure.tolerance=0": "must be positive",
    "kernel.ridge=-1": "must be at least 0",
}


@pytest.mark.parametrize("setting", BAD)
def test_a_bad_setting_is_told_in_one_line(setting):
    """Each mistake names its field, value, rule and remedy on a single line."""
    with pytest.raises(UserError) as caught:
        validate(parse([f"--{setting}"]))
    text = str(caught.value)
    assert BAD[setting] in text and "\n" not in text and len(text) < 400
    assert caught.value.field and caught.value.rule and caught.value.remedy


def test_ratio_and_depth_exclude_each_other():
    """Both given is an error; one given sets the depth; none gives the default."""
    with pytest.raises(UserError, match="cannot be given together"):
        validate(parse(["--model.ratio=0.5", "--model.depth=3"]))
    assert validate(parse(["--model.ratio=0.5"])).model.depth == 16
    assert validate(parse(["--model.ratio", "0.25"])).model.depth == 8
    assert validate(parse(["--model.depth=3"])).model.depth == 3
    assert validate(parse([])).model.depth == 32


def test_a_ratio_replaces_a_presets_depth():
    """--preset smoke --model.ratio=0.5 is not a contradiction."""
    config = validate(parse(["--preset=smoke", "--model.ratio=0.5"]))
    assert config.model.depth == 16


def test_settings_without_effect_are_said():
    """lam without branch=fixed, momentum with gd, branch settings with an mlp."""
    assert unused(validate(parse([]))) == []
    for name in PRESETS:
        assert unused(validate(preset(name))) == []
    for argv, name in (
        (["--model.lam=0.4"], "model.lam=0.4 has no effect"),
        (["--train.momentum=0.5"], "train.momentum=0.5 has no effect"),
        (["--model.kind=mlp", "--model.c=2"], "model.c=2.0 has no effect"),
        (["--data.n_out=3"], "data.n_out=3 has no effect"),
    ):
        (line,) = unused(validate(parse(argv)))
        assert line.startswith(name)
    fixed = ["--model.branch=fixed", "--model.lam=0.4"]
    assert unused(validate(parse(fixed))) == []


def test_unknown_options_suggest_the_nearest():
    """A misspelt option, preset or word is named with what was probably meant."""
    with pytest.raises(UserError, match="did you mean '--model.width'"):
        parse(["--model.widht=3"])
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        parse(["--preset=smok"])
    with pytest.raises(UserError, match="write --name=value"):
        parse(["depth"])
    with pytest.raises(UserError, match="needs a value"):
        parse(["--model.width"])


def test_all_forms_of_an_argument_mean_the_same():
    """name=value, name value, wandb's nested dict, flags, and booleans as words."""
    want = override(Config(), {"model.depth": 8, "run.resume": True})
    for argv in (
        ["--model.depth=8", "--run.resume"],
        ["--model.depth", "8", "--run.resume=True"],
        ["--run.resume", "--model={'depth': 8}"],
        ["--run.resume", "True", "--model.depth=8"],
        ["--model.depth=8.0", "--run.resume=true"],
    ):
        assert parse(argv) == want, argv
    assert parse(["--data.classes=(3, 7)"]).data.classes == (3, 7)
    assert parse(["--data.classes=[3,7]"]).data.classes == (3, 7)
    assert parse(["--model.ratio=None"]).model.ratio is None
    assert parse(["--train.lr=1e-3"]).train.lr == 1e-3
    assert parse(["--run.report=False"]).run.report is False


def test_every_preset_is_valid_and_yields_to_options():
    """Presets pass validation; an explicit option wins over them."""
    for name in PRESETS:
        validate(preset(name))
    config = validate(parse(["--model.width=7", "--preset", "smoke"]))
    assert config.model.width == 7 and config.train.steps == 100


def test_a_config_survives_json():
    """flatten -> JSON -> override gives the same config back."""
    config = validate(parse(["--data.classes=1,2", "--train.lr=0.25"]))
    stored = json.loads(json.dumps(flatten(config)))
    assert override(Config(), stored) == config


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", ["train", "simulate"])
def test_examples_of_the_help_have_lines_of_their_own(
    name, columns, monkeypatch, capsys
):
    """Each can be copied; tyro runs the lines of other paragraphs together."""
    script = Path(__file__).resolve().parents[2] / "scripts" / f"{name}.py"
    text = script.read_text().split('"""')[1]
    monkeypatch.setattr("sys.argv", [script.name, "--help"])
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    examples = [line for line in text.splitlines() if line.startswith("python ")]
    assert len(examples) == 3 and not set(examples) - set(lines)


def test_every_field_has_a_help_text():
    """--help explains each option."""
    import ast
    import inspect

    import testbed.config

    tree = ast.parse(inspect.getsource(testbed.config))
    explained = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for item, after in zip(node.body, node.body[1:], strict=False):
                is_text = isinstance(after, ast.Expr)
                if isinstance(item, ast.AnnAssign) and is_text:
                    explained.add((node.name, item.target.id))  # pyright: ignore
    for config in (Config(), SimulateConfig()):
        for group in dataclasses.fields(config):
            cls = type(getattr(config, group.name))
            if not dataclasses.is_dataclass(cls):  # a plain setting
                assert (type(config).__name__, group.name) in explained
                continue
            for field in dataclasses.fields(cls):
                assert (cls.__name__, field.name) in explained, field.name


NUMBERS = st.one_of(
    st.integers(-3, 2000),
    st.integers(),
    st.floats(allow_nan=True),
    st.just(None),
    st.booleans(),
)
TEXTS = st.sampled_from(
    ["mlp", "resnet", "balanced", "digits", "relu", "sgd", "adam", "x", "", "1e9", "-1"]
)


WORDS = st.sampled_from(
    [
        f"--{name}{end}"
        for name in field_types(Config)
        for end in ("", "=3", "=x", "={", "=")
    ]
    + ["--model={'depth': 2}", "--model={", "--data={1: 2}", "--train=[]", "7", "--"]
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(WORDS, max_size=4))
def test_random_command_lines_are_accepted_or_refused_in_one_line(argv):
    """Whatever is typed, there is a usable config or one UserError."""
    try:
        validate(parse(argv))
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.sampled_from(sorted(field_types(Config))), NUMBERS | TEXTS, max_size=6
    )
)
def test_random_settings_are_accepted_or_refused_in_one_line(values):
    """Whatever is set, validation gives a usable config or one UserError."""
    try:
        config = validate(override(Config(), values))
    except UserError as error:
        assert "\n" not in str(error) and "=" in str(error)
        return
    assert config.model.depth is not None and config.model.depth >= 1
    assert config.model.width >= 1 and config.train.steps >= 1
    assert validate(config) == config  # validating twice changes nothing


@given(
    st.dictionaries(
        st.sampled_from(sorted(field_types(SimulateConfig))),
        NUMBERS | TEXTS,
        max_size=5,
    )
)
@settings(max_examples=300, deadline=None)
def test_random_simulations_are_accepted_or_refused_in_one_line(values):
    """Validation of scripts/simulate.py gives a config with a depth, or a UserError."""
    try:
        config = validate_simulation(override(SimulateConfig(), values))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert config.samples >= 3 and config.model.depth and config.model.depth >= 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("samples=2", "samples=2: must be at least 3"),
        ("n_out=0", "n_out=0: must be at least 1"),
        ("model.width=0", "model.width=0: must be at least 1"),
        ("model.activation=tanh", "model.activation=tanh: the laws of norms"),
        ("model.bias_std=0.1", "model.bias_std=0.1: the laws of norms"),
        ("model.head=relu", "model.head=relu: the output's law"),
        ("model.lam=0", "model.lam=0.0: without a branch"),
        ("sample=3", "did you mean '--samples'"),
        ("train.steps=3", "must be one of"),
    ],
)
def test_bad_simulations_are_refused(setting, message):
    """One line that names field, value, rule and remedy."""
    with pytest.raises(UserError, match=None) as caught:
        validate_simulation(parse([f"--{setting}"], "", SIMULATE))
    assert message in str(caught.value)


def test_presets_of_simulations_are_valid():
    """Every preset passes validation, and ratio sets depth."""
    for name in SIMULATE_PRESETS:
        config = validate_simulation(parse([f"--preset={name}"], "", SIMULATE))
        assert not unused_simulation(config)
    given = ["--model.ratio=0.5", "--model.width=10"]
    assert validate_simulation(parse(given, "", SIMULATE)).model.depth == 5
