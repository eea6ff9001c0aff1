"""One figure of a page: what it is called, what it says, the picture itself."""

import dataclasses
import functools
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.reports.toolkit import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Caption:
    """Three short texts, for someone who sees the figure for the first time.

    In these texts Θ_t and n^2 become an index and a power on the page.

    Attributes:
      shown: what is drawn, and how.
      expected: what theory expects of it; "" if the page says so elsewhere.
      look_for: where to look first.
    """

    shown: str
    expected: str = ""
    look_for: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
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
    figure: "Figure | None" = None

    @functools.cached_property
    def png(self) -> bytes:
        """The picture; b"" if there is none."""
        return b"" if self.figure is None else as_png(self.figure)


def blank(
    rows: int, columns: int, height: float, note: str = "", **shared: Any
) -> "tuple[Figure, np.ndarray]":
    """An empty figure; call it within `style.in_style`.

    Args:
      rows: of panels.
      columns: of panels; from the fourth on they make the figure wider.
      height: in inches.
      note: what all panels share, small, on top.
      **shared: `sharex`, `sharey`.

    Returns:
      The figure and its axes, (rows, columns).
    """
    from matplotlib.figure import Figure

    size = (max(style.WIDTH_INCHES, 3.2 * columns), height)
    figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
    if note:
        figure.suptitle(note, x=0.012, ha="left", fontsize=8.5, color=style.FAINT)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def as_png(figure: "Figure") -> bytes:
    """The figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    png = io.BytesIO()
    with style.in_style():
        FigureCanvasAgg(figure).print_png(png)  # savefig would draw it twice
    return png.getvalue()
