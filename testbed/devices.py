"""Seeds as one axis of one program: batched, one after another, or over devices."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

if hasattr(jax, "shard_map"):
    _shard_map = partial(jax.shard_map, check_vma=False)
else:  # jax < 0.8
    from jax.experimental.shard_map import shard_map

    _shard_map = partial(shard_map, check_rep=False)


def over_seeds(fn: Callable, seeds: int, axis: str = "auto") -> Callable:
    """Makes `fn(per_seed, shared)` act on a leading seed axis of `per_seed`.

    On accelerators the seeds are batched (`jax.vmap`); on CPU, where batched matrix
    products are slower than plain ones, they run one after another (`jax.lax.map`).
    With several devices the seed axis is split over as many of them as divide it.

    Args:
      fn: pure function of a pytree of one seed and a pytree that all seeds share.
      seeds: length of the seed axis.
      axis: "vmap", "map", or "auto".

    Returns:
      A jitted function of (per_seed with leading axis, shared).
    """
    batched = batches_seeds(axis)

    def local(per_seed, shared):
        one = lambda s: fn(s, shared)
        return jax.vmap(one)(per_seed) if batched else jax.lax.map(one, per_seed)

    devices = seed_devices(seeds)
    if len(devices) > 1:
        mesh = Mesh(np.asarray(devices), ("seeds",))
        split, whole = PartitionSpec("seeds"), PartitionSpec()
        local = _shard_map(local, mesh=mesh, in_specs=(split, whole), out_specs=split)
    return jax.jit(local)


def batches_seeds(axis: str) -> bool:
    """Whether `over_seeds` makes one batched program of all seeds, for this `axis`."""
    return axis == "vmap" or (axis == "auto" and jax.default_backend() != "cpu")


def seed_devices(seeds: int) -> list:
    """As many local devices as divide the number of seeds evenly."""
    devices = jax.local_devices()
    count = max(k for k in range(1, len(devices) + 1) if seeds % k == 0)
    return devices[:count]
