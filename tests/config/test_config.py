import dataclasses
import inspect
import json
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import testbed.config
import testbed.options
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
from testbed.kinds import KINDS
from testbed.settings import field_types, flatten, override
from testbed.validation import (
    unused,
    unused_simulation,
    validate,
    validate_simulation,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(ROOT.glob("scripts/*.py"))
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
    """lam without branch=fixed, momentum with gd, outputs of real data."""
    assert unused(validate(parse([]))) == []
    for name in PRESETS:
        assert unused(validate(preset(name))) == []
    for argv, name in (
        (["--model.lam=0.4"], "model.lam=0.4 has no effect"),
        (["--train.momentum=0.5"], "train.momentum=0.5 has no effect"),
        (["--data.n_out=3"], "data.n_out=3 has no effect"),
    ):
        (line,) = unused(validate(parse(argv)))
        assert line.startswith(name)
    fixed = ["--model.branch=fixed", "--model.lam=0.4"]
    assert unused(validate(parse(fixed))) == []


def test_a_setting_that_the_kind_lacks(monkeypatch, recwarn):
    """Refused with what has it; under a wandb agent left out with a line."""
    told = "model.c=2: is no setting of model.kind=mlp; leave it out, or use model.kind"
    mlp = ["--model.kind=mlp"]
    for words in ([*mlp, "--model.c=2"], ["--model.c=2", *mlp]):
        with pytest.raises(UserError, match=f"{told}=resnet or balanced"):
            parse(words)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    config = parse(["--model={'kind': 'mlp', 'c': 2, 'width': 8}", "--preset=smoke"])
    assert not hasattr(config.model, "c") and config.model.width == 8
    assert config.train.steps == 100
    (line,) = recwarn.list
    assert str(line.message) == "model.c is no setting of model.kind=mlp: left out"


def test_one_name_has_one_type_and_meaning_in_all_kinds():
    """What two kinds both have is declared once, by a class that both extend."""
    declared = {}
    for kind in KINDS.values():
        names = {field.name for field in dataclasses.fields(kind)}
        for base in kind.__mro__:
            for name in names & set(base.__dict__.get("__annotations__", {})):
                assert declared.setdefault(name, base) is base, name


def test_changing_the_kind_keeps_what_both_have():
    """Of a preset, too; and pickling gives the same config."""
    base = override(SimulateConfig(), {"model.kind": "resnet", "model.width": 8})
    assert (base.model.branch, base.model.alpha) == ("fixed", 0.5**0.5)
    plain = override(base, {"model.kind": "mlp"})
    assert type(plain.model) is KINDS["mlp"] and plain.model.width == 8
    back = override(plain, {"model.kind": "balanced"})
    assert type(back.model) is KINDS["balanced"] and back.model.alpha == 1.0
    assert pickle.loads(pickle.dumps(back)) == back


@pytest.mark.parametrize("kind", KINDS)
def test_help_of_a_kind_has_its_settings_and_no_others(kind):
    """With choices instead of STR."""
    command = [sys.executable, "scripts/train.py", f"--model.kind={kind}", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and not shown.stderr
    for name in {n for n in field_types(Config) if n.startswith("model.")}:
        has = hasattr(KINDS[kind], name.partition(".")[2])
        assert (f"--{name} " in shown.stdout) == has, name
    assert "--model.head {linear,relu}" in shown.stdout
    assert all(f"{one}," in shown.stdout for one in [*KINDS][:-1])


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
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_examples_of_the_help_have_lines_of_their_own(
    script, columns, monkeypatch, capsys
):
    """Each can be copied; tyro runs the lines of other paragraphs together."""
    text = script.read_text().split('"""')[1]
    monkeypatch.setattr("sys.argv", [script.name, "--help"])
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    examples = [line for line in text.splitlines() if line.startswith("python ")]
    assert len(examples) >= 2 and not set(examples) - set(lines)


def test_every_field_has_a_help_text():
    """--help explains each option."""
    import ast

    explained = set()
    bases = {base for kind in KINDS.values() for base in kind.__mro__[:-1]}
    modules = {testbed.config, testbed.options, *map(inspect.getmodule, bases)}
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                for item, after in zip(node.body, node.body[1:], strict=False):
                    is_text = isinstance(after, ast.Expr)
                    if isinstance(item, ast.AnnAssign) and is_text:
                        explained.add((node.name, item.target.id))  # pyright: ignore
    found = [testbed.config, testbed.options]
    known = (*KINDS.values(), *(one for m in found for one in vars(m).values()))
    for kind in filter(dataclasses.is_dataclass, known):
        names = [base.__name__ for base in kind.__mro__]
        for field in dataclasses.fields(kind):
            group = dataclasses.is_dataclass(field.type)
            assert group or any((n, field.name) in explained for n in names), field


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
