"""Figures of where in the network things happen: its layers, its parameters."""

import numpy as np
from matplotlib.axes import Axes

from testbed.config import Config
from testbed.divergence import log_norm
from testbed.families import NoLaw, family
from testbed.kinds import KINDS
from testbed.laws import LayerLaw
from testbed.reports import captions, style
from testbed.reports.drawing import (
    Drawing,
    TimeAxis,
    legend_below,
    log_y,
    nothing,
    page,
    positive,
)
from testbed.reports.record import Record, extent
from testbed.settings import fitting, override

GROUPS = {"input": "#E69F00", "blocks": style.FINITE, "head": "#CC79A7"}


def layers(record: Record) -> Drawing:
    """Log-norm, active fraction and gradient norm of every layer, start and end."""
    figure, (axes,) = page(record, 1, 3, 4.2)
    found = initial_law(record)
    law = None if isinstance(found, NoLaw) else found
    moments = [
        (0, "at t = 0", {"color": style.START, "linestyle": (0, (5, 2))}),
        (-1, f"at t = {record.times[-1]:.3g}", {"color": style.FINITE}),
    ]
    if len(record.times) == 1:
        moments = moments[:1]
    _log_norms(axes[0], record, moments, law)
    _active_fractions(axes[1], record, moments, law)
    _gradient_norms(axes[2], record, moments)
    for ax in axes[:2]:
        ax.set_xlabel("layer l (0: the input's image)")
    axes[2].set_xlabel("residual block")
    drawn = [ax for ax in axes if ax.get_legend_handles_labels()[0]]
    if drawn:
        legend_below(figure, drawn[0])
    measured = record.at(0, "finite/layers/squared_norm") is not None
    missing = found.reason if isinstance(found, NoLaw) else ""
    caption = captions.layers(record, missing, measured)
    return Drawing("layers", "Layer by layer", caption, figure)


def movement(record: Record) -> Drawing:
    """How far each group of parameters has moved."""
    name, title = "movement", "How far the parameters move"
    prefix = "parameters/movement/"
    groups = [k[len(prefix) :] for k in record.metrics if k.startswith(prefix)]
    groups.sort(key=lambda g: list(GROUPS).index(g) if g in GROUPS else len(GROUPS))
    later = record.times > 0
    if not groups or not later.any():
        return Drawing(name, title, "Only t = 0 was recorded, where nothing has moved.")
    figure, ((ax,),) = page(record, 1, 1, 4.0)
    axis = TimeAxis(record.times[later])
    lines = ("-", (0, (5, 2)), (0, (1, 1)))
    for i, group in enumerate(groups):
        values = positive(record.metrics[prefix + group][later])
        kind = {"color": GROUPS.get(group, style.FAINT), "linestyle": lines[i % 3]}
        axis.networks(ax, values, label=group, **kind)
    log_y(ax)
    axis.finish(ax)
    ax.set_ylabel(r"$|\theta_t - \theta_0| / |\theta_0|$")
    ax.legend(loc="best")
    ax.set_title("Relative change of the weights")
    return Drawing(name, title, captions.movement(record), figure)


def initial_law(record: Record) -> LayerLaw | NoLaw:
    """What theory predicts of this run's networks at t = 0, or why it does not."""
    kind = record.config["model.kind"]
    if kind not in KINDS:  # of a version that has more of them
        return NoLaw(f"this version knows no networks of kind {kind}")
    model = override(Config(), fitting(Config(), record.config)).model
    return family(kind).layer_law(model, int(record.config["model.depth"]))


def _log_norms(ax: Axes, record: Record, moments, law: LayerLaw | None) -> None:
    ax.set_title("Length of the hidden vector")
    ax.set_ylabel(r"$\log(|z_l|^2 / |z_0|^2)$")
    drawn = False
    for place, label, kind in moments:
        squared = record.known(place, "finite/layers/squared_norm")
        if squared is not None:
            log = np.ma.masked_invalid(log_norm(squared))  # -inf: dead, left out
            _over_networks(ax, log, label, kind, shade=place == 0)
            drawn = True
    if not drawn:
        return nothing(ax, "not measured\n(kernel.probes is 0)")
    if law:
        _law(ax, law.log_norm_mean, law.log_norm_var)


def _active_fractions(ax: Axes, record: Record, moments, law: LayerLaw | None) -> None:
    ax.set_title("Active units")
    ax.set_ylabel(r"share of units with $\phi > 0$")
    drawn = False
    for place, label, kind in moments:
        active = record.known(place, "finite/layers/active_fraction")
        if active is not None:
            values = np.asarray(active, np.float64)
            _over_networks(ax, values, label, kind, shade=place == 0)
            drawn = True
    if not drawn:
        return nothing(ax, "not measured\n(kernel.probes is 0)")
    if law:
        _law(ax, law.active_fraction, law.active_fraction_var)


def _gradient_norms(ax: Axes, record: Record, moments) -> None:
    ax.set_title("Gradient of the loss")
    ax.set_ylabel("norm of the gradient in a block")
    drawn = False
    for place, label, kind in moments:
        norms = record.known(place, "finite/layers/gradient_norm")
        if norms is None or not (norms > 0).any():
            continue
        low, middle, high = extent(positive(norms).T)
        block = np.arange(1, len(middle) + 1)
        marker = "o" if len(block) == 1 else None
        ax.plot(block, middle, label=label, marker=marker, **kind)
        ax.fill_between(block, low, high, color=kind["color"], alpha=0.2, linewidth=0)
        drawn = True
    if not drawn:
        return nothing(ax, "the blocks are not trained")
    log_y(ax)


def _over_networks(
    ax: Axes, values: np.ndarray, label: str, kind: dict, shade: bool
) -> None:
    """Mean over networks and examples of (E, layers, m), with one sd over networks."""
    layer, mean = np.arange(values.shape[1]), values.mean((0, 2))
    marker = "o" if len(layer) == 1 else None
    ax.plot(layer, mean, label=label, marker=marker, **kind)
    if shade and len(values) > 1:
        sd = np.sqrt(values.var(0, ddof=1).mean(-1))
        band = {"color": kind["color"], "alpha": 0.2, "linewidth": 0}
        ax.fill_between(layer, mean - sd, mean + sd, **band)


def _law(ax: Axes, mean: np.ndarray, var: np.ndarray) -> None:
    layer, sd = np.arange(len(mean)), np.sqrt(var)
    band = {"color": style.THEORY, "alpha": 0.13, "linewidth": 0}
    ax.fill_between(layer, mean - sd, mean + sd, label="theory, ± 1 sd", **band)
    kind = {"color": style.THEORY, "linewidth": 1.4, "linestyle": (0, (4, 1, 1, 1))}
    ax.plot(layer, mean, label="theory at t = 0, mean", **kind)
