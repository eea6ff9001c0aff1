"""What each figure shows, what theory expects of it, and what to look for.

Of runs; written for someone who sees a report for the first time.
"""

from testbed.reports.departures import above_at_end, departure_words
from testbed.reports.record import Record
from testbed.reports.toolkit import Caption


def losses(record: Record, expected_drawn: bool, cut: bool) -> Caption:
    """`expected_drawn`: the thin green line is there; `cut`: the axis is cut."""
    if record.has_infinite:
        infinite = "Dotted green: the mean prediction of the infinite network. "
        if expected_drawn:
            infinite += (
                "Thin green: the same plus the spread of single networks about that "
                "mean, which is what one very wide network has on average; compare "
                "blue with this one. "
            )
        if record.has_labels and not record.config["train.center"]:
            infinite += (
                "The accuracy of the mean is higher than that of one network, because "
                "averaging removes the random functions that networks start with. "
            )
    else:
        infinite = f"There is no infinite network: {record.why_no_infinite}. "
    posterior = (
        "Grey: exact regression with the infinite network's covariance, as if only its "
        "readout were trained, to the end. "
        if record.summary.get("nngp_posterior")
        else ""
    )
    diverged = (
        "The axis is cut where a predictor has diverged, at 100 times the loss at "
        "t = 0. "
        if cut
        else ""
    )
    green = ", and both scatter about thin green" if expected_drawn else ""
    if record.has_infinite and record.config["train.center"]:
        green = ", and both come to dotted green as the width grows"
    same = "blue and orange are the same"
    all_zero = "all outputs are 0 and the accuracy is that of rounding errors"
    return Caption(
        "Blue: the finite networks. Dashed orange: each network's linearization at its "
        f"own initialization, trained by the same steps. {over_networks(record)} "
        f"{infinite}{posterior}{diverged}The dots at 0 are before training, where "
        f"{all_zero if record.config['train.center'] else same}.",
        "Wide and shallow networks (small d/n) follow their linearizations: blue "
        f"covers orange{green}.",
        "The time at which blue leaves orange, and which of the two is better on the "
        "test set from then on.",
    )


def distances(record: Record) -> Caption:
    """Of the figure of relative distances."""
    found = "; ".join(
        f"{name}: {departure_words(record, split)}, "
        f"{above_at_end(record, split)} above the tolerance at the end"
        for split, name in record.splits.items()
    )
    upper = "Upper row: each" if record.has_infinite else "Each"
    lines = " (thin), and their median (thick)" if record.seeds > 1 else ""
    infinite = (
        " Lower row: distance to the infinite network's mean, medians. It falls from "
        "large values because a network starts at its own random function and the mean "
        "at 0; only the late part speaks about training."
        if record.has_infinite and not record.config["train.center"]
        else " Lower row: distance to the infinite network, medians."
        if record.has_infinite
        else ""
    )
    return Caption(
        "Distance between two predictors: root mean square over examples and outputs, "
        "in units of how far the second one has moved since t = 0, so that 0.1 is a "
        f"tenth of the way. {upper} network to its own linearization{lines}. "
        "A network departs at the first recorded time at which it is above the "
        f"tolerance (triangles; dotted: the median). Here, {found}.{infinite} t = 0 is "
        "not drawn: nothing has moved there and the distance has no unit.",
        "The distance to the linearization falls as width grows at fixed depth and "
        "rises with d/n. Both leave the same function with the same slope, so small "
        "steps start near 0; large steps overshoot in the steepest directions and put "
        "a hump at the start.",
        "Whether a network stays above the tolerance once it has passed it, and "
        "whether the two sets agree.",
    )


def ensemble(record: Record, followed: int, drawn: int, cut: bool) -> Caption:
    """`followed` examples, `drawn` networks; `cut`: the axis is cut."""
    shown = "output of the true class" if record.has_labels else "first output"
    if record.has_labels and record.limits["y/test"].shape[1] == 1:
        shown = "output (targets are −1 for the first class and +1 for the second)"
    some = f" (the first {drawn} of {record.seeds})" if drawn < record.seeds else ""
    process = f"There is no Gaussian process: {record.why_no_infinite}. "
    if record.has_infinite:
        process = (
            "Dotted green, with a band: mean and two standard deviations of the "
            "Gaussian process that infinitely wide networks follow. "
        )
        if record.config["train.center"]:
            process = (
                "Dotted green: the Gaussian process that infinitely wide networks "
                "follow. It has no spread, because each network's output at "
                "initialization is subtracted (train.center): all scatter between "
                "networks is of finite width. "
            )
    limit = outside = ""
    if record.has_infinite and record.config["train.center"]:
        limit = ", and, where the infinite limit holds, on the green line"
        outside = " Blue and orange together away from green: finite width alone."
    elif record.has_infinite:
        limit = (
            ", and where the infinite limit holds about 19 of 20 networks lie inside "
            "the green band"
        )
        outside = " Lines outside the band: the limit does not describe the networks."
    diverged = "The axis is cut where a predictor has diverged. " if cut else ""
    return Caption(
        f"The {shown} on {followed} test examples. Blue: each finite network{some}. "
        f"Dashed orange: its linearization. {process}Long-dashed black: the target. "
        f"{diverged}The dots at 0 are before training.",
        f"Each blue line lies on its orange partner{limit}.",
        "Blue lines that part from orange: these networks have left their kernels."
        f"{outside}",
    )


def kernel(record: Record) -> Caption:
    """Of the figure of the kernel over time."""
    adam = record.config["train.optimizer"] == "adam"
    drift = "" if adam else ", and blue in the upper left like 1/n"
    limit = green = grows = ""
    if "ntk" in record.limits or not record.foreign:
        limit = ", and to the kernel Θ_∞ of the infinite network (green)"
        green = " Dotted green in the lower row: the infinite network."
    if not record.foreign:  # else nothing is known of its parameterization
        grows = " As the width n grows at fixed depth, green at t = 0 falls like "
        grows += f"n^(−1/2){drift}."
    return Caption(
        f"The tangent kernel Θ_t of each finite network on {probes(record)}. "
        f"{over_networks(record)} Upper left: change relative to the network's own "
        "kernel at t = 0 (blue; 0 at the start, which a logarithmic axis cannot show)"
        f"{limit}, in Frobenius norm. "
        "Upper right: change of its shape alone, blind to scale. Lower left: cosine "
        "between the kernel and that of the targets, y yᵀ, on the training probes. "
        f"Lower right: its largest eigenvalue.{green}",
        f"In the kernel regime all four stay where they start.{grows}",
        "A change that grows to order 1, and an alignment that rises with it: the "
        "network is learning features.",
    )


def spectrum(record: Record) -> Caption:
    """Of the figure of eigenvalues."""
    shown, count, limit, tail = " and at the end", "two", "", ""
    if "ntk" in record.limits or not record.foreign:
        shown, count = ", at the end, and for the infinite network", "three"
        limit = "Right: divided by the infinite network's eigenvalue of the same index."
        limit, tail = f"{limit} ", " Finite width spreads a spectrum: its tail lies "
        tail += "below the limit already at t = 0."
    return Caption(
        f"Eigenvalues of the tangent kernel on {probes(record)}, at the start{shown}. "
        f"{over_networks(record)} {limit}A direction of eigenvalue w is learned at a "
        "rate proportional to w. Eigenvalues below rounding error are left out.",
        f"In the kernel regime the {count} coincide.{tail}",
        "A few large eigenvalues that rise during training (directions of the "
        "targets), or a spectrum that sinks as a whole (the function becomes flatter).",
    )


def layers(record: Record, no_law: str, measured: bool) -> Caption:
    """`no_law`: why there is no theory, or ""; `measured`: there are hidden layers."""
    many = record.seeds > 1
    hidden = (
        "Left: log of the squared length of the hidden vector, relative to that of "
        "layer 0. Middle: share of units whose activation is positive. Both are means "
        f"over the probes{' and over networks' * many}"
        f"{'; light blue: one standard deviation over networks at t = 0' * many}. "
        if measured
        else "Lengths and active units were not measured (kernel.probes is 0). "
    )
    if not measured:
        theory = ""
    elif no_law:
        theory = f"No theory is drawn: {no_law}. "
    else:
        theory = (
            "Black with a grey band: mean and one standard deviation over networks at "
            "t = 0, from the log-Gaussian law, which knows only width, depth and "
            "branch weights (leading order in 1/n). "
        )
    return Caption(
        "The network layer by layer, at the start and at the end of training. "
        f"{hidden}{theory}Right: norm of the training loss's gradient in each block"
        f"{' (median and range over networks)' * many}.",
        "At the start, lengths that differ between networks the more the larger d/n, "
        "and gradients of one order of magnitude in all blocks. Training shrinks the "
        "gradient as it shrinks the loss, so compare its profile, not its size.",
        f"{'Light blue far outside the grey band. ' * (measured and not no_law)}"
        "Layers that change more than others.",
    )


def movement(record: Record) -> Caption:
    """Of the figure of parameters."""
    scaling = (
        " With this parameterization it falls like n^(−1/2) in input and head, and "
        "like 1/n in the blocks, as the width n grows."
        if record.config.get("model.parameterization") == "ntk"
        and record.config["train.optimizer"] != "adam"
        else ""
    )
    only = (
        " Only the readout is trained."
        if record.config.get("train.trained") == "readout"
        else ""
    )
    groups = (
        "input: the first weight matrix; blocks: all residual blocks (hidden layers); "
        "head: the readout."
    )
    if record.foreign:
        groups = "Groups are those of the parameters' own tree."
    return Caption(
        "Distance of each group of parameters from where it started, relative to its "
        f"norm there. {groups}{only} {over_networks(record)} t = 0 is not drawn: "
        "nothing has moved there.",
        "In the kernel regime every group moves little although the loss falls."
        f"{scaling}",
        "Groups that have moved by more than about a tenth: a first-order expansion "
        "in them is in doubt.",
    )


def over_networks(record: Record) -> str:
    """How a line and its band summarize the networks."""
    if record.seeds == 1:
        return "There is one network."
    return (
        f"Lines are medians over the {record.seeds} networks, bands go from the lowest "
        "to the highest."
    )


def probes(record: Record) -> str:
    """What the probes are."""
    m = record.config["kernel.probes"]
    test = f" and {m} test" if "test" in record.splits else ""
    return f"{m} training{test} examples (the probes)"
