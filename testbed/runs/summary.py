"""What a run comes to: departure times, final numbers, one sentence."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.config import Config
from testbed.divergence import Departure, accuracy, departure_time
from testbed.divergence.table import SPLITS
from testbed.dynamics.losses import LOSSES
from testbed.errors import NotFinite
from testbed.runs.experiment import Experiment


def summarize(
    config: Config,
    experiment: Experiment,
    rows: Sequence[dict[str, Any]],
    failure: Exception | None = None,
) -> dict[str, Any]:
    """Returns the summary of a run from its recorded rows.

    ``departure`` holds, for each split, the departure times from the linearization;
    ``final`` every metric of the last row (median over seeds); ``diverged``, if numbers
    stopped being finite, the networks to which that happened and when.
    """
    m, system = config.model, experiment.limit.system
    summary: dict[str, Any] = {
        "width": m.width,
        "depth": m.depth,
        "depth_over_width": (m.depth or 0) / m.width,
        "train_size": len(experiment.dataset.x_train),
        "test_size": len(experiment.dataset.x_test),
        "data_checksum": experiment.dataset.checksum,
        "lr": experiment.clock.lr,
        "critical_lr": experiment.critical_lr,
        "stability_bound": experiment.lr_bound,
        "condition_number": system.condition,
        "nngp_posterior": _posterior(experiment),
    }
    ratio = f"{summary['depth_over_width']:.3g}"
    who = f"{m.kind}, width {m.width}, depth {m.depth} (d/n = {ratio})"
    summary |= outcome(rows, who, config.train.seeds, config.measure.tolerance, failure)
    if rows and config.measure.target is not None:
        summary["target_miss"] = target_miss(summary, config.measure.target)
    return summary


def outcome(
    rows: Sequence[dict[str, Any]],
    who: str,
    seeds: int,
    tolerance: float,
    failure: Exception | None = None,
) -> dict[str, Any]:
    """What any run comes to: ``departure``, ``final``, ``diverged``, ``reading``.

    Args:
      rows: of the divergence table.
      who: the networks, in words.
      seeds: how many.
      tolerance: relative distance at which a network has left its kernel.
      failure: what ended the run.
    """
    found: dict[str, Any] = {
        "status": "failed" if failure else "done",
        "error": str(failure) if failure else None,
        "tolerance": tolerance,
    }
    lost = diverged(rows, failure)
    if lost["seeds"]:
        found["diverged"] = lost
    if rows:
        splits = [s for s in SPLITS if f"finite/loss/{s}" in rows[0]]
        found["departure"] = {s: departure(rows, s, tolerance) for s in splits}
        found["final"] = {k: median(v) for k, v in rows[-1].items()}
        found["reading"] = reading(who, seeds, found)
    return found


def diverged(
    rows: Sequence[dict[str, Any]], failure: Exception | None = None
) -> dict[str, Any]:
    """{"seeds": networks left out because they diverged, "t": since when at the latest.

    They are those without a training loss in a recorded row; where none was left, those
    of the failure that ended the run.
    """
    if isinstance(failure, NotFinite):
        return {"seeds": failure.seeds, "t": failure.t}
    losses = [(row["t"], np.atleast_1d(row["finite/loss/train"])) for row in rows]
    since = {
        int(seed): t
        for t, loss in reversed(losses)
        for seed in np.flatnonzero(np.isnan(np.array(loss, np.float64)))
    }
    return {"seeds": sorted(since), "t": min(since.values(), default=math.nan)}


def target_miss(summary: dict[str, Any], target: float) -> float:
    """|log(t* / target)|, t* the median departure time on the test set.

    Where half of the networks or more never departed, t* is later than the run: it
    counts as twice the last time, so that a longer departure is never worth less.
    """
    departed = np.array(summary["departure"]["test"]["seeds"], np.float64)
    known = departed[~np.isnan(departed)]  # those that diverged say nothing
    t = float(np.median(known)) if known.size else math.inf
    if not math.isfinite(t):
        t = 2 * summary["final"]["t"]
    return abs(math.log(t / target))


def departure(rows: Sequence[dict[str, Any]], split: str, tolerance: float) -> dict:
    """Departure times of the finite networks from their linearizations on `split`."""
    name = f"distance/finite_linearized/{split}/relative"
    times = [row["t"] for row in rows]
    relative = np.array([row[name] for row in rows], np.float64)  # null becomes nan
    each = departure_time(times, relative, tolerance)
    d = Departure.of_seeds(each)
    return {
        "median": d.median,
        "lowest": d.lowest,
        "highest": d.highest,
        "departed": d.departed,
        "of": d.of,
        "seeds": each,
        "text": str(d),
    }


def median(value: Any) -> float:
    """Median over seeds; a single number is itself; null counts as nan."""
    values = np.atleast_1d(np.array(value, np.float64))
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else math.nan


def reading(who: str, seeds: int, summary: dict[str, Any]) -> str:
    """The result in one sentence."""
    said = _reading(who, summary)
    if "diverged" in summary and summary["status"] == "done":
        lost = len(summary["diverged"]["seeds"])
        said = f"{said[:-1]}; left out: {lost} of {seeds} networks, which diverged."
    return said


def _reading(who: str, summary: dict[str, Any]) -> str:
    *_, split = summary["departure"]  # test, if there is one
    d = summary["departure"][split]
    last = summary["final"]["t"]
    percent = f"{summary['tolerance']:.0%}"
    relative = summary["final"][f"distance/finite_linearized/{split}/relative"]
    if not d["of"]:
        return f"{who}: nothing can be said; the outputs did not move measurably."
    if not d["departed"]:
        return (
            f"{who}: stayed within {percent} of its linearization up to t = {last:.4g} "
            f"(final relative distance {relative:.3g})."
        )
    end = f"final relative distance {relative:.3g} at t = {last:.4g}"
    if d["departed"] < d["of"]:
        when = f"left its kernel in {d['departed']} of {d['of']} seeds, "
        when += f"first at t = {d['lowest']:.4g}"
        return f"{who}: {when}; median {end}."
    when = f"left its kernel at t = {d['median']:.4g}"
    if d["of"] > 1:
        when += f" (median of {d['of']} seeds, "
        when += f"range {d['lowest']:.4g} to {d['highest']:.4g})"
    if relative <= summary["tolerance"]:
        end += ", back within the tolerance"
    return f"{who}: {when}; {end}."


def _posterior(experiment: Experiment) -> dict[str, float]:
    """MSE loss whatever is trained with: the posterior is that of a regression."""
    (f, variance), targets = experiment.limit_posterior, experiment.targets
    found = {"loss": float(LOSSES["mse"](f, targets.y["test"]))}
    found["spread"] = float(np.sqrt(np.maximum(variance, 0).mean()))
    if targets.labels is not None:
        found["accuracy"] = float(accuracy(f, targets.labels["test"]))
    return found
