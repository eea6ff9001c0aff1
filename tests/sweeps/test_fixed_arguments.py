"""`command` of a sweep file: what an agent would add, our runner adds as well."""

import pytest

from testbed.cli import parse
from testbed.errors import UserError
from testbed.sweeps.fixed_arguments import USUAL
from testbed.sweeps.points import grid, point_name
from testbed.sweeps.spec import config_of

DEPTH = {"model.depth": {"values": [2, 4]}}
START = USUAL[:3]


def argv_of(command, settings):
    """The words that wandb's agent puts behind the program."""
    sdk = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    args = {name: {"value": value} for name, value in settings.items()}
    words = sdk.create_sweep_command_args({"args": args})
    words |= {"env": [], "interpreter": [], "program": ["scripts/train.py"]}
    found = []
    for word in sdk.create_sweep_command(list(command)):
        named = word.startswith("${") and word.endswith("}")
        found += words[word[2:-1]] if named else [word]
    return found[found.index("scripts/train.py") + 1 :]


@pytest.mark.parametrize(
    "command",
    [
        USUAL,
        [*START, "--train.steps=20", "--preset=smoke", "${args}"],
        [*START, "${args}", "--train.steps", "20", "--wandb.mode=offline"],
        ["${env}", "python3", "-u", "${program}", "--run.report=False", "${args}"],
        ["${interpreter}", "scripts/train.py", "${args_no_equals}", "--train.seed=3"],
        [*START, "--model.depth=9", "--model={'width': 12}", "${args}"],
    ],
)
def test_points_are_those_of_an_agent(sweep_of, command):
    """The config of each is what the program makes of the agent's command line."""
    sweep = sweep_of(DEPTH, command=command)
    points = list(grid(sweep))
    assert [p["model.depth"] for p in points] == [2, 4]
    assert sweep.varied == ["model.depth"]
    for point in points:
        swept = {"model.depth": point["model.depth"]}
        agents = sweep.command.validate(parse(argv_of(command, swept)))
        assert config_of(sweep, point) == agents


def test_fixed_arguments_are_part_of_a_points_name(sweep_of):
    """They decide its numbers; the usual command leaves names as they were."""
    plain, usual = sweep_of(DEPTH), sweep_of(DEPTH, command=USUAL)
    more = sweep_of(DEPTH, command=[*START, "--train.steps=20", "${args}"])
    names = [{point_name(s, p) for p in grid(s)} for s in (plain, usual, more)]
    assert names[0] == names[1] and not names[0] & names[2]


@pytest.mark.parametrize(
    ("command", "match"),
    [
        ("python scripts/train.py", "must be a list of words"),
        ([[1]], "must be a list of words"),
        (["bash", "run.sh", "${args}"], "must run the program by Python"),
        (["${env}", "A=1", *START[1:], "${args}"], "must run the program by Python"),
        ([*START, "${program}", "${args}"], "must run the program by Python"),
        (START, "reach the program as"),
        ([*USUAL, "${args}"], "reach the program as"),
        ([*START, "${args_no_hyphens}"], r"command=\$\{args_no_hyphens\}"),
        ([*START, "${args_no_boolean_flags}"], "reach the program as"),
        ([*START, "${args_json}"], "reach the program as"),
        ([*USUAL, "--run.root=${envvar:HOME}"], "reach the program as"),
        ([*START, "--train.stepz=20", "${args}"], "did you mean '--train.steps'"),
        ([*START, "--train.steps=a", "${args}"], "train.steps=a: must be a whole"),
        ([*START, "--train.steps=0", "${args}"], "train.steps=0: must be at least 1"),
        ([*START, "steps", "${args}"], "argument=steps: is not an option"),
        ([*START, "--run.dir=x", "${args}"], "is set by whoever runs the sweep"),
        ([*USUAL, "--model.depth=3"], "would overrule the sweep's own values"),
    ],
)
def test_a_command_that_does_anything_else_is_refused(sweep_of, command, match):
    """In one line, not ignored."""
    with pytest.raises(UserError, match=match) as caught:
        sweep_of(DEPTH, command=command)
    assert "\n" not in str(caught.value)
