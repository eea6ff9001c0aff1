"""What every page is made of: figures with captions, axes, HTML, files.

A page of runs, simulations, sweeps, boundaries or reproductions is drawn within
`style.in_style`, as `Drawing`s of figures from `blank`; `page.document` puts them into
one file and `page.add_page` writes that beside the pictures.  matplotlib is imported
when something is drawn, not before.
"""

from testbed.reports.toolkit.axes import (
    band,
    histogram,
    legend_below,
    legend_beside,
    log_axis,
    log_ticks,
    log_y,
    mark,
    nothing,
    points,
    positive,
    shades,
    size_axis,
)
from testbed.reports.toolkit.figure import Caption, Drawing, as_png, blank
from testbed.reports.toolkit.heat_map import heat_map

__all__ = [
    "Caption",
    "Drawing",
    "as_png",
    "band",
    "blank",
    "heat_map",
    "histogram",
    "legend_below",
    "legend_beside",
    "log_axis",
    "log_ticks",
    "log_y",
    "mark",
    "nothing",
    "points",
    "positive",
    "shades",
    "size_axis",
]
