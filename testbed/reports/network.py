"""Figures of where in the network things happen: its layers, its parameters."""

import numpy as np
from matplotlib.axes import Axes

from testbed.config import Config
from testbed.divergence import log_norm
from testbed.families import NoLaw, family
from testbed.kinds import KINDS
from testbed.laws import LayerLaw
from testbed.reports import captions, toolkit
from testbed.reports.record import Record, extent
from testbed.reports.time_axis import TimeAxis
from testbed.reports.toolkit import style
from testbed.settings import fitting, override

GROUPS = {"input": "#E69F00", "blocks": style.FINITE, "head": "#CC79A7"}


def layers(record: Record) -> toolkit.Drawing:
    """Log-norm, active fraction and gradient norm of every layer, start and end."""
    if record.foreign:
        reason = "The layers of a network that is not ours are not known."
        return toolkit.Drawing("layers", "Layer by layer", reason)
    figure, (axes,) = toolkit.blank(1, 3, 4.2, record.in_one_line)
    found = initial_law(record)
    law = None if isinstance(found, NoLaw) else found
    moments = [
        (0, "at t = 0", {"color": style.START, "linestyle": (0, (5, 2))}),
        (-1, f"at t = {record.times[-1]:.3g}", {"color": style.FINITE}),
    ]
    if len(record.times) == 1:
        moments = moments[:1]
    of_length = law and (law.log_norm_mean, law.log_norm_var)
    _by_layer(axes[0], record, moments, "squared_norm", log_norm, of_length)
    axes[0].set_title("Length of the hidden vector")
    axes[0].set_ylabel(r"$\log(|z_l|^2 / |z_0|^2)$")
    of_units = law and (law.active_fraction, law.active_fraction_var)
    _by_layer(axes[1], record, moments, "active_fraction", np.float64, of_units)
    axes[1].set(title="Active units", ylabel=r"share of units with $\phi > 0$")
    _gradient_norms(axes[2], record, moments)
    for ax in axes[:2]:
        ax.set_xlabel("layer l (0: the input's image)")
    axes[2].set_xlabel("residual block")
    drawn = [ax for ax in axes if ax.get_legend_handles_labels()[0]]
    toolkit.legend_below(figure, *drawn[:1])
    measured = record.at(0, "finite/layers/squared_norm") is not None
    missing = found.reason if isinstance(found, NoLaw) else ""
    caption = captions.layers(record, missing, measured)
    return toolkit.Drawing("layers", "Layer by layer", caption, figure)


def movement(record: Record) -> toolkit.Drawing:
    """How far each group of parameters has moved."""
    name, title = "movement", "How far the parameters move"
    prefix = "parameters/movement/"
    groups = [k[len(prefix) :] for k in record.metrics if k.startswith(prefix)]
    groups.sort(key=lambda g: list(GROUPS).index(g) if g in GROUPS else len(GROUPS))
    later = record.times > 0
    if not groups or not later.any():
        return toolkit.Drawing(
            name, title, "Only t = 0 was recorded, where nothing has moved."
        )
    figure, ((ax,),) = toolkit.blank(1, 1, 4.0, record.in_one_line)
    axis = TimeAxis(record.times[later])
    lines = ("-", (0, (5, 2)), (0, (1, 1)))
    for i, group in enumerate(groups):
        values = toolkit.positive(record.metrics[prefix + group][later])
        color = GROUPS.get(group, f"C{i % 10}" if record.foreign else style.FAINT)
        kind = {"color": color, "linestyle": lines[i % 3]}
        axis.networks(ax, values, label=group, **kind)
    toolkit.log_y(ax)
    axis.finish(ax)
    ax.set_ylabel(r"$|\theta_t - \theta_0| / |\theta_0|$")
    ax.legend(loc="best")
    ax.set_title("Relative change of the weights")
    return toolkit.Drawing(name, title, captions.movement(record), figure)


def initial_law(record: Record) -> LayerLaw | NoLaw:
    """What theory predicts of this run's networks at t = 0, or why it does not."""
    kind = record.config["model.kind"]
    if kind not in KINDS:  # of a version that has more of them
        return NoLaw(f"this version knows no networks of kind {kind}")
    model = override(Config(), fitting(Config(), record.config)).model
    return family(kind).layer_law(model, int(record.config["model.depth"]))


def _by_layer(ax: Axes, record: Record, moments, name: str, value, law) -> None:
    """A recorded quantity of every layer, as `value` of what was recorded, and its law.

    The law is mean and variance over networks, (layers,) each, or None.
    """
    drawn = False
    for place, label, kind in moments:
        recorded = record.known(place, f"finite/layers/{name}")
        if recorded is not None:
            values = np.ma.masked_invalid(value(recorded))  # log 0: dead, left out
            _over_networks(ax, values, label, kind, shade=place == 0)
            drawn = True
    if not drawn:
        return toolkit.nothing(ax, "not measured\n(kernel.probes is 0)")
    if law:
        _law(ax, *law)


def _gradient_norms(ax: Axes, record: Record, moments) -> None:
    ax.set(title="Gradient of the loss", ylabel="norm of the gradient in a block")
    drawn = False
    for place, label, kind in moments:
        norms = record.known(place, "finite/layers/gradient_norm")
        if norms is None or not (norms > 0).any():
            continue
        low, middle, high = extent(toolkit.positive(norms).T)
        block = np.arange(1, len(middle) + 1)
        marker = "o" if len(block) == 1 else None
        ax.plot(block, middle, label=label, marker=marker, **kind)
        toolkit.band(ax, block, low, high, kind["color"])
        drawn = True
    if not drawn:
        return toolkit.nothing(ax, "the blocks are not trained")
    toolkit.log_y(ax)


def _over_networks(
    ax: Axes, values: np.ndarray, label: str, kind: dict, shade: bool
) -> None:
    """Mean over networks and examples of (E, layers, m), with one sd over networks."""
    layer, mean = np.arange(values.shape[1]), values.mean((0, 2))
    marker = "o" if len(layer) == 1 else None
    ax.plot(layer, mean, label=label, marker=marker, **kind)
    if shade and len(values) > 1:
        sd = np.sqrt(values.var(0, ddof=1).mean(-1))
        toolkit.band(ax, layer, mean - sd, mean + sd, kind["color"])


def _law(ax: Axes, mean: np.ndarray, var: np.ndarray) -> None:
    layer, sd = np.arange(len(mean)), np.sqrt(var)
    kind = {"alpha": 0.13, "label": "theory, ± 1 sd"}
    toolkit.band(ax, layer, mean - sd, mean + sd, style.THEORY, **kind)
    kind = {"color": style.THEORY, "linewidth": 1.4, "linestyle": (0, (4, 1, 1, 1))}
    ax.plot(layer, mean, label="theory at t = 0, mean", **kind)
