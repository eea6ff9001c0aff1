"""The figures of a boundary: d*(n), and the measured depths it is read off from."""

from collections.abc import Sequence

import numpy as np

from testbed.reports import style
from testbed.sweeps.boundary import Found, Plan
from testbed.sweeps.gather import MEASURES

_COLORS = (style.FINITE, style.LINEARIZED, style.INFINITE)


def draw_boundary(plan: Plan, found: Sequence[Found]):
    """d* against width, with intervals and fitted laws."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.5), dpi=style.DPI, layout="constrained")
    ax = figure.subplots()
    lowest, highest = plan.depths[0], plan.depths[-1]
    widths = np.array(plan.widths, float)
    grid = np.geomspace(widths.min() / 1.2, widths.max() * 1.2, 50)
    for i, (one, color) in enumerate(zip(found, _COLORS, strict=False)):
        # Beside one another, so that equal boundaries can be told apart.
        at = np.array(one.widths, float) * 1.03 ** (i - (len(found) - 1) / 2)
        label = one.name
        if np.isfinite(one.law.exponent):
            low, high = one.law.interval
            label += f": n^{one.law.exponent:.2f} [{low:.2f}, {high:.2f}]"
            law = one.law.prefactor * grid**one.law.exponent
            ax.plot(grid, law, color=color, alpha=0.6)
        for x, b in zip(at, one.boundaries, strict=True):
            if b.star == 0 or np.isinf(b.star):
                mark, y = ("v", lowest) if b.star == 0 else ("^", highest)
                ax.plot(x, y, mark, color=color, markersize=8)
            elif np.isfinite(b.star):
                low = max(b.interval[0], lowest / 1.3)
                high = min(b.interval[1], highest * 1.3)
                ax.plot([x, x], [low, high], color=color)
                ax.plot(x, b.star, "o", color=color)
        ax.plot([], [], "o-", color=color, label=label)
    ax.plot(grid, grid, ":", color=style.FAINT, linewidth=1, label="d = n")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_ylim(lowest / 1.5, highest * 1.5)
    _plain_ticks(ax.xaxis, plan.widths)
    _plain_ticks(ax.yaxis, [d for d in plan.depths if d & (d - 1) == 0])
    ax.set_xlabel("width n")
    ax.set_ylabel(
        f"depth d* at which\n{MEASURES[plan.measure]} passes {plan.threshold:g}"
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def draw_levels(plan: Plan, found: Sequence[Found]):
    """The measure against depth, one panel a kind of network, one colour a width."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(3.6 * len(found), 3.6), dpi=style.DPI, layout="constrained"
    )
    axes = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(plan.widths)))
    colors = dict(zip(plan.widths, shades, strict=True))
    means = [v.mean for one in found for b in one.boundaries for v in b.levels]
    finite = [m for m in means if np.isfinite(m)] + [plan.threshold]
    bottom, top = min(finite) / 1.5, max(finite) * 1.5
    for ax, one in zip(axes, found, strict=True):
        for width, b in zip(one.widths, one.boundaries, strict=True):
            color = colors[width]
            x = [v.depth for v in b.levels if np.isfinite(v.mean)]
            y = [v.mean for v in b.levels if np.isfinite(v.mean)]
            ends = [v.interval for v in b.levels if np.isfinite(v.mean)]
            ax.plot(x, y, "o-", color=color, alpha=0.5, linewidth=0.8, markersize=4)
            for depth, (low, high) in zip(x, ends, strict=True):
                ends_y = [max(low, bottom / 9), min(high, top * 9)]
                ax.plot([depth, depth], ends_y, color=color, alpha=0.5, linewidth=1)
            off = [v.depth for v in b.levels if np.isinf(v.mean)]
            ax.plot(off, [top / 1.07] * len(off), "^", color=color, alpha=0.6)
        ax.axhline(plan.threshold, color=style.INK, linestyle=(0, (5, 2)), linewidth=1)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_ylim(bottom, top)
        _plain_ticks(ax.xaxis, [d for d in plan.depths if d & (d - 1) == 0])
        ax.set_title(one.name)
        ax.set_xlabel("depth d")
    _plain_ticks(axes[0].yaxis, None)
    axes[0].set_ylabel(MEASURES[plan.measure])
    for width, color in colors.items():
        axes[0].plot([], [], "o-", color=color, label=f"n = {width}")
    axes[0].legend()
    return figure


def _plain_ticks(axis, places) -> None:
    """Numbers as they are, not as powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    if places is not None:
        axis.set_ticks(list(places))
    else:
        axis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axis.set_minor_locator(NullLocator())
