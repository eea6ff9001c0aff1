"""Heat maps over width and depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.reports import toolkit
from testbed.reports.sweeps.groups import Group, median
from testbed.sweeps.gather import MEASURES

_MOST_ROWS = 6


def pictures(groups: Sequence[Group]) -> list[toolkit.Drawing]:
    """The divergence map: a row a group, a column a measure."""
    maps = [g for g in groups if g.is_map]
    shown = maps[:_MOST_ROWS]
    names = [m for m in MEASURES if any(m in g.values for g in shown)]
    if not names:
        return []
    columns = {
        MEASURES[name]: [
            median(g.values[name]) if name in g.values else None for g in shown
        ]
        for name in names
    }
    tolerance = shown[0].settings.get("measure.tolerance")
    some = f" The {len(shown)} largest of {len(maps)} groups." * (shown != maps)
    caption = toolkit.Caption(
        "Medians over networks. Hatched: at least half of the networks never left "
        "their kernel within the run; empty: not run, or not known. Grey lines: d/n, "
        "its value where they leave the map. Spread: standard deviation of outputs "
        "over the networks of a cell; with centred outputs the infinite network has "
        "none. A network has left where the relative distance on the test set passes "
        f"{tolerance:g} for the first time.{some}",
        "Corrections to the kernel grow with d/n at fixed branch weights, and with 1/n "
        "alone where branches are scaled by depth.",
        "Colours that follow the lines (d/n decides), or columns (width alone "
        "decides).",
    )
    return [
        toolkit.Drawing("map", "Divergence map", caption, heat_maps(shown, columns))
    ]


def heat_maps(groups: Sequence[Group], columns: Mapping[str, Sequence[Any]]) -> Any:
    """A figure of heat maps: a row a group, a column a quantity, with its colours.

    Args:
      groups: what the rows are of.
      columns: {title: values (D, W) of each group, or None where there are none}.
    """
    figure, axes = toolkit.blank(len(groups), len(columns), 1.3 + 3.0 * len(groups))
    for column, (title, values) in enumerate(columns.items()):
        known = np.concatenate([v[np.isfinite(v)] for v in values if v is not None])
        norm = _norm(known)
        mesh = None
        for row, (group, of_group) in enumerate(zip(groups, values, strict=True)):
            ax = axes[row, column]
            if of_group is None:
                toolkit.nothing(ax, "none")
            else:
                sizes = group.widths, group.depths
                mesh = toolkit.heat_map(ax, *sizes, of_group, norm) or mesh
            if row == 0:
                ax.set_title(title, pad=14)
            if column == 0:
                ax.set_ylabel(f"{group.label}\ndepth d" if group.label else "depth d")
        if mesh is not None:
            bar = figure.colorbar(mesh, ax=axes[:, column], location="bottom", pad=0.02)
            toolkit.log_ticks(bar.ax.xaxis)
    return figure


def _norm(known: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm

    if not known.size:
        return None
    low, high = known.min(), known.max()
    return LogNorm(low, high if high > low else 1.01 * low)
