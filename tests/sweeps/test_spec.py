"""Sweep files: those of sweeps/, wandb's own schema, other words for the same."""

import itertools
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

from testbed.sweeps.points import drawn, grid, point_name, quick
from testbed.sweeps.spec import config_of, read_sweep

FILES = sorted((Path(__file__).resolve().parents[2] / "sweeps").glob("*.yaml"))
# Of the PyPI package sweeps 0.3.0, MIT; the notice is beside it.
SCHEMA = json.loads(Path(__file__).with_name("wandb_sweep_schema.json").read_text())
HEADER = "question scientific nuisance fixed command hardware answer".split()

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def points_of(sweep):
    """Its points; of a random or bayes sweep, as many random ones as it may take."""
    if sweep.method == "grid":
        return list(grid(sweep))
    return list(itertools.islice(drawn(sweep), sweep.run_cap))


# The files of sweeps/


@each_file
def test_a_file_says_what_it_asks_and_can_be_run(file):
    """All seven fields, a command that names the file, and only valid points."""
    sweep = read_sweep(file)
    assert list(sweep.header) == HEADER and all(sweep.header.values())
    assert sweep.header["question"].endswith("?")
    assert f"sweeps/{file.name} --dir maps/{file.stem}" in sweep.header["command"]
    assert sweep.document["name"] == file.stem
    named = sweep.header["scientific"]
    assert all(name in named for name in sweep.varied)
    points = points_of(sweep)
    assert len({point_name(sweep, s) for s in points}) == len(points) <= 100
    assert not config_of(sweep, points[0]).run.report


@each_file
def test_a_file_is_one_that_wandb_takes(file):
    """Valid against wandb's published schema, with flat dotted names."""
    document = yaml.safe_load(file.read_text())
    jsonschema.Draft7Validator(SCHEMA).validate(document)
    assert not any("parameters" in spec for spec in document["parameters"].values())


@each_file
def test_its_quick_variant_is_small(file):
    """A few points, tiny networks, a dozen steps: valid, and others than before."""
    sweep = read_sweep(file)
    small = quick(sweep)
    points = points_of(small)
    assert 2 <= len(points) <= 8
    for settings in points:
        config = config_of(small, settings)
        assert config.model.width <= 16 and config.model.depth <= 8
        if sweep.program == "scripts/train.py":
            assert config.train.steps <= 12 and config.data.train_size <= 24
        else:
            assert config.samples <= 400
    names = {point_name(sweep, s) for s in points_of(sweep)}
    assert not names & {point_name(small, s) for s in points}


def test_the_scale_of_lazy_scale_is_the_outputs():
    """Without skips f is homogeneous in lam: lam^4 goes from a = 1/4 to a = 8."""
    import jax

    from testbed.families import family

    sweep = read_sweep(next(file for file in FILES if file.stem == "lazy_scale"))
    x = jax.random.normal(jax.random.key(1), (5, 6))
    outputs = []
    points = list(grid(sweep))
    for settings in (points[0], points[-2]):
        assert settings["model.width"] == 16
        model = config_of(sweep, settings).model
        network = family(model.kind).network(model, 3)
        variables = jax.jit(network.init)(jax.random.key(0), x)
        outputs.append(jax.jit(network.apply)(variables, x))
    np.testing.assert_allclose(outputs[1], 32 * outputs[0], rtol=1e-4, atol=1e-6)


# The same sweep in other words


def test_nested_and_dotted_parameters_are_the_same_sweep(sweep_of):
    """model: {parameters: {depth: ...}} is model.depth."""
    dotted = sweep_of({"model.depth": {"values": [2, 3]}, "train.steps": {"value": 9}})
    depth = {"parameters": {"depth": {"values": [2, 3]}}}
    steps = {"parameters": {"steps": {"value": 9}}}
    nested = sweep_of({"model": depth, "train": steps})
    assert nested.parameters == dotted.parameters
    assert list(grid(nested)) == list(grid(dotted))


def test_lists_booleans_and_null_are_values(sweep_of):
    """They reach the config as what they are."""
    sweep = sweep_of(
        {
            "data.classes": {"values": [[0, 1], []]},
            "train.center": {"values": [True, False]},
            "train.lr": {"values": [None, 0.5]},
        }
    )
    configs = [config_of(sweep, s) for s in grid(sweep)]
    assert [c.data.classes for c in configs] == [(0, 1)] * 4 + [()] * 4
    assert [c.train.center for c in configs][:4] == [True, True, False, False]
    assert [c.train.lr for c in configs][:2] == [None, 0.5]


def test_a_ratio_sets_the_depth_whatever_the_default_is(sweep_of):
    """depth = ratio * width, also where the program or a preset has a depth."""
    ratio = {"model.ratio": {"values": [0.25, 0.5]}, "model.width": {"value": 16}}
    for more in ({}, {"preset": {"value": "smoke"}}):
        sweep = sweep_of(ratio | more)
        assert [config_of(sweep, s).model.depth for s in grid(sweep)] == [4, 8]
    sweep = sweep_of(ratio, program="scripts/simulate.py")
    assert [config_of(sweep, s).model.depth for s in grid(sweep)] == [4, 8]


def test_the_header_ends_where_the_file_begins(sweep_of):
    """Fields go over lines; comments further down are no part of them."""
    sweep = sweep_of(
        None,
        text="# Question: one\n#   two: three?\n# Answer: no\n"
        "method: grid\n# Command: none\nprogram: scripts/train.py\n"
        "parameters: {model.depth: {value: 2}}\n",
    )
    assert sweep.header == {"question": "one two: three?", "answer": "no"}
