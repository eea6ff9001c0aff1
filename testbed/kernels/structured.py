"""The empirical NTK as a sum over parameters of small Gram products.

For a weight matrix applied at one position, with the factors of `factors.py`,

    <d f_c(x) / d W, d f_c'(x') / d W> = <h(x), h(x')> <delta_c(x), delta_c'(x')>,

so the kernel costs memory for layer inputs and cotangents, B (n + C m), where Jacobians
need B C n m.  With several positions the Jacobian of one layer at a time is formed, or
the Gram of all pairs of positions, whichever is smaller.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from testbed.kernels.factors import Dense, Plain, jacobian_factors
from testbed.kernels.leaves import warn_of_fixed
from testbed.numerics import check_float64


def structured_ntk(apply_fn: Callable, *, trace_outputs: bool = True) -> Callable:
    """Returns `ntk_fn(params, x1, x2=None)`, to be traced: by jit, vmap, lax.map, scan.

        Theta(x, x')_{c c'} = sum_p d f_c(x) / d theta_p  d f_c'(x') / d theta_p

    It does not look at numbers and works on all rows at once; `empirical_ntk` is the
    guarded form.  Parameters that are complex or fixed are treated as there.

    Args:
      apply_fn: pure, (params, x) -> (B, C), rows independent.
      trace_outputs: average the diagonal over outputs, sum_c Theta_cc / C (the
        convention of neural-tangents' `trace_axes=(-1,)`), giving (N1, N2); else
        (N1, N2, C, C).

    Returns:
      `ntk_fn`; its result is float64: products in the network's precision, their sum
      over layers in float64.  It refuses where 64-bit types are off, with a UserError.
    """

    def ntk_fn(params, x1, x2=None):
        check_float64()
        warn_of_fixed(params)
        return sum_over_parameters(apply_fn, trace_outputs, params, x1, x2)

    return ntk_fn


def sum_over_parameters(apply_fn, trace_outputs, params, x1, x2) -> jax.Array:
    """What `structured_ntk` returns, without its warning."""
    f1 = jacobian_factors(apply_fn, params, x1)
    f2 = f1 if x2 is None else jacobian_factors(apply_fn, params, x2)
    return contract(f1, f2, trace_outputs)


def contract(
    f1: dict[int, Dense | Plain], f2: dict[int, Dense | Plain], trace_outputs: bool
) -> jax.Array:
    """The kernel from two sets of factors; layers of one shape share one loop."""
    last = next(iter(f1.values()))[-1]
    n1, n_out = last.shape[1:3]
    n2 = next(iter(f2.values()))[-1].shape[1]
    shape = (n1, n2) if trace_outputs else (n1, n2, n_out, n_out)
    total = jnp.zeros(shape, jnp.float64)

    alike: dict[tuple, list[int]] = {}
    for i, factors in f1.items():
        key = (type(factors), *(f.shape[2:] for f in factors))
        alike.setdefault(key, []).append(i)
    for leaves in alike.values():
        pairs = [(f1[i], f2[i]) for i in leaves]
        a, b = jax.tree.map(lambda *parts: jnp.concatenate(parts), *pairs)

        def step(total, layer):
            gram = _gram(layer[0], layer[1], trace_outputs)
            return total + gram.astype(jnp.float64), None

        total, _ = jax.lax.scan(step, total, (a, b))
    return total / n_out if trace_outputs else total


def _gram(a, b, trace_outputs: bool) -> jax.Array:
    """Inner products of one parameter's Jacobians, (N1, N2) or (N1, N2, C, C)."""
    if isinstance(a, Dense):
        positions, n_in = a.h.shape[-2:]
        n_out, m = a.delta.shape[1], a.delta.shape[-1]
        if positions == 1:
            inputs = a.h[:, 0] @ b.h[:, 0].T
            if trace_outputs:
                flat = lambda d: d.reshape(len(d), -1)
                return inputs * (flat(a.delta) @ flat(b.delta).T)
            cotangents = jnp.einsum("bcm,edm->becd", a.delta[:, :, 0], b.delta[:, :, 0])
            return inputs[:, :, None, None] * cotangents
        n1, n2 = len(a.h), len(b.h)
        if trace_outputs and positions**2 * n1 * n2 < (n1 + n2) * n_out * n_in * m:
            inputs = jnp.einsum("btn,eun->betu", a.h, b.h)
            cotangents = jnp.einsum("bctm,ecum->betu", a.delta, b.delta)
            return jnp.sum(inputs * cotangents, (2, 3))
        a, b = _jacobian(a), _jacobian(b)
    if trace_outputs:
        return jnp.einsum("bcp,ecp->be", a.jacobian, b.jacobian)
    return jnp.einsum("bcp,edp->becd", a.jacobian, b.jacobian)


def _jacobian(factors: Dense) -> Plain:
    jacobian = jnp.einsum("btn,bctm->bcnm", factors.h, factors.delta)
    return Plain(jacobian.reshape(*jacobian.shape[:2], -1))
