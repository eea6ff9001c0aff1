"""What a message says to write can be pasted, and is then accepted."""

import re

import pytest

from testbed.errors import UserError
from testbed.sweeps.points import grid
from testbed.sweeps.spec import read_sweep

HEAD = "program: scripts/train.py\nmethod: {method}\n{cap}parameters:\n"

# What is written, what of it is replaced, and what the sweep then has.
PASTED = {
    "a list": ("model.depth: [4, 5]", None, ("model.depth", (4, 5))),
    "a list of lists": (
        "data.classes: [[0, 1], [2, 3]]",
        None,
        ("data.classes", ([0, 1], [2, 3])),
    ),
    "a list for one": ("data.classes: [0, 1]", None, ("data.classes", ([0, 1],))),
    "a number": ("model.depth: 3", None, ("model.depth", (3,))),
    "a name": ("model.kind: resnet", None, ("model.kind", ("resnet",))),
    "a small number": ("train.lr: 1.0e-5", None, ("train.lr", (1e-5,))),
    "a text of a whole number": (
        'model.depth: {values: ["3", 4]}',
        '"3"',
        ("model.depth", (3, 4)),
    ),
    "a text of a large number": (
        'train.steps: {values: ["1e3"]}',
        '"1e3"',
        ("train.steps", (1000,)),
    ),
    "a text of a small number": (
        "train.lr: {values: [1e-5]}",
        "1e-5",
        ("train.lr", (1e-5,)),
    ),
    "one value": ("model.depth: {values: 3}", "values: 3", ("model.depth", (3,))),
    "a grid of a range": (
        "model.depth: {min: 2, max: 4}",
        "{min: 2, max: 4}",
        ("model.depth", (2, 3, 4)),
    ),
    "exponents": (
        "train.lr: {distribution: log_uniform, min: -9, max: -1}",
        "{distribution: log_uniform, min: -9, max: -1}",
        ("train.lr", {"min": 1.234e-4, "max": 0.3679}),
    ),
    "rounded exponents": (
        "model.depth: {distribution: q_log_uniform, min: 1, max: 3, q: 2}",
        "{distribution: q_log_uniform, min: 1, max: 3, q: 2}",
        ("model.depth", {"min": 2.718, "max": 20.09, "q": 2}),
    ),
    "nested without parameters": (
        "model:\n    depth: {values: [2, 4]}",
        None,
        ("model.depth", (2, 4)),
    ),
}


def write(path, text, wanted):
    drawn = isinstance(wanted, dict)
    head = HEAD.format(
        method="random" if drawn else "grid", cap="run_cap: 2\n" if drawn else ""
    )
    path.write_text(f"{head}  {text}\n")


@pytest.mark.parametrize("case", PASTED)
def test_a_remedy_that_is_pasted_is_accepted(tmp_path, case):
    """Refused first, with a text; with that text in its place, read as it was meant."""
    text, replaced, (name, wanted) = PASTED[case]
    path = tmp_path / "s.yaml"
    write(path, text, wanted)
    with pytest.raises(UserError) as caught:
        read_sweep(path)
    *_, remedy = re.split("write ", caught.value.remedy, maxsplit=1)
    for one in remedy.split(", or "):
        write(path, text.replace(replaced, one) if replaced else one, wanted)
        found = read_sweep(path).parameters[name]
        assert (found.numbers if isinstance(wanted, dict) else found.values) == wanted


def test_nesting_has_two_remedies(tmp_path):
    """The dotted name, and the block with parameters, both in the message."""
    text, _, (_, wanted) = PASTED["nested without parameters"]
    write(tmp_path / "s.yaml", text, wanted)
    with pytest.raises(UserError, match="^parameters.model=") as caught:
        read_sweep(tmp_path / "s.yaml")
    assert caught.value.remedy == (
        "write model.depth: {values: [2, 4]}, or "
        "model: {parameters: {depth: {values: [2, 4]}}}"
    )
    assert len(str(caught.value)) < 300


def test_no_remedy_names_another_distribution(tmp_path):
    """log_uniform is not q_uniform: its ends are powers of e."""
    text, _, (_, wanted) = PASTED["exponents"]
    write(tmp_path / "s.yaml", text, wanted)
    with pytest.raises(UserError, match="gives its ends as powers of e") as caught:
        read_sweep(tmp_path / "s.yaml")
    assert "q_uniform" not in str(caught.value)


def test_forms_of_wandb_whose_meaning_is_clear_are_taken(sweep_of):
    """Probabilities, standard normals, betas, inverse logs, ends that are rounded."""
    forms = {
        "model.width": {"values": [8, 16], "probabilities": [0.25, 0.75]},
        "model.c": {"distribution": "log_normal"},
        "model.alpha": {"distribution": "normal"},
        "model.exponent": {"distribution": "beta", "a": 2},
        "train.lr": {"distribution": "inv_log_uniform", "min": 1, "max": 9},
        "train.momentum": {"distribution": "q_beta", "q": 0.25, "a": 3, "b": 3},
        "kernel.ridge": {
            "distribution": "inv_log_uniform_values",
            "min": 1.0e-8,
            "max": 1.0e-2,
        },
        "model.depth": {"distribution": "q_uniform", "min": 5, "max": 35, "q": 8},
    }
    sweep = sweep_of(forms, method="random", run_cap=3)
    assert sweep.parameters["model.width"].weights == (0.25, 0.75)
    assert sweep.parameters["model.alpha"].numbers == {"mu": 0, "sigma": 1}
    assert sweep.parameters["model.exponent"].numbers == {"a": 2, "b": 1}
    assert sweep.parameters["model.depth"].extremes == [8, 32]
    named = {"distribution": "categorical", **forms["model.width"]}
    assert sweep_of({"model.width": named}, method="random", run_cap=2)


def test_an_anchor_may_have_a_place_of_its_own(tmp_path):
    """x-NAME, _NAME and .NAME hold anchors; what holds none is a mistake."""
    text = "{holder}: {anchor}[2, 4]\nprogram: scripts/train.py\nmethod: grid\n"
    text += "parameters:\n  model.depth: {{values: {use}}}\n"
    path = tmp_path / "s.yaml"
    for holder in ("x-sizes", "_sizes", ".sizes"):
        path.write_text(text.format(holder=holder, anchor="&a ", use="*a"))
        assert len(list(grid(read_sweep(path)))) == 2
        path.write_text(text.format(holder=holder, anchor="", use="[2, 4]"))
        with pytest.raises(UserError, match=f"key={holder}: .*holds no anchor"):
            read_sweep(path)
    path.write_text(text.format(holder="sizes", anchor="&a ", use="*a"))
    with pytest.raises(UserError, match="key=sizes: must be one of"):
        read_sweep(path)
