"""What a run takes of memory, told from its config before anything is made."""

import math

from testbed import sources
from testbed.config import Config, SimulateConfig
from testbed.devices import batches_seeds
from testbed.errors import UserError
from testbed.families import family
from testbed.kernels.memory import USABLE, available_bytes, readable
from testbed.sampling.stream import batch_size


def check_training_memory(
    config: Config, shape: tuple[int, ...] | None = None, n_out: int | None = None
) -> None:
    """Raises UserError for a size whose arrays the device's memory cannot hold.

    Args:
      config: validated.
      shape: of an input; None takes that of the data set as it is published.
      n_out: outputs; likewise.
    """
    d, m, t = config.data, config.model, config.train
    synthetic = d.name in sources.SYNTHETIC_NAMES
    shape = shape or input_shape(config)
    n_in = math.prod(shape)
    if n_out is None:
        classes = len(d.classes) or sources.N_CLASSES.get(d.name, 0)
        n_out = d.n_out if synthetic else classes
    examples, depth = d.train_size + d.test_size, m.depth or 1
    available = available_bytes()

    def check(field: str, value: int, what: str, needed: int, remedy: str = "") -> None:
        if needed > USABLE * available:
            rule = f"{what} {readable(needed)} of {readable(available)} available"
            raise UserError(field, value, rule, remedy or f"lower {field}")

    size = max(("data.train_size", d.train_size), ("data.test_size", d.test_size),
               key=lambda one: one[1])  # fmt: skip
    wide = ("data.n_in", n_in) if synthetic and n_in > examples else size
    check(*wide, "its inputs take", 8 * 3 * examples * n_in)
    # K and Theta, the eigenvectors, and three products of their size.
    check(*size, "its kernels take", 8 * 6 * examples**2)
    many = ("data.n_out", n_out) if synthetic and n_out > examples else size
    check(*many, "its outputs take", 8 * 3 * examples * n_out)
    largest = max(("model.width", m.width), ("model.depth", depth),
                  ("train.seeds", t.seeds), key=lambda one: one[1])  # fmt: skip
    remedy = "lower model.width, model.depth or train.seeds"
    check(*largest, "training takes", training_bytes(config, shape, n_out), remedy)
    probes = config.kernel.probes
    kept = family(m.kind).counts(m, shape, n_out).activations + 2 * m.width
    layers = 8 * probes * (n_out + 1) * kept
    check("kernel.probes", probes, "its kernels take", layers)
    if t.batch_size:
        check("train.steps", t.steps, "its batches take", 8 * t.steps * t.batch_size)
    if t.loss == "cross_entropy" and t.optimizer != "adam":
        draws = config.kernel.draws
        check("kernel.draws", draws, "they take", 8 * 4 * draws * examples * n_out)


def input_shape(config: Config) -> tuple[int, ...]:
    """The shape of an example of the config's data, as it is published."""
    vector = config.data.name in sources.SYNTHETIC_NAMES
    return (config.data.n_in,) if vector else sources.SHAPES[config.data.name]


def training_bytes(config: Config, shape: tuple[int, ...], n_out: int) -> int:
    """Bytes of parameters, displacements, optimizer states and activations of a run.

    Counted with XLA's memory_analysis: theta_0; states of networks and displacements,
    and a new one while a step is taken; for every seed in flight, what a step makes of
    parameters and keeps of activations.
    """
    t = config.train
    counts = family(config.model.kind).counts(config.model, shape, n_out)
    activations = (t.batch_size or config.data.train_size) * counts.activations
    in_flight = t.seeds if batches_seeds(config.run.seed_axis) else 1
    states = {"momentum": 2, "adam": 3}.get(t.optimizer, 1)
    copies = t.seeds * (1 + 3 * states) + 3.3 * in_flight
    return int(4 * (counts.parameters * copies + 2.7 * activations * in_flight))


def check_simulation_memory(config: SimulateConfig) -> None:
    """The same for `scripts/simulate.py`: no weights, but a record of every layer."""
    m = config.model
    depth, available = m.depth or 1, available_bytes()
    batch = batch_size(m.width) * (2 if config.antithetic else 1)
    for field, value, needed in (
        ("model.width", m.width, 16 * 8 * batch * m.width),
        ("n_out", config.n_out, 4 * 8 * batch * config.n_out),
        ("model.depth", depth, 4096 * depth),  # a row of 30 numbers a layer
    ):
        if needed > USABLE * available:
            rule = f"takes {readable(needed)} of {readable(available)} available"
            raise UserError(field, value, rule, f"lower {field}")
