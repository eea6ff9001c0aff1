"""Networks drawn in law, beside nothing but their random numbers."""

import time

import numpy as np
import sampling as peer  # benchmarks/sampling.py

from accelerator_parts.recorder import Recorder, clock
from testbed.laws.log_gaussian import resnet_log_norm
from testbed.sampling.stream import batch_size

TITLE = "Networks at initialization, drawn in law"
WHY = (
    "log(|z_d|^2 / |z_0|^2) of Balanced networks with n = d = 128, beside as many "
    "Gaussian numbers of jax.random alone; and the moments beside the log-Gaussian law."
)
SIZE, NETWORKS = 128, 10**7


def run(record: Recorder) -> None:
    """A batch first, for the pace; then 10^7 networks, or what there is time for."""
    n = 8 if record.quick else SIZE
    pilot = 1000 if record.quick else batch_size(n)
    wanted = 1000 if record.quick else NETWORKS
    paces = {}

    def alone():
        took = clock(peer.numbers(n, pilot), 0.5, 5)
        return {"networks": pilot, **took.columns(), **_rate(n, pilot, took.seconds)}

    def drawn():
        took = clock(lambda: peer.drawn(n, pilot), 0.5, 5)
        paces["network"] = took.seconds / pilot
        return {"networks": pilot, **took.columns(), **_rate(n, pilot, took.seconds)}

    record.case(f"random numbers alone, n = d = {n}", alone)
    record.case(f"networks, n = d = {n}", drawn)
    if "network" not in paces:
        return
    while wanted * paces["network"] * 2.5 > record.left() and wanted > pilot:
        wanted //= 10
    if wanted < NETWORKS and not record.quick:
        seconds = NETWORKS * paces["network"]
        record.note(f"10^7 networks would take {seconds:.0f} s here")

    def many():
        peer.drawn(n, wanted if record.quick else 2 * pilot)  # compiles what is needed
        start = time.perf_counter()
        x = peer.drawn(n, wanted)
        seconds = time.perf_counter() - start
        numbers = clock(peer.numbers(n, wanted), 0.0, 1)
        law = resnet_log_norm(n, n, 0.5**0.5, 0.5**0.5, balanced=True)
        error = x.std() / len(x) ** 0.5
        return {
            "networks": wanted,
            "s": seconds,
            **_rate(n, wanted, seconds),
            "numbers alone s": numbers.seconds,
            "x numbers": seconds / numbers.seconds,
            "mean": f"{x.mean():.4f} ± {error:.4f}",
            "law's mean": f"{law.mean():.4f}",
            "variance": f"{np.var(x):.4f}",
            "law's variance": f"{law.var():.4f}",
        }

    record.case(f"{wanted:,} networks, n = d = {n}", many)


def _rate(n: int, networks: int, seconds: float):
    return {"1e9 numbers/s": networks * n * (n + 1) / seconds / 1e9}
