"""Float64 and full precision, where they are needed and nowhere else.

Kernels, laws and solves run in float64, and matrix products at precision ``highest``:
the default of recent accelerators (TF32, bfloat16) errs by 1e-3, the size of the
finite-width effects measured here.  Networks and data stay float32 because they say so
themselves.

A library that switches 64-bit types on changes the random numbers and dtypes of whoever
imports it.  So nothing is set at import:

- Scripts own their process and call `use_float64` once.
- Public functions are wrapped in `in_float64`.  Of concrete arguments they open a
  context, compute, and return NumPy arrays: outside of the context a float64 array of
  jax becomes float32 under the next operation, without a word.  Of traced arguments, or
  inside somebody's `jit`, no context can be opened: there they need 64-bit types to be
  on, and say so where they are not.
- A function of the user's is traced outside of any context, in the user's own
  configuration: inside, it would draw other random numbers.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from threadpoolctl import threadpool_limits

from testbed.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

_ONE_THREAD_BELOW = 1500
if hasattr(jax, "enable_x64"):
    _enable_x64 = jax.enable_x64
else:  # jax < 0.8
    from jax.experimental import (  # pyright: ignore[reportMissingImports]
        enable_x64 as _enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
    )


def use_float64() -> None:
    """Switches 64-bit types and full precision on for this process, as scripts do.

    Call it before any array is made.
    """
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """A context with 64-bit types and full precision; not to be opened in a trace."""
    with _enable_x64(True), jax.default_matmul_precision("highest"):
        yield


def in_float64(function: F) -> F:
    """Makes `function` compute in float64 in whatever process it is called.

    Of concrete arguments (any pytrees) it returns NumPy arrays in place of jax's.

    Raises:
      UserError: it is traced, and 64-bit types are off.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        if is_traced((args, kwargs)):
            check_float64()
            with jax.default_matmul_precision("highest"):
                return function(*args, **kwargs)
        with float64():
            return jax.tree.map(_on_host, function(*args, **kwargs))

    return wrapped  # pyright: ignore[reportReturnType]


def is_traced(tree: Any) -> bool:
    """Whether there is a tracer among the leaves, or a trace under way."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
        return True
    return isinstance(jnp.zeros(()), Tracer)  # jit stages whatever is in it


def check_float64(what: str = "a kernel or law in float64 is traced here") -> None:
    """Raises a `UserError` where 64-bit types are off."""
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        rule = f"is off, and {what}"
        remedy = (
            'call jax.config.update("jax_enable_x64", True) at the start, or call it '
            "with arrays, outside of jit, vmap and grad"
        )
        raise UserError("jax_enable_x64", False, rule, remedy)


def _on_host(leaf: Any) -> Any:
    array = isinstance(leaf, jax.Array) and not _is_key(leaf)
    return np.asarray(leaf) if array else leaf


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def lapack(size: int) -> contextlib.AbstractContextManager:
    """Context for a dense decomposition of a matrix of this size on the CPU.

    Below 1500 rows one thread is used: OpenBLAS's threads spin while they wait for each
    other, and on cores that are shared a decomposition of 512 rows then takes 4 s
    instead of 0.04 s.
    """
    limit = 1 if size < _ONE_THREAD_BELOW else None
    return threadpool_limits(limit, user_api="blas")
