"""Times sampling in law beside networks with weights, and prints the ratios.

    python benchmarks/sampling.py [--quick | --full]

Balanced ResNets, alpha = lam = 1/sqrt(2), n = d.  Drawn in law, a layer costs n random
numbers; with weights, n^2.  Beside `sample_log_norm`: the Flax networks of
`layers_with_weights` (jitted, one after another on a CPU), and a NumPy loop with weight
matrices.  Second, `sample_log_norm` beside nothing but its random numbers, as many of
`jax.random.normal` in the same batches.  `--full` draws the 10^6 networks too.

All are timed in turns in one process; medians of the turns.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from models import BalancedResNet, BranchScaling
from testbed.devices import over_seeds
from testbed.numerics import use_float64
from testbed.sampling import sample_log_norm
from testbed.sampling.stream import batch_size
from testbed.sampling.weights import layers_with_weights

SCALE = 0.5**0.5
MILLION = 1_000_000


def seconds(run, *args):
    start = time.perf_counter()
    run(*args)
    return time.perf_counter() - start


def drawn(n, networks):
    key = jax.random.key(1)
    scales = dict(alpha=SCALE, lam=SCALE, balanced=True)
    return sample_log_norm(key, networks, width=n, depth=n, **scales)


def flax(n, networks):
    branch = BranchScaling.fixed(SCALE, SCALE)
    net = BalancedResNet(width=n, depth=n, out_features=1, branch=branch)
    return layers_with_weights(jax.random.key(1), networks, net).log_norm[:, -1]


def plain(n, networks):
    """log(|z_d|^2 / |z_0|^2) of networks with float32 weight matrices, in NumPy."""
    rng = np.random.default_rng(1)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    out = []
    for _ in range(networks):
        z = start = normal(n)
        for _ in range(n):
            signs = rng.choice(np.float32([-1, 1]), n)
            h = normal(n, n) @ np.maximum(signs * z, 0)
            z = np.float32(SCALE) * (z + np.float32((2 / n) ** 0.5) * h)
        out.append(np.log((z @ z) / (start @ start)))
    return np.asarray(out)


def numbers(n, networks):
    """As many Gaussian numbers as `sample_log_norm` draws, in the same batches."""
    batch = batch_size(n)
    batches = -(-networks // batch)

    def one(index, key):
        key = jax.random.fold_in(key, index)

        def layer(total, i):
            g = jax.random.normal(jax.random.fold_in(key, i), (batch, n), jnp.float32)
            return total + g.sum(), None  # without a use they would not be drawn

        return jax.lax.scan(layer, jnp.float32(0), jnp.arange(n + 1))[0]

    program = over_seeds(one, batches, "map")
    return lambda: jax.block_until_ready(
        program(jnp.arange(batches), jax.random.key(1))
    )


def beside_weights(sizes, turns):
    """Networks per second, drawn and with weights."""
    print(f"\n{'n = d':>6}{'in law /s':>12}{'Flax /s':>10}{'NumPy /s':>10}", end="")
    print(f"{'x Flax':>9}{'x NumPy':>9}{'x Flax / n':>12}{'mean, law and Flax':>24}")
    for n, counts in sizes:
        ways = {"law": drawn, "flax": flax, "numpy": plain}
        x, y, _ = (way(n, counts[name]) for name, way in ways.items())  # compiles
        times = {name: [] for name in ways}
        for _ in range(turns):
            for name, way in ways.items():
                times[name].append(seconds(way, n, counts[name]))
        rate = {name: counts[name] / statistics.median(times[name]) for name in ways}
        gain = rate["law"] / rate["flax"]
        print(
            f"{n:6}{rate['law']:12,.0f}{rate['flax']:10,.0f}{rate['numpy']:10,.0f}",
            end="",
        )
        print(f"{gain:9.0f}{rate['law'] / rate['numpy']:9.0f}{gain / n:12.2f}", end="")
        se = y.std() / len(y) ** 0.5
        print(f"{x.mean():12.3f} {y.mean():.3f}+-{se:.3f}", flush=True)


def beside_numbers(n, networks, turns):
    """Time of all the work against that of its random numbers; seconds a network."""
    floor = numbers(n, networks)
    drawn(n, networks), floor()
    pairs = [(seconds(drawn, n, networks), seconds(floor)) for _ in range(turns)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    count = networks * n * (n + 1)
    print(f"\nn = d = {n}, {networks:,} networks, {count:,} Gaussian numbers and signs")
    print(f"sample_log_norm            {ours:8.3f} s  {count / ours:.3g} numbers/s")
    print(f"jax.random.normal alone    {theirs:8.3f} s  {count / theirs:.3g} numbers/s")
    print(f"ratio                      {ours / theirs:8.2f}")
    return ours / networks


def main():
    use_float64()
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test")
    parser.add_argument("--full", action="store_true", help="draw 10^6 networks too")
    args = parser.parse_args()
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {device}, {jax.local_device_count()} device(s)")
    if args.quick:
        sizes = [(n, dict(law=200, flax=20, numpy=20)) for n in (4, 8)]
    else:
        sizes = [
            (32, dict(law=2**16, flax=1000, numpy=500)),
            (64, dict(law=2**14, flax=200, numpy=100)),
            (128, dict(law=2**12, flax=20, numpy=20)),
        ]
    turns = 1 if args.quick else 3
    beside_weights(sizes, turns)
    n, networks = (8, batch_size(8)) if args.quick else (128, 4 * batch_size(128))
    each = beside_numbers(n, networks, turns if args.quick else 5)
    print(f"10^6 networks, from this   {each * MILLION:8.1f} s")
    if args.full:
        taken = seconds(drawn, n, MILLION)
        print(f"10^6 networks, measured    {taken:8.1f} s")


if __name__ == "__main__":
    main()
