"""What figures draw with: axes with round numbers, bands, densities, legends."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.reports.toolkit import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_MOST_MARKS = 12


def positive(values: np.ndarray) -> np.ndarray:
    """Values that a logarithmic axis can show; the others become nan."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def log_axis(*axes: "Axis") -> None:
    """Makes each axis logarithmic, with round numbers.

    Call it after everything is drawn.
    """
    for axis in axes:
        _set_scale(axis, "log")
    for axis in axes:
        log_ticks(axis)


def log_y(*panels: "Axes", top: float | None = None) -> None:
    """Makes y logarithmic, with round numbers, wherever anything positive is drawn.

    Call it after everything is drawn; `top` cuts the axis.
    """
    for ax in panels:
        drawn = [np.asarray(line.get_ydata(), np.float64) for line in ax.lines]
        if any((np.isfinite(y) & (y > 0)).any() for y in drawn):
            ax.set_yscale("log")
            ax.set_ylim(top=top)
    for ax in panels:  # limits may be shared
        if ax.get_yscale() == "log":
            log_ticks(ax.yaxis)


def log_ticks(axis: "Axis") -> None:
    """Round numbers on an axis that is logarithmic already."""
    ticks = round_numbers(*sorted(axis.get_view_interval()))
    name_ticks(axis, {tick: written(tick) for tick in ticks})


def size_axis(*axes: "Axis", sizes: Iterable[float]) -> None:
    """Makes each axis logarithmic in base 2, and marks the sizes themselves."""
    for axis in axes:
        _set_scale(axis, "log", base=2)
        mark(axis, sizes)


def mark(axis: "Axis", places: Iterable[float]) -> None:
    """Marks these places on an axis, or every few of them if they are many."""
    places = [float(place) for place in places]
    shown = places[:: 1 + (len(places) - 1) // _MOST_MARKS]
    name_ticks(axis, {place: f"{place:g}" for place in shown})


def name_ticks(axis: "Axis", names: dict[float, str]) -> None:
    """Marks the places with their names, and nothing else."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(names)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: names.get(v, "")))
    axis.set_minor_locator(NullLocator())


def round_numbers(first: float, last: float) -> list[float]:
    """Round numbers from first to last: decades, or finer if they are few."""
    from matplotlib.ticker import MaxNLocator

    low, high = int(np.floor(np.log10(first))), int(np.ceil(np.log10(last)))
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        every = [m * 10.0**k for k in range(low, high + 1) for m in digits]
        inside = [v for v in every if first * 0.999 <= v <= last * 1.001]
        if len(inside) >= 3:
            return inside[:: 1 + len(inside) // 8]
    even = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(first, last)
    return [float(v) for v in even if first <= v <= last]


def written(value: float) -> str:
    """A tick's name; very large and small decades as powers of ten."""
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1" else f"${mantissa}\\cdot{power}$"


def shades(count: int) -> list:
    """`count` colours from dark to light, of lines that have an order."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](v) for v in np.linspace(0, 0.9, count)]


def band(ax: "Axes", x, low, high, color: Any, **kind: Any) -> None:
    """Shades from low to high, for a line of the same colour."""
    ax.fill_between(x, low, high, color=color, **{"alpha": 0.2, "linewidth": 0} | kind)


def points(ax: "Axes", x, y, error, color: Any = style.FINITE, **kind: Any) -> None:
    """Dots with bars of y ± error."""
    ax.errorbar(x, y, error, color=color, **{"fmt": "o", "markersize": 4.5} | kind)


def histogram(
    ax: "Axes",
    x: np.ndarray,
    bins: int = 80,
    ends: Sequence[float] | None = None,
    **kind: Any,
) -> None:
    """A density histogram of x.

    Args:
      ax: the panel.
      x: the sample, (samples,).
      bins: how many.
      ends: of the bins; by default x's 0.05 and 99.95 per cent quantiles.
      **kind: colour and label.
    """
    low, high = np.quantile(x, [5e-4, 1 - 5e-4]) if ends is None else ends
    places = np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(x, places)
    density = counts / np.diff(places) / len(x)
    ax.stairs(density, places, fill=True, alpha=0.45, **kind)


def legend_below(figure: "Figure", *panels: "Axes") -> None:
    """One legend under the figure, of what is drawn in these panels."""
    handles, labels = [], []
    for ax in panels:
        drawn, named = ax.get_legend_handles_labels()
        handles, labels = handles + drawn, labels + named
    if labels:
        inches = 0.6 + 0.075 * max(map(len, labels))
        columns = int(np.clip(figure.get_figwidth() // inches, 1, len(labels)))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def legend_beside(ax: "Axes", of: "Axes | None" = None) -> None:
    """A legend on the right of a panel, of what is drawn in it, or in `of`."""
    handles, labels = (of or ax).get_legend_handles_labels()
    ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)


def nothing(ax: "Axes", reason: str) -> None:
    """Says in an empty panel why it is empty."""
    ax.text(
        0.5, 0.5, reason, transform=ax.transAxes, ha="center", va="center",
        color=style.FAINT, wrap=True,
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])


def _set_scale(axis: "Axis", scale: str, **options: Any) -> None:
    ax = axis.axes
    (ax.set_xscale if axis is ax.xaxis else ax.set_yscale)(scale, **options)
