"""How figures look: one colour and one line for each predictor and law, everywhere.

Colours are Okabe and Ito's, which differ for every common kind of colour blindness;
predictors differ in their line as well.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from testbed.laws.norms import EXACT, GAUSSIAN, LOG_GAUSSIAN

FINITE, LINEARIZED, INFINITE = "#0072B2", "#D55E00", "#009E73"
INK, FAINT = "#222222", "#8A8A8A"
START, THEORY = "#56B4E9", "#444444"

PREDICTORS: dict[str, dict[str, Any]] = {
    "finite": {"color": FINITE, "linestyle": "-"},
    "linearized": {"color": LINEARIZED, "linestyle": (0, (5, 2))},
    "infinite": {"color": INFINITE, "linestyle": (0, (1, 1))},
}
"""Line of each predictor."""

PAIRS: dict[tuple[str, str], dict[str, Any]] = {
    ("finite", "linearized"): {"color": "#CC79A7", "linestyle": "-"},
    ("finite", "infinite"): {"color": START, "linestyle": (0, (5, 2))},
    ("linearized", "infinite"): {"color": "#E69F00", "linestyle": (0, (1, 1))},
}
"""Line of each distance between two predictors."""

LAWS: dict[str, dict[str, Any]] = {
    LOG_GAUSSIAN: {"color": LINEARIZED, "linestyle": "-"},
    GAUSSIAN: {"color": INFINITE, "linestyle": (0, (5, 2))},
    EXACT: {"color": INK, "linestyle": (0, (1, 1))},
}
"""Line of each law at initialization."""

WIDTH_INCHES = 10.0
DPI = 120

RC: dict[Any, Any] = {
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 9.5,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.usetex": False,
}
"""Settings of matplotlib while a report is drawn."""


def load_matplotlib() -> None:
    """Imports matplotlib, also where MPLBACKEND names a backend that is not there.

    Figures are files and need none, but the import itself would fail: a notebook's
    shell names the notebook's.  The variable stays, and counts where it can.
    """
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = named


@contextlib.contextmanager
def in_style() -> Iterator[None]:
    """Draws what is drawn inside of it with the settings of `RC`."""
    load_matplotlib()
    import matplotlib

    with matplotlib.rc_context(RC):
        yield
