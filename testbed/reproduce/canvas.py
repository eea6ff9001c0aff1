"""Empty figures in the house's style, for reproductions to draw on."""

import numpy as np
from matplotlib.figure import Figure

from testbed.reports import style


def canvas(columns: int = 1, rows: int = 1, height: float = 3.8) -> tuple:
    """A figure and its axes, (rows, columns)."""
    size = (style.WIDTH_INCHES, height)
    figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
    axes: np.ndarray = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def histogram(ax, x: np.ndarray, bins: int = 80, **kind) -> None:
    """A density histogram of x between its 0.05 and 99.95 per cent quantiles."""
    low, high = np.quantile(x, [5e-4, 1 - 5e-4])
    places = np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(x, places)
    density = counts / np.diff(places) / len(x)
    ax.stairs(density, places, fill=True, alpha=0.45, **kind)
