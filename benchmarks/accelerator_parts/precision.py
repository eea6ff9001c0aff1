"""What reduced matrix products do to kernels and to predictions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from accelerator_parts.recorder import Recorder, Row, clock, problem_of
from testbed.config import Config
from testbed.dynamics import Finite, Linearized
from testbed.dynamics.linen import linen_network
from testbed.dynamics.problem import Network, Problem
from testbed.families import family
from testbed.kernels import structured_ntk
from testbed.settings import override
from testbed.validation import validate

TITLE = "What a precision costs, and what it gains"
WHY = (
    "One network on digits, in products of each precision, against the same parameters "
    "in float64: its tangent kernel at t = 0; its outputs on the test set and those of "
    "its linearization at the end of training, relative to what they moved; the "
    "distance between the two, which is what this testbed measures; a step's time. "
    "highest and default are the values of train.precision."
)
WIDTH, DEPTH, STEPS, ROWS = 256, 32, 200, 128
# name -> (precision of products, type of parameters)
PRECISIONS = {
    "float64": ("highest", "float64"),
    "highest": ("highest", "float32"),
    "default": ("default", "float32"),
    "tf32": ("TF32_TF32_F32", "float32"),
    "bf16": ("BF16_BF16_F32", "float32"),
    "bf16 parameters": ("default", "bfloat16"),
    "tf32, three products": ("TF32_TF32_F32_X3", "float32"),
    "bf16, three products": ("BF16_BF16_F32_X3", "float32"),
}
QUICK = ("float64", "highest", "tf32", "bf16 parameters")


def cast(net: Any, x: np.ndarray, dtype: str) -> Network:
    """The network in another type, with the parameters that it draws in float32."""
    drawn = linen_network(net.clone(dtype=jnp.float32), x)
    to_type = lambda leaf: leaf.astype(dtype)
    init = lambda key: jax.tree.map(to_type, drawn.init(key))
    return linen_network(net.clone(dtype=jnp.dtype(dtype)), x)._replace(init=init)


def run(record: Recorder) -> None:
    """A row for each precision; float64 is what the others are measured against."""
    small = {"data.train_size": 64, "data.test_size": 64} if record.quick else {}
    width, depth, steps = (8, 4, 5) if record.quick else (WIDTH, DEPTH, STEPS)
    config = validate(
        override(
            Config(),
            {
                "model.width": width,
                "model.depth": depth,
                "train.seeds": 1,
                "train.steps": steps,
                "kernel.probes": 0,
                **small,
            },
        )
    )
    base = problem_of(config)
    net = family(config.model.kind).network(config.model, base.y_train.shape[1])
    examples = config.data.train_size
    truth: dict[str, Any] = {}
    rows: dict[str, Row | None] = {}
    flops = 7.0 * 2 * examples * width * (64 + depth * width + 10)
    slowest = flops / record.floor.get("float64", float("inf"))
    steps = max(5, min(steps, int(record.left() / 20 / max(slowest, 1e-9))))
    record.note(
        f"{config.model.kind} of width {width}, depth {depth}; {examples} examples of "
        f"digits; {steps} steps of gradient descent at a tenth of the critical rate"
    )
    for name in QUICK if record.quick else PRECISIONS:
        precision, dtype = PRECISIONS[name]
        rate = "float64" if name == "float64" else "highest"
        seconds = steps * flops / record.floor.get(rate, float("inf"))

        def measure(precision=precision, dtype=dtype):
            seen = _measure(base, net, precision, dtype, steps)
            if not truth:
                truth.update(seen)
            return _compare(seen, truth)

        rows[name] = record.case(name, measure, predicted=2 * seconds)
        if not truth:
            return record.note("without float64 there is nothing to measure against")
    _say_what_is_one(record, rows)


def _say_what_is_one(record: Recorder, rows: dict[str, Row | None]) -> None:
    """A precision that a device does not have may be taken, and change nothing."""
    off = {name: row["kernel off by"] for name, row in rows.items() if row}
    same = [n for n in off if n != "highest" and off[n] == off.get("highest")]
    if same:
        record.note(f"{', '.join(same)}: equal to highest, not reduced on this device")


def _measure(
    base: Problem, net: Any, precision: str, dtype: str, steps: int
) -> dict[str, Any]:
    """Kernel, outputs and time of one precision, as float64 arrays."""
    wide = np.float64 if dtype == "float64" else np.float32
    network = cast(net, base.x_train, dtype)
    assert base.x_test is not None
    problem = dataclasses.replace(
        base,
        **network._asdict(),
        precision=precision,
        x_train=base.x_train.astype(wide),
        y_train=base.y_train.astype(wide),
        x_test=base.x_test.astype(wide),
    )
    finite = Finite(problem)
    linearized = Linearized(finite)
    seen: dict[str, Any] = {}
    rows = min(ROWS, len(problem.x_train))
    params, constant = jax.tree.map(
        lambda leaf: leaf[0], (finite.initial, finite.constant)
    )
    apply = lambda p, x: problem.apply(p, constant, x)
    with jax.default_matmul_precision(precision):
        x = jnp.asarray(problem.x_train[:rows])
        ntk = jax.jit(structured_ntk(apply))(params, x)
    seen["ntk"] = np.asarray(ntk, np.float64)
    for predictor in (finite, linearized):
        state = predictor.start()
        took = clock(lambda p=predictor, s=state: p.advance(s, 0, steps), 0.5, 3)
        seen[f"{predictor.name} step"] = took.seconds / steps
        end = predictor.observe(predictor.advance(state, 0, steps), steps, False)
        seen[predictor.name] = np.asarray(end["outputs/test"][0], np.float64)
    return seen


def _compare(seen: dict[str, Any], truth: dict[str, Any]) -> Row:
    """Columns of one precision beside float64; outputs are f - f_0, so they moved."""
    norm = np.linalg.norm
    off = lambda name: float(norm(seen[name] - truth[name]) / norm(truth[name]))
    distance = norm(seen["finite"] - seen["linearized"]) / norm(seen["linearized"])
    values = lambda ntk: np.linalg.eigvalsh((ntk + ntk.T) / 2)
    lowest, true_lowest = values(seen["ntk"])[0], values(truth["ntk"])[0]
    return {
        "kernel off by": off("ntk"),
        "lowest eigenvalue off by": float(abs(lowest / true_lowest - 1)),
        "network off by": off("finite"),
        "linearization off by": off("linearized"),
        "distance between them": float(distance),
        "us a step, network": seen["finite step"] * 1e6,
        "us a step, linearization": seen["linearized step"] * 1e6,
    }
