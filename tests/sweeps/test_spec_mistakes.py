"""A mistake in a sweep file is told in one line: setting, value, rule, remedy."""

import math

import pytest

from testbed.errors import UserError
from testbed.sweeps.points import grid
from testbed.sweeps.spec import config_of, read_sweep

DEPTH = {"model.depth": {"values": [2, 3]}}
MISTAKES = {
    "number as text": (
        {"train.lr": {"values": ["1e-5"]}},
        {},
        "train.lr='1e-5': is text, not a number: .* write 1.0e-05",
    ),
    "end as text": (
        {"train.lr": {"min": "1.5e-7", "max": 0.1}},
        {"method": "random", "run_cap": 2},
        "train.lr.min='1.5e-7': .*; write 1.5e-07",
    ),
    "big number as text": (
        {"train.lr": {"value": "1e22"}},
        {},
        r"write 1.0e\+22",
    ),
    "unknown setting": (
        {"model.dpeth": {"values": [2, 3]}},
        {},
        "model.dpeth: .*did you mean 'model.depth'",
    ),
    "unknown nested setting": (
        {"model": {"parameters": {"dpeth": {"values": [2, 3]}}}},
        {},
        "model.dpeth: .*did you mean 'model.depth'",
    ),
    "refused value": (
        {"model.depth": {"values": [2, 0]}},
        {},
        "model.depth=0: must be at least 1; use 1 or more",
    ),
    "refused name": (
        {"model.kind": {"values": ["balanced", "resnt"]}},
        {},
        "model.kind=resnt: .*did you mean 'resnet'",
    ),
    "refused end": (
        {"train.momentum": {"min": 0.5, "max": 1.0}},
        {"method": "random", "run_cap": 2},
        "train.momentum=1.0: must be below 1",
    ),
    "unknown method": (DEPTH, {"method": "gird"}, "method=gird: .*'grid'"),
    "unknown program": (
        DEPTH,
        {"program": "train.py"},
        "program=train.py: .*train.py'",
    ),
    "unknown key": (DEPTH, {"run_caps": 3}, "key=run_caps: .*did you mean 'run_cap'"),
    "misspelt values": (
        {"model.depth": {"vlaues": [2]}},
        {},
        "model.depth=vlaues: .*did you mean 'values'",
    ),
    "probabilities in a grid": (
        {"model.depth": {"values": [2, 3], "probabilities": [0.1, 0.9]}},
        {},
        "depth.probabilities=.0.1, 0.9.: a grid has every value once",
    ),
    "probabilities of too few": (
        {"model.depth": {"values": [2, 3], "probabilities": [1.0]}},
        {"method": "random", "run_cap": 2},
        "probabilities=.1.0.: must be a list, a number for each",
    ),
    "probabilities beyond one": (
        {"model.depth": {"values": [2, 3], "probabilities": [1, 3]}},
        {"method": "random", "run_cap": 2},
        r"sum to 4, not to 1; e.g. \[0.25, 0.75\]",
    ),
    "a negative probability": (
        {"model.depth": {"values": [2, 3], "probabilities": [-1, 2]}},
        {"method": "random", "run_cap": 2},
        "probabilities=-1: must be a number from 0 to 1",
    ),
    "bare value": ({"model.depth": 2}, {}, r"depth=2: .*write model.depth: {value: 2}"),
    "value and values": (
        {"model.depth": {"value": 2, "values": [3]}},
        {},
        "must have either value, or values",
    ),
    "values and range": (
        {"model.depth": {"values": [2], "min": 1, "max": 3}},
        {},
        "must have either value, or values",
    ),
    "nothing": ({"model.depth": {}}, {}, "must have either value, or values"),
    "no values": ({"model.depth": {"values": []}}, {}, "a list of at least one"),
    "one bare value": ({"model.depth": {"values": 3}}, {}, r"write values: \[3\]"),
    "the same twice": ({"model.depth": {"values": [2, 2]}}, {}, "holds 2 twice"),
    "given twice": (
        DEPTH | {"model": {"parameters": {"depth": {"value": 4}}}},
        {},
        "model.depth=.*: is given twice, nested and dotted",
    ),
    "empty block": (
        {"model": {"parameters": None}},
        {},
        "parameters.model=None: must hold settings by name",
    ),
    "no mapping": (["model.depth"], {}, "must hold settings by name"),
    "the runner's": ({"run.dir": {"value": "x"}}, {}, "run.dir=.*leave it out"),
    "min above max": (
        {"model.depth": {"min": 8, "max": 2}},
        {"method": "random", "run_cap": 2},
        "min=8 is above max=2; swap them",
    ),
    "no max": (
        {"model.depth": {"min": 8}},
        {"method": "random", "run_cap": 2},
        "model.depth=uniform: needs max",
    ),
    "no number": (
        {"model.c": {"min": 0.1, "max": None}},
        {"method": "random", "run_cap": 2},
        "model.c.max=None: must be a number",
    ),
    "infinite": (
        {"model.c": {"min": 0.1, "max": math.inf}},
        {"method": "random", "run_cap": 2},
        "model.c.max=inf: must be a number",
    ),
    "unknown distribution": (
        {"model.c": {"distribution": "unifrom", "min": 0.1, "max": 1.0}},
        {"method": "random", "run_cap": 2},
        "distribution=unifrom: .*did you mean 'uniform'",
    ),
    "number of another distribution": (
        {"model.c": {"distribution": "normal", "mu": 1, "sigma": 1, "max": 2}},
        {"method": "random", "run_cap": 2},
        r"model.c \(normal\)=max: must be one of mu, sigma",
    ),
    "negative sigma": (
        {"model.c": {"distribution": "normal", "mu": 1, "sigma": -1}},
        {"method": "random", "run_cap": 2},
        "model.c.sigma=-1: is below 0",
    ),
    "no logarithm": (
        {"model.c": {"distribution": "log_uniform_values", "min": 0, "max": 2}},
        {"method": "random", "run_cap": 2},
        "model.c.min=0: has no logarithm",
    ),
    "beta without shape": (
        {"model.c": {"distribution": "beta", "a": 0}},
        {"method": "random", "run_cap": 2},
        "model.c.a=0: must be positive",
    ),
    "fractional ends": (
        {"model.depth": {"distribution": "int_uniform", "min": 1.5, "max": 4}},
        {"method": "random", "run_cap": 2},
        "model.depth.min=1.5: must be a whole number",
    ),
    "beyond float64": (
        {"model.c": {"distribution": "log_normal", "mu": 900}},
        {"method": "random", "run_cap": 2},
        "model.c=log_normal: draws numbers beyond float64",
    ),
    "a tiny step": (
        {"model.c": {"distribution": "q_uniform", "min": 1, "max": 2, "q": 1e-300}},
        {"method": "random", "run_cap": 2},
        "more than 2.53 steps of 1e-300",
    ),
    "a huge end": (
        {"model.depth": {"min": 1, "max": 10**400}},
        {"method": "random", "run_cap": 2},
        "is not YAML: line 4: holds a number of about 400 digits",
    ),
    "too many values": (
        {"model.depth": {"values": list(range(1, 20_002))}},
        {},
        "lists 20,001 values, of at most 10,000; use a distribution",
    ),
    "a cap beyond counting": (
        DEPTH,
        {"run_cap": 10**12},
        "run_cap=1000000000000: must be at most 2147483647",
    ),
    "zero step": (
        {"model.c": {"distribution": "q_uniform", "min": 0.5, "max": 2, "q": 0}},
        {"method": "random", "run_cap": 2},
        "model.c.q=0: must be positive",
    ),
    "ends between steps": (
        {"model.width": {"distribution": "q_uniform", "min": 4, "max": 64, "q": 8}},
        {"method": "random", "run_cap": 2},
        "model.width=0: must be at least 1",  # 4 is rounded to 0, as by wandb
    ),
    "fractions of a whole number": (
        {"model.depth": {"distribution": "uniform", "min": 2, "max": 8}},
        {"method": "random", "run_cap": 2},
        "model.depth=uniform: draws fractions, .*use int_uniform",
    ),
    "a range of names": (
        {"model.kind": {"min": 0.0, "max": 1.0}},
        {"method": "random", "run_cap": 2},
        "model.kind=uniform: this is not a number; list its values",
    ),
    "grid of a range": (
        {"model.depth": {"min": 2, "max": 8}},
        {},
        "model.depth=int_uniform: a grid needs values",
    ),
    "random without end": (DEPTH, {"method": "random"}, "run_cap=None: .*add run_cap"),
    "cap of none": (DEPTH, {"run_cap": 0}, "run_cap=0: must be a whole number"),
    "cap as text": (DEPTH, {"run_cap": "many"}, "run_cap=many: must be a whole"),
    "bayes without metric": (
        DEPTH,
        {"method": "bayes", "run_cap": 2},
        "metric={}: bayes needs one; add metric.name",
    ),
    "bare metric": (
        DEPTH,
        {"method": "bayes", "run_cap": 2, "metric": "loss"},
        "metric=loss: must have a name and a goal; write {name: loss}",
    ),
    "unknown goal": (
        DEPTH,
        {"metric": {"name": "loss", "goal": "minimise"}},
        "metric.goal=minimise: .*did you mean 'minimize'",
    ),
    "misspelt goal": (
        DEPTH,
        {"metric": {"name": "loss", "gaol": "maximize"}},
        "metric=gaol: .*did you mean 'goal'",
    ),
    "target as text": (
        DEPTH,
        {"metric": {"name": "loss", "target": "1e-5"}},
        "metric.target=1e-5: must be a number",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(sweep_of, mistake):
    """With the setting, its value, the rule, and what to do."""
    parameters, document, match = MISTAKES[mistake]
    with pytest.raises(UserError, match=match) as caught:
        sweep_of(parameters, **document)
    assert "\n" not in str(caught.value)
    assert all((caught.value.field, caught.value.rule, caught.value.remedy))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"method: [grid\nparameters: {", "is not YAML"),
        (b"\xff\xfe\x00", "is not a text in UTF-8"),
        (b"method: grid\nprogram: scripts/train.py\n", "has no parameters"),
        (b"just words", "has no parameters"),
        (b"", "has no parameters"),
    ],
)
def test_what_is_no_sweep_file_is_told_in_one_line(tmp_path, text, match):
    """Also where YAML or the encoding fails."""
    path = tmp_path / "sweep.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=match) as caught:
        read_sweep(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told_in_one_line(tmp_path):
    """A path that is not there, and one that is a folder."""
    with pytest.raises(UserError, match="cannot be read .No such file"):
        read_sweep(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read .Is a directory"):
        read_sweep(tmp_path)


def test_text_that_looks_like_a_number_is_fine_for_a_name(sweep_of):
    """Only settings that are numbers refuse it."""
    sweep = sweep_of({"wandb.group": {"value": "1e-5"}})
    assert config_of(sweep, next(grid(sweep))).wandb.group == "1e-5"
