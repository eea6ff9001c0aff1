"""The search for d*(n) with runs that are made up, and what a run's record says."""

import json
import math
import re
import secrets
from html import escape
from pathlib import Path

import numpy as np
import pytest

from testbed.errors import RunError, UserError
from testbed.options import BoundaryOptions
from testbed.programs import train_for_boundary
from testbed.reports.boundary import record, write_boundary
from testbed.runs.console import duration
from testbed.runs.digests import plain, read_json, sealed
from testbed.settings import flatten, override
from testbed.sweeps.boundary import Plan, in_words, plan_of
from testbed.sweeps.boundary_cost import Forecast, pace
from testbed.sweeps.boundary_run import speak
from testbed.sweeps.boundary_runs import digest, runs_below, values, warnings_of
from testbed.sweeps.boundary_search import Searches
from testbed.sweeps.queue.store import MOST_DEATHS, Store
from testbed.sweeps.queue.work import run_point, take

SMALL = {"train.steps": 6, "wandb.mode": "disabled"}
RELATIVE = "distance/finite_linearized/test/relative"


def plan_with(**changes):
    values = {
        "networks": ("balanced",),
        "widths": (8,),
        "depths": (1, 2, 4, 8, 16),
        "threshold": 0.1,
        "settings": SMALL,
    }
    plan = Plan(**(values | changes))
    plan.check()
    return plan


def finish(config, folder, y, status="done", **summary):
    """Leaves the record of a run whose networks end at relative distances y."""
    folder.mkdir(parents=True, exist_ok=True)
    row = {"step": config.train.steps, "t": 1.0, RELATIVE: list(y)}
    for name, value in (
        ("config.json", flatten(config)),
        ("metrics.jsonl", row),
        ("summary.json", {"status": status, "lr": 0.5} | summary),
    ):
        (folder / name).write_text(json.dumps(plain(value)) + "\n")


class Lab:
    """Carries out searches, by workers of this process, with runs that end at once.

    Of the runs that go on at a time, that which was begun last ends first.
    """

    def __init__(self, path, outcome):
        self.path, self.outcome = path, outcome
        self.ran, self.said = [], []
        self.session = secrets.token_hex(3)

    def run(self, config):
        self.ran.append(config)
        self.outcome(config, Path(config.run.dir))

    def find(self, plan, jobs=1):
        searches = Searches(plan, self.path)
        speak(searches, Forecast(plan, jobs), self.said.append)
        store = Store(self.path, searches)
        session, programs = self.session, {Searches.program: self.run}
        idle = [Store(self.path, Searches(plan, self.path)) for _ in range(jobs)]
        busy = []
        try:
            while True:
                for worker in idle:
                    busy.append((worker, take(worker, session)))
                store.points(session)
                idle = [worker for worker, point in busy if point is None]
                busy = [pair for pair in busy if pair[1] is not None]
                if not busy:
                    return searches.found()
                worker, point = busy[-1]
                run_point(worker, point, session, programs)
                worker.release()
                idle.append(busy.pop()[0])
        finally:
            for worker, _ in busy:
                worker.release()


def power(config, folder, star=3.0, noise=0.05, slope=1.0):
    """Networks whose relative distance is 0.1 at depth `star`."""
    rng = np.random.default_rng([config.model.depth, config.train.seed])
    z = slope * math.log(config.model.depth / star)
    finish(config, folder, 0.1 * np.exp(z + noise * rng.normal(size=4)))


def noisy(config, folder):
    power(config, folder, 4.0, 0.3)


def test_a_search_started_again_trains_nothing_twice(tmp_path):
    """Killed after any number of runs and started again, it ends as it would have."""
    plan = plan_with(widths=(8, 12))
    whole = Lab(tmp_path / "whole", noisy)
    found = record(plan, whole.find(plan))
    for stop in (1, 4):
        runs = []

        def until(config, folder, runs=runs, stop=stop):
            if len(runs) == stop:
                raise KeyboardInterrupt
            runs.append(config)
            noisy(config, folder)

        cut = Lab(tmp_path / f"cut{stop}", until)
        with pytest.raises(KeyboardInterrupt):
            cut.find(plan)
        again = Lab(cut.path, noisy)
        assert record(plan, again.find(plan)) == found
        assert len(again.ran) == len(whole.ran) - stop
    last = Lab(whole.path, noisy)
    assert record(plan, last.find(plan)) == found and not last.ran


def test_as_many_networks_are_trained_as_are_asked_for(tmp_path):
    """Undecided at 4: 4 more, then 8 more in two runs of other random numbers."""
    lab = Lab(tmp_path, lambda c, f: power(c, f, c.model.depth, 0.5))
    plan = plan_with(depths=(4, 8))
    lab.find(plan)
    seeds = [c.train.seed for c in lab.ran if c.model.depth == 4]
    assert seeds == [0, 1, 2, 3]
    asked = [re.search(r"depth 4, (\d+) networks", line) for line in lab.said]
    assert [int(m[1]) for m in asked if m] == [4, 4, 8]
    assert all(c.train.seeds == 4 for c in lab.ran)


def test_a_kill_between_two_runs_of_a_rung_changes_nothing(tmp_path):
    """8 to 16 networks is two runs; with one of them done the other is done first."""

    def outcome(config, folder):
        # Undecided with 8; with 12 past the threshold, with 16 short of it.
        y = {0: (0.1, 0.13), 1: (0.1, 0.13), 2: (0.13, 0.13), 3: (1e-6, 1e-6)}
        both = y[config.train.seed] if config.model.depth == 4 else (0.3, 0.31)
        finish(config, folder, both * 2)

    plan = plan_with(depths=(2, 4, 8))
    whole = Lab(tmp_path / "whole", outcome)
    found = record(plan, whole.find(plan))
    cut = Lab(tmp_path / "cut", outcome)
    for batch in range(3):
        config = plan.config("balanced", 8, 4, batch)
        outcome(config, cut.path / "points" / digest(flatten(config)))
    assert record(plan, cut.find(plan)) == found
    assert len(cut.ran) == len(whole.ran) - 3


def test_jobs_do_not_change_the_result(tmp_path):
    """As many searches at a time at most, and the same bits whichever ends first."""
    plan = plan_with(widths=(8, 12, 16))
    found = record(plan, Lab(tmp_path / "1", noisy).find(plan))
    for jobs in (2, 5):
        lab = Lab(tmp_path / str(jobs), noisy)
        assert record(plan, lab.find(plan, jobs)) == found
        assert sum("[0 of" in line for line in lab.said) == min(jobs, 3)


def test_progress_lines_count_down(tmp_path):
    """Every run's line: where, how many, how many of about how many, time left."""
    plan = plan_with(widths=(8, 16))
    lab = Lab(tmp_path, power)
    lab.find(plan)
    form = (
        r"balanced, width \d+: depth \d+, \d networks ... "
        r"\[(\d+) of about (\d+) runs, about \d+ (s|min) left\]"
    )
    counts = [re.fullmatch(form, line) for line in lab.said]
    counts = [(int(m[1]), int(m[2])) for m in counts if m]
    assert [done for done, _ in counts] == list(range(len(lab.ran)))
    assert all(total > done for done, total in counts)
    assert abs(counts[-1][1] - len(lab.ran)) <= 1


def test_only_diverged_networks_count_as_beyond(tmp_path):
    """Two of four diverged: these are inf; the others count where the run is done."""
    plan = plan_with()
    config = plan.config("balanced", 8, 4)
    diverged = {"seeds": [0, 2], "t": 3.0}
    finish(config, tmp_path / "a", [0.1] * 4, "failed", diverged=diverged)
    np.testing.assert_array_equal(
        values(tmp_path / "a", plan), [math.inf, math.nan, math.inf, math.nan]
    )
    finish(config, tmp_path / "a2", [0.1] * 4, diverged=diverged)
    np.testing.assert_array_equal(
        values(tmp_path / "a2", plan), [math.inf, 0.1, math.inf, 0.1]
    )
    departed = {"test": {"seeds": [0.75, None, None, None]}}
    summary = {"diverged": diverged, "departure": departed}
    finish(config, tmp_path / "b", [0.1] * 4, "failed", **summary)
    times = values(tmp_path / "b", plan_with(measure="departure_time"))
    np.testing.assert_array_equal(times, [0.75, math.nan, 3.0, math.nan])
    # Diverged at initialization, t = 0: at the latest after one step.
    summary = {"diverged": {"seeds": [1], "t": 0.0}}
    finish(config, tmp_path / "c", [0.1] * 4, "failed", **summary)
    times = values(tmp_path / "c", plan_with(measure="departure_time"))
    np.testing.assert_array_equal(times, [math.nan, 0.5, math.nan, math.nan])
    for seeds in ({}, {"diverged": {"seeds": [], "t": 1.0}}):
        finish(config, tmp_path / "d", [0.1] * 4, "failed", **seeds)
        assert values(tmp_path / "d", plan) is None
    assert values(tmp_path / "nothing", plan) is None


def test_diverged_runs_bound_the_search_and_are_not_trained_again(tmp_path):
    """Networks that diverge beyond depth 5: d* between 4 and 8, with no failure."""

    def outcome(config, folder):
        if config.model.depth < 5:
            return power(config, folder, 1000.0)
        diverged = {"seeds": [0, 1, 2, 3], "t": 1.0}
        finish(config, folder, [1.0] * 4, "failed", diverged=diverged)

    lab = Lab(tmp_path, outcome)
    (found,) = lab.find(plan_with())
    assert found.boundaries[0].bracket == (4, 8)
    assert any("4 of 4 networks diverged" in s for s in lab.said)
    again = Lab(tmp_path, outcome)
    again.find(plan_with())
    assert not again.ran


def test_a_run_says_which_networks_diverged(tmp_path):
    """Trained at 50 times the critical rate, networks leave the finite numbers."""
    tiny = {"data.train_size": 16, "data.test_size": 8, "kernel.probes": 0}
    tiny |= {"train.steps": 200, "measure.times": 2, "train.lr_fraction": 50.0}
    plan = plan_with(seeds=2, settings=SMALL | tiny)
    where = {"run.dir": str(tmp_path / "run")}
    train_for_boundary(override(plan.config("balanced", 8, 1), where))
    warned = json.loads((tmp_path / "run" / "warnings.json").read_text())["warnings"]
    assert any("expect divergence" in line for line in warned)
    (told,) = warnings_of(tmp_path / "run", plan)
    assert re.fullmatch("[12] of 2 networks diverged", told)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["diverged"]["seeds"] and summary["diverged"]["t"] > 0
    assert math.inf in values(tmp_path / "run", plan)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RunError("memory is exhausted"), "memory is exhausted"),
        (ZeroDivisionError("a defect"), "ZeroDivisionError: a defect"),
    ],
)
def test_a_failure_at_one_width_leaves_the_others(tmp_path, error, words):
    """It is on the page, says nothing of the boundary, and the next start goes on."""

    def narrow(config, folder):
        if config.model.width == 8 and config.model.depth < 4:
            finish(config, folder, [0.1] * 4, "failed")
            raise error
        power(config, folder)

    plan = plan_with(widths=(8, 12, 16, 20))
    (found,) = Lab(tmp_path, narrow).find(plan)
    assert list(found.failed) == [8] and words in found.failed[8]
    assert found.widths == (12, 16, 20) and found.law.points == 3
    page = write_boundary(plan, [found], tmp_path).read_text()
    assert escape(f"balanced, width 8: failed: {found.failed[8]}") in page
    entries = json.loads((tmp_path / "boundary.json").read_text())["boundaries"]
    assert {"network": "balanced", "width": 8, "error": found.failed[8]} in entries
    again = Lab(tmp_path, power)
    (found,) = again.find(plan)
    assert found.boundaries[0].star == pytest.approx(3.0, rel=0.1) and not found.failed
    assert {(c.model.width, c.model.depth) for c in again.ran} <= {(8, 1), (8, 2)}


def test_a_run_at_which_workers_die_is_given_up(tmp_path):
    """After three of them; the other width goes on to its end."""
    plan, lab = plan_with(widths=(8, 12)), Lab(tmp_path, power)
    store = Store(lab.path, Searches(plan, lab.path))
    for _ in range(MOST_DEATHS):
        point = take(store, lab.session)
        claim = lab.path / "claims" / f"{point.name}.json"
        claim.write_text(json.dumps(sealed(read_json(claim) | {"pid": 2**22 + 1})))
    (found,) = lab.find(plan)
    assert "3 workers died at it" in found.failed[8] and found.widths == (12,)


def test_a_page_without_any_boundary(tmp_path):
    """A run that ends without a record that can be read is an error, not a result."""
    lab = Lab(tmp_path, lambda config, folder: folder.mkdir(parents=True))
    plan = plan_with()
    (found,) = lab.find(plan)
    assert found.failed[8].endswith("damaged; remove it")
    assert "no boundary found; failed at width 8" in (
        write_boundary(plan, [found], tmp_path).read_text()
    )


def test_runs_are_reused_by_identity(tmp_path):
    """Runs of another folder count if they decide the same numbers, else not."""
    plan = plan_with()
    here = plan.config("balanced", 8, 4)
    power(here, tmp_path / "elsewhere" / "run")
    (tmp_path / "elsewhere" / "config.json").write_text("damaged")
    with pytest.warns(UserWarning, match="elsewhere/config.json is damaged .*not used"):
        runs = runs_below([tmp_path])
    assert runs == {digest(flatten(here)): [tmp_path / "elsewhere" / "run"]}
    (tmp_path / "elsewhere" / "config.json").unlink()
    reuse = (str(tmp_path / "elsewhere"),)
    (one,) = Searches(plan_with(reuse=reuse), tmp_path / "dir").all
    assert list(one.measured) == [4] and list(one.batches[4]) == [0]
    for other in ({"settings": {"train.steps": 7}}, {"seeds": 2}, {"widths": (9,)}):
        (one,) = Searches(plan_with(**other, reuse=reuse), tmp_path / "dir").all
        assert not one.measured


def test_a_finished_run_is_preferred(tmp_path):
    """Own runs that a kill left unfinished do not hide finished ones to reuse."""
    config = plan_with().config("balanced", 8, 4)
    own, other = tmp_path / "own", tmp_path / "other"
    power(config, own / "run")
    (own / "run" / "summary.json").unlink()
    power(config, other / "run")
    for reuse in ([own, other], [other, own]):
        (one,) = Searches(plan_with(reuse=reuse), tmp_path / "dir").all
        assert list(one.measured) == [4]


def costs(plan, tmp_path, slope):
    """What the forecast says before searches, and what they then take."""
    searches = Searches(plan, tmp_path)
    estimates, counts = Forecast(plan, 1).left(searches.all).runs, []
    for i, star in enumerate(np.geomspace(1.0, 16.0, 12)):
        outcome = lambda c, f, s=star: power(c, f, s, 0.15, slope)
        lab = Lab(tmp_path / str(i), outcome)
        lab.find(plan)
        counts.append(len(lab.ran))
    return estimates, counts


def test_the_forecast_holds(tmp_path):
    """12 boundaries: most cost what the range says, all together what is expected."""
    plan = plan_with(depths=(1, 2, 3, 4, 6, 8, 11, 16))
    (low, middle, high), counts = costs(plan, tmp_path, 0.5)
    assert low < middle < high
    assert 0.7 < middle / np.mean(counts) < 1.3
    assert np.mean([low <= count <= high for count in counts]) >= 0.7


def test_seconds_come_from_runs_and_else_from_a_formula(tmp_path):
    """Runs that took 5 s and 2e-10 s a unit of work are believed; jobs share them."""
    start, unit = pace([])
    assert (start, unit) == pytest.approx((13.0, 1e-10))
    timings = [(w, 5 + 2e-10 * w) for w in np.geomspace(1e9, 1e12, 30)]
    assert pace(timings) == pytest.approx((5, 2e-10), rel=0.1)
    plan = plan_with(widths=(8, 12, 16, 20))
    forecast, searches = Forecast(plan, 1), Searches(plan, tmp_path).all
    before = forecast.left(searches).seconds
    config = plan.config("balanced", 8, 4)
    finish(config, tmp_path, [1.0] * 4, seconds={"total": 260.0})
    forecast.learn([tmp_path])
    assert forecast.known == 1
    assert forecast.left(searches).seconds[1] > 3 * before[1]
    shared = Forecast(plan, 4)
    shared.learn([tmp_path])
    one = forecast.left(searches).seconds[1]
    assert shared.left(searches).seconds[1] == pytest.approx(one / 4, rel=0.01)
    assert duration(40) == "40 s" and duration(600) == "10 min"
    assert duration(3 * 3600) == "3.0 h"


def test_nothing_is_lost_in_boundary_json(tmp_path):
    """What is no number is a word; levels, missing and disordered depths are kept."""

    def outcome(config, folder):
        m = config.model
        if m.width == 8:
            power(config, folder, 1e4)
        elif m.width == 16:
            power(config, folder, 1e-3)
        elif m.width == 32:
            finish(config, folder, [math.nan] * 4)
        else:
            y = {1: 0.01, 2: 0.5, 4: 0.02, 8: 0.6, 16: 0.7}[m.depth]
            finish(config, folder, y * np.array([0.98, 1, 1.01, 1.02]))

    plan = plan_with(widths=(8, 16, 32, 64))
    disordered = plan.config("balanced", 64, 2)
    lab = Lab(tmp_path, outcome)
    outcome(disordered, tmp_path / "points" / "known")
    found = lab.find(plan)
    page = write_boundary(plan, found, tmp_path).read_text()
    stored = json.loads((tmp_path / "boundary.json").read_text())
    never, always, unknown, mixed = stored["boundaries"]
    assert never["star"] == "beyond" and never["interval"] == [16, "beyond"]
    assert always["star"] == "below" and always["interval"] == ["below", 1]
    assert unknown["star"] == "unknown" and unknown["unknown_depths"] == [
        1,
        2,
        4,
        8,
        16,
    ]
    assert mixed["out_of_order"] == [[2, 4]]
    levels = {level["depth"]: level for level in mixed["levels"]}
    assert levels[4]["mean"] == pytest.approx(0.02, rel=0.01)
    low, high = levels[4]["interval"]
    assert low < 0.02 < high and levels[4]["networks"] == 4
    assert stored["laws"][0]["exponent"] == "unknown" and stored["laws"][0]["reason"]
    assert "2 &gt; 4" in page and "1, 2, 4, 8, 16" in page
    texts = [in_words(b) for b in found[0].boundaries]
    assert "nothing known at depth 1, 2, 4, 8, 16" in texts[2]
    assert "depth 2 is further than depth 4" in texts[3]


def test_the_page_explains_itself(tmp_path):
    """Formulas, meaning, how many networks, expectation and law are on the page."""
    names = ("resnet", "balanced", "balanced_scaled")
    plan = plan_with(networks=names, widths=(8, 16, 32))

    def outcome(config, folder):
        fixed = config.model.branch == "fixed"
        power(config, folder, config.model.width / 4 if fixed else 1e5)

    found = Lab(tmp_path, outcome).find(plan)
    page = write_boundary(plan, found, tmp_path).read_text()
    networks = sum(b.seeds for one in found for b in one.boundaries)
    for words in (
        "d* ~ n^1.0",
        "no boundary: the threshold is not passed",
        f"{networks} networks trained",
        "z&#x27; = α z + λ √(2/n) W φ(s ⊙ z)",
        "λ = d<sup>−1/2</sup>",
        "d* grows like n",
        "its linearization at initialization",
    ):
        assert words in page, words
    assert page.count("<img") == 2
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert figures == {"boundary.png", "levels.png"}


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("model.kind=mlp", "--networks"),
        ("model.branch=fixed", "--networks"),
        ("model.alpha=1", "--networks"),
        ("model.lam=1", "--networks"),
        ("model.width=8", "--widths"),
        ("model.depth=8", "--depths"),
        ("model.ratio=1", "--depths"),
        ("train.seeds=8", "--seeds"),
        ("train.seed=1", "--most-seeds"),
        ("run.dir=x", "--dir"),
    ],
)
def test_what_the_search_decides_cannot_be_set(name, option, tmp_path):
    """--set of a setting that an option decides names that option."""
    with pytest.raises(UserError, match=f"{name}: is decided by.*{option}"):
        plan_of(Plan(), BoundaryOptions(tmp_path, set=(name,)))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("most_seeds=6", {"most_seeds": 6}),
        ("most_seeds=2", {"most_seeds": 2}),
        ("seeds=1", {"seeds": 1}),
        ("threshold=inf", {"threshold": math.inf}),
        ("measure=variance_ratio", {"measure": "variance_ratio"}),
    ],
)
def test_plans_that_cannot_be_carried_out(field, change):
    """Refused by name before anything is trained."""
    with pytest.raises(UserError, match=field):
        plan_with(**change)
