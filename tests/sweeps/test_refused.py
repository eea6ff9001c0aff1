import pytest

from testbed.errors import UserError
from testbed.sweeps.store import open_store
from testbed.sweeps.work import refuse, take

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


def test_more_than_a_million_points_are_asked_about(tmp_path):
    """The number is said, and --yes is the way."""
    many = ", ".join(map(str, range(1, 1100)))
    text = "program: scripts/simulate.py\nmethod: grid\nparameters:\n"
    for name in ("samples", "model.width"):
        text += f"  {name}: {{values: [{many.replace('1, 2, ', '', 1)}]}}\n"
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UserError, match="1,203,409: is more than a million points"):
        open_store(tmp_path / "s.yaml", tmp_path / "dir")
