"""What all figures share: the page, the time axis, lines with a band over networks."""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from testbed.reports import style
from testbed.reports.captions import Caption
from testbed.reports.record import Record, extent


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One figure, or the reason why it is not there.

    Attributes:
      name: of its file.
      title: heading.
      caption: of the figure; or the reason, a sentence.
      figure: None if there is nothing to draw.
    """

    name: str
    title: str
    caption: Caption | str
    figure: Figure | None = None


def page(
    record: Record, rows: int, columns: int, height: float, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """A figure that says on top which run it is of, and its axes (rows, columns)."""
    figure = Figure(
        figsize=(style.WIDTH_INCHES, height), dpi=style.DPI, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    figure.suptitle(
        in_one_line(record), x=0.012, ha="left", fontsize=8.5, color=style.FAINT
    )
    return figure, axes


def in_one_line(record: Record) -> str:
    """The run in one line."""
    c = record.config
    networks = f"{record.seeds} networks" if record.seeds > 1 else "1 network"
    ratio = c["model.depth"] / c["model.width"]
    return (
        f"{c['model.kind']}, width {c['model.width']}, depth {c['model.depth']} "
        f"(d/n = {ratio:.3g}), {networks}; {c['data.name']}, "
        f"{c['data.train_size']} training examples; {c['train.optimizer']}, "
        f"{c['train.loss']}"
    )


class TimeAxis:
    """A logarithmic axis of training time on which t = 0 has a place of its own.

    Args:
      times: the recorded times, (T,), increasing, the first usually 0.
    """

    def __init__(self, times: np.ndarray):
        self._times = times
        positive = times[times > 0]
        self._later = times > 0
        if not len(positive):
            self._first = self._last = 1.0
        else:
            self._first, self._last = positive[0], positive[-1]
        decades = max(np.log10(self._last / self._first), 0.5)
        self._gap = 10 ** (0.07 * decades)
        self.x = np.where(self._later, times, self._first / self._gap**1.5)

    def plot(self, ax: Axes, y: np.ndarray, **kind: Any) -> None:
        """Draws y (T,): a line over t > 0, and a dot at t = 0."""
        y = np.asarray(y, np.float64)
        later, kind = self._later, dict(kind)
        label = kind.pop("label", None)
        dot = kind.get("linewidth", 2) * 1.2 + 1.5
        if later.sum() <= 3:
            kind |= {"marker": "o", "markersize": dot}
        ax.plot(self.x[later], y[later], label=label, **kind)
        at_zero = {k: v for k, v in kind.items() if k in ("color", "alpha", "zorder")}
        ax.plot(
            self.x[~later],
            y[~later],
            linestyle="",
            marker="o",
            markersize=dot,
            **at_zero,
        )

    def band(self, ax: Axes, low: np.ndarray, high: np.ndarray, **kind: Any) -> None:
        """Shades from low to high (T,); at t = 0 a bar."""
        later = self._later
        kind = {"alpha": 0.2, "linewidth": 0} | kind
        ax.fill_between(self.x[later], low[later], high[later], **kind)
        bar = {k: v for k, v in kind.items() if k in ("color", "alpha")}
        ax.vlines(self.x[~later], low[~later], high[~later], linewidth=5, **bar)

    def networks(self, ax: Axes, values: np.ndarray, **kind: Any) -> None:
        """Median over networks with a band from lowest to highest, of (T, E)."""
        low, middle, high = extent(values)
        if values.shape[1] > 1:
            self.band(ax, low, high, color=kind.get("color"))
        self.plot(ax, middle, **kind)

    def finish(self, ax: Axes, label: bool = True) -> None:
        """Sets scale, limits and ticks; call it after everything is drawn."""
        zero = not self._later.all()
        left = self._first / self._gap ** (2.2 if zero else 0.7)
        ax.set_xscale("log")
        ax.set_xlim(left, self._last * self._gap**0.7)
        ticks = round_numbers(self._first, self._last) if self._later.any() else []
        names = {tick: written(tick) for tick in ticks}
        if zero:
            names[float(self.x[0])] = "0"
            if ticks:
                ax.axvline(
                    self._first / self._gap**0.75, color=style.FAINT, lw=0.8, ls=":"
                )
        _name_ticks(ax.xaxis, names)
        if label:
            ax.set_xlabel("training time t = learning rate × steps")


def positive(values: np.ndarray) -> np.ndarray:
    """Values that a logarithmic axis can show; the others become nan."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def log_y(*panels: Axes, top: float | None = None) -> None:
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
            ticks = round_numbers(*ax.get_ylim())
            _name_ticks(ax.yaxis, {tick: written(tick) for tick in ticks})


def log_x(ax: Axes, low: float, high: float) -> None:
    """Makes x logarithmic, from low to high, with round numbers."""
    ax.set_xscale("log")
    ax.set_xlim(low / 1.15, high * 1.15)
    _name_ticks(ax.xaxis, {v: written(v) for v in round_numbers(low, high)})


def _name_ticks(axis: Axis, names: dict[float, str]) -> None:
    axis.set_major_locator(FixedLocator(list(names)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: names.get(v, "")))
    axis.set_minor_locator(NullLocator())


def legend_below(figure: Figure, *panels: Axes) -> None:
    """One legend under the figure, of what is drawn in these panels."""
    found = [ax.get_legend_handles_labels() for ax in panels]
    handles, labels = (sum(parts, []) for parts in zip(*found, strict=True))
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


def nothing(ax: Axes, reason: str) -> None:
    """Says in an empty panel why it is empty."""
    ax.text(
        0.5, 0.5, reason, transform=ax.transAxes, ha="center", va="center",
        color=style.FAINT, wrap=True,
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])


def round_numbers(first: float, last: float) -> list[float]:
    """Round numbers from first to last: decades, or finer if they are few."""
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
