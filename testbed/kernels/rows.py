"""Whether a network evaluates the rows of a batch one by one."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from testbed.errors import UserError
from testbed.kernels.leaves import is_trained

# Of float types below single precision, in the text of a program.
_COARSE = {"bf16": jnp.bfloat16, "f16": jnp.float16}
_INFERENCE = "use its form for inference, or check_rows=False for that of single rows"
_DISPLACEMENT = 0.1  # of a parameter, in units of the root mean square of its leaf


def check_single_row(apply_fn, params, x) -> None:
    """Raises a `UserError` unless one row (1, ...) gives real outputs (1, C)."""
    row = jax.ShapeDtypeStruct((1, *np.shape(x)[1:]), x.dtype)
    try:
        out = jax.eval_shape(apply_fn, params, row)
    except Exception as error:  # of other people's code, whatever it is
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        raise UserError(
            "apply_fn",
            f"fails for one row ({reason})",
            "must take batches of one row: rows are differentiated one at a time",
            "let it take any number of rows",
        ) from error
    if len(getattr(out, "shape", ())) != 2 or out.shape[0] != 1:
        raise UserError(
            "apply_fn",
            f"returns {getattr(out, 'shape', type(out).__name__)} for one row",
            "must return (1, outputs)",
            "squeeze no axis, and let no axis mix with that of the rows",
        )
    check_outputs(out)


def check_outputs(out) -> None:
    """Raises a `UserError` unless the outputs are real floating-point numbers."""
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise UserError(
            "apply_fn",
            f"returns {out.dtype}",
            "must return real floating-point outputs",
            "give real and imaginary parts as outputs of their own"
            if jnp.issubdtype(out.dtype, jnp.complexfloating)
            else "return what is before rounding",
        )


def check_independent_rows(
    apply_fn, params, x1, x2=None, remedy: str = _INFERENCE
) -> None:
    """Refuses functions in which an output depends on the other rows of its batch.

    The first, middle and last rows (of x1, and of x2) are evaluated together and one by
    one; every row but the first also sees a mask of the batch's shape shift.  This is
    done at `params` and at a point near by, so that a layer that starts at zero hides
    nothing.  Round-off of products of other shapes stays far below the root of the unit
    round-off of the coarsest precision in the program, which is the tolerance relative
    to the largest output.

    Raises:
      UserError: outputs that differ.
    """
    few = lambda x: x[np.unique([0, len(x) // 2, len(x) - 1])]
    rows = few(x1) if x2 is None else jnp.concatenate([few(x1), few(x2)])
    if len(rows) < 2:
        return
    tolerance = unit_roundoff(apply_fn, params, rows) ** 0.5
    for at in (params, _displaced(params)):
        together, alone = (np.asarray(f, np.float64) for f in _both(apply_fn, at, rows))
        finite = np.isfinite(together) & np.isfinite(alone)
        if (np.isfinite(together) != np.isfinite(alone)).any():
            change = "become finite or not"
        else:
            largest = np.abs(together[finite]).max(initial=0)
            gap = np.abs(together - alone)[finite].max(initial=0)
            if gap <= tolerance * largest:
                continue
            change = (
                f"move by {gap / largest:.2g} of the largest" if largest else "move"
            )
        raise UserError(
            "apply_fn",
            f"outputs {change} with the other rows of the batch",
            "rows must not interact, as in dropout or batch norm in training mode",
            remedy,
        )


@functools.partial(jax.jit, static_argnums=0)
def _both(apply_fn, params, rows):
    alone = jax.vmap(lambda row: apply_fn(params, row[None])[0])(rows)
    return apply_fn(params, rows), alone


def unit_roundoff(apply_fn, params, rows) -> float:
    """That of the coarsest precision in the program of apply_fn(params, rows)."""
    traced = jax.make_jaxpr(apply_fn)(params, rows)
    found = set(re.findall(r"\b(bf16|f16)\[", str(traced)))
    dtypes = [_COARSE[name] for name in found] + [traced.out_avals[0].dtype]
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes)


@jax.jit
def _displaced(params):
    leaves, tree = jax.tree.flatten(params)
    for i, leaf in enumerate(leaves):
        if is_trained(leaf):
            leaf = jnp.asarray(leaf)
            size = jnp.sqrt(jnp.mean(jnp.abs(leaf) ** 2)) if leaf.size else 1.0
            scale = _DISPLACEMENT * jnp.where(size > 0, size, 1)
            noise = jax.random.normal(jax.random.key(i), leaf.shape, leaf.dtype)
            leaves[i] = leaf + (scale * noise).astype(leaf.dtype)
    return jax.tree.unflatten(tree, leaves)
