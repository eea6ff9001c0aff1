"""The empirical NTK of any network f(params, x), checked, in blocks of rows."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from testbed.errors import RunError, UserError
from testbed.kernels.factors import jacobian_factors
from testbed.kernels.leaves import warn_of_fixed
from testbed.kernels.memory import USABLE, available_bytes, check_memory
from testbed.kernels.rows import check_independent_rows, check_single_row
from testbed.kernels.structured import contract, structured_ntk
from testbed.kernels.tiles import check_block_rows, take_rows, tiles
from testbed.numerics import in_float64, is_traced


def empirical_ntk(
    apply_fn: Callable,
    params,
    x1,
    x2=None,
    *,
    trace_outputs: bool = True,
    block_rows: int | None = None,
    memory_limit: int | None = None,
    check_rows: bool = True,
) -> Any:
    """Empirical NTK of a network at `params`.

        Theta(x, x')_{c c'} = sum_p d f_c(x) / d theta_p  d f_c'(x') / d theta_p

    Dense and convolution layers, scanned or not, contribute through Gram products of
    their inputs and cotangents, other parameters through their Jacobians; see
    `testbed.kernels.structured`, whose `structured_ntk` is the form without checks for
    use inside `jit`, `vmap` and `lax.map`.  (With traced arguments this function is
    that one.)

    Args:
      apply_fn: pure, (params, x) -> (B, C), real, each row of it from one row of x.
        Compilations are kept for the function object: pass the same one again, rather
        than a new lambda.
      params: any pytree of arrays.  A complex leaf counts as its real and imaginary
        parts; others that are not floating point are held fixed, with a warning that
        names them.
      x1: (N1, ...).
      x2: (N2, ...), or None for x1; each half of the kernel is then computed once and
        the result is exactly symmetric.
      trace_outputs: (N1, N2), the average over outputs sum_c Theta_cc / C (neural-
        tangents' `trace_axes=(-1,)`); else (N1, N2, C, C).
      block_rows: compute in tiles of this many rows and columns.  Memory beyond the
        result is that of one tile.  None: in one piece.
      memory_limit: bytes that may be used; None: what is available now.
      check_rows: evaluate up to six rows together and one by one, and refuse a network
        whose rows interact (batch normalization in training mode, dropout).  False
        takes the network as acting on single rows.

    Returns:
      Theta, float64, of NumPy: products are in the precision of the network, their sum
      over layers in float64.  A float32 network gives 1e-6, a float64 one 1e-14,
      relative to the largest entry.  The network is traced in the caller's
      configuration of jax, of which nothing is changed.

    Raises:
      UserError: outputs that are not real or not (B, C), rows that interact, inputs of
        other shape, or a kernel that cannot fit into memory; before anything is
        allocated.
      RunError: a kernel that is not finite.

    Source: Novak, Sohl-Dickstein & Schoenholz 2022, arXiv:2206.08720.

    Example:
      >>> net = ResNet(width=64, depth=8)
      >>> variables = net.init(jax.random.key(0), jnp.ones((2, 64)))
      >>> f = lambda params, x: net.apply({"params": params}, x)
      >>> empirical_ntk(f, variables["params"], jnp.ones((2, 64))).shape
      (2, 2)
    """
    check_block_rows(block_rows)
    x1, x2 = _array(x1), None if x2 is None else _array(x2)
    arguments = jax.tree.leaves((params, x1, x2))
    if is_traced(arguments):
        if block_rows is not None:
            raise UserError(
                "block_rows", block_rows, "needs concrete arrays", "leave it out"
            )
        return structured_ntk(apply_fn, trace_outputs=trace_outputs)(params, x1, x2)

    warn_of_fixed(params)
    _check_shapes(apply_fn, params, x1, x2)
    _check_memory(apply_fn, params, x1, x2, trace_outputs, block_rows, memory_limit)
    if check_rows:
        check_independent_rows(apply_fn, params, x1, x2)
    ntk = functools.partial(_ntk, apply_fn, trace_outputs, params)
    if block_rows is None:
        kernel = ntk(x1, x2)
    else:
        kernel = _in_tiles(ntk, np.asarray(x1), x2, block_rows)
    if not np.isfinite(kernel).all():
        raise RunError("empirical NTK is not finite: outputs or parameters overflow")
    return kernel


def _ntk(apply_fn, trace_outputs, params, x1, x2):
    """The network is traced as its owner would; what it gives is summed in float64."""
    f1 = factors(apply_fn, params, x1)
    f2 = None if x2 is None else factors(apply_fn, params, x2)
    return contraction(trace_outputs, f1, f2)


factors = jax.jit(jacobian_factors, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _contraction(trace_outputs, f1, f2):
    """The kernel of rows and rows, (N1, N2) or (N1, N2, C, C); f2 None is f1."""
    kernel = contract(f1, f1 if f2 is None else f2, trace_outputs)
    return (kernel + _transposed(kernel)) / 2 if f2 is None else kernel


contraction = in_float64(_contraction)


def _array(x):
    return x if hasattr(x, "shape") else np.asarray(x)


def _transposed(kernel):
    """Exchanges the two examples, and with them their outputs."""
    return kernel.transpose(1, 0, *range(kernel.ndim - 1, 1, -1))


def _in_tiles(ntk, x1, x2, rows: int) -> np.ndarray:
    symmetric = x2 is None
    x2 = x1 if symmetric else np.asarray(x2)
    n1, n2 = len(x1), len(x2)
    kernel = None
    for i, j in tiles(n1, n2, rows, symmetric):
        other = None if symmetric and i == j else take_rows(x2, j, rows)
        tile = np.asarray(ntk(take_rows(x1, i, rows), other))
        if kernel is None:
            kernel = np.empty((n1, n2, *tile.shape[2:]))
        tile = tile[: n1 - i, : n2 - j]
        kernel[i : i + rows, j : j + rows] = tile
        if symmetric:
            kernel[j : j + rows, i : i + rows] = _transposed(tile)
    return kernel  # pyright: ignore[reportReturnType]


def _check_shapes(apply_fn, params, x1, x2) -> None:
    for name, x in (("x1", x1), ("x2", x2)):
        if x is None:
            continue
        if np.ndim(x) < 1 or len(x) < 1 or np.shape(x)[1:] != np.shape(x1)[1:]:
            raise UserError(
                name,
                f"array of shape {np.shape(x)}",
                "must be (examples, ...), not empty, rows shaped alike in x1 and x2",
                "reshape it",
            )
    out = jax.eval_shape(apply_fn, params, x1)
    if getattr(out, "ndim", None) != 2 or out.shape[0] != len(x1):
        raise UserError(
            "apply_fn",
            f"returns {getattr(out, 'shape', type(out).__name__)}",
            "must return (examples, outputs)",
            "wrap it, e.g. lambda p, x: f(p, x).reshape(len(x), -1)",
        )
    check_single_row(apply_fn, params, x1)


def _check_memory(
    apply_fn, params, x1, x2, trace_outputs, block_rows, memory_limit
) -> None:
    """Estimates the memory from shapes alone; refuses, and says what would do."""
    n1, n2 = len(x1), len(x1 if x2 is None else x2)
    n_out = jax.eval_shape(apply_fn, params, x1).shape[1]
    entry = 8 if trace_outputs else 8 * n_out**2
    one_row = jax.eval_shape(
        functools.partial(jacobian_factors, apply_fn),
        params,
        jax.ShapeDtypeStruct((1, *np.shape(x1)[1:]), x1.dtype),
    )
    per_row = sum(f.size * f.dtype.itemsize for f in jax.tree.leaves(one_row))

    def needed(rows: int | None) -> int:
        height, width = (n1, n2) if rows is None else (min(rows, n1), min(rows, n2))
        # Twice the factors: as many intermediates.  Three tiles: sum, term, output.
        tile = 2 * per_row * (height + width) + 3 * height * width * entry
        return tile if rows is None else tile + n1 * n2 * entry

    available = available_bytes() if memory_limit is None else memory_limit
    rows = min(block_rows or max(n1, n2), max(n1, n2))
    while rows > 1 and needed(rows) > USABLE * available:
        rows //= 2
    if needed(rows) <= USABLE * available:
        remedy = f"set block_rows={rows}"
    else:
        remedy = "take fewer examples" + (
            "" if trace_outputs else " or trace_outputs=True"
        )
    outputs = "" if trace_outputs else f" x {n_out} x {n_out}"
    check_memory(
        "kernel",
        needed(block_rows),
        f"{n1} x {n2}{outputs}",
        available=available,
        remedy=remedy,
    )
