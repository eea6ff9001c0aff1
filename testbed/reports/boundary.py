"""The page of a boundary: d*(n) and its laws, the depths measured, what it all means.

boundary.json holds the same: under "boundaries" one entry a network and width, under
"laws" the fits, under "settings" what was asked for.  A number that is not one is a
word there: "beyond" is past every depth of the grid (or, of a measure, past every
number, as that of a network that diverged), "below" before every depth, "unknown"
what nothing is known of.  A width at which a run failed has an "error" alone.
"""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from testbed.divergence.boundary import Boundary
from testbed.divergence.scaling import LEAST_POINTS
from testbed.families import family
from testbed.reports.boundary_figures import boundary, levels
from testbed.reports.toolkit import Drawing, page, style
from testbed.sweeps.boundary import Found, Plan, end_text, law_text
from testbed.sweeps.gather import MEASURES

_EXPECTED = {
    "resnet": "d* grows like n: with a fixed branch, corrections to the kernel go as "
    "d/n",
    "balanced": "d* grows like n, as for resnet",
    "balanced_scaled": "no boundary that grows like n: corrections are O(1/n) at every "
    "depth",
}
_MEANING = {
    "relative_distance": (
        "At the end of training, the distance on the test set between a network and "
        "its linearization at initialization (the same network with its tangent kernel "
        "held fixed), divided by how far the outputs moved: 0 is a network that its "
        "initial kernel describes, 1 one that went elsewhere altogether."
    ),
    "kernel_drift": (
        "|Θ_t − Θ_0| / |Θ_0| at the end of training: how far the network's tangent "
        "kernel moved from its initial value."
    ),
    "departure_time": (
        "The first time t = learning rate × step at which a network is further from "
        "its linearization than measure.tolerance. It falls as kernels get worse: "
        "depths beyond d* depart earlier than the threshold."
    ),
}


def write_boundary(plan: Plan, found: Sequence[Found], path: Path) -> Path:
    """Writes boundary.json, figures/*.png and report.html; returns the page.

    Raises:
      RunError: they cannot be written.
    """
    with style.in_style():
        drawings = [draw(plan, found) for draw in (boundary, levels)]
    text = json.dumps(record(plan, found), indent=2, allow_nan=False) + "\n"
    with page.report_files(path) as files:
        files.write(path / "boundary.json", text.encode())
        page.add_page(files, path, _page(plan, found, drawings), drawings)
    return path / "report.html"


def record(plan: Plan, found: Sequence[Found]) -> dict[str, Any]:
    """What boundary.json holds."""
    boundaries = [
        {"network": one.name, "width": width, **_entry(b)}
        for one in found
        for width, b in zip(one.widths, one.boundaries, strict=True)
    ]
    boundaries += [
        {"network": one.name, "width": width, "error": error}
        for one in found
        for width, error in one.failed.items()
    ]
    laws = [
        {
            "network": one.name,
            "exponent": _number(one.law.exponent),
            "interval": [_number(end) for end in one.law.interval],
            "prefactor": _number(one.law.prefactor),
            "widths_used": one.law.points,
            "reason": one.law.reason,
        }
        for one in found
    ]
    settings = {
        "measure": plan.measure,
        "threshold": plan.threshold,
        "depths": list(plan.depths),
        "seeds": plan.seeds,
        "most_seeds": plan.most_seeds,
        "settings": dict(plan.settings),
    }
    return {"settings": settings, "boundaries": boundaries, "laws": laws}


def _entry(b: Boundary) -> dict[str, Any]:
    return {
        "star": _place(b.star),
        "interval": [_place(end) for end in b.interval],
        "bracket": [_place(end) for end in b.bracket],
        "networks": b.seeds,
        "unknown_depths": list(b.missing),
        "out_of_order": [list(pair) for pair in b.violations],
        "levels": [
            {
                "depth": level.depth,
                "mean": _number(level.mean),
                "interval": [_number(end) for end in level.interval],
                "networks": level.seeds,
                "at_infinity": level.infinite,
            }
            for level in b.levels
        ],
    }


def _place(depth: float) -> float | str:
    return "below" if depth == 0 else _number(depth)


def _number(value: float) -> float | str:
    if math.isnan(value):
        return "unknown"
    return "beyond" if math.isinf(value) else value


def _page(plan: Plan, found: Sequence[Found], drawings: Sequence[Drawing]) -> str:
    title = f"Where does {MEASURES[plan.measure]} pass {plan.threshold:g}?"
    networks = sum(b.seeds for one in found for b in one.boundaries)
    few, most = plan.seeds, plan.most_seeds
    at_a_depth = f"{few} to {most}" if most > few else f"{few}"
    note = f"{networks} networks trained, {at_a_depth} at a depth."
    reading = ". ".join(f"{one.name}: {_reading(one)}" for one in found)
    parts = [
        ("meaning", "What was asked", _meaning(plan, found)),
        ("figures", "Figures", page.figures(drawings)),
        ("table", "By width", _tables(plan, found)),
        ("settings", "Settings", _settings(plan)),
    ]
    return page.document(title, page.heading(title, [note], f"{reading}."), parts)


def _reading(one: Found) -> str:
    failed = "".join(f"; failed at width {width}" for width in one.failed)
    return _found_text(one) + failed


def _found_text(one: Found) -> str:
    if not one.boundaries:
        return "no boundary found"
    if np.isfinite(one.law.exponent):
        return law_text(one)
    if all(math.isinf(b.star) for b in one.boundaries):
        return "no boundary: the threshold is not passed at any depth tried"
    if all(b.star == 0 for b in one.boundaries):
        return "the threshold is passed at every depth tried"
    stars = [
        f"{_star_text(b)} at width {width}"
        for width, b in zip(one.widths, one.boundaries, strict=True)
    ]
    few = f"a power law needs {LEAST_POINTS} widths with both ends bounded"
    return f"d* = {', '.join(stars)}; {few}"


def _star_text(b: Boundary) -> str:
    return "unknown" if math.isnan(b.star) else end_text(b.star)


def _meaning(plan: Plan, found: Sequence[Found]) -> str:
    models = {
        one.name: plan.config(one.name, plan.widths[0], plan.depths[0]).model
        for one in found
    }
    kinds = page.definitions(
        (name, f"{family(model.kind).formula(model)}. Expected: {_EXPECTED[name]}.")
        for name, model in models.items()
    )
    phi = ", ".join(sorted({model.activation for model in models.values()}))
    side = "above" if plan.rises else "below"
    text = (
        f"<p>{escape(_MEANING[plan.measure])}</p><p>For each width n, d* is the depth "
        f"at which this is {plan.threshold:g}; deeper networks are {side} it. Depths "
        "are tried by bisection, with as many networks as it takes to tell the side. A "
        "network counts as beyond the threshold if it or its linearization diverged. "
        "Where a learning rate is too high for deep networks, the boundary is one of "
        "divergence: see the warnings on the console and compare with a lower "
        "train.lr_fraction.</p>"
    )
    return f"{text}<p>A block, z to z', with φ = {phi}:</p>{kinds}"


def _tables(plan: Plan, found: Sequence[Found]) -> str:
    rows = []
    for one in found:
        for width, b in zip(one.widths, one.boundaries, strict=True):
            missing = ", ".join(map(str, b.missing)) or "none"
            pairs = ", ".join(f"{s} > {d}" for s, d in b.violations) or "none"
            known = sum(level.seeds for level in b.levels)
            infinite = sum(level.infinite for level in b.levels)
            size = map(str, (b.depths, b.seeds, b.seeds - known, infinite))
            place = (_star_text(b), *map(end_text, b.interval))
            rows.append((one.name, str(width), *place, *size, missing, pairs))
        rows += [(one.name, str(width), "failed", *[""] * 8) for width in one.failed]
    infinite = "diverged" if plan.rises else "never departed"
    header = ["network", "width n", "d*", "95 % from", "to", "depths tried"]
    header += ["networks", "of them unknown", infinite]
    header += ["depths with nothing known", "depths out of order"]
    lines = [f"{one.name}: {law_text(one)}" for one in found]
    for one in found:
        for width, error in one.failed.items():
            lines.append(f"{one.name}, width {width}: failed: {error}")
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    note = (
        '<p class="note">beyond: past every depth tried; below: before every depth '
        "tried. Unknown: outputs that did not move. Depths out of order contradict the "
        "assumption that the measure goes one way with depth: there the boundary is "
        "not a single depth.</p>"
    )
    return f"{page.table(rows, header)}{note}<ul>{items}</ul>"


def _settings(plan: Plan) -> str:
    config = plan.config(plan.networks[0], plan.widths[0], plan.depths[0])
    t = config.train
    rate = f"{t.lr:g}" if t.lr is not None else f"{t.lr_fraction:g} × critical"
    rows = [
        ("data", f"{config.data.name}, {config.data.train_size} training examples"),
        ("training", f"{t.optimizer}, {t.loss}, {t.steps} steps, learning rate {rate}"),
        ("depths that may be tried", ", ".join(map(str, plan.depths))),
        ("networks at a depth", f"{plan.seeds} to {plan.most_seeds}"),
        *((f"set {name}", str(value)) for name, value in plan.settings.items()),
    ]
    return page.table(rows)
