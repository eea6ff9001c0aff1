"""The report of a simulation: densities, growth with depth, active units."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from testbed.config import SimulateConfig
from testbed.errors import UserError
from testbed.families import family, required
from testbed.files import together
from testbed.laws.norms import GAUSSIAN, LOG_GAUSSIAN
from testbed.reports import sections
from testbed.reports.record import environment
from testbed.reports.toolkit import Caption, Drawing, band, blank, log_axis, page, style
from testbed.runs.folder import RunFolder
from testbed.runs.simulation_table import TITLES, rows_of
from testbed.settings import changed, fitting, flatten, override

LABELS = {
    "log_norm": r"$\log(|z_d|^2 / |z_0|^2)$",
    "log_output": r"$\log |f|^2$",
}


def write_simulation_report(path: Path) -> list[Path]:
    """Draws the simulation in the folder `path`: figures/*.png and report.html.

    Returns:
      The PNG files, in the order of the page.

    Raises:
      UserError: `path` holds no finished simulation.
      Damaged: a file of it is not as it was recorded.
      OSError: it cannot be written.
    """
    path = Path(path)
    folder = RunFolder(path)
    config, summary = _config(folder), folder.read_json("summary.json")
    folder.remember()
    rows = folder.rows()
    if not summary or not rows:
        rule = "holds no finished simulation"
        raise UserError("run.dir", path, rule, "finish it with --run.resume")
    with style.in_style():
        drawings = [
            _density(config, folder.read_arrays("histograms.npz")),
            _layers(config, rows),
            _activity(config, rows),
        ]
    html = _page(config, environment(folder), summary, drawings)
    with together() as files:
        return page.add_page(files, path, html, drawings)


def _config(folder: RunFolder) -> SimulateConfig:
    stored = folder.read_json("config.json") or {}
    return override(SimulateConfig(), fitting(SimulateConfig(), stored))


def _in_one_line(config: SimulateConfig) -> str:
    m = config.model
    assert m.depth is not None
    size = f"depth {m.depth} (d/n = {m.depth / m.width:.3g})"
    weights = [f"{name} = {w:.4g}" for name, w in family(m.kind).weights(m).items()]
    said = ", ".join([m.kind, f"width {m.width}", size, *weights])
    return f"{said}; {config.samples:,} networks"


def _density(config: SimulateConfig, arrays: dict[str, np.ndarray]) -> Drawing:
    m = config.model
    assert m.depth is not None
    figure, axes = blank(2, 2, 6.2, _in_one_line(config))
    laws = required(family(m.kind).norm_laws(m, config.n_out), m.kind)
    for column, (name, label) in enumerate(LABELS.items()):
        edges, counts = arrays[f"{name}/edges"], arrays[f"{name}/counts"]
        choices = getattr(laws, name)
        places, density = _coarse(edges, counts)
        low, high = places[0], places[-1]
        span = [choices[GAUSSIAN].ppf(q) for q in (1e-3, 1 - 1e-3)]
        low, high = min(low, span[0]), max(high, span[1])
        x = np.linspace(low, high, 600)
        for row in (0, 1):
            ax = axes[row, column]
            ax.stairs(density, places, fill=True, color=style.START, alpha=0.5)
            for law, choice in choices.items():
                ax.plot(x, choice.pdf(x), label=law, **style.LAWS[law])
            ax.set_xlabel(label)
            ax.set_xlim(low, high)
        top = 1.15 * max(density.max(), np.max(choices[LOG_GAUSSIAN].pdf(x)))
        peak = float(np.max(choices[GAUSSIAN].pdf(x)))
        axes[0, column].set_ylim(0, max(top, min(peak * 1.05, 3 * top)))
        axes[0, column].set_ylabel("density")
        axes[0, column].legend(loc="best")
        least = np.min(density[density > 0], initial=float(density.max()) or 1e-6)
        axes[1, column].set_ylim(least / 2, 3 * max(peak, top))
        log_axis(axes[1, column].yaxis)
        axes[1, column].set_ylabel("density, log scale")
    caption = Caption(
        "Bars: the sampled networks. Solid: the log-Gaussian law, with nothing "
        "fitted. Dashed: the Gaussian law, that of infinite width at this depth. "
        "Below, the same on a logarithmic axis, where the tails show.",
        "The log-Gaussian law holds as depth and width grow together; it is a limit, "
        "and at small width the bars leave it in the tails.",
        "The bars on the solid curve.",
    )
    return Drawing("density", "Sampled networks and the two laws", caption, figure)


def _coarse(edges: np.ndarray, counts: np.ndarray, bins: int = 70):
    """A fine histogram as a density over some 70 bins where the sample is."""
    inner = counts[1:-1]
    seen = np.flatnonzero(inner)
    if not seen.size:  # all beyond the edges: one bin over all of them
        return edges[[0, -1]], np.zeros(1)
    step = max(1, (seen[-1] - seen[0] + 1) // bins)
    start = seen[0]
    places = edges[start : seen[-1] + 2 : step]
    ends = np.concatenate([[0], np.cumsum(inner)])[start : seen[-1] + 2 : step]
    return places, np.diff(ends) / np.diff(places) / counts.sum()


def _layers(config: SimulateConfig, rows: Sequence[dict[str, Any]]) -> Drawing:
    figure, (axes,) = blank(1, 2, 3.6, _in_one_line(config))
    for ax, what, label in zip(
        axes, ("mean", "var"), ("mean", "variance"), strict=True
    ):
        laws = {LOG_GAUSSIAN: "law", GAUSSIAN: "gaussian"}
        _by_layer(
            ax,
            seen=_column(rows, f"log_norm/{what}"),
            error=_column(rows, f"log_norm/{what}_se"),
            laws={k: _column(rows, f"log_norm/{v}/{what}") for k, v in laws.items()},
        )
        ax.set_ylabel(rf"{label} of $\log(|z_l|^2 / |z_0|^2)$")
    caption = Caption(
        "Mean and variance of log(|z_l|^2 / |z_0|^2) against the layer l, with two "
        "standard errors (mostly thinner than the line).",
        "The Gaussian law does not widen with depth; the log-Gaussian one does, at a "
        "rate per unit of d/n.",
        "Which of the two lines the sampled networks follow to the last layer.",
    )
    return Drawing("layers", "Growth with depth", caption, figure)


def _activity(config: SimulateConfig, rows: Sequence[dict[str, Any]]) -> Drawing:
    figure, (axes,) = blank(1, 2, 3.6, _in_one_line(config))
    n, names = config.model.width, ("active_fraction", "activation_ratio")
    for ax, name in zip(axes, names, strict=True):
        law = n * (0.5 - _column(rows, f"{name}/law"))
        _by_layer(
            ax,
            seen=n * (0.5 - _column(rows, f"{name}/mean")),
            error=n * _column(rows, f"{name}/mean_se"),
            laws={LOG_GAUSSIAN: law, GAUSSIAN: 0 * law},
        )
    axes[0].set_ylabel(r"$n\,(1/2 - $ share of active units$)$")
    axes[1].set_ylabel(r"$n\,(1/2 - |\phi(z_l)|^2 / |z_l|^2)$")
    caption = Caption(
        "How far below one half the share of active units and the share of the norm "
        "that passes the ReLU lie, in units of 1/n, with two standard errors, and what "
        "the laws have to first order in 1/n.",
        "A vanilla residual network is hypoactivated: the skip carries the effect from "
        "layer to layer until it saturates. Random signs (balanced) remove it.",
        "Whether the sampled networks rise with the log-Gaussian law, or stay at zero.",
    )
    return Drawing("activity", "Active units", caption, figure)


def _by_layer(ax, seen: np.ndarray, error: np.ndarray, laws: dict[str, Any]) -> None:
    """What was sampled at every layer, with two standard errors, and its laws."""
    layer = np.arange(len(seen))
    band(ax, layer, seen - 2 * error, seen + 2 * error, style.FINITE)
    ax.plot(layer, seen, color=style.FINITE, label="sampled", linewidth=3)
    for law, y in laws.items():
        ax.plot(layer, y, label=law, **style.LAWS[law])
    ax.set_xlabel("layer $l$")
    ax.legend(loc="best")


def _column(rows: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], float)


def _page(
    config: SimulateConfig,
    found: dict[str, Any],
    summary: dict[str, Any],
    drawings: Sequence[Drawing],
) -> str:
    question = "Which law do these networks follow at initialization?"
    head = page.heading(question, [_in_one_line(config)], summary["reading"])
    differing = changed(config, SimulateConfig())
    differing.pop("model.ratio", None)  # the depth says it
    short, full = (
        sections.command("simulate.py", given) for given in (differing, flatten(config))
    )
    parts = [
        ("result", "Result", _results(summary)),
        ("settings", "Settings", sections.settings(differing, flatten(config))),
        ("figures", "Figures", page.figures(drawings)),
        ("words", "What the words mean", page.definitions(_WORDS)),
        ("environment", "Where it ran", sections.environment(found)),
        ("reproduce", "How to run it again", sections.again(short, full, found)),
    ]
    return page.document(_in_one_line(config), head, parts)


def _results(summary: dict[str, Any]) -> str:
    parts = [
        page.table([[c.replace("+-", "±") for c in row] for row in rows], header, title)
        for title, header, rows in rows_of(summary)
    ]
    for name, found in summary["quantities"].items():
        laws = found["laws"]
        title = TITLES[name].partition(",")[0]
        parts.append(
            f"<p>{page.mathematics(title)} {page.mathematics(found['verdict'])}.</p>"
        )
        levels = next(iter(laws.values()))["quantiles"]
        rows = [
            [f"{float(q):.1%}", f"{pair[0]:.3f}"]
            + [f"{law['quantiles'][q][1]:.3f}" for law in laws.values()]
            for q, pair in levels.items()
        ]
        inner = page.table(rows, ["quantile", "measured", *laws])
        parts.append(page.folded(f"quantiles of {title}", inner))
    return "".join(parts)


_WORDS = (
    (
        "z",
        "Deviation of what was measured from the law, in standard errors of the "
        "measurement. Large samples see a law's finite-width corrections: |z| above 3 "
        "beside a small KS distance means that the law is close, not exact.",
    ),
    (
        "KS distance",
        "Largest difference between the two distribution functions. Noise is what it "
        "stays below in 95 % of samples of this size drawn from the law itself.",
    ),
    (
        "log-Gaussian",
        "Depth and width go to infinity together (Li, Nica & Roy 2021).",
    ),
    (
        "Gaussian",
        "Width goes to infinity first: units are independent Gaussians at every depth.",
    ),
)
