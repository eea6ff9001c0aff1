"""What every figure of a sweep is made of."""

import io
from typing import Any, NamedTuple

import numpy as np

from testbed.reports import style


class Picture(NamedTuple):
    """A drawn figure: the name of its file, its title, its caption."""

    name: str
    title: str
    png: bytes
    caption: str


def canvas(rows: int, columns: int, height: float) -> tuple[Any, np.ndarray]:
    """A figure of the page's width or of 3.2 inches a column, and its axes."""
    from matplotlib.figure import Figure

    size = (max(style.WIDTH_INCHES, 3.2 * columns), height)
    figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def picture(name: str, title: str, figure: Any, caption: str) -> Picture:
    """Draws the figure; call it under matplotlib's settings of the house."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return Picture(name, title, png.getvalue(), caption)


def depth_colors(count: int) -> list:
    """`count` colours from dark to light."""
    import matplotlib

    return [matplotlib.colormaps["viridis"](v) for v in np.linspace(0, 0.9, count)]


def titled(title: str, label: str) -> str:
    """A title with what its networks share."""
    return f"{title}; {label}" if label else title


def note(figure: Any, label: str) -> None:
    """What the figure's networks share, above it."""
    if label:
        figure.suptitle(label, x=0.012, ha="left", fontsize=9, color=style.FAINT)


def size_axis(axis: Any, sizes) -> None:
    """Marks the sizes themselves on a logarithmic axis, and nothing else."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(sizes)))
    axis.set_ticklabels([f"{s:g}" for s in sizes])
    axis.set_minor_locator(NullLocator())


def log_ticks(axis: Any) -> None:
    """About four round numbers on a short logarithmic axis, powers of ten on a long."""
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        MaxNLocator,
        NullFormatter,
    )

    low, high = sorted(axis.get_view_interval())
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.array([])
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 3:
            break
    if len(ticks) < 3:
        ticks = MaxNLocator(4).tick_values(low, high)
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())
