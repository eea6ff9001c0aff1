"""The main job as `--preset gpu` runs it: every piece of it, then the whole."""

import dataclasses
import functools
import tempfile
import time
from pathlib import Path

import jax

from accelerator_parts.profile import where_time_goes
from accelerator_parts.recorder import Recorder, Silent, clock, peak_memory
from testbed.config import Config, preset
from testbed.dynamics import Finite, Linearized
from testbed.programs import train
from testbed.runs.checkpoints import Checkpoints
from testbed.runs.experiment import Experiment, prepare
from testbed.runs.memory import training_bytes
from testbed.settings import override
from testbed.validation import validate

TITLE = "Training, as --preset gpu does it"
WHY = (
    "The preset's networks on synthetic data of MNIST's shape, or the largest that "
    "memory and time allow. Floors: 3 products a layer for a step of the network, 4 "
    "for one of its linearization, at highest precision; or weights and activations "
    "moved."
)
SIZES = ((1024, 256), (1024, 64), (512, 64), (256, 64), (128, 32), (64, 16), (32, 8))
STEPS = 20  # of each predictor, that a size must have time for
SMALL = {"data.train_size": 64, "data.test_size": 64, "data.n_in": 16}


def settings(record: Recorder, width: int, depth: int) -> Config:
    """The preset with networks of this size, on a mixture of MNIST's shape."""
    config = override(
        preset("gpu"),
        {
            "data.name": "mixture",
            "data.n_in": 784,
            "data.n_out": 10,
            "model.width": width,
            "model.depth": depth,
            "wandb.mode": "disabled",
            **(SMALL if record.quick else {}),
        },
    )
    return validate(config)


def products(config: Config) -> float:
    """Operations of the products of one forward pass of one network on all examples."""
    m, d = config.model, config.data
    weights = m.width * (d.n_in + (m.depth or 0) * m.width + d.n_out)
    return 2.0 * d.train_size * weights


def moved(config: Config, copies: float) -> float:
    """Bytes of one network's weights, so many times, and of its activations, 5 times.

    Activations: 2.6 arrays of them are kept for the way back, written and read.
    """
    m, d = config.model, config.data
    weights = m.width * (d.n_in + (m.depth or 0) * m.width + d.n_out)
    activations = d.train_size * m.width * (m.depth or 0)
    return 4.0 * (copies * weights + 5 * activations)


def run(record: Recorder) -> None:
    """Chooses a size, times its pieces, then runs the main job for a few steps."""
    config = _largest(record)
    if config is None:
        return record.note("no size of the list has time and memory enough")
    m, name = config.model, "{} of width {}, depth {}, {} examples, {} networks"
    record.note(
        name.format(
            m.kind, m.width, m.depth, config.data.train_size, config.train.seeds
        )
    )
    made: list[Experiment] = []

    def setup():
        start = time.perf_counter()
        made[:] = [prepare(config, lambda text: None)]
        return {"first call s": time.perf_counter() - start, **peak_memory()}

    if not record.case("data, infinite kernels, initialization", setup):
        return None
    finite = made[0].predictors["finite"]
    linearized = made[0].predictors["linearized"]
    assert isinstance(finite, Finite) and isinstance(linearized, Linearized)
    _steps(record, config, finite, linearized)
    _recording(record, config, finite, linearized)
    rows = record.results["parts"]["training"]["rows"]
    # Its programs are compiled by now: what is left of it is data, a checkpoint, steps.
    once = sum(row.get("s", 0.0) for row in rows if row["case"] == "a checkpoint")
    made.clear()  # as their memory is needed
    del finite, linearized
    _whole(record, config, once)


def _largest(record: Recorder) -> Config | None:
    available = record.left()
    for width, depth in SIZES[-1:] if record.quick else SIZES:
        config = settings(record, width, depth)
        flops = 7 * config.train.seeds * products(config)
        seconds = STEPS * flops / record.floor.get("highest", float("inf"))
        memory = training_bytes(config, (config.data.n_in,), config.data.n_out)
        fits = record.case(
            f"width {width}, depth {depth}: does it fit?",
            lambda f=flops, b=memory: {"TFLOP/step": f / 1e12, "GiB": b / 2**30},
            predicted=4 * seconds if seconds < available else available,
            needed=memory,
        )
        if fits:
            return config
    return None


def _steps(record: Recorder, config: Config, finite: Finite, linearized: Linearized):
    """A step of each predictor; the first of each compiles."""
    fast = dataclasses.replace(finite.problem, precision="default")
    seeds, one = config.train.seeds, products(config)
    cases = (
        ("network", lambda: finite, 3, 6),
        ("linearization", lambda: linearized, 4, 7),
        ("network, default precision", lambda: Finite(fast), 3, 6),
    )
    for name, make, passes, copies in cases:
        rate = "default" if "default" in name else "highest"
        flops = seeds * passes * one
        seconds = flops / record.floor.get(rate, float("inf"))

        def measure(make=make, flops=flops, rate=rate, copies=copies):
            predictor = make()
            state = predictor.start()
            took = clock(lambda: predictor.advance(state, 0, 1), 0.0, 1)
            steps = max(1, min(200, int(0.5 / max(took.seconds, 1e-6))))
            many = clock(lambda: predictor.advance(state, 0, steps), 1.0)
            each = many.seconds / steps
            beside = record.beside_floor(
                each,
                flops=flops,
                rate=rate,
                moved=seeds * moved(config, copies),
                iterations=2 * (config.model.depth or 0),
            )
            return {
                "first call s": took.first,
                "s": each,
                "s, range": [many.lowest / steps, many.highest / steps],
                **beside,
                **peak_memory(),
            }

        row = record.case(f"a step, {name}", measure, predicted=3 * seconds)
        profiled = name == "network" if record.quick else rate == "highest"
        if row and profiled:
            predictor = make()
            state = predictor.start()
            step = functools.partial(predictor.advance, state, 0, 1)
            where_time_goes(record, row["case"], step)


def _recording(record: Recorder, config: Config, finite: Finite, linearized):
    """What a recorded time costs beside its steps: outputs, kernels, a checkpoint."""
    states = {"finite": finite.start(), "linearized": linearized.start()}
    for name, predictor, kernels in (
        ("outputs, network", finite, False),
        ("outputs, linearization", linearized, False),
        ("outputs and kernels, network", finite, True),
    ):
        state = states[predictor.name]

        def measure(p=predictor, s=state, k=kernels):
            return clock(lambda: p.observe(s, 0, k), 0.5).columns() | peak_memory()

        record.case(name, measure)

    def save():
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(states)) / 2**30
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder))
            start = time.perf_counter()
            checkpoints.save(0, states)  # once: it may be gigabytes
            seconds = time.perf_counter() - start
            checkpoints.close()
        return {"s": seconds, "GiB": size, "GiB/s": size / seconds}

    record.case("a checkpoint", save)


def _whole(record: Recorder, config: Config, predicted: float):
    """The main job itself, from a config to a folder with its report."""
    steps = 10
    short = override(config, {"train.steps": steps, "measure.times": 3})

    def job():
        with tempfile.TemporaryDirectory() as folder:
            named = override(short, {"run.dir": f"{folder}/run"})
            summary = train(validate(named), Silent())
        return {f"{k} s": v for k, v in summary["seconds"].items()} | {
            "status": summary["status"]
        }

    title = f"the main job, {steps} steps, with its report"
    record.case(title, job, predicted=predicted)
