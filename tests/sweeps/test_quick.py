from pathlib import Path

import pytest

from testbed.programs import PROGRAMS
from testbed.reports.sweeps.report import report
from testbed.sweeps.queue.sweep_store import open_store
from testbed.sweeps.queue.work import index_filter, work
from testbed.sweeps.spec import read_sweep

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


def test_the_files_that_are_promised_are_there():
    """Ten files, each answering one question."""
    names = {file.stem for file in FILES}
    assert names >= {
        "depth_width",
        "fixed_ratio",
        "depth_exponent",
        "vanilla_vs_balanced",
        "lazy_scale",
        "train_size",
        "learning_rate",
        "init_laws",
        "departure_target",
        "random_search",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_sweep_file_runs_small(file, tmp_path, monkeypatch):
    """The last point of its --quick variant runs to the end."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    store = open_store(file, tmp_path / "dir", small=True)
    last = 0 if store.sweep.method == "bayes" else len(store.points()) - 1
    work(store, "one", PROGRAMS, index_filter([last]))
    points = store.points()
    assert store.failure(points[last]) is None
    assert store.state(points[last], "one") == "done"
    assert store.sweep.header["question"].endswith("?")


def test_a_small_sweep_says_its_sizes(tmp_path):
    """Neither its header nor its page speaks of the sizes that the file has."""
    file = next(file for file in FILES if file.stem == "init_laws")
    store = open_store(file, tmp_path / "dir", small=True)
    whole, small = read_sweep(file).header, store.sweep.header
    assert set(small) == {"question", "quick"} and set(whole) > {"fixed", "hardware"}
    assert small["question"] == whole["question"]
    for name, parameter in store.sweep.parameters.items():
        assert f"{name} {', '.join(map(str, parameter.values))}" in small["quick"]
    work(store, "one", PROGRAMS, index_filter([0]))
    report([tmp_path / "dir"], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a trial of the sweep at small sizes: " in page
    assert whole["fixed"] not in page and whole["hardware"] not in page
