"""A map over width and depth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.reports.toolkit import style
from testbed.reports.toolkit.axes import size_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Sizes = Sequence[int] | np.ndarray
_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)


def heat_map(ax: "Axes", widths: Sizes, depths: Sizes, values: Any, norm: Any) -> Any:
    """Cells with their numbers over width and depth, and lines of equal d/n.

    Cells at inf are hatched, cells at nan empty.

    Args:
      ax: the panel.
      widths: n, (W,).
      depths: d, (D,).
      values: (D, W).
      norm: matplotlib's, of values to colours; None without colours.

    Returns:
      The coloured mesh, for a colour bar, or None.
    """
    ax.grid(False)
    x, y = _edges(widths), _edges(depths)
    size_axis(ax.xaxis, sizes=widths)
    size_axis(ax.yaxis, sizes=depths)
    mesh = None
    if norm is not None:
        shown = np.ma.masked_where(~np.isfinite(values), values)
        mesh = ax.pcolormesh(x, y, shown, norm=norm, cmap="viridis")
    size = 7.0 if len(widths) <= 5 else 5.5
    for i, j in np.ndindex(values.shape):
        _cell(ax, values[i, j], (x[j : j + 2], y[i : i + 2]), norm, size)
    for ratio in _RATIOS:
        _contour(ax, ratio, x, y)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.set_xlabel("width n")
    return mesh


def _cell(ax, value: float, box, norm, size: float) -> None:
    """The number in a cell, dark on light colours and light on dark ones."""
    from matplotlib.patches import Rectangle

    text, color = _two_digits(value), style.INK
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


def _two_digits(value: float) -> str:
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


def _edges(sizes: Sizes) -> np.ndarray:
    """Borders of cells around sizes on a logarithmic axis."""
    logs = np.log(np.asarray(sizes, float))
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.35, 0.35]))
    middle = (logs[1:] + logs[:-1]) / 2
    ends = [logs[0] - (middle[0] - logs[0]), logs[-1] + (logs[-1] - middle[-1])]
    return np.exp(np.concatenate([[ends[0]], middle, [ends[1]]]))
