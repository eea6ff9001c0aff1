"""The page of a boundary: d*(n) with intervals, the fitted laws, a table."""

import io
import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from testbed.errors import RunError
from testbed.reports import style
from testbed.reports.page import document, image, table
from testbed.runs.folder import plain
from testbed.sweeps.boundary import Found, Plan, describe
from testbed.sweeps.gather import MEASURES

_COLORS = (style.FINITE, style.LINEARIZED, style.INFINITE)
_CAPTION = (
    "Points: the depth at which the measure's geometric mean over networks passes the "
    "threshold, with 95 % intervals. An arrow: not passed up to the deepest network "
    "tried, or passed by the shallowest. Lines: fitted power laws d* = A n^a. Networks "
    "below a line are within the threshold of their kernel."
)


def write_boundary(plan: Plan, found: Sequence[Found], path: Path) -> Path:
    """Writes boundary.json, figures/boundary.png and report.html; returns the page.

    Raises:
      RunError: they cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(style.RC):
        png = io.BytesIO()
        FigureCanvasAgg(_draw(plan, found)).print_png(png)
    rows = [
        {
            "network": one.name,
            "width": width,
            "star": b.star,
            "low": b.interval[0],
            "high": b.interval[1],
            "depths": b.depths,
            "networks": b.seeds,
            "violations": len(b.violations),
        }
        for one in found
        for width, b in zip(one.widths, one.boundaries, strict=True)
    ]
    laws = [
        {
            "network": one.name,
            "exponent": one.law.exponent,
            "interval": one.law.interval,
        }
        for one in found
    ]
    try:
        (path / "figures").mkdir(parents=True, exist_ok=True)
        (path / "figures" / "boundary.png").write_bytes(png.getvalue())
        text = json.dumps(plain({"rows": rows, "laws": laws}), indent=2)
        (path / "boundary.json").write_text(text + "\n")
        page = path / ".report.html"
        page.write_text(_page(plan, found, png.getvalue()), "utf-8")
        os.replace(page, path / "report.html")  # whole or not at all
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None
    return path / "report.html"


def _draw(plan: Plan, found: Sequence[Found]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), dpi=style.DPI, layout="constrained")
    ax = figure.subplots()
    lowest, highest = plan.depths[0], plan.depths[-1]
    for one, color in zip(found, _COLORS, strict=False):
        n = np.array(one.widths, float)
        label = one.name
        if np.isfinite(one.law.exponent):
            low, high = one.law.interval
            label += f": n^{one.law.exponent:.2f} [{low:.2f}, {high:.2f}]"
            grid = np.geomspace(n.min() / 1.2, n.max() * 1.2, 50)
            law = one.law.prefactor * grid**one.law.exponent
            ax.plot(grid, law, color=color, alpha=0.6)
        for width, b in zip(n, one.boundaries, strict=True):
            if b.star == 0 or np.isinf(b.star):
                mark, at = ("v", lowest) if b.star == 0 else ("^", highest)
                ax.plot(width, at, mark, color=color, markersize=8)
            elif np.isfinite(b.star):
                low = max(b.interval[0], lowest / 2)
                high = min(b.interval[1], 2 * highest)
                ax.plot([width, width], [low, high], color=color)
                ax.plot(width, b.star, "o", color=color)
        ax.plot([], [], "o-", color=color, label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xlabel("width n")
    ax.set_ylabel(
        f"depth d* at which {MEASURES[plan.measure]}\npasses {plan.threshold:g}"
    )
    ax.legend()
    return figure


def _page(plan: Plan, found: Sequence[Found], png: bytes) -> str:
    title = f"Where does {MEASURES[plan.measure]} pass {plan.threshold:g}?"
    rows = [
        (one.name, str(width), describe(b), f"{len(b.violations)}")
        for one in found
        for width, b in zip(one.widths, one.boundaries, strict=True)
    ]
    laws = [(one.name, law_text(one)) for one in found]
    reading = "; ".join(f"{name}: {text}" for name, text in laws)
    head = f'<h1>{escape(title)}</h1><p class="reading">{escape(reading)}</p>'
    header = ["network", "width", "boundary", "pairs out of order"]
    settings = [(k, str(v)) for k, v in plan.settings.items()] or [("all", "defaults")]
    figure = (
        f"<figure>{image(png, title)}<figcaption><p>{escape(_CAPTION)}</p>"
        "</figcaption></figure>"
    )
    return document(
        title,
        head,
        [
            ("figure", "The boundary", figure),
            ("table", "By width", table(rows, header)),
            ("settings", "Settings of every run", table(settings)),
        ],
    )


def law_text(one: Found) -> str:
    """The fitted law in a few words."""
    if not np.isfinite(one.law.exponent):
        return f"no law: {one.law.reason}"
    low, high = one.law.interval
    return f"d* ~ n^{one.law.exponent:.2f} (95 %: {low:.2f} to {high:.2f})"
