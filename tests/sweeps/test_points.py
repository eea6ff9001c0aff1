"""Points of a sweep: enumerated, drawn, named."""

import itertools

import numpy as np

from testbed.sweeps.parameter import Parameter
from testbed.sweeps.points import draw, drawn, grid, point_name


def test_a_grid_is_every_combination_in_order(sweep_of):
    """The last parameter varies fastest; a constant is in all of them."""
    sweep = sweep_of(
        {
            "model.depth": {"values": [3, 2]},
            "model.kind": {"value": "resnet"},
            "model.width": {"values": [8, 4, 16]},
        }
    )
    seen = [(s["model.depth"], s["model.width"]) for s in grid(sweep)]
    assert seen == [(3, 8), (3, 4), (3, 16), (2, 8), (2, 4), (2, 16)]
    assert {s["model.kind"] for s in grid(sweep)} == {"resnet"}
    assert sweep.varied == ["model.depth", "model.width"]


def test_random_points_can_be_had_again(sweep_of):
    """Point i is that of the seed and i, however many are drawn."""
    depth = {"model.depth": {"min": 1, "max": 99}, "model.c": {"min": 0.1, "max": 2.0}}
    sweep = sweep_of(depth, method="random", run_cap=9)
    take = lambda count, seed: list(itertools.islice(drawn(sweep, seed), count))
    assert take(9, 0)[:4] == take(4, 0)
    assert take(9, 0) != take(9, 1)
    assert len({s["model.c"] for s in take(9, 0)}) == 9


def test_choices_are_drawn_evenly(sweep_of):
    """Each of three values in a third of 3000 points, to 4 standard errors."""
    parameter = Parameter("x", ("a", None, 3), "categorical", {})
    rng = np.random.default_rng(0)
    seen = [draw(parameter, rng) for _ in range(3000)]
    for value in parameter.values:
        assert abs(seen.count(value) - 1000) < 4 * (3000 * 2 / 9) ** 0.5


def test_weighted_choices_are_drawn_by_their_weights():
    """Each of three values as often as its probability, to 4 standard errors."""
    weights = (0.2, 0.0, 0.8)
    parameter = Parameter("x", (1, 2, 3), "categorical_w_probabilities", {}, weights)
    rng = np.random.default_rng(0)
    seen = [draw(parameter, rng) for _ in range(3000)]
    for value, weight in zip(parameter.values, weights, strict=True):
        error = (3000 * weight * (1 - weight)) ** 0.5
        assert abs(seen.count(value) - 3000 * weight) <= 4 * error
        assert abs(seen.count(value) - 1000) > 4 * (3000 * 2 / 9) ** 0.5  # not evenly


def test_a_points_name_is_all_that_the_sweep_sets(sweep_of):
    """In any order, and the program; a list of JSON is the tuple it was."""
    sweep = sweep_of({"model.depth": {"values": [2, 3]}})
    base = point_name(sweep, {"model.depth": 2, "model.c": 1.0})
    assert base == point_name(sweep, {"model.c": 1.0, "model.depth": 2})
    others = [
        {"model.depth": 3, "model.c": 1.0},
        {"model.depth": 2, "model.c": 1.0, "train.seed": 1},
        {"model.depth": 2},
        {"model.depth": 2, "model.c": 1.0, "run.seed_axis": "map"},
        {"model.depth": 2, "model.c": None},
    ]
    assert len({base, *(point_name(sweep, s) for s in others)}) == 6
    classes = [point_name(sweep, {"data.classes": c}) for c in ([0, 1], (0, 1))]
    assert classes[0] == classes[1]
    simulation = sweep_of({"model.depth": {"value": 2}}, program="scripts/simulate.py")
    assert point_name(simulation, {"model.depth": 2, "model.c": 1.0}) != base
    assert len(base) == 12 and int(base, 16) >= 0
