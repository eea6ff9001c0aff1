"""What a comparison takes of memory, told from shapes before anything is made."""

from functools import partial
from typing import Any

import jax

from testbed.devices import batches_seeds
from testbed.dynamics.problem import Network
from testbed.errors import UserError
from testbed.kernels.factors import jacobian_factors
from testbed.kernels.memory import USABLE, available_bytes, readable
from testbed.runs.foreign_data import Examples

# Of what the way back keeps, counted with XLA's memory_analysis.
_KEPT = 1.7


def check_memory_of(
    network: Network, one: tuple[Any, Any], examples: Examples, options: Any
) -> None:
    """Raises UserError for a size whose arrays the device's memory cannot hold.

    Args:
      network: the functions.
      one: (params, constants) of one network, arrays or their shapes.
      examples: with coded targets.
      options: of the comparison.
    """
    available, o = available_bytes(), options

    def check(field: str, value: int, what: str, needed: float, remedy: str) -> None:
        if needed > USABLE * available:
            rule = f"{what} {readable(int(needed))} of {readable(available)} available"
            raise UserError(field, value, rule, remedy)

    remedy = "lower seeds, or take a smaller network or fewer examples"
    needed = training_bytes(network, one, examples, o)
    check("seeds", o.seeds, "training takes", needed, remedy)
    if o.batch_size:
        needed = 8 * o.steps * o.batch_size
        check("steps", o.steps, "its batches take", needed, "lower steps")
    probes = o.probes * len(examples.inputs)
    row = jax.ShapeDtypeStruct((1, *examples.x_train.shape[1:]), examples.x_train.dtype)
    factors = jax.eval_shape(
        lambda p, c, x: jacobian_factors(lambda p, x: network.apply(p, c, x), p, x),
        *one,
        row,
    )
    if probes:
        # Twice the factors: as many intermediates.
        needed = 2 * probes * _bytes(factors) + 24 * probes**2
        check("probes", o.probes, "its kernels take", needed, "lower probes")
    outputs = sum(y.nbytes for y in examples.targets.values())
    needed = o.times * o.seeds * (2 * outputs + 8 * probes**2)
    check("times", o.times, "what is recorded takes", needed, "lower times or seeds")


def training_bytes(
    network: Network, one: tuple[Any, Any], examples: Examples, options: Any
) -> int:
    """Bytes of parameters, displacements, optimizer states and activations.

    What the way back keeps of the way there is read off the derivative of the network
    itself, evaluated abstractly; the rest is counted as for our own networks
    (`testbed.runs.memory.training_bytes`).
    """
    o, (params, constants) = options, one
    x = examples.x_train
    batch = jax.ShapeDtypeStruct((o.batch_size or len(x), *x.shape[1:]), x.dtype)

    def way_back(params: Any, constants: Any, x: Any) -> Any:
        apply = partial(lambda c, x, p: network.apply(p, c, x), constants, x)
        return jax.vjp(apply, params)[1]

    size = _bytes(params)
    kept = max(_bytes(jax.eval_shape(way_back, params, constants, batch)) - size, 0)
    in_flight = o.seeds if batches_seeds("auto") else 1
    states = {"momentum": 2, "adam": 3}.get(o.optimizer, 1)
    copies = o.seeds * (1 + 3 * states) + 3.3 * in_flight
    every = o.seeds * _bytes(constants) + sum(x.nbytes for x in examples.inputs)
    return int(size * copies + _KEPT * kept * in_flight + every)


def _bytes(tree: Any) -> int:
    """Of arrays or their shapes; random keys count as what they hold."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return sum(leaf.size * getattr(leaf.dtype, "itemsize", 8) for leaf in leaves)
