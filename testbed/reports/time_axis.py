"""The axis of training time: logarithmic, with a place for t = 0."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from testbed.reports.record import extent
from testbed.reports.toolkit import band, style
from testbed.reports.toolkit.axes import name_ticks, round_numbers, written


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
        ax.plot(self.x[~later], y[~later], "o", markersize=dot, **at_zero)

    def band(self, ax: Axes, low: np.ndarray, high: np.ndarray, **kind: Any) -> None:
        """Shades from low to high (T,); at t = 0 a bar."""
        later = self._later
        band(ax, self.x[later], low[later], high[later], **kind)
        bar = {"color": kind["color"], "alpha": 0.2, "linewidth": 5}
        ax.vlines(self.x[~later], low[~later], high[~later], **bar)

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
        name_ticks(ax.xaxis, names)
        if label:
            ax.set_xlabel("training time t = learning rate × steps")
