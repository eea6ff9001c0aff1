"""Figures of what the three predictors say: losses, distances, single outputs."""

import numpy as np
from matplotlib.axes import Axes

from testbed.divergence import Departure
from testbed.reports import captions, toolkit
from testbed.reports.departures import departure_words, departures
from testbed.reports.record import Record, extent
from testbed.reports.time_axis import TimeAxis
from testbed.reports.toolkit import style

_FOLLOWED = 6  # examples in the figure of single outputs
_DRAWN = 30  # networks drawn as single lines, at most


def losses(record: Record) -> toolkit.Drawing:
    """Loss, and accuracy if there are classes, of the three predictors over time."""
    rows = 2 if record.has_labels else 1
    figure, axes = _panels(record, rows, 1 + 3.1 * rows)
    axis = TimeAxis(record.times)
    expected = expected_losses(record)
    for row, measure in enumerate(("loss", "accuracy")[:rows]):
        for ax, split in zip(axes[row], record.splits, strict=True):
            for who, kind in style.PREDICTORS.items():
                values = record.metrics.get(f"{who}/{measure}/{split}")
                if values is None:
                    continue
                label = "infinite, mean prediction" if who == "infinite" else who
                on_top = {"zorder": 3} if who == "finite" else {}
                axis.networks(ax, values, label=label, **kind, **on_top)
            if measure == "loss" and expected:
                label = "infinite, expected for one network"
                thin = {"color": style.INFINITE, "linewidth": 1.0}
                axis.plot(ax, expected[split], label=label, **thin)
            level = _posterior(record, measure)
            if split == "test" and level is not None:
                label = "infinite, exact NNGP regression"
                ax.axhline(level, color=style.FAINT, lw=1.0, ls="-.", label=label)
            ax.set_title(f"{measure.capitalize()}, {record.splits[split]}")
            axis.finish(ax, label=row == rows - 1)
    axes[0, 0].set_ylabel(_loss_unit(record))
    if rows > 1:
        axes[1, 0].set_ylabel("share classified right")
    most = _divergence_limit(record)
    toolkit.log_y(*axes[0], top=most)
    toolkit.legend_below(figure, axes[0, -1])
    caption = captions.losses(record, expected is not None, most is not None)
    return toolkit.Drawing("losses", "Loss while training", caption, figure)


def distances(record: Record) -> toolkit.Drawing:
    """Relative distances between predictors over time, and when they part."""
    name, title = "distances", "When the predictors part"
    later = record.times > 0
    if not later.any():
        reason = "Only t = 0 was recorded, where no distance has a unit."
        return toolkit.Drawing(name, title, reason)
    rows = 2 if record.has_infinite else 1
    figure, axes = _panels(record, rows, 1.2 + 2.9 * rows)
    axis = TimeAxis(record.times[later])
    for row in range(rows):
        for ax, split in zip(axes[row], record.splits, strict=True):
            for (one, other), kind in style.PAIRS.items():
                if (other == "infinite") != (row == 1):
                    continue
                values = record.metrics[f"distance/{one}_{other}/{split}/relative"]
                values = toolkit.positive(values[later])
                if row == 0 and values.shape[1] > 1:
                    for seed in values.T[:_DRAWN]:
                        thin = {"linewidth": 0.7, "alpha": 0.7}
                        axis.plot(ax, seed, **kind, **thin)
                label = f"{one} to {'infinite mean' if row else other}"
                axis.plot(ax, extent(values)[1], label=label, **kind)
            if row == 0:
                _mark_departures(ax, record, split)
            else:
                ax.set_title(f"To the infinite network's mean, {record.splits[split]}")
            axis.finish(ax, label=row == rows - 1)
        axes[row, 0].set_ylabel("relative distance")
        toolkit.log_y(*axes[row])
    toolkit.legend_below(figure, *axes[:, 0])
    return toolkit.Drawing(name, title, captions.distances(record), figure)


def ensemble(record: Record) -> toolkit.Drawing:
    """Outputs on a few test examples: each network, and the Gaussian process."""
    name, title = "ensemble", "Single outputs"
    if record.has_infinite:
        title += " against the Gaussian process"
    y = record.limits.get("y/test")
    if y is None or record.at(0, "finite/outputs/test") is None:
        missing = "The recorded arrays are missing."
        if "test" not in record.splits:
            missing = "There is no test set."
        return toolkit.Drawing(name, title, missing)
    picked = _examples(record)
    lines = -(-len(picked) // 3)
    figure, axes = toolkit.blank(
        lines, 3, 1.1 + 2.4 * lines, record.in_one_line, sharex=True, sharey=True
    )
    axis = TimeAxis(record.times)
    drawn = min(record.seeds, _DRAWN)
    finite, linearized = (
        record.over_time(f"{who}/outputs/test", np.s_[:drawn, picked])
        for who in ("finite", "linearized")
    )
    mean = record.over_time("infinite/outputs/test", np.s_[picked])
    variance = record.over_time("infinite/variance/test", np.s_[picked])
    usual = []  # sizes that are not those of a diverged predictor
    for place, example in enumerate(picked):
        ax, output = axes.flat[place], _output_of(record, example)
        if mean is not None and variance is not None:
            centre, sd = mean[:, place, output], np.sqrt(variance[:, place].clip(0))
            label = "Gaussian process, mean ± 2 sd"
            band = centre - 2 * sd, centre + 2 * sd
            if sd.any():
                axis.band(ax, *band, color=style.INFINITE, label=label)
            kind = style.PREDICTORS["infinite"]
            axis.plot(ax, centre, label="Gaussian process, mean", **kind)
            usual += [*np.abs(band).max(1)]
        for who, outputs in (("linearized", linearized), ("finite", finite)):
            if outputs is None:
                continue
            kind = style.PREDICTORS[who] | {"linewidth": 1.0}
            for network in range(drawn):
                label = None if network else f"{who}, one line a network"
                line = outputs[:, network, place, output]
                axis.plot(ax, line, label=label, **kind)
                usual.append(abs(line[0]))
        target = {"color": style.INK, "linewidth": 0.8, "linestyle": (0, (6, 4))}
        ax.axhline(y[example, output], label="target", **target)
        ax.set_title(_example_name(record, example), fontsize=9.5)
        axis.finish(ax, label=place >= len(picked) - 3)
    for ax in axes.flat[len(picked) :]:
        ax.set_axis_off()
    of_class = record.has_labels and y.shape[1] > 1
    for ax in axes[:, 0]:
        ax.set_ylabel("output of the true class" if of_class else "output")
    cut = _cut_outputs(axes.flat[0], 4 * max(*usual, np.abs(y).max()))
    toolkit.legend_below(figure, axes[0, 0])
    caption = captions.ensemble(record, len(picked), drawn, cut)
    return toolkit.Drawing(name, title, caption, figure)


def expected_losses(record: Record) -> dict[str, np.ndarray] | None:
    """Expected squared error of one infinitely wide network, over time, by split.

    E 1/2 |f - y|^2 = 1/2 |mean - y|^2 + C var / 2 for C outputs of one variance; None
    where there is no such law or it has no spread.
    """
    found = {}
    for split in record.splits:
        variance = record.over_time(f"infinite/variance/{split}")
        y = record.limits.get(f"y/{split}")
        if record.config["train.loss"] != "mse" or variance is None or y is None:
            return None
        of_mean = record.metrics[f"infinite/loss/{split}"][:, 0]
        found[split] = of_mean + 0.5 * y.shape[1] * variance.mean(1)
        if not (variance > 0).any():
            return None
    return found


def _panels(record: Record, rows: int, height: float):
    """A column each split, over one axis of time."""
    note = record.in_one_line
    columns = len(record.splits)
    return toolkit.blank(rows, columns, height, note, sharex=True, sharey="row")


def _mark_departures(ax: Axes, record: Record, split: str) -> None:
    """Draws the tolerance and each network's departure from its linearization."""
    tolerance = record.config["measure.tolerance"]
    rule = {"color": style.INK, "linewidth": 1.0, "linestyle": (0, (6, 3))}
    ax.axhline(tolerance, label=f"tolerance, {tolerance:g}", **rule)
    each = departures(record, split)
    left = each[np.isfinite(each)]
    if left.size:
        marker = {"marker": "v", "markersize": 7, "linestyle": "", "color": style.INK}
        label, height = "a network departs", np.full(left.size, tolerance)
        ax.plot(left, height, label=label, zorder=5, **marker)
    median = Departure.of_seeds(each).median
    if np.isfinite(median):
        ax.axvline(median, color=style.INK, lw=0.8, ls=":")
    words = departure_words(record, split)
    ax.set_title(f"To the own linearization, {record.splits[split]}:\n{words}")


def _divergence_limit(record: Record) -> float | None:
    """100 times the largest loss at t = 0 if a predictor has gone beyond, or None."""
    losses = [v for k, v in record.metrics.items() if "/loss/" in k]
    limit = 100 * max(float(np.nanmax(v[0])) for v in losses)
    return limit if max(float(np.nanmax(v)) for v in losses) > limit > 0 else None


def _cut_outputs(ax: Axes, most: float) -> bool:
    """Cuts the axis at -most and most if something has gone beyond."""
    low, high = ax.get_ylim()
    if np.isfinite(most) and max(-low, high) > most > 0:
        ax.set_ylim(max(low, -most), min(high, most))
        return True
    return False


def _posterior(record: Record, measure: str) -> float | None:
    """Loss or accuracy of the NNGP posterior, where it means the same."""
    if record.config["train.loss"] != "mse" and measure == "loss":
        return None
    return record.summary.get("nngp_posterior", {}).get(measure)


def _loss_unit(record: Record) -> str:
    if record.config["train.loss"] == "mse":
        return "½ squared error"
    return "cross-entropy (nats)"


def _examples(record: Record) -> list[int]:
    """Test examples of classes, or of targets, that are far apart."""
    y = record.limits["y/test"]
    count = min(_FOLLOWED, len(y))
    if not record.has_labels:
        order = np.argsort(y[:, 0], kind="stable")
        return [int(order[i]) for i in _evenly(len(order), count)]
    labels = record.limits["labels/test"]
    classes = np.unique(labels)
    if len(classes) > count:
        classes = classes[_evenly(len(classes), count)]
    each = -(-count // len(classes))
    firsts = [np.flatnonzero(labels == c)[:each] for c in classes]
    return [int(i) for i in np.concatenate(firsts)[:count]]


def _evenly(total: int, count: int) -> np.ndarray:
    return np.round(np.linspace(0, total - 1, count)).astype(int)


def _output_of(record: Record, example: int) -> int:
    """Which output is shown: that of the example's class, else the first."""
    if record.has_labels and record.limits["y/test"].shape[1] > 1:
        return int(record.limits["labels/test"][example])
    return 0


def _example_name(record: Record, example: int) -> str:
    if not record.has_labels:
        return f"test example {example}"
    label = int(record.limits["labels/test"][example])
    kept = record.config.get("data.classes") or []
    return f"test example {example}, class {kept[label] if kept else label}"
