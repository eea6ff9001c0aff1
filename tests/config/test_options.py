"""The options of scripts: every form, every mistake, and what the help says."""

import re
import shlex
from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.options import (
    BoundaryOptions,
    ReportOptions,
    ReproduceOptions,
    SweepOptions,
)
from testbed.settings import made, pairs
from testbed.sweeps.boundary import NETWORKS, Plan, plan_of

ROOT = Path(__file__).resolve().parents[2]
D, F = Path("d"), Path("f.yaml")
FORMS = {
    "--dir d": SweepOptions(D),
    "f.yaml --dir=d": SweepOptions(D, F),
    "--quick f.yaml --list --dir d --yes": SweepOptions(
        D, F, quick=True, list=True, yes=True
    ),
    "--dir d f.yaml --print-slurm --quick=False": SweepOptions(D, F, print_slurm=True),
    "--dir d --print_slurm -- f.yaml": SweepOptions(D, F, print_slurm=True),
    "--dir=d --submitit": SweepOptions(D, submitit=()),
    "--dir=d --submitit=a=1 f.yaml": SweepOptions(D, F, submitit=("a=1",)),
    "--submitit a=1 b=2 --dir c --dir d": SweepOptions(D, submitit=("a=1", "b=2")),
    "--dir d --gres none --index ''": SweepOptions(D, gres="none", index=""),
    "a --out c b": ReportOptions((Path("a"), Path("b")), Path("c")),
    "--out c -- -a --b": ReportOptions((Path("-a"), Path("--b")), Path("c")),
    "--dir=d --set a=1 b=2 --jobs 1e1 --set c=3": BoundaryOptions(
        D, set=("a=1", "b=2", "c=3"), jobs=10
    ),
    "--reuse a b --dir d --most-seeds=8 --dry": BoundaryOptions(
        D, reuse=(Path("a"), Path("b")), most_seeds=8, dry=True
    ),
    "": ReproduceOptions(),
    "--quick all": ReproduceOptions("all", quick=True),
}


@pytest.mark.parametrize("words", FORMS)
def test_every_form_is_understood(words):
    """Options before and after what has no name; with = or a blank."""
    kind = type(FORMS[words])
    assert made(kind, pairs(shlex.split(words), kind)) == FORMS[words]


MISTAKES = [
    (SweepOptions, "", "dir='': must be given; add --dir=VALUE"),
    (ReportOptions, "--out c", "dirs='': must be given; add DIR [DIR ...]"),
    (SweepOptions, "--print-slum", "--submitit; did you mean '--print-slurm'?"),
    (SweepOptions, "--preset=smoke", "option=--preset: must be one of --dir, --jobs"),
    (BoundaryOptions, "--most_seed=1", "did you mean '--most-seeds'?"),
    (ReportOptions, "--dirs=a", "option=--dirs: must be one of --out"),
    (SweepOptions, "--dir --list", "--dir='': needs a value; --dir=VALUE"),
    (SweepOptions, "--dir=d a b", "argument=b: is one too many: there is one file"),
    (SweepOptions, "--dir=d -q", "argument=-q: is not an option; write --name=value"),
    (BoundaryOptions, "--dir=d --set=a=1 b=2", "argument=b=2: is not an option"),
    (SweepOptions, "--dir=d --jobs=two", "jobs=two: must be a whole number"),
    (SweepOptions, "--dir=d --quick=2", "quick=2: must be True or False"),
    (SweepOptions, "--dir=d --cpus=0", "cpus=0: must be at least 1; use 1 or more"),
    (BoundaryOptions, "--dir=d --threshold=nan", "threshold=nan: must be finite"),
    (BoundaryOptions, "--dir d --reuse a 'b\tc'", r"reuse=b\tc: holds \t, a character"),
]


@pytest.mark.parametrize(("kind", "words", "message"), MISTAKES)
def test_a_mistake_names_field_value_rule_and_remedy(kind, words, message):
    """As a setting's does, and with the nearest option."""
    with pytest.raises(UserError) as caught:
        made(kind, pairs(shlex.split(words), kind))
    assert message in str(caught.value) and str(caught.value).isprintable()


def test_the_help_of_a_boundary_has_the_defaults_of_a_plan():
    """They are in brackets there: an option that is not given may be the folder's."""
    text = (ROOT / "testbed" / "options.py").read_text()
    found = dict(re.findall(r'(\w+): .* = None\n    """.*\((.+)\)\."""', text))
    assert found.pop("networks") == "all" and ",".join(NETWORKS) in text
    assert len(found) == 6
    given = made(BoundaryOptions, {"dir": "d", **found})
    assert plan_of(Plan(widths=(), depths=(), seeds=2, most_seeds=2), given) == Plan()


def test_every_command_that_is_written_down_is_accepted():
    """In README.md, docs, the scripts themselves and the files of sweeps/."""
    places = ("*.md", "docs/*.md", "scripts/*.py", "sweeps/*.yaml")
    text = "\n".join(p.read_text() for at in places for p in sorted(ROOT.glob(at)))
    kinds = {"sweep": SweepOptions, "report": ReportOptions}
    kinds |= {"boundary": BoundaryOptions, "reproduce": ReproduceOptions}
    found = re.findall(rf"python scripts/({'|'.join(kinds)}).py ([^\n#&`]+)", text)
    assert {name for name, _ in found} == set(kinds) and len(found) > 30
    for name, words in found:
        assert made(kinds[name], pairs(shlex.split(words), kinds[name]))
