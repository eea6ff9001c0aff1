import json

import numpy as np
import pandas as pd
import pytest

from testbed.errors import UserError
from testbed.files import together
from testbed.runs.folder import RunFolder
from testbed.sweeps.gather import arrays, gather, inert_cell, write_tables

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
    why = dict(found.problems)
    assert set(why) == {"failed", "cut", "begun", "torn"}
    assert "metrics.jsonl is damaged" in why["cut"] and "not finished" in why["begun"]
    assert why["failed"].startswith("failed") and "config.json" in why["torn"]


WRONG = {
    "config.json": [
        "5",
        "[]",
        '{"a": 1}',
        '{"model.width": 0, "model.depth": 2, "train.seeds": 1}',
        '{"model.width": NaN, "model.depth": 2, "train.seeds": 1}',
        '{"model.width": 8, "model.depth": "2", "train.seeds": 1}',
        '{"model.width": 8, "model.depth": 2, "train.seeds": 1e400}',
    ],
    "summary.json": [
        "5",
        "[]",
        "[" * 50_000,
        '"done"',
        "",
        "\udcff",
        '{"status": ["done"]}',
    ],
    "metrics.jsonl": [
        "",
        "\n",
        "5\n",
        "[]\n",
        '{"step": 2}\n',
        '{"step": 2, "t": []}\n',
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_no_file_of_one_run_stops_the_others(finished_run, tmp_path, name):
    """JSON of another type, a width of 0, bytes that are no text: named, and left out.

    Also where no digest tells: the runs are as an older version recorded them.
    """
    finished_run(tmp_path / "good", LEFT)
    for i, text in enumerate(WRONG[name]):
        path = finished_run(tmp_path / f"bad{i}", LEFT, **{"train.seed": i + 1})
        folder = RunFolder(path)
        summary = folder.read_json("summary.json")
        del summary["records"]
        (path / "summary.json").write_text(json.dumps(summary))
        (path / name).write_bytes(text.encode(errors="surrogateescape"))
    found = gather([tmp_path])
    assert list(found.runs["run"]) == ["good"]
    assert [n for n, _ in found.problems] == [
        f"bad{i}" for i in range(len(WRONG[name]))
    ]
    assert all("\n" not in why and len(why) < 300 for _, why in found.problems)


def test_runs_of_an_older_version_are_read_with_a_word(finished_run, tmp_path):
    """Without digests nothing can be checked, and that is said once."""
    for i in range(3):
        path = finished_run(tmp_path / f"r{i}", LEFT, **{"train.seed": i})
        for name in ("config.json", "summary.json"):
            stored = RunFolder(path).read_json(name)
            stored.pop("records", None)
            (path / name).write_text(json.dumps(stored))
    found = gather([tmp_path])
    assert len(found.runs) == 3 and not found.problems
    ((which, word),) = found.notes
    assert which == "3 of 3 runs" and "without digests" in word


def test_nothing_to_gather_is_a_mistake(tmp_path):
    """No such folder, or no finished run in it: one line."""
    with pytest.raises(UserError, match="does not exist"):
        gather([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no finished run"):
        gather([tmp_path])


def test_tables_read_back(finished_run, tmp_path):
    """Parquet and CSV hold the same networks, inf included."""
    finished_run(tmp_path / "a", NEVER)
    with together() as files:
        files = write_tables(gather([tmp_path / "a"]), tmp_path, files)
    names = ["divergence.parquet", "divergence.csv", "rows.parquet"]
    assert [f.name for f in files] == names
    parquet, csv = pd.read_parquet(files[0]), pd.read_csv(files[1])
    assert (
        list(parquet["departure_time"]) == [np.inf] * 2 == list(csv["departure_time"])
    )
    assert len(pd.read_parquet(files[2])) == 6


def test_no_cell_of_a_csv_is_a_formula(finished_run, tmp_path):
    """A folder and a setting that begin like one get a quote; numbers stay numbers."""
    finished_run(tmp_path / "=1+1", NEVER, **{"data.data_dir": "@SUM(1)"})
    finished_run(tmp_path / "b", NEVER, **{"data.data_dir": "-2", "model.alpha": -0.5})
    with together() as files:
        files = write_tables(gather([tmp_path]), tmp_path, files)
    csv = pd.read_csv(files[1])
    assert set(csv["run"]) == {"'=1+1", "b"}
    assert set(csv["data.data_dir"]) == {"'@SUM(1)", "-2"}
    assert set(csv["model.alpha"]) == {1.0, -0.5}
    assert set(pd.read_parquet(files[0])["run"]) == {"=1+1", "b"}
    for text in ("=x", "+x", "-x", "@x", "\tx", "\rx"):
        assert inert_cell(text) == f"'{text}"
    for value in (-1.5, "-1e-5", "+3", "a=b", "", None, "x-1"):
        assert inert_cell(value) == value


def test_runs_are_named_below_what_was_given(finished_run, tmp_path):
    """One folder: paths below it.  Two: below what they share, so that none collide."""
    finished_run(tmp_path / "a" / "points" / "x", LEFT)
    finished_run(tmp_path / "b" / "points" / "x", LEFT, **{"model.width": 16})
    assert list(gather([tmp_path / "a"]).runs["run"]) == ["points/x"]
    assert list(gather([tmp_path / "a" / "points" / "x"]).runs["run"]) == ["x"]
    both = gather([tmp_path / "a", tmp_path / "b"])
    assert list(both.runs["run"]) == ["a/points/x", "b/points/x"]
    assert both.base == tmp_path


def test_what_was_optimized_becomes_a_column(finished_run, tmp_path):
    """A dotted key of the summary; nan where a run has no such number."""
    for name, summary in (("a", {"final": {"loss": 0.5}}), ("b", {"final": {}})):
        finished_run(
            tmp_path / name, LEFT, **{"model.width": 8 + len(summary["final"])}
        )
        folder = RunFolder(tmp_path / name)
        folder.write_json("summary.json", folder.read_json("summary.json") | summary)
    runs = gather([tmp_path], "final.loss").runs
    np.testing.assert_array_equal(runs["metric"], [0.5, np.nan])


def test_simulations_become_rows_of_laws(simulated, tmp_path):
    """One row a quantity and law, beside training runs in the same folder."""
    found = gather([simulated])
    assert found.networks.empty and set(found.laws["quantity"]) == {
        "log_norm",
        "log_output",
    }
    one = found.laws[(found.laws["quantity"] == "log_norm") & found.laws["nearest"]]
    assert len(one) == len(found.runs) == 2
    assert found.varied == ["model.width"]
    with together() as files:
        names = [f.name for f in write_tables(found, tmp_path, files)]
    assert names == ["laws.parquet", "laws.csv"]


def test_arrays_of_a_random_search_lie_along_its_runs(finished_run, tmp_path):
    """Five points of three settings: no 5 x 5 x 5 array, settings as coordinates."""
    for i in range(5):
        settings = {"model.width": 8 + i, "model.depth": 2 + i, "model.c": 1.0 + i}
        finished_run(tmp_path / f"r{i}", LEFT, **settings)
    labelled = arrays(gather([tmp_path]))
    assert dict(labelled.sizes) == {"run": 5, "seed": 2, "time": 3}
    assert list(labelled["model.c"].to_numpy()) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_null_setting_is_a_value(finished_run, tmp_path):
    """Runs without a learning rate of their own are not lost from arrays and tables."""
    for i, rate in enumerate((None, 0.05, 0.1)):
        finished_run(tmp_path / f"r{i}", LEFT, **{"train.lr": rate})
    found = gather([tmp_path])
    assert found.varied == ["train.lr"]
    labels = arrays(found)["train.lr"].to_numpy()
    assert sorted(labels) == ["0.05", "0.1", "not set"]
    with together() as files:
        files = write_tables(found, tmp_path, files)
    rates = pd.read_parquet(files[0])["train.lr"]
    assert rates.isna().sum() == 2 and rates.max() == 0.1


def test_a_run_given_twice_counts_once(finished_run, tmp_path):
    """Equal settings and seeds are the same networks, and narrow no interval."""
    finished_run(tmp_path / "a" / "x", LEFT)
    finished_run(tmp_path / "b" / "y", LEFT)
    finished_run(tmp_path / "b" / "z", LEFT, **{"train.seed": 1})
    found = gather([tmp_path / "a", tmp_path / "b"])
    assert len(found.runs) == 2 and len(found.networks) == 4
    assert found.problems == [("b/y", "the same run as a/x")]


def test_only_folders_below_what_is_given_are_passed_over(finished_run, tmp_path):
    """A folder named checkpoints may hold sweeps; a run's own are no runs."""
    base = tmp_path / "checkpoints" / "wandb"
    finished_run(base / "run", LEFT)
    finished_run(base / "run" / "checkpoints" / "old", LEFT, **{"train.seed": 5})
    assert list(gather([base]).runs["run"]) == ["run"]


def test_networks_that_diverged_are_noted(finished_run, tmp_path):
    """Their run is read; how many are left out, and since when, is said."""
    folder = RunFolder(finished_run(tmp_path / "a", LEFT))
    lost = {"diverged": {"seeds": [1], "t": 0.75}}
    folder.write_json("summary.json", folder.read_json("summary.json") | lost)
    found = gather([tmp_path])
    assert not found.problems and len(found.networks) == 2
    assert found.notes == [("a", "1 of 2 networks diverged, left out from t = 0.75 on")]
