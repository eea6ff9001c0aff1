"""The report of a simulation: densities, growth with depth, active units."""

import io
import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from testbed.config import SimulateConfig
from testbed.errors import UserError
from testbed.families import family, required
from testbed.files import together
from testbed.laws.norms import EXACT, GAUSSIAN, LOG_GAUSSIAN
from testbed.reports import style
from testbed.reports.page import add_page, document, image, mathematics, table
from testbed.runs.folder import RunFolder
from testbed.runs.parsing import Damaged
from testbed.settings import changed, fitting, flatten, override

LINES: dict[str, dict[str, Any]] = {
    LOG_GAUSSIAN: {"color": style.LINEARIZED, "linestyle": "-"},
    GAUSSIAN: {"color": style.INFINITE, "linestyle": (0, (5, 2))},
    EXACT: {"color": style.INK, "linestyle": (0, (1, 1))},
}
LABELS = {
    "log_norm": r"$\log(|z_d|^2 / |z_0|^2)$",
    "log_output": r"$\log |f|^2$",
}
CAPTIONS = {
    "density": "Bars: the sampled networks. Solid: the log-Gaussian law, with nothing "
    "fitted. Dashed: the Gaussian law, that of infinite width at this depth. Below, "
    "the same on a logarithmic axis, where the tails show. Look for: the bars on the "
    "solid curve. At small width they leave it in the tails, because the law is a "
    "limit.",
    "layers": "Mean and variance of log(|z_l|^2 / |z_0|^2) against the layer l, with "
    "two standard errors (mostly thinner than the line). The Gaussian law does not "
    "widen with depth; the log-Gaussian one does, at a rate per unit of d/n.",
    "activity": "How far below one half the share of active units and the share of the "
    "norm that passes the ReLU lie, in units of 1/n, with two standard errors. A "
    "vanilla residual network is hypoactivated: the skip carries the effect from layer "
    "to layer until it saturates. Random signs (balanced) remove it.",
}
TITLES = {
    "density": "Sampled networks and the two laws",
    "layers": "Growth with depth",
    "activity": "Active units",
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
    style.load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    folder = RunFolder(path)
    config, summary = _config(folder), folder.read_json("summary.json")
    folder.remember()
    rows = folder.rows()
    if not summary or not rows:
        rule = "holds no finished simulation"
        raise UserError("run.dir", path, rule, "finish it with --run.resume")
    pictures: dict[str, bytes] = {}
    with style.in_style():
        for name, draw in (
            ("density", _density),
            ("layers", _layers),
            ("activity", _activity),
        ):
            figure = draw(config, folder, rows)
            png = io.BytesIO()
            FigureCanvasAgg(figure).print_png(png)
            pictures[name] = png.getvalue()
    page = _page(config, folder, summary, pictures)
    with together() as files:
        return add_page(files, path, page, pictures)


def _config(folder: RunFolder) -> SimulateConfig:
    stored = folder.read_json("config.json") or {}
    return override(SimulateConfig(), fitting(SimulateConfig(), stored))


def _axes(columns: int, rows: int, height: float, title: str):
    from matplotlib.figure import Figure

    size = (style.WIDTH_INCHES, height)
    figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.suptitle(title, x=0.012, ha="left", fontsize=8.5, color=style.FAINT)
    return figure, axes


def _in_one_line(config: SimulateConfig) -> str:
    m = config.model
    assert m.depth is not None
    size = f"depth {m.depth} (d/n = {m.depth / m.width:.3g})"
    weights = [f"{name} = {w:.4g}" for name, w in family(m.kind).weights(m).items()]
    said = ", ".join([m.kind, f"width {m.width}", size, *weights])
    return f"{said}; {config.samples:,} networks"


def _density(config: SimulateConfig, folder: RunFolder, rows):
    m = config.model
    assert m.depth is not None
    figure, axes = _axes(2, 2, 6.2, _in_one_line(config))
    laws = required(family(m.kind).norm_laws(m, config.n_out), m.kind)
    arrays = folder.read_arrays("histograms.npz")
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
                ax.plot(x, choice.pdf(x), label=law, **LINES[law])
            ax.set_xlabel(label)
            ax.set_xlim(low, high)
        top = 1.15 * max(density.max(), np.max(choices[LOG_GAUSSIAN].pdf(x)))
        peak = float(np.max(choices[GAUSSIAN].pdf(x)))
        axes[0, column].set_ylim(0, max(top, min(peak * 1.05, 3 * top)))
        axes[0, column].set_ylabel("density")
        axes[0, column].legend(loc="best")
        axes[1, column].set_yscale("log")
        least = np.min(density[density > 0], initial=float(density.max()) or 1e-6)
        axes[1, column].set_ylim(least / 2, 3 * max(peak, top))
        axes[1, column].set_ylabel("density, log scale")
    return figure


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


def _layers(config: SimulateConfig, folder: RunFolder, rows):
    figure, axes = _axes(2, 1, 3.6, _in_one_line(config))
    layer = np.array([row["layer"] for row in rows])
    for ax, (what, label) in zip(
        axes[0], (("mean", "mean"), ("var", "variance")), strict=True
    ):
        get = lambda name: np.array([row[name] for row in rows], float)
        seen, error = get(f"log_norm/{what}"), get(f"log_norm/{what}_se")
        ax.fill_between(
            layer, seen - 2 * error, seen + 2 * error, color=style.FINITE, alpha=0.3
        )
        ax.plot(layer, seen, color=style.FINITE, label="sampled", linewidth=3)
        law, gaussian = get(f"log_norm/law/{what}"), get(f"log_norm/gaussian/{what}")
        ax.plot(layer, law, label=LOG_GAUSSIAN, **LINES[LOG_GAUSSIAN])
        ax.plot(layer, gaussian, label=GAUSSIAN, **LINES[GAUSSIAN])
        ax.set_xlabel("layer $l$")
        ax.set_ylabel(rf"{label} of $\log(|z_l|^2 / |z_0|^2)$")
        ax.legend(loc="best")
    return figure


def _activity(config: SimulateConfig, folder: RunFolder, rows):
    figure, axes = _axes(2, 1, 3.6, _in_one_line(config))
    layer = np.array([row["layer"] for row in rows])
    n = config.model.width
    for ax, (name, label) in zip(
        axes[0],
        (
            ("active_fraction", r"$n\,(1/2 - $ share of active units$)$"),
            ("activation_ratio", r"$n\,(1/2 - |\phi(z_l)|^2 / |z_l|^2)$"),
        ),
        strict=True,
    ):
        get = lambda what, name=name: np.array(
            [row[f"{name}/{what}"] for row in rows], float
        )
        seen, error = n * (0.5 - get("mean")), n * get("mean_se")
        low, high = seen - 2 * error, seen + 2 * error
        ax.fill_between(layer, low, high, color=style.FINITE, alpha=0.3)
        ax.plot(layer, seen, color=style.FINITE, label="sampled")
        law = n * (0.5 - get("law"))
        ax.plot(layer, law, color=style.LINEARIZED, label="theory, first order in 1/n")
        ax.axhline(0, color=style.INFINITE, linestyle=(0, (5, 2)), label=GAUSSIAN)
        ax.set_xlabel("layer $l$")
        ax.set_ylabel(label)
        ax.legend(loc="best")
    return figure


def _page(config, folder: RunFolder, summary, pictures) -> str:
    head = (
        "<h1>Which law do these networks follow at initialization?</h1>"
        f'<p class="note">{escape(_in_one_line(config))}</p>'
        f'<p class="reading">{escape(summary["reading"])}</p>'
    )
    figures = "".join(
        f"<h3>{i}. {escape(TITLES[name])}</h3><figure>{image(png, TITLES[name])}"
        f"<figcaption><p>{mathematics(CAPTIONS[name])}</p></figcaption></figure>"
        for i, (name, png) in enumerate(pictures.items(), 1)
    )
    return document(
        _in_one_line(config),
        head,
        [
            ("result", "Result", _results(summary)),
            ("figures", "Figures", figures),
            ("words", "What the words mean", _WORDS),
            ("settings", "Settings", _settings(config)),
            ("environment", "Where it ran", _environment(folder)),
        ],
    )


def _results(summary: dict[str, Any]) -> str:
    parts = []
    for name, found in summary["quantities"].items():
        laws = found["laws"]
        header = ["", "measured"] + [t for law in laws for t in (law, "z")]
        rows = []
        for label, key in (("mean", "mean"), ("variance", "var")):
            cells = [label, f"{found[key]:.4f} ± {found[f'{key}_se']:.4f}"]
            for law in laws.values():
                cells += [f"{law[key]:.4f}", f"{law[f'{key}_z']:+.1f}"]
            rows.append(cells)
        noise = next(iter(laws.values()))["ks_noise"]
        cells = ["KS distance", f"noise {noise:.4f}"]
        for law in laws.values():
            cells += [f"{law['ks']:.4f}", ""]
        rows.append(cells)
        parts.append(table(rows, header, _TABLES[name]))
        parts.append(f"<p>It {escape(found['verdict'])}.</p>")
        levels = next(iter(laws.values()))["quantiles"]
        rows = [
            [f"{float(q):.1%}", f"{pair[0]:.3f}"]
            + [f"{law['quantiles'][q][1]:.3f}" for law in laws.values()]
            for q, pair in levels.items()
        ]
        inner = table(rows, ["quantile", "measured", *laws])
        parts.append(f"<details><summary>quantiles</summary>{inner}</details>")
    return "".join(parts)


_TABLES = {
    "log_norm": "log(|z_d|²/|z_0|²), the hidden vector",
    "log_output": "log|f|², the outputs",
}
_WORDS = (
    "<dl><dt>z</dt><dd>Deviation of what was measured from the law, in standard errors "
    "of the measurement. Large samples see a law's finite-width corrections: |z| above "
    "3 beside a small KS distance means that the law is close, not exact.</dd>"
    "<dt>KS distance</dt><dd>Largest difference between the two distribution "
    "functions. Noise is what it stays below in 95 % of samples of this size drawn "
    "from the law itself.</dd>"
    "<dt>log-Gaussian</dt><dd>Depth and width go to infinity together (Li, Nica &amp; "
    "Roy 2021).</dd><dt>Gaussian</dt><dd>Width goes to infinity first: units are "
    "independent Gaussians at every depth.</dd></dl>"
)


def _settings(config: SimulateConfig) -> str:
    flat = flatten(config)
    rows = [(k, str(v)) for k, v in flat.items()]
    given = [
        f"--{k}={v}"
        for k, v in changed(config, SimulateConfig()).items()
        if not k.startswith(("run.", "wandb.")) and k != "model.ratio"
    ]
    command = " ".join(["python scripts/simulate.py", *given])
    everything = f"<details><summary>all settings</summary>{table(rows)}</details>"
    return f"<pre>{escape(command)}</pre>{everything}"


def _environment(folder: RunFolder) -> str:
    try:
        found = folder.read_json("environment.json") or {}
    except Damaged as damage:
        return f"<p>environment.json is damaged ({escape(damage.reason)}).</p>"
    return f"<pre>{escape(json.dumps(found, indent=2))}</pre>"
