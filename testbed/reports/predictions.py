"""Figures of what the three predictors say: losses, distances, single outputs."""

import numpy as np
from matplotlib.axes import Axes

from testbed.divergence import Departure, departure_time
from testbed.reports import style
from testbed.reports.drawing import (
    Drawing,
    TimeAxis,
    log_y,
    over_networks,
    page,
    positive,
)
from testbed.reports.record import Record, spread

SPLITS = {"train": "training set", "test": "test set"}
_FOLLOWED = 6  # examples in the figure of single outputs
_DRAWN = 30  # networks drawn there


def losses(record: Record) -> Drawing:
    """Loss, and accuracy if there are classes, of the three predictors over time."""
    measures = {"loss": "loss"}
    if record.has_labels:
        measures["accuracy"] = "accuracy"
    rows = len(measures)
    figure, axes = page(record, rows, 2, 1 + 3.1 * rows, sharex=True, sharey="row")
    axis = TimeAxis(record.times)
    expected = _expected_losses(record)
    for row, measure in enumerate(measures):
        for ax, split in zip(axes[row], SPLITS, strict=True):
            for who, kind in style.PREDICTORS.items():
                values = record.metrics.get(f"{who}/{measure}/{split}")
                if values is not None:
                    label = "infinite, mean prediction" if who == "infinite" else who
                    over = 3 if who == "finite" else 2
                    axis.networks(ax, values, label=label, zorder=over, **kind)
            if measure == "loss" and expected:
                single = {"color": style.INFINITE, "linewidth": 1.0, "linestyle": "-"}
                label = "infinite, expected for one network"
                axis.plot(ax, expected[split], label=label, **single)
            level = _posterior(record, measure) if split == "test" else None
            if level is not None:
                label = "infinite, exact NNGP regression"
                ax.axhline(level, color=style.FAINT, lw=1.0, ls="-.", label=label)
            ax.set_title(f"{measure.capitalize()}, {SPLITS[split]}")
            axis.finish(ax, label=row == rows - 1)
        axes[row, 0].set_ylabel(
            _loss_unit(record) if measure == "loss" else "share classified right"
        )
    log_y(*axes[0])
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return Drawing("losses", "Loss while training", _losses_caption(record), figure)


def distances(record: Record) -> Drawing:
    """Relative distances between predictors over time, and when they part."""
    name, title = "distances", "When the predictors part"
    later = record.times > 0
    if not later.any():
        reason = "Not drawn: only t = 0 was recorded, where no distance has a unit."
        return Drawing(name, title, reason, None)
    rows = 2 if record.has_infinite else 1
    figure, axes = page(record, rows, 2, 1.2 + 2.9 * rows, sharex=True, sharey="row")
    axis = TimeAxis(record.times[later])
    for row in range(rows):
        for ax, split in zip(axes[row], SPLITS, strict=True):
            for (one, other), kind in style.PAIRS.items():
                if (other == "infinite") != (row == 1):
                    continue
                values = record.metrics[f"distance/{one}_{other}/{split}/relative"]
                values = positive(values[later])
                if row == 0 and values.shape[1] > 1:
                    for seed in values.T[:_DRAWN]:
                        thin = kind | {"linewidth": 0.7, "alpha": 0.7}
                        axis.plot(ax, seed, **thin)
                label = f"{one} to {'infinite mean' if row else other}"
                axis.plot(ax, spread(values)[1], label=label, **kind)
            if row == 0:
                _mark_departure(ax, record, split)
            else:
                ax.set_title(f"To the infinite network's mean, {SPLITS[split]}")
            axis.finish(ax, label=row == rows - 1)
        axes[row, 0].set_ylabel("relative distance")
        log_y(*axes[row])
    found = [axes[row, 0].get_legend_handles_labels() for row in range(rows)]
    handles, labels = (sum(parts, []) for parts in zip(*found, strict=True))
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return Drawing(name, title, _distances_caption(record), figure)


def ensemble(record: Record) -> Drawing:
    """Outputs on a few test examples: each network, and the Gaussian process."""
    name, title = "ensemble", "Single outputs against the Gaussian process"
    y = record.limits.get("y/test")
    if y is None:
        return Drawing(name, title, "Not drawn: limits.npz is missing.", None)
    picked = _examples(record)
    outputs = _outputs_of(record, picked)
    rows = np.s_[:, picked]
    seen = {
        who: record.over_time(f"{who}/outputs/test", rows)
        for who in ("finite", "linearized")
    }
    mean = record.over_time("infinite/outputs/test", np.s_[picked])
    variance = record.over_time("infinite/variance/test", np.s_[picked])
    if seen["finite"] is None:
        return Drawing(
            name, title, "Not drawn: the recorded outputs are missing.", None
        )
    lines = -(-len(picked) // 3)
    figure, axes = page(record, lines, 3, 0.9 + 2.5 * lines, sharex=True, sharey=True)
    axis = TimeAxis(record.times)
    for place, (example, output) in enumerate(zip(picked, outputs, strict=True)):
        ax = axes.flat[place]
        if mean is not None and variance is not None:
            centre, sd = (
                mean[:, place, output],
                np.sqrt(np.maximum(variance[:, place], 0)),
            )
            band = {"color": style.INFINITE, "label": "Gaussian process, mean ± 2 sd"}
            axis.band(ax, centre - 2 * sd, centre + 2 * sd, **band)
            kind = style.PREDICTORS["infinite"]
            axis.plot(ax, centre, label="Gaussian process, mean", **kind)
        for who in ("linearized", "finite"):
            values = seen[who]
            for e in range(min(record.seeds, _DRAWN) if values is not None else 0):
                label = None if e else f"{who}, one line a network"
                kind = style.PREDICTORS[who] | {"linewidth": 1.0}
                axis.plot(ax, values[:, e, place, output], label=label, **kind)
        target = float(y[example, output])
        ax.axhline(target, color=style.INK, lw=0.8, ls=(0, (6, 4)), label="target")
        ax.set_title(_example_name(record, example), fontsize=9.5)
        axis.finish(ax, label=place >= len(picked) - 3)
    for ax in axes.flat[len(picked) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("output of the true class" if y.shape[1] > 1 and record.has_labels
                      else "output")  # fmt: skip
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return Drawing(name, title, _ensemble_caption(record, mean is not None), figure)


def departures(record: Record, split: str) -> np.ndarray:
    """Departure time of each network from its linearization, (E,)."""
    values = record.metrics[f"distance/finite_linearized/{split}/relative"]
    tolerance = record.config["measure.tolerance"]
    return departure_time(record.times, values, tolerance)


def _mark_departure(ax: Axes, record: Record, split: str) -> None:
    """Draws the tolerance and each network's departure from its linearization."""
    tolerance = record.config["measure.tolerance"]
    each = departures(record, split)
    left = each[np.isfinite(each)]
    rule = {"color": style.INK, "linewidth": 1.0, "linestyle": (0, (6, 3))}
    ax.axhline(tolerance, label=f"tolerance, {tolerance:g}", **rule)
    label = "a network departs"
    marker = {"marker": "v", "markersize": 7, "linestyle": "", "color": style.INK}
    ax.plot(left, np.full(left.size, tolerance), label=label, zorder=5, **marker)
    summary = Departure.of_seeds(each)
    if np.isfinite(summary.median):
        ax.axvline(summary.median, color=style.INK, lw=0.8, ls=":")
    ax.set_title(
        f"To the own linearization, {SPLITS[split]}:\n{_departure_words(summary)}"
    )


def _departure_words(d: Departure) -> str:
    if not d.of:
        return "nothing can be said"
    if not d.departed:
        return "no network departs" if d.of > 1 else "it does not depart"
    if d.of == 1:
        return f"departs at t = {d.lowest:.3g}"
    span = f"t = {d.lowest:.3g}"
    if d.highest > d.lowest:
        span += f" to {d.highest:.3g}"
    if d.departed < d.of:
        return f"{d.departed} of {d.of} networks depart, at {span}"
    return f"all {d.of} networks depart, at {span}"


def _above_at_end(record: Record, split: str) -> int:
    """How many networks are above the tolerance at the last recorded time."""
    last = record.metrics[f"distance/finite_linearized/{split}/relative"][-1]
    return int((last > record.config["measure.tolerance"]).sum())


def _expected_losses(record: Record) -> dict[str, np.ndarray] | None:
    """Expected squared error of one infinitely wide network: mean's, plus spread."""
    found = {}
    if record.config["train.loss"] != "mse" or not record.has_infinite:
        return None
    for split in SPLITS:
        variance = record.over_time(f"infinite/variance/{split}")
        y = record.limits.get(f"y/{split}")
        if variance is None or y is None or not (variance > 0).any():
            return None
        of_mean = record.metrics[f"infinite/loss/{split}"][:, 0]
        found[split] = of_mean + 0.5 * y.shape[1] * variance.mean(1)
    return found


def _posterior(record: Record, measure: str) -> float | None:
    """Loss or accuracy of the NNGP posterior, where it means the same."""
    if record.config["train.loss"] != "mse" and measure == "loss":
        return None
    return record.summary.get("nngp_posterior", {}).get(measure)


def _loss_unit(record: Record) -> str:
    if record.config["train.loss"] == "mse":
        return "½ squared error, mean over examples"
    return "cross-entropy (nats), mean over examples"


def _examples(record: Record) -> list[int]:
    """Test examples of classes far apart, or of targets far apart."""
    count = min(_FOLLOWED, len(record.limits["y/test"]))
    if not record.has_labels:
        order = np.argsort(record.limits["y/test"][:, 0], kind="stable")
        return [int(order[i]) for i in _evenly(len(order), count)]
    labels = record.limits["labels/test"]
    classes = np.unique(labels)
    each = -(-count // len(classes))
    if each == 1:
        classes = classes[_evenly(len(classes), count)]
    firsts = [np.flatnonzero(labels == c)[:each] for c in classes]
    return [int(i) for i in np.concatenate(firsts)[:count]]


def _evenly(total: int, count: int) -> np.ndarray:
    return np.round(np.linspace(0, total - 1, count)).astype(int)


def _outputs_of(record: Record, examples: list[int]) -> list[int]:
    """Which output of each example is shown: its class's, else the first."""
    if record.has_labels and record.limits["y/test"].shape[1] > 1:
        return [int(record.limits["labels/test"][i]) for i in examples]
    return [0] * len(examples)


def _example_name(record: Record, example: int) -> str:
    if not record.has_labels:
        return f"test example {example}"
    label = int(record.limits["labels/test"][example])
    kept = record.config.get("data.classes") or []
    return f"test example {example}, class {kept[label] if kept else label}"


def _losses_caption(record: Record) -> str:
    infinite = ""
    if record.has_infinite:
        infinite = (
            "The infinite network is a Gaussian process: dotted green is the loss of "
            "its mean prediction"
        )
        if _expected_losses(record):
            infinite += (
                "; thin green adds the spread of single networks about that mean, and "
                "is what one very wide network would have on average, so compare blue "
                "with that one"
            )
        infinite += ". "
        if record.has_labels:
            infinite += (
                "The accuracy of the mean is not that of one network either: averaging "
                "removes what single networks start with. "
            )
    else:
        infinite = "No kernel describes adam's steps, so there is no infinite network. "
    posterior = ""
    if record.summary.get("nngp_posterior"):
        posterior = (
            "The grey line on the test set is exact regression with the infinite "
            "network's covariance (only the readout trained, to the end). "
        )
    return (
        "Blue: the finite networks. Dashed orange: each network's linearization at its "
        f"own initialization, trained by the same steps. {over_networks(record)} "
        f"{infinite}{posterior}Dots at 0 are before training, where "
        "blue and orange are the same. What theory expects: wide "
        "and shallow networks (small d/n) follow their linearization, so blue covers "
        "orange. Look for where blue leaves orange, and which of the two is lower on "
        "the test set afterwards."
    )


def _distances_caption(record: Record) -> str:
    tolerance = record.config["measure.tolerance"]
    infinite = (
        "Lower row: distance to the infinite network's mean. It falls from large values, "
        "because a network starts at its own random function and the mean at 0; only "
        "its late part speaks about training. "
        if record.has_infinite
        else ""
    )
    found = []
    for split in SPLITS:
        words = _departure_words(Departure.of_seeds(departures(record, split)))
        above = _above_at_end(record, split)
        found.append(f"{SPLITS[split]}: {words}, and {above} are above it at the end")
    return (
        "Distance between two predictors: root mean square over examples and outputs, "
        "in units of how far the second one has moved since t = 0, so that 0.1 is a "
        "tenth of the way. Upper row: each finite network to its own linearization"
        f"{' (thin), and the median of them (thick)' if record.seeds > 1 else ''}; both "
        "leave the same function with the same slope. A network departs at the first "
        f"recorded time with more than {tolerance:g} (triangles; dotted: the median); "
        f"it may come back below later. Here, {'; '.join(found)}. {infinite}t = 0 is not "
        "drawn: nothing has moved there, so the distance has no unit. What theory "
        "expects: the upper curves stay low as width grows at fixed depth, and rise with "
        "d/n. A large learning rate adds a hump at the start, where the steepest modes "
        "overshoot."
    )


def _ensemble_caption(record: Record, infinite: bool) -> str:
    shown = "output of the true class" if record.has_labels else "first output"
    if record.has_labels and record.limits["y/test"].shape[1] == 1:
        shown = "output (class 0 is coded −1, class 1 is coded +1)"
    drawn = f" (the first {_DRAWN} of {record.seeds})" if record.seeds > _DRAWN else ""
    process = (
        "Dotted green with its band: mean and two standard deviations of the Gaussian "
        "process that infinitely wide networks follow, so about 19 of 20 networks "
        "should lie in the band if the limit holds at this width and depth. "
        if infinite
        else "There is no Gaussian process to compare with: no kernel describes adam. "
    )
    centred = (
        "The process has no spread here, because each network's output at "
        "initialization was subtracted (train.center). "
        if infinite and record.config["train.center"]
        else ""
    )
    return (
        f"The {shown} on {_FOLLOWED} test examples that were never trained on. Blue: "
        f"each finite network{drawn}; dashed orange: its linearization. {process}"
        f"{centred}The long-dashed black line is the target. Look for blue lines that "
        "leave their orange partners (the network has left its kernel), and for lines "
        "outside the green band (the limit does not describe single networks)."
    )
