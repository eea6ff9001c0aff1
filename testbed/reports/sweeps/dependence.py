"""Every measure against every setting that was varied."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.divergence.scaling import PowerLaw, log_medians, power_law
from testbed.reports import toolkit
from testbed.reports.sweeps.groups import (
    REPLICATES,
    SIZES,
    by_run,
    is_numeric,
    label_of,
    split,
    titled,
)
from testbed.reports.toolkit import style
from testbed.sweeps.gather import MEASURES, OF_ENSEMBLES, Table, varied_in
from testbed.sweeps.read_run import RATIO

_MOST_LINES = 12
_MOST_FIGURES = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """A measure along one setting, the others fixed.

    Attributes:
      fixed: the others, by dotted name.
      x: of the setting, increasing, (P,).
      y: of the networks at each, nan where there are fewer, (P, seeds).
    """

    fixed: dict[str, Any]
    x: np.ndarray
    y: np.ndarray

    def law(self) -> PowerLaw:
        """y = A x^a, fitted to medians."""
        return power_law(self.x, self.y)


def axes_of(networks: Table) -> list[str]:
    """Settings with several numbers, replicates left out.

    Where not depths but their ratios to widths form a grid with the widths, the ratio
    takes the place of depth.
    """
    names = [n for n in varied_in(networks) if n not in REPLICATES]
    names = [n for n in names if is_numeric(networks[n])]
    if set(SIZES) <= set(names):
        cells = networks[[*SIZES, RATIO]].drop_duplicates()
        widths, depths, ratios = cells.nunique()
        is_grid = ratios > 1 and len(cells) == widths * ratios
        if is_grid and len(cells) < widths * depths:
            names = [RATIO if n == "model.depth" else n for n in names]
    return names


def facets_of(networks: Table) -> list[str]:
    """Settings with several values that are not numbers, as the kind of network."""
    names = [n for n in varied_in(networks) if n not in REPLICATES]
    return [n for n in names if not is_numeric(networks[n])]


def measures_of(networks: Table) -> dict[str, str]:
    """The measures that have values, with titles; last what a search optimizes."""
    named = MEASURES | {"metric": "metric of the sweep"}
    known = {m: networks[m].notna().any() for m in named if m in networks}
    return {m: named[m] for m, there in known.items() if there}


def lines(networks: Table, axis: str, measure: str) -> list[Line]:
    """A `Line` for every combination of the other settings."""
    others = [n for n in (*facets_of(networks), *axes_of(networks)) if n != axis]
    parts = split(networks, others)
    return [_line(fixed, part, axis, measure) for fixed, part in parts]


def are_lines(found: Sequence[Line]) -> bool:
    """Whether points share their other settings: a grid, and not a random search."""
    points = sum(len(line.x) for line in found)
    return points >= 2 * len(found)


def pictures(networks: Table) -> list[toolkit.Drawing]:
    """A figure for each combination of settings that are not numbers.

    A row an axis, a column a measure: lines along a grid, points of a random search.
    """
    if networks.empty or not axes_of(networks):
        return []
    facets = facets_of(networks)
    scattered = not any(
        are_lines(lines(networks, axis, "relative_distance"))
        for axis in axes_of(networks)
    )
    parts = split(networks, [] if scattered else facets)
    parts.sort(key=lambda part: -len(part[1]))
    drawn = []
    for fixed, part in parts[:_MOST_FIGURES]:
        if axes_of(part):
            number = f"-{len(drawn) + 1}" if drawn else ""
            drawn.append(_draw(part, label_of(fixed), f"dependence{number}"))
    return drawn


def _draw(networks: Table, label: str, name: str) -> toolkit.Drawing:
    axes, measures = axes_of(networks), measures_of(networks)
    figure, panels = toolkit.blank(
        len(axes), len(measures), 0.8 + 2.9 * len(axes), label
    )
    for row, axis in enumerate(axes):
        for column, (measure, title) in enumerate(measures.items()):
            ax = panels[row, column]
            found = lines(networks, axis, measure)
            if are_lines(found) and len(found) <= _MOST_LINES:
                _draw_lines(ax, found)
            else:
                _draw_points(ax, networks, axis, measure)
            _scales(ax, networks[axis])
            ax.set(xlabel=axis, ylabel=title)
        if len(panels[row, 0].get_legend_handles_labels()[0]) > 1:
            toolkit.legend_beside(panels[row, -1], of=panels[row, 0])
    title = titled("Against what was varied", label)
    return toolkit.Drawing(name, title, _CAPTION, figure)


def _draw_lines(ax, found: Sequence[Line]) -> None:
    """Medians with 95 % intervals over networks; never departed: a mark at the top."""
    medians = [log_medians(line.y) for line in found]
    ends = [np.exp(np.quantile(m.draws[:, m.used], (0.025, 0.975), 0)) for m in medians]
    top = _top(ax, np.concatenate([np.ravel(end) for end in ends]))
    colors = toolkit.shades(len(found))
    for place, (line, m, end) in enumerate(zip(found, medians, ends, strict=True)):
        color = colors[place]
        kind = {"color": color, "label": label_of(line.fixed), "markersize": 4}
        # Broken where nothing departed, and where nothing is known.
        ax.plot(line.x, np.exp(np.where(m.used, m.log_y, np.nan)), "o-", **kind)
        ax.vlines(line.x[m.used], *end, color=color, alpha=0.5, linewidth=1)
        _mark_never(ax, line.x[np.isinf(m.log_y)], top * 1.07**place, color)


def _draw_points(ax, networks: Table, axis: str, measure: str) -> None:
    """A point a run, its median over networks."""
    x = networks.groupby("run", sort=False)[axis].first().to_numpy(float)
    y = by_run(networks, measure).to_numpy(float)
    finite = np.isfinite(y)
    top = _top(ax, y[finite])
    ax.plot(x[finite], y[finite], "o", color=style.FINITE, markersize=4.5, alpha=0.8)
    _mark_never(ax, x[np.isinf(y)], top, style.FINITE)


def _top(ax, values: np.ndarray) -> float:
    """Scales the axis to finite values; returns the place of those that never were."""
    if not values.size:
        ax.set_yticks([])
        ax.set_title("never, in any network", fontsize=9)
        return 1.0
    if values.min() <= 0:
        return values.max() + 0.1 * np.ptp(values)
    low, high = values.min(), values.max()
    span = max(high / low, 1.05)
    ax.set_ylim(low / span**0.15, high * span**0.25)
    toolkit.log_axis(ax.yaxis)
    return high * span**0.15


def _mark_never(ax, x: np.ndarray, top: float, color: Any) -> None:
    kind = {"color": color, "markerfacecolor": "white", "markersize": 5}
    ax.plot(x, np.full(len(x), top), "^", **kind)


def _scales(ax, values: Table) -> None:
    """A logarithmic axis for positive numbers over a factor of 4 or more."""
    sizes = np.unique(values.dropna().to_numpy(float))
    few = len(sizes) <= 8 and all(len(f"{size:g}") <= 5 for size in sizes)
    is_log = sizes[0] > 0 and sizes[-1] >= 4 * sizes[0]
    if is_log:
        toolkit.log_axis(ax.xaxis)
    if few:
        toolkit.mark(ax.xaxis, sizes)


def _line(fixed: dict, networks: Table, axis: str, measure: str) -> Line:
    x, y = [], []
    if measure in OF_ENSEMBLES:
        networks = networks.drop_duplicates("run")
    by = networks.groupby(axis)
    most = int(by.size().max())
    for value, part in by:
        x.append(value)
        y.append(_padded(part[measure], most))
    return Line(fixed, np.array(x, float), np.stack(y))


def _padded(values: Table, size: int) -> np.ndarray:
    """Positive values, nan for others and up to `size`."""
    found = np.full(size, np.nan)
    found[: len(values)] = values.to_numpy(float)
    return np.where(found > 0, found, np.nan)


_CAPTION = toolkit.Caption(
    "Medians over networks (of logarithms), with 95 % intervals of the median where "
    "networks share their other settings; the spread over networks is one number of "
    "them all and has none. Open triangles: at least half of the networks never left "
    "their kernel within the run.",
    "At fixed depth, distances and drifts that fall with width n, between n^(−1/2) and "
    "1/n, and departures that come later.",
    "The settings along which a measure goes up or down; their slopes and rank "
    "correlations are in the tables.",
)
