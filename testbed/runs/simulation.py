"""Many networks at initialization beside their laws, from a config to a folder."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from testbed.config import SimulateConfig
from testbed.errors import RunError, UserError
from testbed.families import family, required
from testbed.laws.agreement import Agreement, Comparison, Sample, compare
from testbed.laws.norms import NormLaws
from testbed.runs.checkpoints import Checkpoints
from testbed.runs.console import Console
from testbed.runs.digests import Records
from testbed.runs.drawing import Report, draw
from testbed.runs.environment import machine, note_environment
from testbed.runs.finished import finished
from testbed.runs.folder import RunFolder, open_folder
from testbed.runs.memory import check_simulation_memory
from testbed.runs.tracker import Tracker
from testbed.sampling.histogram import Histogram
from testbed.sampling.log_norm import LayerMoments, LayerSampler, merge_layers

QUANTITIES = ("log_norm", "log_output")


def run_simulation(
    config: SimulateConfig, console: Console, report: Report | None = None
) -> dict[str, Any]:
    """Draws the networks of a validated config, or goes on; returns the summary.

    Args:
      config: validated.
      console: told what is done.
      report: draws a report of the folder, where `run.report` asks for one.

    Raises:
      UserError: a setting that cannot be honoured.
      RunError: the run had to stop; everything recorded is kept.
    """
    m = config.model
    check_simulation_memory(config)
    # Before there is a folder: they may refuse the config.
    laws = required(family(m.kind).norm_laws(m, config.n_out), m.kind)
    folder = open_folder(config, "simulate")
    try:
        stored = finished(folder) if folder.resumed else None
        if stored is None:
            stored = _run_in(folder, config, laws, console, report)
        else:
            console.say(f"{folder.path} is complete")
            missing = not (folder.path / "report.html").exists()
            if config.run.report and report and missing:
                draw(report, folder, console)
        _show(stored, folder.path, console)
        return stored
    except UserError:
        folder.discard_if_empty()
        raise
    finally:
        folder.close()


def _run_in(
    folder: RunFolder,
    config: SimulateConfig,
    laws: NormLaws,
    console: Console,
    report: Report | None,
) -> dict[str, Any]:
    started = time.perf_counter()
    m = config.model
    assert m.depth is not None  # a validated config has one
    note_environment(folder, machine())
    (folder.path / "summary.json").unlink(missing_ok=True)  # it is not over yet
    ratio = f"d/n = {m.depth / m.width:.3g}"
    weights = [f"{name} = {w:.4g}" for name, w in family(m.kind).weights(m).items()]
    console.print(
        f"Drawing {config.samples:,} networks at initialization: {m.kind}, width "
        f"{m.width}, depth {', '.join([f'{m.depth} ({ratio})', *weights])}\n"
        f"Recording in {folder.path}\n"
    )
    tracker = Tracker(config, folder, axis="layer")
    moments, histograms = _draw(folder, config, laws, console)
    _check_alive(config, moments)
    comparisons = {
        name: compare(_sample(getattr(moments, name), histograms[name]), choices)
        for name, choices in ((q, getattr(laws, q)) for q in QUANTITIES)
    }
    rows = layer_rows(config, moments)
    folder.write_rows(rows)
    for row in rows:
        tracker.log(row)
    arrays = {f"{q}/edges": histograms[q].edges for q in QUANTITIES}
    arrays |= {f"{q}/counts": histograms[q].counts for q in QUANTITIES}
    folder.write_arrays("histograms.npz", arrays)
    summary = summarize(config, rows, moments, comparisons)
    summary["seconds"] = {"run": time.perf_counter() - started}
    folder.conclude(summary)
    figures = []
    if config.run.report and report:
        figures = draw(report, folder, console)
    summary["seconds"]["total"] = time.perf_counter() - started
    folder.conclude(summary)
    tracker.finish(summary, figures)
    return summary


def _draw(
    folder: RunFolder, config: SimulateConfig, laws: NormLaws, console: Console
) -> tuple[LayerMoments, dict[str, Histogram]]:
    """Draws all networks, a call of the program at a time, saving as it goes."""
    net = family(config.model.kind).network(config.model, config.n_out)
    sampler = LayerSampler(net, config.antithetic)
    key = jax.random.key(config.seed)
    histograms: dict[str, Histogram] = {}
    seconds = config.run.checkpoint_seconds
    checkpoints = Checkpoints(folder.checkpoints, seconds, folder.records)
    done, moments = 0, None
    if folder.resumed:
        blank = {str(name): Histogram.blank() for name in QUANTITIES}
        like = _state(LayerMoments.zeros(config.model.depth or 0), blank)
        found = checkpoints.restore(like, lambda _, told: _is_of(folder, told))
        if found is not None:
            done, state = found
            moments = state["moments"]
            histograms = {
                name: Histogram(state["edges"][name], state["counts"][name])
                for name in QUANTITIES
            }
        console.say(f"resuming at network {done:,}")
    with console.progress(config.samples, done, "drawing", "network") as progress:
        for now, part, ends in sampler.chunks(key, config.samples, done):
            moments = part if moments is None else merge_layers(moments, part)
            for name in QUANTITIES:
                if name not in histograms:
                    choices = getattr(laws, name).values()
                    histograms[name] = Histogram.covering(choices, ends[name])
                histograms[name].add(ends[name])
            folder.check_there()
            checkpoints.save_if_due(now, _state(moments, histograms))
            progress(now)
    checkpoints.close()
    assert moments is not None
    return moments, histograms


def _is_of(folder: RunFolder, records: Records | None) -> bool:
    """Whether a checkpoint is of this run's settings, as far as it says."""
    return records is None or records.settings == folder.records.settings


def _state(moments: LayerMoments, histograms: dict[str, Histogram]) -> dict[str, Any]:
    return {
        "moments": moments,
        "edges": {name: histograms[name].edges for name in QUANTITIES},
        "counts": {name: histograms[name].counts for name in QUANTITIES},
    }


def _check_alive(config: SimulateConfig, moments: LayerMoments) -> None:
    alive = int(min(moments.log_norm.count[-1], moments.log_norm.groups[-1]))
    if alive < 3:  # a variance and its error need as many
        raise RunError(
            f"only {alive} of {config.samples} networks are alive at the last layer; "
            "raise samples, or model.width"
        )


def _sample(moments, histogram: Histogram) -> Sample:
    last = lambda a: float(np.atleast_1d(a)[-1])
    return Sample.of_histogram(
        histogram.edges,
        histogram.counts,
        mean=last(moments.mean),
        mean_se=last(moments.mean_se),
        var=last(moments.var),
        var_se=last(moments.var_se),
    )


def layer_rows(config: SimulateConfig, moments: LayerMoments) -> list[dict[str, Any]]:
    """One row a layer: measured, and what theory has for it."""
    m = config.model
    assert m.depth is not None
    kind = family(m.kind)
    law = required(kind.layer_law(m, m.depth + 1), m.kind)
    layers = np.arange(m.depth + 1)
    columns: dict[str, np.ndarray] = {"alive": moments.log_norm.count}
    for name in ("log_norm", "activation_ratio", "active_fraction"):
        seen = getattr(moments, name)
        columns |= {
            f"{name}/mean": seen.mean,
            f"{name}/mean_se": seen.mean_se,
            f"{name}/var": seen.var,
            f"{name}/var_se": seen.var_se,
        }
    columns["log_norm/skewness"] = moments.log_norm.skewness
    columns["log_norm/kurtosis"] = moments.log_norm.kurtosis
    columns |= {
        "log_norm/law/mean": law.log_norm_mean,
        "log_norm/law/var": law.log_norm_var,
        "activation_ratio/law": law.activation_ratio,
        "active_fraction/law": law.active_fraction,
    }
    gaussian = required(kind.width_law(m, layers), m.kind)
    columns["log_norm/gaussian/mean"] = gaussian.mean()
    columns["log_norm/gaussian/var"] = gaussian.var()
    return [
        {"layer": int(layer), **{k: float(v[layer]) for k, v in columns.items()}}
        for layer in layers
    ]


def summarize(
    config: SimulateConfig,
    rows: list[dict[str, Any]],
    moments: LayerMoments,
    comparisons: dict[str, Comparison],
) -> dict[str, Any]:
    """What the simulation comes to."""
    m, last = config.model, rows[-1]
    quantities = {}
    for name, comparison in comparisons.items():
        seen = getattr(moments, name)
        quantities[name] = {
            "count": int(np.atleast_1d(seen.count)[-1]),
            **{
                key: float(np.atleast_1d(getattr(seen, key))[-1])
                for key in ("mean", "mean_se", "var", "var_se", "skewness", "kurtosis")
            },
            "laws": {law: _plain(a) for law, a in comparison.laws.items()},
            "nearest": comparison.nearest,
            "decided": bool(comparison.decided),
            "verdict": comparison.verdict,
        }
    active = {}
    for name in ("active_fraction", "activation_ratio"):
        row = rows[-2] if len(rows) > 1 else last  # the last layer that a block sees
        active[name] = {
            "layer": row["layer"],
            "mean": row[f"{name}/mean"],
            "mean_se": row[f"{name}/mean_se"],
            "law": row[f"{name}/law"],
        }
    depth = m.depth or 0
    summary = {
        "status": "done",
        "samples": config.samples,
        "dead": int(round(moments.log_norm.count[0] - moments.log_norm.count[-1])),
        "width": m.width,
        "depth": depth,
        "depth_over_width": depth / m.width,
        "quantities": quantities,
        "hypoactivation": active,
    }
    summary["reading"] = (
        f"{m.kind}, width {m.width}, depth {depth} (d/n = {depth / m.width:.3g}): "
        f"log(|z_d|^2 / |z_0|^2) {comparisons['log_norm'].verdict}."
    )
    return summary


def _plain(found: Agreement) -> dict[str, Any]:
    keys = ("mean", "mean_z", "var", "var_z", "ks", "ks_noise", "ks_p")
    plain: dict[str, Any] = {key: float(getattr(found, key)) for key in keys}
    return plain | {"quantiles": {f"{q:g}": v for q, v in found.quantiles.items()}}


def _show(summary: dict[str, Any], path: Path, console: Console) -> None:
    from testbed.runs.simulation_table import tables

    for table in tables(summary):
        console.print(table)
    console.print(f"\n{summary['reading']}")
    report = path / "report.html"
    console.print(f"Report: {report}" if report.exists() else f"Records: {path}")
