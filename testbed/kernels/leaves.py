"""Which leaves of a parameter tree a tangent kernel is of, and which are held fixed."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from testbed.errors import UserError

_NAMED = 5  # fixed leaves that a warning names


def is_trained(leaf) -> bool:
    """Whether there are derivatives by it: real and complex numbers, not integers."""
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.inexact)


def warn_of_fixed(params) -> None:
    """Warns once of leaves without derivatives: integers, booleans, PRNG keys.

    Raises:
      UserError: a leaf that is no array.
    """
    fixed = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = f"params{jax.tree_util.keystr(path)}"
        try:
            if not is_trained(leaf):
                fixed.append(f"{name} ({jnp.asarray(leaf).dtype})")
        except TypeError:
            raise UserError(
                name, type(leaf).__name__, "must be an array", "leave it out of params"
            ) from None
    if fixed:
        more = f" and {len(fixed) - _NAMED} more" if len(fixed) > _NAMED else ""
        warnings.warn(
            f"held fixed, not real or complex: {', '.join(fixed[:_NAMED])}{more}",
            stacklevel=3,
        )


def real_leaves(params) -> tuple[list[jax.Array], Callable[[list], Any]]:
    """The leaves as arrays, a complex one as its real and imaginary parts.

    Returns:
      The leaves, and the function that makes `params` of such a list.
    """
    leaves, tree = jax.tree.flatten(params)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    split = [jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves]
    parts = []
    for leaf, in_two in zip(leaves, split, strict=True):
        parts += [leaf.real, leaf.imag] if in_two else [leaf]

    def rebuild(parts):
        rest = iter(parts)
        whole = [
            lax.complex(next(rest), next(rest)) if s else next(rest) for s in split
        ]
        return jax.tree.unflatten(tree, whole)

    return parts, rebuild
