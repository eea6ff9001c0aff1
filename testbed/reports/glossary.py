"""What each word and number of a report means."""

from testbed.reports.record import Record

_TERMS = (
    (
        "finite, linearized, infinite",
        "The three predictors. finite: the trained networks. linearized: each "
        "network's first-order Taylor expansion in its parameters at initialization, "
        "trained by the same optimizer on the same batches. infinite: the Gaussian "
        "process that the outputs follow when the width goes to infinity, after the "
        "same number of steps.",
    ),
    (
        "width n, depth d",
        "Units of a hidden layer; residual blocks (for mlp, hidden-to-hidden layers). "
        "Corrections to the infinite network grow with d/n.",
    ),
    ("training time t", "Learning rate times the number of steps taken."),
    (
        "loss",
        "What training minimizes: for mse half the squared error, summed over outputs "
        "and averaged over examples; for cross_entropy minus the log of the true "
        "class's probability, averaged over examples.",
    ),
    (
        "targets",
        "Two classes are −1 and +1; k classes are one-hot minus 1/k; regression is as "
        "given.",
    ),
    ("accuracy", "Share of examples whose largest output is that of the true class."),
    (
        "relative distance of a to b",
        "Root mean square of a − b over examples and outputs, divided by the root mean "
        "square of how far b has moved since t = 0. It has no value at t = 0.",
    ),
    (
        "departure time",
        "First recorded time at which a network's relative distance to its own "
        "linearization passes the tolerance. Written median [lowest, highest], how "
        "many departed of how many; in the median a network that never departs counts "
        "as infinity.",
    ),
    (
        "standard deviation over networks, of the GP",
        "How much the outputs differ between the networks, root mean square over "
        "examples and outputs; and what the Gaussian process (GP) predicts of it, "
        "which is 0 with centred outputs. The ratio of their variances is expected to "
        "be 1 where the limit holds; with few networks it scatters widely.",
    ),
    (
        "tangent kernel Θ",
        "Θ(x, x′) is the inner product of the output's gradients in the parameters at "
        "two examples, averaged over outputs. It decides how a step on one example "
        "moves the output on another. Θ_∞ is its limit at infinite width.",
    ),
    (
        "probes",
        "The first kernel.probes examples of each split, on which tangent kernels and "
        "layers are measured.",
    ),
    (
        "kernel drift",
        "|Θ_t − Θ_0| / |Θ_0| in Frobenius norm: change of a network's kernel since "
        "t = 0. Kernel error is the same against Θ_∞.",
    ),
    (
        "alignment",
        "Cosine between the kernel and y yᵀ, as matrices, on the training probes: 0 is "
        "unrelated, 1 is a kernel made of the targets alone.",
    ),
    (
        "critical learning rate",
        "2N / (largest + smallest eigenvalue of Θ_∞ on the N training examples): the "
        "rate at which the slowest mode is learned fastest. Beyond the stability bound "
        "the infinite network diverges. A finite network's largest eigenvalue can be "
        "larger, so it can diverge earlier.",
    ),
    (
        "condition number",
        "Largest over smallest eigenvalue of Θ_∞ on the training set.",
    ),
    (
        "NNGP",
        "The Gaussian process of the infinite network before training. Exact NNGP "
        "regression is Bayesian inference with it, which is also training the readout "
        "alone, to the end.",
    ),
    (
        "active units",
        "Units whose activation φ is positive, as a share of the layer's units.",
    ),
)


def glossary(record: Record) -> list[tuple[str, str]]:
    """The terms that this run's report uses."""
    absent = set()
    if not record.has_labels:
        absent |= {"accuracy"}
    if not record.has_infinite:
        absent |= {"standard deviation over networks, of the GP"}
    if record.foreign:
        absent |= {"width n, depth d", "critical learning rate", "active units"}
        absent |= {"condition number", "NNGP"}
    if not record.config["kernel.probes"]:
        absent |= {"probes", "kernel drift", "alignment", "active units"}
    return [(term, text) for term, text in _TERMS if term not in absent]
