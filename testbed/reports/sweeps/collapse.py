"""Curves before and after: over width, and over the variable that collapses them."""

from collections.abc import Sequence

import numpy as np

from testbed.divergence.collapse import Collapse
from testbed.reports import toolkit
from testbed.reports.sweeps.groups import (
    EXPECTED,
    Group,
    collapses,
    largest_grids,
    median,
    titled,
)
from testbed.sweeps.gather import MEASURES


def pictures(groups: Sequence[Group]) -> list[toolkit.Drawing]:
    """A figure for each of the largest grids."""
    drawn = []
    for group in largest_grids(groups):
        found = {m: collapses(group, m) for m in EXPECTED if m in group.values}
        found = {name: ranking for name, ranking in found.items() if ranking}
        if found:
            number = f"-{len(drawn) + 1}" if drawn else ""
            drawn.append(_draw(group, found, f"collapse{number}"))
    return drawn


def _draw(group: Group, found: dict, name: str) -> toolkit.Drawing:
    figure, axes = toolkit.blank(2, len(found), 6.6, group.label)
    colors = toolkit.shades(len(group.depths))
    for column, (measure, ranking) in enumerate(found.items()):
        values, best = median(group.values[measure]), ranking[0]
        before = np.broadcast_to(np.array(group.widths), values.shape)
        top, bottom = axes[:, column]
        for i, depth in enumerate(group.depths):
            finite = np.isfinite(values[i])
            kind = {"color": colors[i], "markersize": 4.5}
            label = f"d = {depth}"
            shown = np.where(finite, values[i], np.nan)
            top.plot(before[i], shown, "o-", label=label, **kind)
            bottom.plot(best.x[i][finite], values[i][finite], "o", **kind)
        for ax, label in ((top, "width n"), (bottom, best.name)):
            ax.set(xlabel=label, ylabel=MEASURES[measure])
            toolkit.log_axis(ax.xaxis, ax.yaxis)
        toolkit.size_axis(top.xaxis, sizes=group.widths)
        said = left_out(best).replace(", ", "\n", 1)
        bottom.set_title(f"quality {best.quality:.2g}, {said}", fontsize=9)
    toolkit.legend_below(figure, axes[0, 0])
    names = dict.fromkeys(one.name for ranking in found.values() for one in ranking)
    caption = toolkit.Caption(
        "Top: against width. Bottom: the same points against the variable that "
        f"collapses them best, of {', '.join(names)} (d/sqrt(n) is the same variable "
        "as d^2/n). Quality: 0 perfect, 1 worthless; whether the best is proven better "
        "than the others is in the table.",
        "Where corrections to the kernel go as d/n, that variable; with branches "
        "scaled by depth, width alone.",
        "Points on one curve: that variable decides.",
    )
    return toolkit.Drawing(name, titled("Collapse", group.label), caption, figure)


def left_out(one: Collapse) -> str:
    """How many cells a collapse rests on, and how many had no finite median."""
    text = f"{one.cells} cells"
    if one.never:
        text += f", {one.never} never departed (censored)"
    return text + (f", {one.missing} missing" if one.missing else "")
