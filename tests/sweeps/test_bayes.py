import json
import math

import numpy as np
import pytest
import yaml

from testbed.errors import UserError
from testbed.sweeps.parameter import read_parameter
from testbed.sweeps.points import drawn
from testbed.sweeps.queue.bayes import FIRST, features, metric_of
from testbed.sweeps.queue.sweep_store import open_store

BOWL = """program: scripts/simulate.py
method: bayes
run_cap: 20
metric: {name: score, goal: minimize}
parameters:
  model.lam: {distribution: uniform, min: 1.0, max: 2.0}
  model.alpha: {distribution: log_uniform_values, min: 0.1, max: 10.0}
"""


@pytest.fixture
def search(tmp_path):
    """Opens a bayes sweep, of the bowl or of another text."""

    def make(text=BOWL, seed=0):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        (path / "s.yaml").write_text(text)
        return open_store(path / "s.yaml", path / "dir", seed=seed)

    return make


def far(settings) -> float:
    """Distance to the bottom of the bowl, in a square of side 1."""
    return math.hypot(
        settings["model.lam"] - 1.7, math.log10(settings["model.alpha"]) / 2
    )


def finish(store, point, **summary):
    """Pretends that a point has run."""
    folder = store.folder(point)
    folder.mkdir(parents=True)
    text = json.dumps({"status": "done", **summary})
    (folder / "summary.json").write_text(text)


def proposed(store):
    """The next point, or None at the end."""
    before = len(store.points())
    store.proposer.propose(store, "one")
    points = store.points()
    assert len(points) <= before + 1
    return points[-1] if len(points) > before else None


def run(store, score, most=100):
    """Runs points one after another; returns how near the nearest came."""
    while most and (point := proposed(store)) is not None:
        finish(store, point, score=score(point.settings))
        most -= 1
    return min(far(p.settings) for p in store.points())


def test_it_finds_the_bottom_of_a_bowl_that_chance_misses(search):
    """20 points come five times nearer than 20 random ones, in the median of three
    seeds; told numbers that belong to other points, they come no nearer than chance.
    """
    seeds = range(3)
    told = [run(search(seed=s), lambda p: far(p) ** 2) for s in seeds]
    misled, chance = [], []
    for seed in seeds:
        store, rng = search(seed=seed), np.random.default_rng(seed)
        source = drawn(store.sweep, seed)
        others = [far(next(source)) for _ in range(20)]
        chance.append(min(others))
        values = iter(rng.permutation(others) ** 2)
        misled.append(run(store, lambda p, values=values: next(values)))
    assert np.median(told) < np.median(chance) / 5
    assert np.median(misled) > np.median(chance) / 2


def test_points_still_running_keep_the_next_ones_away(search):
    """Four workers are given four places, not four times nearly the same one."""
    store = search()
    run(store, far, most=FIRST + 3)
    places = []
    for _ in range(4):
        point = proposed(store)
        assert proposed(store) is None  # one waits: no further proposal
        with store.lock():
            assert point is not None and store.claim(point, "one")
        places.append(features(store.sweep.parameters, point.settings))
    apart = [math.dist(a, b) for i, a in enumerate(places) for b in places[:i]]
    assert min(apart) > 0.03  # were they ignored: 0.01


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("departure.test.medain", "did you mean 'departure.test.median'"),
        ("departure.test", "did you mean 'departure.test.median'"),
        ("reading", "see the point's summary.json"),
    ],
)
def test_a_misspelt_metric_is_told_after_the_first_point(search, name, remedy):
    """One line that names the nearest number of the summary; a text is no number."""
    store = search(BOWL.replace("score", name))
    point = proposed(store)
    assert point is not None
    finish(store, point, departure={"test": {"median": 2.0}}, reading="left")
    with pytest.raises(UserError) as caught:
        store.proposer.propose(store, "one")
    assert str(caught.value).startswith(f"metric.name={name}: is no number")
    assert remedy in str(caught.value) and "\n" not in str(caught.value)
    assert len(store.points()) == 1


def test_null_and_failed_points_count_as_the_worst(search):
    """A half of the square where nothing can be measured, or where points fail, is
    left alone, not searched again and again.
    """
    store = search(BOWL)
    while (point := proposed(store)) is not None:
        lam = point.settings["model.lam"]
        if lam < 1.25:
            store.fail(point, "diverged", "one")
        else:
            finish(store, point, score=far(point.settings) if lam < 1.75 else None)
    late = [p.settings["model.lam"] for p in store.points()[12:]]
    assert sum(1.2 < lam < 1.8 for lam in late) >= len(late) - 1
    assert min(far(p.settings) for p in store.points()) < 0.03


@pytest.mark.parametrize(("goal", "target"), [("minimize", 0.1), ("maximize", -0.1)])
def test_the_search_ends_when_the_target_is_reached(search, goal, target):
    """As wandb's does: no further point once a number is as good as metric.target."""
    text = BOWL.replace("goal: minimize", f"goal: {goal}, target: {target}")
    store = search(text)
    sign = -1 if goal == "maximize" else 1
    run(store, lambda p: sign * far(p))
    *before, last = [far(p.settings) for p in store.points()]
    assert last <= 0.1 < min(before) and len(before) < 19


def test_the_metric_is_a_finite_number_of_the_summary(search):
    """Null and nan are no result; dots reach inside; maximize turns the sign."""
    sweep = search(BOWL.replace("score", "a.b")).sweep
    assert metric_of(sweep, {"a": {"b": 2.0}}) == 2.0
    for nothing in ({"a": {"b": None}}, {"a": {"b": math.nan}}, {"a": 1.0}, None):
        assert metric_of(sweep, nothing) is None
    sweep = search(BOWL.replace("minimize", "maximize")).sweep
    assert metric_of(sweep, {"score": 3.0}) == -3.0


@pytest.mark.parametrize(
    ("spec", "value", "place"),
    [
        ("{min: 2.0, max: 4.0}", 3.5, [0.75]),
        ("{min: 2, max: 12}", 7, [0.5]),
        ("{min: 3, max: 3}", 3, [0.0]),
        ("{distribution: q_uniform, min: 0, max: 8, q: 2}", 6, [0.75]),
        ("{distribution: log_uniform_values, min: 0.01, max: 100.0}", 1.0, [0.5]),
        ("{distribution: q_log_uniform_values, min: 1, max: 16, q: 1}", 8, [0.75]),
        ("{distribution: normal, mu: 1.0, sigma: 2.0}", 5.0, [1.0]),
        ("{distribution: normal, mu: 1.0, sigma: 0.0}", 1.0, [0.5]),
        ("{distribution: log_normal, mu: 1.0, sigma: 2.0}", math.exp(-3.0), [0.0]),
        ("{values: [10.0, 0.1]}", 10.0, [1.0]),
        ("{values: [1, 2, 400]}", 2, [0.5]),
        ("{values: [null, 0.5]}", None, [1.0, 0.0]),
        ("{value: 2}", 2, []),
    ],
)
def test_settings_are_scaled_as_they_are_drawn(spec, value, place):
    """Ranges run from 0 to 1, by logarithm where they are drawn so; names one-hot."""
    kind = float if isinstance(value, float) else int
    parameter = read_parameter("x", yaml.safe_load(spec), kind | None)
    assert features({"x": parameter}, {"x": value}) == pytest.approx(place)
