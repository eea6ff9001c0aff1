"""What is read back from a run's folder is what was recorded."""

import numpy as np
import pytest

from testbed.errors import UserError
from testbed.reports import load_record
from testbed.reports.record import extent


def test_metrics_are_the_rows(usual):
    """Every metric has one row a time and one column a network."""
    record = load_record(usual.path)
    assert record.seeds == 3
    np.testing.assert_array_equal(record.steps, [0, 1, 2, 4, 8])
    np.testing.assert_array_equal(record.times, [0, 0.25, 0.5, 1, 2])
    for place, row in enumerate(usual.rows):
        for name, value in row.items():
            if name in ("step", "t"):
                continue
            wanted = np.atleast_1d(value)
            found = record.metrics[name][place]
            both = np.isfinite(wanted)
            np.testing.assert_array_equal(found[both], wanted[both])
            assert np.isnan(found[~both]).all(), name  # JSON knows no inf and no nan
    assert record.metrics["infinite/loss/train"].shape == (5, 1)
    assert record.metrics["finite/loss/train"].shape == (5, 3)


def test_arrays_are_what_was_seen(usual):
    """Arrays come back whole, picked from, and stacked over time."""
    record = load_record(usual.path)
    for place, seen in enumerate(usual.seen):
        for who, observed in seen.items():
            for key, value in observed.items():
                np.testing.assert_array_equal(record.at(place, f"{who}/{key}"), value)
    stacked = record.over_time("finite/outputs/test", np.s_[:, [2, 5]])
    assert stacked.shape == (5, 3, 2, 10)
    last = usual.seen[-1]["finite"]["outputs/test"]
    np.testing.assert_array_equal(stacked[-1], last[:, [2, 5]])


def test_what_was_not_measured(make_run):
    """A kernel measured now and then is nan between, and its times are known."""
    record = load_record(make_run(every=3).path)
    known = ~np.isnan(record.metrics["kernel/drift"]).any(1)
    np.testing.assert_array_equal(known, [True, False, False, True, True])
    assert record.measured("finite/kernel") == [0, 3, 4]
    assert record.at(1, "finite/kernel") is None
    assert record.over_time("finite/kernel") is None
    assert record.over_time("nobody/outputs/test") is None


def test_a_run_that_goes_on(make_run):
    """Without a summary, and with a torn last line, what is whole is read."""
    made = make_run(status=None)
    with open(made.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 16, "t": 4.0, "finite/lo')
    record = load_record(made.path)
    assert record.summary == {}
    assert len(record.steps) == 5


def test_an_extent_leaves_out_nan():
    """Lowest, median, highest of the known values; nan where none is known."""
    low, middle, high = extent(np.array([[3.0, 1, 2], [np.nan, 5, 7], [np.nan] * 3]))
    np.testing.assert_array_equal(low, [1, 5, np.nan])
    np.testing.assert_array_equal(middle, [2, 6, np.nan])
    np.testing.assert_array_equal(high, [3, 7, np.nan])


def test_other_folders_are_refused(make_run, tmp_path):
    """A folder that is no run's, is empty of times, or is damaged is named."""
    with pytest.raises(UserError, match="config.json"):
        load_record(tmp_path)
    made = make_run()
    (made.path / "metrics.jsonl").write_text('{"step": 0, "t": \n')
    with pytest.raises(UserError, match="damaged"):
        load_record(made.path)
    made = make_run(status=None)
    (made.path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="no recorded time"):
        load_record(made.path)
