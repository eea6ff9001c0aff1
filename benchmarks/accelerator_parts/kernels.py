"""Empirical kernels of several sizes, and infinite ones of thousands of inputs."""

import functools
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from accelerator_parts.profile import where_time_goes
from accelerator_parts.recorder import Recorder, clock
from models import BalancedResNet, BranchScaling, ResNet
from testbed.kernels import infinite_kernel, structured_ntk

TITLE = "Kernels"
WHY = (
    "Empirical NTK in float32 at the sizes that docs/experiments.md has (the default "
    "run, the largest networks of its map, benchmarks/kernels.py with layers written "
    "out and scanned, the preset), and at depth 512; infinite kernels in float64."
)
OUTPUTS = 10
# name -> (width, depth, rows, inputs, scanned)
EMPIRICAL = {
    "the default run": (32, 32, 96, 64, True),
    "the map's largest": (64, 64, 96, 64, True),
    "preset gpu": (1024, 256, 96, 784, True),
    "depth 512": (256, 512, 128, 784, True),
    "benchmarks/kernels.py, scanned": (64, 16, 128, 64, True),
    "benchmarks/kernels.py, written out": (64, 16, 128, 64, False),
}
INFINITE_DEPTH, INFINITE_INPUTS = 64, (2000, 10_000)


class WrittenOut(nn.Module):
    """A residual network whose layers are written out, as users' own may be."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, x):
        """Maps (batch, n_in) to (batch, OUTPUTS)."""
        z = nn.Dense(self.width)(x)
        for _ in range(self.depth):
            z = z + nn.Dense(self.width)(nn.relu(z)) / self.depth**0.5
        return nn.Dense(OUTPUTS)(z)


def run(record: Recorder) -> None:
    """A row for each empirical kernel, then for each infinite one."""
    for name, size in EMPIRICAL.items():
        if not record.quick:
            _empirical(record, name, *size)
    for scanned in (True, False) if record.quick else ():
        _empirical(record, f"scanned: {scanned}", 8, 4, 6, 8, scanned)
    depth = 3 if record.quick else INFINITE_DEPTH
    for inputs in (20,) if record.quick else INFINITE_INPUTS:
        _infinite(record, depth, inputs)


def _empirical(record, name, width, depth, rows, n_in, scanned) -> None:
    flops, bytes_moved = _cost(width, depth, rows, n_in)

    def measure():
        x = jax.random.normal(jax.random.key(0), (rows, n_in), jnp.float32)
        net: nn.Module = WrittenOut(width, depth)
        if scanned:
            net = BalancedResNet(width=width, depth=depth, out_features=OUTPUTS)
        variables = jax.jit(net.init)(jax.random.key(1), x)
        params = variables.pop("params")
        f = lambda p, x: net.apply({**variables, "params": p}, x)
        start = time.perf_counter()
        program = jax.jit(structured_ntk(f)).lower(params, x).compile()
        compiling = time.perf_counter() - start
        asked = program.memory_analysis()
        compute = functools.partial(program, params, x)
        took = clock(compute)
        if took.seconds > 1e-3:
            kept.append(compute)
        return {
            **took.columns(),
            "first call s": compiling + took.first,
            **record.beside_floor(
                took.seconds, flops=flops, moved=bytes_moved, iterations=2 * depth
            ),
            "GiB": asked.temp_size_in_bytes / 2**30 if asked else float("nan"),
        }

    kept: list = []
    seconds = flops / record.floor.get("highest", float("inf"))
    title = f"empirical, {name}: width {width}, depth {depth}, {rows} rows"
    needed = 4.0 * (width**2 * depth + 2 * rows * width * depth * (OUTPUTS + 1))
    row = record.case(title, measure, predicted=5 * seconds, needed=needed)
    if row and kept and name in ("preset gpu", "depth 512"):
        where_time_goes(record, f"empirical, {name}", kept[0])


def _cost(width: int, depth: int, rows: int, n_in: int) -> tuple[float, float]:
    """Operations and bytes: a pass forward, one back for each output, and the Grams.

    Factors of all layers are written once and read once; weights are read twice.
    """
    layer, factors = width * width, rows * width * (OUTPUTS + 1)
    passes = 2 * rows * (1 + OUTPUTS) * (depth * layer + n_in * width)
    grams = depth * 2 * rows * factors
    bytes_moved = 4 * depth * (2 * layer + 2 * factors)
    return float(passes + grams), float(bytes_moved)


def _infinite(record: Recorder, depth: int, inputs: int) -> None:
    n_in = 8 if record.quick else 784
    x = np.random.default_rng(0).standard_normal((inputs, n_in))
    x *= (n_in / np.sum(x**2, 1, keepdims=True)) ** 0.5
    net = ResNet(depth=depth, branch=BranchScaling.depth_scaled(1.0))
    kernel_fn = infinite_kernel(net)
    pairs = float(inputs) ** 2
    # Of each layer three arrays are read and written; then two are made symmetric.
    bytes_moved = 8 * pairs * (6 * depth + 6)
    floors = {
        "moved": bytes_moved,
        "special": pairs * depth,
        "flops": 6 * pairs * n_in,  # squares of differences and of sums
        "rate": "float64",
        "iterations": depth,
    }
    special = floors["special"] / record.floor.get("special", float("inf"))
    program = jax.jit(lambda x: kernel_fn(x)[:2])

    def on_device():
        there = jnp.asarray(x)
        took = clock(lambda: program(there))
        return {**took.columns(), **record.beside_floor(took.seconds, **floors)}

    def whole():
        took = clock(lambda: [np.asarray(k) for k in kernel_fn(x)[:2]])
        copied = {**floors, "host": 16 * pairs}
        return {**took.columns(), **record.beside_floor(took.seconds, **copied)}

    def in_tiles():
        rows = 8 if record.quick else 2048
        return clock(lambda: kernel_fn(x, block_rows=rows).ntk).columns()

    title, needed = f"infinite, depth {depth}, {inputs:,} inputs", 64 * pairs
    device = f"{title}, on the device"
    if (
        record.case(device, on_device, predicted=5 * special, needed=needed)
        and not record.quick
    ):
        where_time_goes(record, device, lambda: program(jnp.asarray(x)))
    record.case(f"{title}, to NumPy", whole, predicted=5 * special, needed=needed)
    record.case(f"{title}, in tiles of 2,048", in_tiles, predicted=5 * special)
