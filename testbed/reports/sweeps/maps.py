"""Heat maps over width and depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.reports import style
from testbed.reports.sweeps.groups import Group, median
from testbed.reports.sweeps.picture import (
    Picture,
    canvas,
    log_ticks,
    picture,
    size_axis,
)
from testbed.sweeps.gather import MEASURES

_MOST_ROWS = 6
_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)


def pictures(groups: Sequence[Group]) -> list[Picture]:
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
    caption = f"{_CAPTION} A network has left where the relative distance on the test "
    caption += f"set passes {tolerance:g} for the first time."
    if len(maps) > len(shown):
        caption += f" Shown are the {len(shown)} largest of {len(maps)} groups."
    return [picture("map", "Divergence map", heat_maps(shown, columns), caption)]


def heat_maps(groups: Sequence[Group], columns: Mapping[str, Sequence[Any]]) -> Any:
    """A figure of heat maps: a row a group, a column a quantity, with its colours.

    Args:
      groups: what the rows are of.
      columns: {title: values (D, W) of each group, or None where there are none}.
    """
    figure, axes = canvas(len(groups), len(columns), 1.3 + 3.0 * len(groups))
    for column, (title, values) in enumerate(columns.items()):
        known = np.concatenate([v[np.isfinite(v)] for v in values if v is not None])
        norm = _norm(known)
        mesh = None
        for row, (group, of_group) in enumerate(zip(groups, values, strict=True)):
            ax = axes[row, column]
            mesh = _heat_map(ax, group, of_group, norm) or mesh
            if row == 0:
                ax.set_title(title, pad=14)
            if column == 0:
                ax.set_ylabel(f"{group.label}\ndepth d" if group.label else "depth d")
        if mesh is not None:
            bar = figure.colorbar(mesh, ax=axes[:, column], location="bottom", pad=0.02)
            log_ticks(bar.ax.xaxis)
    return figure


def _norm(known: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm

    if not known.size:
        return None
    low, high = known.min(), known.max()
    return LogNorm(low, high if high > low else 1.01 * low)


def _heat_map(ax, group: Group, values: Any, norm: Any) -> Any:
    """Cells with their numbers, and lines of equal d/n; returns the coloured mesh.

    Cells at inf are hatched, cells at nan empty.
    """
    ax.grid(False)
    ax.set_xlabel("width n")
    if values is None:
        ax.text(0.5, 0.5, "none", ha="center", transform=ax.transAxes)
        ax.set_xticks([])
        ax.set_yticks([])
        return None
    x, y = _edges(group.widths), _edges(group.depths)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    mesh = None
    if norm is not None:
        shown = np.ma.masked_where(~np.isfinite(values), values)
        mesh = ax.pcolormesh(x, y, shown, norm=norm, cmap="viridis")
    size = 7.0 if len(group.widths) <= 5 else 5.5
    for i, j in np.ndindex(values.shape):
        _cell(ax, values[i, j], (x[j : j + 2], y[i : i + 2]), norm, size)
    for ratio in _RATIOS:
        _contour(ax, ratio, x, y)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    size_axis(ax.xaxis, group.widths)
    size_axis(ax.yaxis, group.depths)
    return mesh


def _cell(ax, value: float, box, norm, size: float) -> None:
    """The number in a cell, dark on light colours and light on dark ones."""
    from matplotlib.patches import Rectangle

    text, color = two_digits(value), style.INK
    (left, right), (low, high) = box
    if np.isinf(value):
        kind = {"facecolor": "#eeeeee", "edgecolor": "#bbbbbb", "linewidth": 0}
        ax.add_patch(
            Rectangle((left, low), right - left, high - low, hatch="///", **kind)
        )
        text = "never"
    elif np.isnan(value):
        text = ""
    elif norm is not None and norm(value) < 0.6:
        color = "white"
    middle = np.sqrt(left * right), np.sqrt(low * high)
    ax.text(*middle, text, ha="center", va="center", fontsize=size, color=color)


def two_digits(value: float) -> str:
    """A positive number to two digits: 0.10, 0.031, 6.0, 24."""
    return f"{value:.0f}" if 9.95 <= value < 1e4 else f"{value:#.2g}"


def _contour(ax, ratio: float, x: np.ndarray, y: np.ndarray) -> None:
    """The line d = ratio n, named where it leaves the map."""
    left, right = max(x[0], y[0] / ratio), min(x[-1], y[-1] / ratio)
    if left >= 0.95 * right:
        return
    ends = np.array([left, right])
    ax.plot(ends, ratio * ends, color=style.INK, alpha=0.45, linewidth=0.8)
    top = right < x[-1]
    side = {"ha": "center", "va": "bottom"} if top else {"ha": "left", "va": "center"}
    ax.annotate(
        f"{ratio:g}", (right, ratio * right), (0, 2) if top else (2, 0),
        textcoords="offset points", fontsize=6.5, color=style.FAINT, **side,
    )  # fmt: skip


def _edges(sizes: Sequence[int]) -> np.ndarray:
    """Borders of cells around sizes on a logarithmic axis."""
    logs = np.log(np.asarray(sizes, float))
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.35, 0.35]))
    middle = (logs[1:] + logs[:-1]) / 2
    ends = [logs[0] - (middle[0] - logs[0]), logs[-1] + (logs[-1] - middle[-1])]
    return np.exp(np.concatenate([[ends[0]], middle, [ends[1]]]))


_CAPTION = (
    "Medians over networks. Hatched: at least half of the networks never left their "
    "kernel within the run; empty: not run, or not known. Grey lines: d/n, its value "
    "where they leave the map. Look for: colours that follow the lines (d/n decides), "
    "or columns (width alone decides). Spread: standard deviation of outputs over the "
    "networks of a cell; with centred outputs the infinite network has none."
)
