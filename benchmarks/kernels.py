"""Times the testbed's kernels beside neural-tangents' own, and prints the ratios.

    python benchmarks/kernels.py [--quick]

Empirical NTK: `structured_ntk` beside implementations 1 (Jacobian contraction), 2 (NTK
vector products) and 3 (structured derivatives), on a residual network whose layers are
written out and on the same network with a scanned depth.  Implementation 3 is left out
on the scanned one, where it asks for terabytes.  Infinite kernels: both routes beside
`stax.serial` with the depth written out, under jit.
"""

import argparse
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import ResNet
from testbed.kernels import infinite_kernel, structured_ntk
from testbed.kernels.neural_tangents import lenient, nt
from testbed.numerics import use_float64

WIDTH = 64
INPUTS = 64


class Unrolled(nn.Module):
    """The ResNet of `models` with its layers written out, standard parameterization."""

    depth: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        """Maps (batch, n_in) to (batch, outputs)."""
        z = nn.Dense(WIDTH)(x)
        for _ in range(self.depth):
            z = z + nn.Dense(WIDTH)(nn.relu(z)) / self.depth**0.5
        return nn.Dense(self.outputs)(z)


def clock(make, *args, repeats=5):
    """Seconds to compile, and the median of `repeats` runs."""
    start = time.perf_counter()
    run = jax.jit(make).lower(*args).compile()
    compiled = time.perf_counter() - start
    jax.block_until_ready(run(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(*args))
        times.append(time.perf_counter() - start)
    mib = run.memory_analysis().temp_size_in_bytes / 2**20
    return compiled, statistics.median(times), mib


def table(title, rows):
    """Prints (name, (compile, run, MiB)) rows, with ratios to the first."""
    print(f"\n{title}")
    print(f"{'':34}{'compile s':>10}{'run s':>10}{'temp MiB':>10}", end="")
    print(f"{'x compile':>11}{'x run':>8}{'x memory':>10}")
    base = rows[0][1]
    for name, measured in rows:
        print("{:34}{:10.2f}{:10.4f}{:10.1f}".format(name, *measured), end="")
        ratios = [a / max(b, 1e-9) for a, b in zip(measured, base, strict=True)]
        print(f"{ratios[0]:11.1f}{ratios[1]:8.1f}{ratios[2]:10.1f}", flush=True)


def empirical(title, net, n, implementations):
    """One network: ours, then theirs."""
    x = jax.random.normal(jax.random.key(0), (n, INPUTS), jnp.float32)
    params = jax.jit(net.init)(jax.random.key(1), x)["params"]
    f = lambda p, x: net.apply({"params": p}, x)
    rows = [("structured_ntk", clock(structured_ntk(f), params, x))]
    for name in implementations:
        options = {"implementation": nt.NtkImplementation[name], "vmap_axes": 0}
        with lenient():
            theirs = nt.empirical_ntk_fn(f, trace_axes=(-1,), **options)
            call = lambda p, x, g=theirs: g(x, None, p)
            rows.append((f"nt {name.lower()}", clock(call, params, x, repeats=3)))
    table(title, rows)


def infinite(depth, n):
    """Scan over depth beside `stax.serial`."""
    stax, lam = nt.stax, depth**-0.5
    x = jax.random.normal(jax.random.key(0), (n, INPUTS), jnp.float64)
    rows = []
    for route in ("recursion", "neural_tangents"):
        kernel_fn = infinite_kernel(ResNet(depth=depth), route=route)
        rows.append((f"infinite_kernel, {route}", clock(kernel_fn, x)))
    with lenient():
        branch = stax.serial(stax.Relu(), stax.Dense(1, W_std=lam * 2**0.5))
        skip = stax.parallel(stax.Identity(), branch)
        block = stax.serial(stax.FanOut(2), skip, stax.FanInSum())
        serial = stax.serial(stax.Dense(1), *[block] * depth, stax.Dense(1))
        unrolled = lambda x: serial[2](x, None, ("nngp", "ntk"))
        rows.append(("stax.serial", clock(unrolled, x)))
    table(f"Infinite kernels, depth {depth}, {n} inputs, float64", rows)


def main():
    use_float64()
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test")
    quick = parser.parse_args().quick
    depth, n, outputs = (2, 4, 2) if quick else (16, 128, 10)
    names = [i.name for i in nt.NtkImplementation if i.name != "AUTO"]
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, medians of 3 to 5")
    size = f"width {WIDTH}, depth {depth}, {n} rows, {outputs} outputs, float32"
    empirical(f"Unrolled, {size}", Unrolled(depth, outputs), n, names)
    scanned = ResNet(width=WIDTH, depth=depth, out_features=outputs)
    empirical(f"Scanned, {size}", scanned, n, names[:2])
    for depth in (3, 5) if quick else (64, 256):
        infinite(depth, n)


if __name__ == "__main__":
    main()
