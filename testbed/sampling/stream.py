"""Batches of networks through one compiled program, over as many devices as there are.

Batch i is drawn from fold_in(key, i), whatever the number of devices, so that results
depend on the key and on the batch size only.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from testbed.arguments import whole
from testbed.devices import over_seeds
from testbed.errors import UserError
from testbed.numerics import float64
from testbed.sampling.architecture import Architecture, Scales

Tree = Any
Draw = Callable[[jax.Array, Architecture, Scales, int, jax.Array, Any], Tree]

# Numbers in one batch: it should stay in a core's cache; accelerators want more.
_BATCH_NUMBERS = {"cpu": 2**18}
_BATCH_NUMBERS_ELSEWHERE = 2**25
# Random numbers in one call, between two looks at the clock.
_CALL_NUMBERS = {"cpu": 2**27}
_CALL_NUMBERS_ELSEWHERE = 2**33
_CALL_NETWORKS = 2**20  # whose results are on the host at a time


def check_samples(samples: int, least: int = 2) -> int:
    """The number of samples as an int, as many as a variance needs.

    Raises:
      UserError: fewer, or a number that is not whole.
    """
    return whole("samples", samples, least)


def batch_size(numbers: int) -> int:
    """Networks in a batch, when one network holds so many numbers at a time."""
    room = _BATCH_NUMBERS.get(jax.default_backend(), _BATCH_NUMBERS_ELSEWHERE)
    return max(1, room // numbers)


def stream(
    draw: Draw,
    key: jax.Array,
    shape: Architecture,
    scales: Scales,
    samples: int,
    *,
    batch: int,
    shared: Any = None,
    start: int = 0,
) -> Iterator[tuple[int, Tree]]:
    """Yields (samples drawn so far, results) until `samples` networks are drawn.

    Args:
      draw: ``draw(key, shape, scales, batch, counted, shared)`` draws a batch;
        `counted` (batch,) is False for networks beyond `samples` in the last one.  A
        module-level function: its compiled form is kept.
      key: root key.
      shape: what of the network is compiled.
      scales: its branch weights.
      samples: how many networks.
      batch: networks in a batch, or the power of two at or above `samples` if that is
        less.  Where networks lead the shapes that are drawn, they are the same ones.
      shared: a further pytree of arrays, handed on to `draw`.
      start: samples drawn before, a multiple of `batch` or all.

    The results of a call have a leading axis over its batches, on the host.
    """
    batch = min(batch, 1 << (samples - 1).bit_length())
    if start < samples and start % batch:
        rule = f"is no multiple of the batch, {batch} networks on this device"
        remedy = "resume it on the kind of device where it began"
        raise UserError("start", start, rule, remedy)
    batches = -(-samples // batch)
    room = _CALL_NUMBERS.get(jax.default_backend(), _CALL_NUMBERS_ELSEWHERE)
    devices = jax.local_device_count()
    each = batch * shape.width * shape.depth
    most = min(max(room // each, 1), max(_CALL_NETWORKS // batch, 1))
    length = min(most * devices, -(-batches // devices) * devices)
    program = _compiled(draw, shape, batch, length)
    done = -(-start // batch)
    while done < batches:
        index = np.arange(done, done + length)
        constant = {"key": key, "scales": scales, "samples": samples, "more": shared}
        with float64():
            out = program(jnp.asarray(index), constant)
        done = min(done + length, batches)
        kept = done - int(index[0])
        yield (
            min(done * batch, samples),
            jax.tree.map(lambda a, kept=kept: np.asarray(a)[:kept], out),
        )


@functools.lru_cache(maxsize=64)
def _compiled(draw: Draw, shape: Architecture, batch: int, length: int):
    def one(index, shared):
        counted = index * batch + jnp.arange(batch) < shared["samples"]
        key = jax.random.fold_in(shared["key"], index)
        return draw(key, shape, shared["scales"], batch, counted, shared["more"])

    return over_seeds(one, length, "map")
