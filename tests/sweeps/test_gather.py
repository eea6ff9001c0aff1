import numpy as np
import pandas as pd
import pytest

from testbed.errors import UserError
from testbed.reports.sweep import write_sweep_report
from testbed.reports.sweep_groups import groups_of
from testbed.sweeps.gather import arrays, gather, write_tables

NEVER = [[0, 0], [0.01, 0.02], [0.03, 0.05]]
LEFT = [[0, 0], [0.2, 0.05], [0.3, 0.15]]


def test_runs_become_rows_networks_and_arrays(finished_run, tmp_path):
    """Departure times by seed; settings, times and seeds as labels."""
    finished_run(tmp_path / "a", NEVER, **{"model.width": 8})
    finished_run(tmp_path / "deep" / "b", LEFT, **{"model.width": 16})
    found = gather([tmp_path])
    assert found.problems == [] and found.varied == ["model.width"]
    networks = found.networks.sort_values(["model.width", "seed"])
    assert list(networks["departure_time"]) == [np.inf, np.inf, 0.5, 1.0]
    assert list(networks["relative_distance"]) == [0.03, 0.05, 0.3, 0.15]
    assert len(found.rows) == 2 * 2 * 3
    labelled = arrays(found)
    assert dict(labelled.sizes) == {"model.width": 2, "seed": 2, "time": 3}
    drift = labelled["kernel/drift"].sel({"model.width": 16}, method=None)
    np.testing.assert_allclose(drift.to_numpy(), [[0, 0.01, 0.02], [0, 0.02, 0.04]])


def test_what_is_left_out_is_said(finished_run, tmp_path):
    """Damaged, unfinished, failed and cut-off runs are named with their reason."""
    finished_run(tmp_path / "good", LEFT)
    finished_run(tmp_path / "failed", LEFT, status="failed")
    finished_run(tmp_path / "cut", LEFT)
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines(True)
    (tmp_path / "cut" / "metrics.jsonl").write_text("".join(lines[:-1]) + '{"st')
    finished_run(tmp_path / "begun", LEFT)
    (tmp_path / "begun" / "summary.json").unlink()
    finished_run(tmp_path / "torn", LEFT)
    (tmp_path / "torn" / "config.json").write_text('{"model.')
    found = gather([tmp_path])
    assert len(found.runs) == 1
    why = {path.rpartition("/")[2]: reason for path, reason in found.problems}
    assert set(why) == {"failed", "cut", "begun", "torn"}
    assert "last step" in why["cut"] and "not finished" in why["begun"]
    assert why["failed"].startswith("failed") and "config.json" in why["torn"]


def test_nothing_to_gather_is_a_mistake(tmp_path):
    """No such folder, or no finished run in it: one line."""
    with pytest.raises(UserError, match="does not exist"):
        gather([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no finished run"):
        gather([tmp_path])


def test_tables_read_back(finished_run, tmp_path):
    """Parquet and CSV hold the same networks, inf included."""
    finished_run(tmp_path / "a", NEVER)
    files = write_tables(gather([tmp_path / "a"]), tmp_path)
    assert [f.name for f in files] == [
        "divergence.parquet",
        "divergence.csv",
        "rows.parquet",
    ]
    parquet, csv = pd.read_parquet(files[0]), pd.read_csv(files[1])
    assert (
        list(parquet["departure_time"]) == [np.inf] * 2 == list(csv["departure_time"])
    )
    assert len(pd.read_parquet(files[2])) == 6


@pytest.fixture
def planted(finished_run, tmp_path):
    """A grid on which the final distance is 0.4 (d/n)^1 times seed noise."""
    rng = np.random.default_rng(0)
    for width in (8, 16, 32, 64):
        for depth in (2, 4, 8, 16):
            final = 0.4 * depth / width * np.exp(0.1 * rng.normal(size=4))
            path = np.stack([0 * final, final / 2, final])
            settings = {"model.width": width, "model.depth": depth}
            finished_run(tmp_path / f"n{width}d{depth}", path, **settings)
    return tmp_path


def test_the_report_finds_a_planted_law(planted):
    """Distance ~ d/n: exponents 1 and -1, collapse by d/n, map and tables written."""
    page, found = write_sweep_report([planted], planted / "out", {"question": "Where?"})
    (group,) = groups_of(found)
    assert group.widths == [8, 16, 32, 64] and group.values["kernel_drift"].shape == (
        4,
        4,
        4,
    )
    text = page.read_text()
    assert "Where?" in text and "16 runs" in text and "Left out" in text
    for name in ("map", "scaling", "collapse", "theory"):
        assert (planted / "out" / "figures" / f"{name}.png").stat().st_size > 10_000
    from testbed.reports.sweep_groups import collapses, fits

    joint = fits(group, "relative_distance").joint
    assert abs(joint.depth_exponent - 1) < 0.1 and abs(joint.width_exponent + 1) < 0.1
    ranking = collapses(group, "relative_distance")
    assert ranking[0].name == "d/n" and ranking[-1].worse


def test_groups_split_by_what_else_varies(finished_run, tmp_path):
    """Vanilla and Balanced are two groups with labels."""
    finished_run(tmp_path / "a", LEFT, **{"model.kind": "resnet"})
    finished_run(tmp_path / "b", LEFT, **{"model.kind": "balanced"})
    labels = [g.label for g in groups_of(gather([tmp_path]))]
    assert labels == ["kind = balanced", "kind = resnet"]
