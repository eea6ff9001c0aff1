"""The tables of a sweep's page: exponents, rank correlations, collapse, runs."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from testbed.divergence.collapse import Collapse
from testbed.reports.sweeps.collapse import left_out
from testbed.reports.sweeps.dependence import axes_of, lines
from testbed.reports.sweeps.groups import (
    EXPECTED,
    SIZES,
    Group,
    collapses,
    fits,
    free,
    label_of,
    titled,
)
from testbed.reports.sweeps.ranks import Rank
from testbed.reports.toolkit.page import link, table
from testbed.sweeps.gather import MEASURES, Gathered, Table, text
from testbed.sweeps.read_run import RATIO

_MOST_GROUPS = 8


def exponents(groups: Sequence[Group]) -> str:
    """Power laws in width and depth, of each group and measure."""
    shown = [g for g in groups if len(g.widths) >= 3 or len(g.depths) >= 3]
    parts = []
    for group in shown[:_MOST_GROUPS]:
        for name in EXPECTED:
            rows = _size_laws(group, name) if name in group.values else []
            if rows:
                low, high = EXPECTED[name]
                theory = f"theory, in n at fixed d: {low:g} to {high:g}"
                header = ["law", "exponent [95 %]", "cells", "theory", ""]
                what = titled(MEASURES[name], group.label)
                parts.append(table(rows, header, f"{what} ({theory})"))
    if len(shown) > _MOST_GROUPS:
        parts.append(f"<p>The {_MOST_GROUPS} largest of {len(shown)} groups.</p>")
    return _THEORY_NOTE + "".join(parts) if parts else ""


_THEORY_NOTE = (
    '<p class="note">Theory: how the 95 % interval lies to its range, within it, '
    "compatible (they overlap) or outside. Censored: cells where half of the networks "
    "never departed are left out, so that the exponent is that of the early ones. "
    "Intervals resample networks; a number of a whole ensemble has none.</p>"
)


def _size_laws(group: Group, name: str) -> list[tuple[str, ...]]:
    laws, rows = fits(group, name), []
    for fit in laws.fits:
        law = fit.law
        if not math.isfinite(law.exponent) and law.points < 2:
            continue
        what = "n" if fit.varied == "width" else "d"
        at = {"depth": "d", "width": "n", "ratio": "d/n"}[fit.fixed]
        rows.append(
            (
                f"{what}^a at {at} = {fit.at:.4g}",
                exponent(law.exponent, law.interval),
                str(law.points),
                "censored" if law.never else fit.agreement,
                law.reason or _left(law.never, law.missing),
            )
        )
    joint = laws.joint
    if math.isfinite(joint.width_exponent):
        standing = "censored" if joint.never else joint.agreement
        left = joint.reason or _left(joint.never, joint.missing)
        for letter, value, interval, theory in (
            ("a", joint.width_exponent, joint.width_interval, standing),
            ("b", joint.depth_exponent, joint.depth_interval, ""),
        ):
            name = f"d^b n^a, all cells: {letter}"
            cells = str(joint.points)
            rows.append((name, exponent(value, interval), cells, theory, left))
    return rows


def slopes(networks: Table) -> str:
    """Power laws along every other setting with three positive values or more."""
    parts = []
    for axis in axes_of(networks):
        if axis in (*SIZES, RATIO):
            continue
        for name in EXPECTED:
            rows = []
            for line in lines(networks, axis, name):
                if len(line.x) < 3 or line.x[0] <= 0:
                    continue
                law = line.law()
                left = law.reason or _left(law.never, law.missing)
                value = exponent(law.exponent, law.interval)
                where = label_of(line.fixed) or "all"
                rows.append((where, value, str(law.points), left))
            if rows:
                header = ["at", "exponent [95 %]", "points", ""]
                parts.append(table(rows, header, f"{MEASURES[name]} ~ {axis}^a"))
    return "".join(parts)


def correlations(found: Sequence[Rank]) -> str:
    """Spearman's rank correlations, a column a measure."""
    measures = list(dict.fromkeys(rank.measure for rank in found))
    settings = list(dict.fromkeys(rank.setting for rank in found))
    cells = {(r.setting, r.measure): exponent(r.value, r.interval) for r in found}
    rows = [[s, *(cells.get((s, m), "–") for m in measures)] for s in settings]
    header = ["setting", *(MEASURES.get(m, m) for m in measures)]
    runs = found[0].runs if found else 0
    return table(rows, header, f"Spearman's rank correlation [95 %] over {runs} runs")


def collapse(groups: Sequence[Group]) -> str:
    """How well each variable collapses each measure, of groups that are grids."""
    parts = []
    for group in [g for g in groups if g.is_grid][:_MOST_GROUPS]:
        for name in EXPECTED:
            ranking = collapses(group, name) if name in group.values else []
            if not ranking:
                continue
            rows = [
                (
                    one.name,
                    exponent(one.quality, one.interval),
                    "–" if np.isnan(one.misfit) else f"{one.misfit:.2g}",
                    _standing(one, ranking),
                )
                for one in ranking
            ]
            best = free(group, name)
            if best is not None:
                value = exponent(best.exponent, best.interval)
                rows.append((f"d^a/n, a = {value}", f"{best.quality:.2f}", "", "free"))
            header = ["variable", "quality [95 %]", "misfit", "against the best"]
            named = f"{titled(MEASURES[name], group.label)}: {left_out(ranking[0])}"
            parts.append(table(rows, header, named))
    note = (
        '<p class="note">Quality: error of predicting each cell from the others along '
        "the variable, 0 perfect, 1 worthless. Misfit: the same in units of the noise "
        "of the networks, 1 where nothing but that noise is left. d/sqrt(n) is the "
        "same variable as d²/n.</p>"
    )
    return note + "".join(parts) if parts else ""


def runs(gathered: Gathered, out: Path) -> str:
    """Every run that was read: what it varied, what it came to, a link to it."""
    varied, rows = gathered.varied, []
    has_metric = gathered.runs["metric"].notna().any()
    for run in gathered.runs.to_dict("records"):
        path = gathered.folders[run["run"]]
        page = path / "report.html"
        target = os.path.relpath(page if page.exists() else path, out.resolve())
        name = str(run["run"]).rpartition("/")[2]
        cells = [link(target, name), *(text(run[c]) for c in varied)]
        cells += [text(run["metric"])] if has_metric else []
        rows.append([*cells, _duration(run["seconds"]), str(run["reading"])])
    names = ["run", *varied, *(["metric"] if has_metric else []), "took", "reading"]
    return table(rows, names)


def problems(gathered: Gathered) -> str:
    """What was left out, and why."""
    rows = [*gathered.problems, *gathered.notes]
    return table(rows, ["run", "why"]) if rows else "<p>Nothing.</p>"


def exponent(value: float, interval: tuple[float, float]) -> str:
    """A number with its interval, as far as they are known."""
    if not np.isfinite(value):
        return "–"
    if not np.isfinite(interval).all():
        return f"{value:.2f}"
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _standing(one: Collapse, ranking: Sequence[Collapse]) -> str:
    if one is not ranking[0]:
        return "worse" if one.worse else "open"
    return "best" if all(other.worse for other in ranking[1:]) else "lowest, open"


def _left(never: int, missing: int) -> str:
    parts = [f"{never} never departed"] if never else []
    parts += [f"{missing} missing"] if missing else []
    return ", ".join(parts)


def _duration(seconds: Any) -> str:
    known = isinstance(seconds, int | float) and math.isfinite(seconds)
    return f"{seconds:.0f} s" if known else "–"
