"""Figures of the tangent kernel: its change over time, its spectrum."""

import numpy as np
from matplotlib.axes import Axes

from testbed.divergence import alignment, top_eigenvalues
from testbed.reports import captions, toolkit
from testbed.reports.record import Record, extent
from testbed.reports.time_axis import TimeAxis
from testbed.reports.toolkit import style

_T, _0, _INF = r"\Theta_t", r"\Theta_0", r"\Theta_\infty"
_NO_PROBES = "No kernels were measured (kernel.probes is 0)."


def kernel(record: Record) -> toolkit.Drawing:
    """Change of the empirical kernel, its distance to the limit, its alignment."""
    name, title = "kernel", "How the tangent kernel moves"
    if "kernel/drift" not in record.metrics:
        return toolkit.Drawing(name, title, _NO_PROBES)
    figure, axes = toolkit.blank(2, 2, 6.4, record.in_one_line)
    known = ~np.isnan(record.metrics["kernel/drift"]).all(1)
    axis = TimeAxis(record.times[known])
    later = record.times[known] > 0
    finite, blue = style.PREDICTORS["finite"], style.FINITE

    def series(metric: str) -> np.ndarray:
        return record.metrics[metric][known]

    ax = axes[0, 0]
    label = rf"since t = 0: $|{_T} - {_0}| / |{_0}|$"
    axis.networks(ax, toolkit.positive(series("kernel/drift")), label=label, **finite)
    if "kernel/error_infinite" in record.metrics:
        label = rf"to the limit: $|{_T} - {_INF}| / |{_INF}|$"
        kind = style.PREDICTORS["infinite"]
        values = toolkit.positive(series("kernel/error_infinite"))
        axis.networks(ax, values, label=label, **kind)
    ax.set_title("Relative change of the kernel")

    ax = axes[0, 1]
    values = toolkit.positive(series("kernel/distance"))
    axis.networks(ax, values, label=rf"$1 - \cos({_T}, {_0})$", **finite)
    ax.set_title("Change of its shape, scale aside")

    toolkit.log_y(*axes[0])
    for ax in axes[0]:
        if ax.get_yscale() != "log":
            toolkit.nothing(
                ax, "no change" if later.any() else "only t = 0 was measured"
            )

    ax = axes[1, 0]
    axis.networks(ax, series("kernel/alignment"), label=f"${_T}$", color=blue)
    ax.set(title="Alignment with the targets", ylabel="from 0 (none) to 1")
    ntk, y = record.limits.get("ntk"), record.limits.get("y/train")
    if ntk is not None and y is not None:
        half = len(ntk) // len(record.splits)
        level = float(alignment(ntk[:half, :half], y[:half]))
        _limit_line(ax, level)

    ax = axes[1, 1]
    axis.networks(ax, series("kernel/top_eigenvalue"), label=f"${_T}$", color=blue)
    ax.set_title("Largest eigenvalue")
    if ntk is not None:
        _limit_line(ax, float(top_eigenvalues(ntk, 1)[0]))
    for ax in axes.flat:
        if ax.get_legend_handles_labels()[0]:
            axis.finish(ax, label=ax in axes[1])
            ax.legend(loc="best")
    return toolkit.Drawing(name, title, captions.kernel(record), figure)


def spectrum(record: Record) -> toolkit.Drawing:
    """Eigenvalues of the kernels on the probes."""
    name, title = "spectrum", "Spectrum of the tangent kernel"
    measured = record.measured("finite/kernel")
    if not measured:
        return toolkit.Drawing(name, title, _NO_PROBES)
    figure, (axes,) = toolkit.blank(1, 2, 4.3, record.in_one_line)
    first, last = measured[0], measured[-1]
    limit = record.limits.get("ntk")
    reference = None if limit is None else _descending(limit)[0]
    index = np.arange(1, len(_kernel(record, first)[0]) + 1)
    lines = [(first, style.START, (0, (5, 2))), (last, style.FINITE, "-")]
    for place, color, line in lines[: 1 if first == last else 2]:
        values = _descending(_kernel(record, place))
        floor = values[:, :1] * len(index) * _rounding(_kernel(record, place))
        low, middle, high = extent(np.where(values > floor, values, np.nan).T)
        label = f"at t = {record.times[place]:.3g}"
        kind = {"color": color, "linestyle": line, "label": label}
        _spectral_line(axes[0], index, low, middle, high, **kind)
        if reference is not None:
            below = toolkit.positive(reference)
            _spectral_line(
                axes[1], index, low / below, middle / below, high / below, **kind
            )
    if reference is not None:
        kind = style.PREDICTORS["infinite"] | {"label": f"${_INF}$, infinite width"}
        axes[0].plot(index, toolkit.positive(reference), **kind)
        axes[1].axhline(1, **kind)
    else:
        toolkit.nothing(axes[1], record.why_no_infinite or "limits.npz is missing")
    axes[0].set_title("Eigenvalues")
    axes[1].set_title("In units of the infinite network's")
    for ax in axes:
        toolkit.log_y(ax)
        ax.set_xlim(1 / 1.15, len(index) * 1.15)
        toolkit.log_axis(ax.xaxis)
        ax.set_xlabel("index, largest first")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="best")
    return toolkit.Drawing(name, title, captions.spectrum(record), figure)


def _limit_line(ax: Axes, level: float) -> None:
    kind = style.PREDICTORS["infinite"]
    ax.axhline(level, label=f"${_INF}$, infinite width", **kind)


def _kernel(record: Record, index: int) -> np.ndarray:
    found = record.known(index, "finite/kernel")
    assert found is not None  # the index comes from `measured`
    return found


def _descending(kernels: np.ndarray) -> np.ndarray:
    """Eigenvalues of (..., m, m), as (E, m), largest first."""
    values = top_eigenvalues(kernels, kernels.shape[-1])
    return values.reshape(-1, values.shape[-1])


def _rounding(kernels: np.ndarray) -> float:
    """Relative rounding error of the precision in which kernels were computed."""
    return float(np.finfo(kernels.dtype).eps)


def _spectral_line(ax: Axes, index, low, middle, high, **kind) -> None:
    ax.plot(index, middle, **kind)
    toolkit.band(ax, index, low, high, kind["color"])
