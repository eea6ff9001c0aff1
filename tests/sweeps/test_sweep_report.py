import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from testbed.errors import RunError, UserError
from testbed.families.family import BETA, DISPERSION, INTERLAYER
from testbed.files import Together
from testbed.reports.sweeps.dependence import axes_of, lines
from testbed.reports.sweeps.groups import collapses, fits, groups_of
from testbed.reports.sweeps.laws import at_initialization
from testbed.reports.sweeps.ranks import ranks, strongest
from testbed.reports.sweeps.report import report as write_report
from testbed.reports.sweeps.report import with_unfinished
from testbed.reports.sweeps.write import write_sweep_report
from testbed.runs.folder import RunFolder
from testbed.sweeps.gather import gather
from testbed.sweeps.queue.sweep_store import open_store

SEEDS = 4


@pytest.fixture
def plant(finished_run, tmp_path):
    """Makes a run whose networks end at a chosen distance, times some noise."""
    rng = np.random.default_rng(0)

    def make(name, final, **settings):
        final = final * np.exp(0.1 * rng.normal(size=SEEDS))
        path = np.stack([0 * final, final / 2, final])
        dotted = {k.replace("__", "."): v for k, v in settings.items()}
        return finished_run(tmp_path / "runs" / name, path, **dotted)

    return make


@pytest.fixture
def grid(plant, tmp_path):
    """Runs on which the final distance is 0.4 d/n, times the noise of seeds."""
    for width in (8, 16, 32, 64):
        for depth in (2, 4, 8, 16):
            settings = {"model__width": width, "model__depth": depth}
            plant(f"n{width}d{depth}", 0.4 * depth / width, **settings)
    return gather([tmp_path / "runs"])


def report(gathered, out, header=None, metric=None, order=None):
    page, said = write_sweep_report(
        gathered, out, header or {}, metric or {}, order or {}
    )
    figures = {path.stem: path.stat().st_size for path in out.glob("figures/*.png")}
    assert all(size > 10_000 for size in figures.values())
    return page.read_text(), said, set(figures)


def test_a_planted_law_is_found(grid, tmp_path):
    """Distance ~ d/n: exponents 1 and -1, collapse by d/n, every figure and table."""
    text, said, figures = report(grid, tmp_path / "out", {"question": "Where?"})
    assert "Where?" in text and "16 runs of 64 trained networks" in text
    assert figures == {"map", "dependence", "collapse", "laws", "theory"}
    (group,) = groups_of(grid)
    joint = fits(group, "relative_distance").joint
    assert abs(joint.depth_exponent - 1) < 0.1 and abs(joint.width_exponent + 1) < 0.1
    ranking = collapses(group, "relative_distance")
    assert ranking[0].name == "d/n" and ranking[-1].worse
    assert f"d^{joint.depth_exponent:.2f} n^{joint.width_exponent:.2f}" in said


def test_runs_with_another_seed_are_more_networks(plant, tmp_path):
    """train.seed splits no group: its networks join those of the same cell."""
    for seed in (0, 1):
        plant(f"s{seed}", 0.2, train__seed=seed)
    (group,) = groups_of(gather([tmp_path / "runs"]))
    assert group.label == "" and group.values["kernel_drift"].shape == (1, 1, 2 * SEEDS)


def test_groups_split_by_what_else_varies(plant, tmp_path):
    """Vanilla and Balanced are two groups with labels, the larger first."""
    plant("a", 0.2, model__kind="resnet")
    plant("b", 0.2, model__kind="resnet", model__width=16)
    plant("c", 0.2, model__kind="balanced")
    labels = [g.label for g in groups_of(gather([tmp_path / "runs"]))]
    assert labels == ["kind = resnet", "kind = balanced"]


def test_a_ratio_to_width_is_an_axis_and_depth_follows(plant, tmp_path):
    """Depth a multiple of width: one group, lines along width at each ratio."""
    for width in (8, 16, 32):
        for ratio in (0.25, 1.0):
            settings = {"model__width": width, "model__ratio": ratio}
            plant(f"n{width}r{ratio}", ratio / 8, **settings, model__depth=None)
    found = gather([tmp_path / "runs"])
    assert len(groups_of(found)) == 1
    assert axes_of(found.networks) == ["model.width", "depth_over_width"]
    along = lines(found.networks, "model.width", "relative_distance")
    assert [line.fixed["depth_over_width"] for line in along] == [0.25, 1.0]
    assert all(abs(line.law().exponent) < 0.2 for line in along)


def test_another_setting_gets_its_figure_and_its_slopes(plant, tmp_path):
    """Distance ~ sqrt(train_size) at two depths: found as exponents of its lines."""
    for size in (16, 32, 64, 128):
        for depth in (2, 4):
            settings = {"data__train_size": size, "model__depth": depth}
            plant(f"p{size}d{depth}", 0.01 * size**0.5 * depth, **settings)
    found = gather([tmp_path / "runs"])
    text, said, figures = report(found, tmp_path / "out")
    assert "dependence" in figures and "map" not in figures
    along = lines(found.networks, "data.train_size", "relative_distance")
    assert all(abs(line.law().exponent - 0.5) < 0.15 for line in along)
    assert "data.train_size^a" in said and "depth = 4" in said
    assert "final relative distance ~ data.train_size^a" in text


def test_a_random_search_names_the_strongest_setting(plant, tmp_path):
    """Distance falls with width alone: its rank correlation is named, and no other."""
    rng = np.random.default_rng(1)
    for i in range(14):
        width, depth = int(rng.integers(8, 64)), int(rng.integers(2, 48))
        c = float(rng.uniform(0.5, 2))
        settings = {"model__width": width, "model__depth": depth, "model__c": c}
        plant(f"r{i}", 1 / width, **settings)
    found = gather([tmp_path / "runs"])
    best = strongest(ranks(found.networks), "relative_distance")
    assert best is not None and best.setting == "model.width" and best.value < -0.8
    others = [r for r in ranks(found.networks) if r.setting == "model.c"]
    assert all(r.interval[0] < 0 < r.interval[1] for r in others)
    text, said, figures = report(found, tmp_path / "out")
    assert figures == {"dependence"} and "goes most with model.width" in said
    assert "rank correlation" in text


def test_a_search_shows_its_best_point(plant, tmp_path):
    """What bayes minimized is a column, a figure and the first sentence."""
    order = {}
    for i, miss in enumerate((0.9, 0.4, 0.1, 0.3)):
        path = plant(f"b{i}", 0.2, model__depth=2 + i)
        summary = RunFolder(path).read_json("summary.json") | {"miss": miss}
        RunFolder(path).write_json("summary.json", summary)
        order[f"b{i}"] = i
    metric = {"name": "miss", "goal": "minimize"}
    found = gather([tmp_path / "runs"], "miss")
    _, said, figures = report(found, tmp_path / "out", None, metric, order)
    assert "search" in figures and "Lowest miss: 0.1 at depth = 4" in said


def test_simulations_have_a_report_of_their_own(simulated, tmp_path):
    """Without a training run: figures of the laws, a table, a sentence."""
    text, said, figures = report(gather([simulated]), tmp_path / "out")
    assert figures == {"laws-log_norm", "laws-log_output"}
    assert "log-Gaussian" in text and "of 2" in said


def test_laws_of_each_cell_are_those_of_the_laws(grid):
    """beta of the Balanced network is 5 s^2 + 4 c^2 s over n, d times; vanilla more."""
    settings = dict(groups_of(grid)[0].settings)
    fixed = {"model.branch": "fixed", "model.alpha": 0.6, "model.lam": 0.8}
    settings |= fixed | {"model.kind": "balanced"}
    found = at_initialization(settings, [8, 16], [1, 4])
    slope = 5 * 0.64**2 + 4 * 0.36 * 0.64
    expected = slope * np.array([[1], [4]]) / np.array([8, 16])
    np.testing.assert_allclose(found[BETA], expected, rtol=1e-12)
    assert INTERLAYER not in found and found[DISPERSION].shape == (2, 2)
    vanilla = at_initialization(settings | {"model.kind": "resnet"}, [8, 16], [1, 4])
    assert np.all(vanilla[INTERLAYER][0] == 0) and np.all(vanilla[INTERLAYER][1] > 0)
    np.testing.assert_allclose(vanilla[BETA] - vanilla[INTERLAYER], expected)
    assert at_initialization(settings | {"model.activation": "tanh"}, [8], [2]) == {}


def test_settings_that_are_null_or_absent_are_kinds(plant, tmp_path):
    """Null, a number, and an older run without the key: three kinds, nothing lost."""
    for width in (8, 16, 32):
        plant(f"a{width}", 0.2, model__width=width)
        plant(f"b{width}", 0.2, model__width=width, train__lr=0.05)
        old = plant(f"c{width}", 0.2, model__width=width, measure__target=3.0)
        config = RunFolder(old).read_json("config.json")
        del config["model.normalized"], config["train.lr"]
        RunFolder(old).write_json("config.json", config)
    found = gather([tmp_path / "runs"])
    assert len(found.runs) == 9 and axes_of(found.networks) == ["model.width"]
    groups = groups_of(found)
    assert len(groups) == 3 and all(g.widths == [8, 16, 32] for g in groups)
    assert any("lr = not set" in g.label for g in groups)
    assert all(np.isfinite(rank.value) for rank in ranks(found.networks))
    text, _, _ = report(found, tmp_path / "out")
    assert "nan" not in text.split("base64")[0]


def test_a_law_that_is_a_power_of_another_variable_is_no_rival(plant, tmp_path):
    """With fixed Balanced branches beta is d/n times a constant: one variable."""
    fixed = {"model__branch": "fixed", "model__alpha": 0.8, "model__lam": 0.6}
    for width in (8, 16, 32):
        for depth in (2, 4, 8):
            settings = {"model__width": width, "model__depth": depth, **fixed}
            plant(f"n{width}d{depth}", 0.4 * depth / width, **settings)
    (group,) = groups_of(gather([tmp_path / "runs"]))
    ranking = collapses(group, "relative_distance")
    assert ranking[0].name == f"d/n (= {BETA})"
    assert BETA not in {one.name for one in ranking} and ranking[1].worse


def test_the_report_tells_what_a_sweep_has_not_done(sweep_file, simulated, tmp_path):
    """Points that failed, also those without a folder, and those that wait."""
    store = open_store(sweep_file(), tmp_path / "dir")
    points = store.points()
    shutil.copytree(simulated / "n8", store.folder(points[0]))
    store.fail(points[1], "model.width=0: must be at least 1; use 1 or more", "one")
    found = with_unfinished(gather([store.path]), [store])
    told = dict(found.problems)
    assert told[f"points/{points[1].name}"].startswith("failed: model.width=0")
    assert told["dir"] == "2 points are not finished; run the sweep again"
    assert len(found.runs) == 1


def test_a_damaged_sweep_is_named_and_its_runs_are_drawn(
    sweep_file, simulated, tmp_path, capsys
):
    """Claims, proposals and the file itself tell what is missing, no more."""
    store = open_store(sweep_file("bayes", 4), tmp_path / "dir")
    shutil.copytree(simulated / "n8", store.path / "points" / "a")
    (store.path / "proposals.jsonl").write_text('{"model.width": 1, "sha256": "0"}\n')
    write_report([store.path], tmp_path / "out")
    said = capsys.readouterr().out
    assert "1 runs" in said and "left out: dir: " in said
    assert "proposals.jsonl: line 1 is damaged" in " ".join(said.split())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "proposals.jsonl: line 1 is damaged" in page


def test_a_report_is_written_whole_or_not_at_all(simulated, tmp_path, monkeypatch):
    """A disk that is full at any of its files leaves the earlier report as it was."""
    out = tmp_path / "out"
    write_report([simulated], out)
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert "laws.parquet" in names and "figures/laws-log_norm.png" in names
    before = {name: (out / name).read_bytes() for name in names}
    real = Together.partial
    for last in range(len(names)):
        count = itertools.count()

        def full(self, path, last=last, count=count):
            if next(count) == last:
                raise OSError(28, "No space left on device")
            return real(self, path)

        monkeypatch.setattr(Together, "partial", full)
        with pytest.raises(RunError, match="cannot be written .No space left") as told:
            write_report([simulated / "n8"], out)
        assert "\n" not in str(told.value)
        after = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
        assert after == names
        assert {name: (out / name).read_bytes() for name in names} == before
    monkeypatch.undo()
    write_report([simulated / "n8"], out)
    assert (out / "laws.csv").read_bytes() != before["laws.csv"]


def test_what_is_no_folder_is_one_line(simulated, tmp_path):
    """A pipe, a device, a file: reading them would never end, or end in nothing."""
    os.mkfifo(tmp_path / "pipe")
    for path in (
        tmp_path / "pipe",
        Path("/dev/null"),
        simulated / "n8" / "config.json",
    ):
        with pytest.raises(UserError, match="is no folder; give folders of runs"):
            write_report([path], tmp_path / "out")
    base = tmp_path / "runs"
    shutil.copytree(simulated, base)
    (base / "n12" / "summary.json").unlink()
    os.mkfifo(base / "n12" / "summary.json")
    assert dict(gather([base]).problems)["n12"].startswith("summary.json is damaged")
