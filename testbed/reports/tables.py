"""The numbers of a report as rows of text, and the command that gives them again."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from testbed.config import DEFAULT_DEPTH, Config
from testbed.divergence import Departure
from testbed.reports import sections
from testbed.reports.departures import departures
from testbed.reports.record import Record, extent
from testbed.settings import changed, fitting, flatten, override

Row = tuple[str, ...]


def predictors(record: Record) -> list[str]:
    """The predictors of this run."""
    infinite = ["infinite"] if record.has_infinite else []
    return ["finite", "linearized", *infinite]


def final_losses(record: Record) -> list[Row]:
    """(what, and its value for each predictor) at the last recorded time."""
    rows = []
    for split in record.splits:
        for measure, form in (("loss", ".4g"), ("accuracy", ".1%")):
            names = [f"{who}/{measure}/{split}" for who in predictors(record)]
            rows.append((f"{split} {measure}", *_cells(record, names, form)))
    return _filled(rows)


def final_divergence(record: Record) -> list[Row]:
    """(what, on the training set, on the test set) at the last recorded time."""
    rows = []
    for title, name in (
        ("finite to linearized, relative distance", "distance/finite_linearized/{}"),
        ("finite to infinite mean, relative distance", "distance/finite_infinite/{}"),
        (
            "linearized to infinite mean, relative distance",
            "distance/linearized_infinite/{}",
        ),
    ):
        names = [name.format(split) + "/relative" for split in record.splits]
        rows.append((title, *_cells(record, names, ".3g")))
    for title, name in (
        ("standard deviation over networks", "ensemble/spread"),
        ("standard deviation of the GP", "infinite/spread"),
        ("variance over networks / variance of the GP", "ensemble/variance_ratio"),
    ):
        names = [f"{name}/{split}" for split in record.splits]
        rows.append((title, *_cells(record, names, ".3g")))
    tolerance = record.config["measure.tolerance"]
    times = [
        str(Departure.of_seeds(departures(record, split))) for split in record.splits
    ]
    rows.append((f"departure time at tolerance {tolerance:g}", *times))
    return _filled(rows)


def final_kernel(record: Record) -> list[Row]:
    """(what, value) of the kernels at the last recorded time."""
    return _filled(
        [
            (title, *_cells(record, [name], ".3g"))
            for title, name in (
                ("kernel drift |Θ_t − Θ_0| / |Θ_0|", "kernel/drift"),
                ("kernel error |Θ_t − Θ_∞| / |Θ_∞|", "kernel/error_infinite"),
                ("alignment with the targets", "kernel/alignment"),
            )
        ]
    )


def circumstances(record: Record) -> list[Row]:
    """(what, value) of the run as a whole."""
    s, last = record.summary, len(record.steps) - 1
    rows = [
        ("recorded up to", f"step {record.steps[last]}, t = {record.times[last]:.4g}"),
        ("recorded times", f"{last + 1}"),
    ]
    if s:
        rows += _rates(s)
        rows.append(("examples", f"{s['train_size']} training, {s['test_size']} test"))
        rows += [(k.replace("_", " "), s[k]) for k in ("data_checksum",) if k in s]
        posterior = s.get("nngp_posterior") or {}
        named = [f"{k} {_number(v, '.4g')}" for k, v in posterior.items()]
        if named:
            rows.append(("exact NNGP regression, test set", ", ".join(named)))
        seconds = s.get("seconds") or {}
        named = [f"{k} {v:.1f} s" for k, v in seconds.items()]
        if named:
            rows.append(("time taken", ", ".join(named)))
    return rows


def _rates(s: dict[str, Any]) -> list[Row]:
    """Of the learning rate; a foreign network has no critical rate but its own."""
    if "critical_lr" not in s:
        bound = s["own_stability_bound"]
        return [
            ("learning rate", f"{s['lr']:.4g} ({s['lr'] / bound:.3g} × the bound)"),
            ("stability bound of the stiffest network's kernel", f"{bound:.4g}"),
        ]
    by_critical = s["lr"] / s["critical_lr"]
    return [
        ("learning rate", f"{s['lr']:.4g} ({by_critical:.3g} × critical)"),
        ("critical learning rate", f"{s['critical_lr']:.4g}"),
        ("stability bound of the infinite network", f"{s['stability_bound']:.4g}"),
        ("condition number of Θ_∞", _number(s["condition_number"], ".3g")),
    ]


def changed_settings(record: Record) -> dict[str, Any]:
    """{dotted name: value} of the settings that are not the defaults."""
    return changed(_config(record), override(Config(), {"model.depth": DEFAULT_DEPTH}))


def command(record: Record, every: bool = False) -> str:
    """The command line that makes this run's numbers again.

    With `every` setting spelled out it does not depend on the defaults, which can
    change from version to version.
    """
    given = flatten(_config(record)) if every else changed_settings(record)
    return sections.command("train.py", given)


def _config(record: Record) -> Config:
    """The run's settings, those that its kind has in this version."""
    return override(Config(), fitting(Config(), record.config))


def _cells(record: Record, names: Iterable[str], form: str) -> list[str]:
    return [_cell(record, name, form) for name in names]


def _cell(record: Record, name: str, form: str) -> str:
    """Median and range over networks of a metric's last value; "" without one."""
    if name not in record.metrics or np.isnan(record.metrics[name]).all():
        return ""
    low, middle, high = (float(v[0]) for v in extent(record.metrics[name][-1:]))
    text = _number(middle, form)
    if low < high:
        text += f" [{_number(low, form)}, {_number(high, form)}]"
    return text


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or not np.isfinite(value) else format(value, form)


def _filled(rows: list[Row]) -> list[Row]:
    return [row for row in rows if any(row[1:])]
