"""The figures of a boundary: d*(n), and the measured depths it is read off from."""

from collections.abc import Sequence

import numpy as np

from testbed.reports import toolkit
from testbed.reports.toolkit import style
from testbed.sweeps.boundary import Found, Plan
from testbed.sweeps.gather import MEASURES

_COLORS = (style.FINITE, style.LINEARIZED, style.INFINITE)


def boundary(plan: Plan, found: Sequence[Found]) -> toolkit.Drawing:
    """d* against width, with intervals and fitted laws."""
    figure, ((ax,),) = toolkit.blank(1, 1, 4.5)
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
    toolkit.size_axis(ax.xaxis, sizes=plan.widths)
    toolkit.size_axis(ax.yaxis, sizes=_doublings(plan))
    ax.set_ylim(lowest / 1.5, highest * 1.5)
    ax.set_xlabel("width n")
    ax.set_ylabel(
        f"depth d* at which\n{MEASURES[plan.measure]} passes {plan.threshold:g}"
    )
    toolkit.legend_beside(ax)
    caption = toolkit.Caption(
        "Points: the depth d* at which the geometric mean of the measure over networks "
        "passes the threshold, with 95 % intervals. An arrow up: not passed up to the "
        "deepest network tried; down: passed by the shallowest. Full lines: fitted "
        "power laws d* = A n^a, where three widths or more are bounded. Dotted: d* = n "
        "for comparison. Below its line a network is described by its kernel.",
        "With a fixed branch d* grows like n, along the dotted line; with branches "
        "scaled by depth there is no boundary that grows like n.",
        "The slope of the points beside that of the dotted line.",
    )
    return toolkit.Drawing("boundary", "The boundary", caption, figure)


def levels(plan: Plan, found: Sequence[Found]) -> toolkit.Drawing:
    """The measure against depth, one panel a kind of network, one colour a width."""
    figure, (axes,) = toolkit.blank(1, len(found), 3.6, sharex=True, sharey=True)
    colors = dict(zip(plan.widths, toolkit.shades(len(plan.widths)), strict=True))
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
        ax.set_ylim(bottom, top)
        toolkit.size_axis(ax.xaxis, sizes=_doublings(plan))
        ax.set(title=one.name, xlabel="depth d")
    toolkit.log_axis(axes[0].yaxis)
    axes[0].set_ylabel(MEASURES[plan.measure])
    for width, color in colors.items():
        axes[0].plot([], [], "o-", color=color, label=f"n = {width}")
    toolkit.legend_beside(axes[-1], of=axes[0])
    caption = toolkit.Caption(
        "Every depth that was measured: geometric mean over its networks with 95 % "
        "interval; its colour is the width. Dashed: the threshold. d* is read off "
        "between the two depths beside it, along the thin line. A triangle at the "
        "edge: most networks left the finite numbers, or never departed.",
        "The measure goes one way with depth, and further from the kernel as depth "
        "grows; wider networks pass the threshold later.",
        "Intervals that cross the dashed line: there more networks would tell the side "
        "better.",
    )
    return toolkit.Drawing("levels", "What was measured", caption, figure)


def _doublings(plan: Plan) -> list[int]:
    return [depth for depth in plan.depths if depth & (depth - 1) == 0]
