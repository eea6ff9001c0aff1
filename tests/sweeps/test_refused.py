import pytest

from testbed.errors import UserError
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.work import refuse, take

PARTLY = """program: scripts/simulate.py
method: grid
parameters:
  model.branch: {value: depth_scaled}
  model.normalized: {value: true}
  model.c: {values: [1.0, 3.0]}
  model.depth: {values: [2, 16]}
"""


def test_a_point_that_the_program_refuses_fails_before_any_is_run(tmp_path):
    """lam = 3/sqrt(2) > 1 is refused at depth 2 only: that point fails, by name."""
    (tmp_path / "s.yaml").write_text(PARTLY)
    store = open_store(tmp_path / "s.yaml", tmp_path / "dir")
    ((point, error),) = refuse(store, "one")
    assert point.settings["model.c"] == 3.0 and point.settings["model.depth"] == 2
    assert error.field == "model.c" and store.state(point, "one") == "failed"
    taken = []
    while (other := take(store, "one")) is not None:
        taken.append(other.index)
    assert sorted(taken) == [0, 1, 3] and point.index == 2


def test_a_value_that_is_refused_everywhere_is_a_mistake_of_the_file(tmp_path):
    """Width 0 fits no depth: the file is refused, with one line."""
    (tmp_path / "s.yaml").write_text(PARTLY + "  model.width: {values: [0, 8]}\n")
    with pytest.raises(UserError, match="model.width=0: must be at least 1"):
        open_store(tmp_path / "s.yaml", tmp_path / "dir")
    assert not (tmp_path / "dir").exists()


def test_of_many_points_some_may_be_refused(tmp_path):
    """Of 11 000, c = 3 is refused at depths below 9: no mistake of the file.

    A width of 0 is one, told although not all combinations are tried.
    """
    text = PARTLY.replace("[2, 16]", str([*range(1, 9), 9, 16, 32]))
    text += f"  samples: {{values: {list(range(500, 1000))}}}\n"
    (tmp_path / "s.yaml").write_text(text)
    assert open_store(tmp_path / "s.yaml", tmp_path / "dir").sweep.size == 11000
    (tmp_path / "s.yaml").write_text(text + "  model.width: {values: [8, 0]}\n")
    with pytest.raises(UserError, match="model.width=0: must be at least 1"):
        open_store(tmp_path / "s.yaml", tmp_path / "other")


def test_ends_of_ranges_are_tried_in_every_combination(tmp_path):
    """c = 3 and depth 2 do not go together, but each goes with other ends."""
    text = PARTLY.replace("method: grid", "method: random\nrun_cap: 4")
    text = text.replace("values: [1.0, 3.0]", "min: 1.0, max: 3.0")
    text = text.replace("values: [2, 16]", "distribution: q_uniform, min: 2, max: 16")
    (tmp_path / "s.yaml").write_text(text)
    assert open_store(tmp_path / "s.yaml", tmp_path / "dir").sweep.size == 4


def test_a_cap_makes_a_huge_grid_small(tmp_path):
    """Of 10^9 combinations ten are made, and nobody is asked."""
    text = "program: scripts/simulate.py\nmethod: grid\nrun_cap: 10\nparameters:\n"
    for name in ("samples", "model.width", "model.depth"):
        text += f"  {name}: {{values: {list(range(10, 1010))}}}\n"
    (tmp_path / "s.yaml").write_text(text)
    points = open_store(tmp_path / "s.yaml", tmp_path / "dir").points()
    assert [p.settings["model.depth"] for p in points] == list(range(10, 20))


def test_more_than_a_million_points_are_asked_about(tmp_path):
    """The number is said, and --yes is the way."""
    many = ", ".join(map(str, range(1, 1100)))
    text = "program: scripts/simulate.py\nmethod: grid\nparameters:\n"
    for name in ("samples", "model.width"):
        text += f"  {name}: {{values: [{many.replace('1, 2, ', '', 1)}]}}\n"
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UserError, match="1,203,409: is more than a million points"):
        open_store(tmp_path / "s.yaml", tmp_path / "dir")
    text = text.replace("parameters:", f"parameters:\n  seed: {{values: [{many}]}}")
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UserError, match="is more than ten million points"):
        open_store(tmp_path / "s.yaml", tmp_path / "dir", many=True)
