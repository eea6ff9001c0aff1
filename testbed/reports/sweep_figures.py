"""Figures of a sweep: map, scaling, collapse, and the laws at initialization."""

from collections.abc import Sequence

import numpy as np

from testbed.reports import style
from testbed.reports.sweep_groups import BETA, EXPECTED, Group, candidates, collapses
from testbed.sweeps.gather import MEASURES


def _canvas(rows: int, columns: int, height: float):
    from matplotlib.figure import Figure

    size = (style.WIDTH_INCHES, height)
    figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _maps(groups: Sequence[Group]):
    """Heat maps over width and depth, a row a group, a column a measure."""
    groups = [g for g in groups if len(g.widths) > 1 or len(g.depths) > 1]
    names = [m for m in MEASURES if any(m in g.values for g in groups)]
    if not groups or not names:
        return None
    figure, axes = _canvas(len(groups), len(names), 1.0 + 3.2 * len(groups))
    for row, group in enumerate(groups):
        for column, name in enumerate(names):
            ax = axes[row, column]
            _map(figure, ax, group, name, groups)
            ax.set_title(MEASURES[name] if row == 0 else "")
            ax.set_xlabel("width n")
            label = f"{group.label}\n" if group.label else ""
            ax.set_ylabel(f"{label}depth d" if column == 0 else "")
    return figure


def _map(figure, ax, group: Group, name: str, groups: Sequence[Group]) -> None:
    from matplotlib.colors import LogNorm

    ax.grid(False)
    if name not in group.values:
        ax.text(0.5, 0.5, "not measured", ha="center", transform=ax.transAxes)
        return
    median = _median(group.values[name])
    known = [_median(g.values[name]) for g in groups if name in g.values]
    finite = np.concatenate([m[np.isfinite(m)] for m in known])
    x, y = _edges(group.widths), _edges(group.depths)
    if finite.size:
        low, high = finite.min(), finite.max()
        norm = LogNorm(low, high if high > low else 1.01 * low)
        shown = np.ma.masked_where(~np.isfinite(median), median)
        mesh = ax.pcolormesh(x, y, shown, norm=norm, cmap="viridis")
        figure.colorbar(mesh, ax=ax, shrink=0.85)
    for i, depth in enumerate(group.depths):
        for j, width in enumerate(group.widths):
            value = median[i, j]
            text = "never" if np.isinf(value) else f"{value:.2g}"
            if np.isnan(value):
                text = "–"
            elif np.isinf(value):
                box = (x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i]
                _hatch(ax, *box)
            ax.text(width, depth, text, ha="center", va="center", fontsize=7,
                    color="white" if np.isfinite(value) else style.INK)  # fmt: skip
    n, d = np.meshgrid(np.geomspace(x[0], x[-1], 60), np.geomspace(y[0], y[-1], 60))
    lines = ax.contour(
        n, d, d / n, levels=[0.1, 0.3, 1, 3, 10], colors="white", linewidths=0.8
    )
    ax.clabel(lines, fmt=lambda v: f"d/n={v:g}", fontsize=6.5)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(group.widths, [str(w) for w in group.widths])
    ax.set_yticks(group.depths, [str(d) for d in group.depths])
    ax.minorticks_off()


def _hatch(ax, corner, width, height) -> None:
    from matplotlib.patches import Rectangle

    box = Rectangle(
        corner, width, height, hatch="///", facecolor="#eeeeee", edgecolor="#bbbbbb"
    )
    ax.add_patch(box)


def _edges(sizes: Sequence[int]) -> np.ndarray:
    """Borders of cells around sizes on a logarithmic axis."""
    logs = np.log(np.asarray(sizes, float))
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.35, 0.35]))
    middle = (logs[1:] + logs[:-1]) / 2
    ends = [logs[0] - (middle[0] - logs[0]), logs[-1] + (logs[-1] - middle[-1])]
    return np.exp(np.concatenate([[ends[0]], middle, [ends[1]]]))


def _median(values: np.ndarray) -> np.ndarray:
    """Over known seeds, (D, W); nan where none is known, inf where half never did."""
    out = np.full(values.shape[:2], np.nan)
    for index in np.ndindex(*out.shape):
        known = values[index][~np.isnan(values[index])]
        if known.size:
            out[index] = np.median(known)
    return out


def _scaling(groups: Sequence[Group]):
    """Each measure against width at fixed depth, and against depth at fixed width."""
    names = [m for m in MEASURES if any(m in g.values for g in groups)]
    names = [m for m in names if m != "variance_ratio"]
    group = max(groups, key=lambda g: len(g.widths) * len(g.depths), default=None)
    if group is None or not names or len(group.widths) < 3:
        return None
    figure, axes = _canvas(2, len(names), 6.4)
    for column, name in enumerate(names):
        if name not in group.values:
            continue
        median = _median(group.values[name])
        for row, (x, lines, along) in enumerate(
            ((group.widths, group.depths, "d"), (group.depths, group.widths, "n"))
        ):
            ax = axes[row, column]
            shown = median if row == 0 else median.T
            colors = style_colors(len(lines))
            for size, values, color in zip(lines, shown, colors, strict=True):
                finite = np.isfinite(values)
                label = f"{along} = {size}"
                kind = {"color": color, "label": label}
                ax.plot(np.array(x)[finite], values[finite], "o-", **kind)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_xlabel("width n" if row == 0 else "depth d")
            ax.set_ylabel(MEASURES[name])
            ax.legend(fontsize=7, ncols=2)
    figure.suptitle(group.label, x=0.012, ha="left", fontsize=8.5, color=style.FAINT)
    return figure


def style_colors(count: int) -> list:
    """`count` colours from dark to light."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](v) for v in np.linspace(0, 0.9, count)]


def _largest(groups: Sequence[Group]) -> Group | None:
    grids = [g for g in groups if g.is_grid]
    return max(grids, key=lambda g: len(g.widths) * len(g.depths), default=None)


def _collapse(groups: Sequence[Group]):
    """Curves over width before, and over the best variable after."""
    group = _largest(groups)
    if group is None:
        return None
    found = {m: collapses(group, m) for m in EXPECTED if m in group.values}
    found = {name: ranking for name, ranking in found.items() if ranking}
    if not found:
        return None
    figure, axes = _canvas(2, len(found), 6.4)
    for column, (name, ranking) in enumerate(found.items()):
        median, best = _median(group.values[name]), ranking[0]
        before = np.broadcast_to(np.array(group.widths), median.shape)
        for row, (x, label) in enumerate(((before, "width n"), (best.x, best.name))):
            ax = axes[row, column]
            colors = style_colors(len(group.depths))
            for i, depth in enumerate(group.depths):
                finite = np.isfinite(median[i])
                line = "o-" if row == 0 else "o"
                kind = {"color": colors[i], "label": f"d = {depth}"}
                ax.plot(x[i][finite], median[i][finite], line, **kind)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel(label)
            ax.set_ylabel(MEASURES[name])
            if row == 0:
                ax.legend(fontsize=7, ncols=2)
            else:
                ax.set_title(f"quality {best.quality:.2g} (0: perfect, 1: none)")
    figure.suptitle(group.label, x=0.012, ha="left", fontsize=8.5, color=style.FAINT)
    return figure


def _theory(groups: Sequence[Group]):
    """Dispersion over seeds and measures against what the laws at t = 0 have."""
    group = _largest(groups)
    if group is None or BETA not in candidates(group):
        return None
    beta = candidates(group)[BETA]
    names = [m for m in EXPECTED if m in group.values]
    figure, axes = _canvas(1, len(names), 3.6)
    for column, name in enumerate(names):
        ax = axes[0, column]
        median = _median(group.values[name])
        for i, color in enumerate(style_colors(len(group.depths))):
            finite = np.isfinite(median[i])
            label = f"d = {group.depths[i]}"
            ax.plot(beta[i][finite], median[i][finite], "o", color=color, label=label)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(r"$\beta$, variance of the log-norm at $t = 0$")
        ax.set_ylabel(MEASURES[name])
        ax.legend(fontsize=7, ncols=2)
    figure.suptitle(group.label, x=0.012, ha="left", fontsize=8.5, color=style.FAINT)
    return figure


FIGURES = (
    (
        "map",
        "Divergence map",
        _maps,
        "Medians over networks. Hatched: at least half of the networks never left "
        "their kernel within the run. White lines: d/n. Look for: colours that follow "
        "the lines (d/n decides), or columns (width alone decides).",
    ),
    (
        "scaling",
        "Scaling with width and depth",
        _scaling,
        "Medians over networks on logarithmic axes. Top: against width at fixed depth; "
        "theory has distances and drift between n^(-1/2) and n^(-1). Bottom: against "
        "depth at fixed width. Exponents with intervals are in the table.",
    ),
    (
        "collapse",
        "Collapse",
        _collapse,
        "Top: against width. Bottom: the same points against the variable that "
        "collapses them best among 1/n, d/n, d/sqrt(n) (the same variable as d^2/n), d "
        "and beta of the log-Gaussian law. On one curve: that variable decides.",
    ),
    (
        "theory",
        "Against the log-Gaussian law",
        _theory,
        "The same measures against beta, the variance of the log-norm that the law of "
        "Li, Nica and Roy (2021) gives each network at initialization, nothing fitted. "
        "On one curve: what fluctuates at initialization decides departure.",
    ),
)
