"""What the laws at initialization say, on the axes of what was measured."""

from collections.abc import Sequence

import numpy as np

from testbed.reports import toolkit
from testbed.reports.sweeps.groups import EXPECTED, Group, largest_grids, median
from testbed.reports.sweeps.laws import at_initialization
from testbed.reports.sweeps.maps import heat_maps
from testbed.reports.toolkit import style
from testbed.sweeps.gather import MEASURES

_MARKS = "osD^"


def pictures(groups: Sequence[Group]) -> list[toolkit.Drawing]:
    """Maps of the laws on the axes of the divergence map, and measures against laws."""
    grids = largest_grids(groups)
    laws = [at_initialization(g.settings, g.widths, g.depths) for g in grids]
    names = list(dict.fromkeys(name for found in laws for name in found))
    if not names:
        return []
    columns = {
        name: [
            np.where(x[name] > 0, x[name], np.nan) if name in x else None for x in laws
        ]
        for name in names
    }
    title = "The laws at initialization, same axes"
    maps = toolkit.Drawing("laws", title, _MAPS, heat_maps(grids, columns))
    return [maps, _scatter(grids, laws, names)]


def _scatter(grids: Sequence[Group], laws: Sequence[dict], names) -> toolkit.Drawing:
    measures = [m for m in EXPECTED if any(m in g.values for g in grids)]
    figure, axes = toolkit.blank(len(names), len(measures), 0.6 + 2.9 * len(names))
    depths = sorted({d for g in grids for d in g.depths})
    colors = dict(zip(depths, toolkit.shades(len(depths)), strict=True))
    for row, law in enumerate(names):
        for column, measure in enumerate(measures):
            ax = axes[row, column]
            for group, found, mark in zip(grids, laws, _MARKS, strict=False):
                if measure not in group.values or law not in found:
                    continue
                y = median(group.values[measure])
                for i, depth in enumerate(group.depths):
                    shown = np.isfinite(y[i]) & (found[law][i] > 0)
                    kind = {"color": colors[depth], "markersize": 5, "alpha": 0.85}
                    ax.plot(found[law][i][shown], y[i][shown], mark, **kind)
            ax.set(xlabel=law, ylabel=MEASURES[measure])
            toolkit.log_axis(ax.xaxis, ax.yaxis)
    for depth in depths:
        axes[0, 0].plot([], [], "s", color=colors[depth], label=f"d = {depth}")
    for group, mark in zip(grids, _MARKS, strict=False):
        if group.label:
            axes[0, 0].plot([], [], mark, color=style.INK, label=group.label)
    toolkit.legend_below(figure, axes[0, 0])
    return toolkit.Drawing(
        "theory", "Against the laws at initialization", _SCATTER, figure
    )


_MAPS = toolkit.Caption(
    "beta: variance of the log-norm that the law of Li, Nica and Roy (2021) gives each "
    "network. NTK dispersion: Var K / (E K)^2 of the tangent kernel over "
    "initializations, exact for the Balanced network of these sizes. Interlayer part "
    "of beta: what correlations between the layers of a vanilla network add. Nothing "
    "is fitted.",
    "Where what fluctuates at initialization decides when a network leaves its kernel, "
    "the divergence map looks like one of these.",
    "The same pattern as in the divergence map.",
)
_SCATTER = toolkit.Caption(
    "The measures against the laws' numbers, a point a cell, nothing fitted.",
    "One curve, where what fluctuates at initialization goes with departure.",
    "Points apart by colour: depth matters beyond the law; the collapse table says "
    "which variable is best.",
)
