import json

import numpy as np

from testbed.sweeps.bayes import FIRST, metric_of, propose
from testbed.sweeps.points import drawn
from testbed.sweeps.store import open_store

FILE = """program: scripts/simulate.py
method: bayes
run_cap: 16
metric: {name: score, goal: minimize}
parameters:
  samples: {distribution: int_uniform, min: 10, max: 9000}
  model.lam: {distribution: log_uniform_values, min: 0.01, max: 10.0}
  model.kind: {values: [resnet, balanced]}
"""


def score(settings) -> float:
    """Smallest, 0, at samples = 7000, lam = 0.1, balanced."""
    far = (settings["samples"] - 7000) / 9000
    off = np.log10(settings["model.lam"]) + 1
    return far**2 + off**2 + (settings["model.kind"] != "balanced")


def finish(store, point, value):
    """Pretends that a point has run."""
    folder = store.folder(point)
    folder.mkdir(parents=True)
    text = json.dumps({"status": "done", "score": value})
    (folder / "summary.json").write_text(text)


def test_the_process_proposes_better_points_than_chance(tmp_path):
    """After 16 points the best score is below that of 16 random points, and of 100."""
    (tmp_path / "s.yaml").write_text(FILE)
    store = open_store(tmp_path / "s.yaml", tmp_path / "dir")
    for index in range(16):
        propose(store, "one")
        points = store.points()
        assert len(points) == index + 1
        propose(store, "one")  # one waits: no further proposal
        assert len(store.points()) == index + 1
        finish(store, points[-1], score(points[-1].settings))
    propose(store, "one")  # the cap is reached
    scores = [score(p.settings) for p in store.points()]
    assert len(scores) == 16
    source = drawn(store.sweep, seed=1)
    chance = [score(next(source)) for _ in range(100)]
    assert min(scores) < min(chance[:16]) and min(scores) < min(chance)
    assert np.mean(scores[FIRST:]) < np.mean(chance)


def test_a_metric_that_is_not_there_is_no_result(tmp_path):
    """Missing, null and nan metrics count as nothing; maximize turns the sign."""
    (tmp_path / "s.yaml").write_text(FILE)
    sweep = open_store(tmp_path / "s.yaml", tmp_path / "dir").sweep
    assert metric_of(sweep, {"score": 2.0}) == 2.0
    assert metric_of(sweep, {"score": None}) is None
    assert metric_of(sweep, {"other": 1.0}) is None and metric_of(sweep, None) is None
    object.__setattr__(sweep, "metric", {"name": "a.b", "goal": "maximize"})
    assert metric_of(sweep, {"a": {"b": 3.0}}) == -3.0
