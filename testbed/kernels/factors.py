"""Layer factors of a network's Jacobian, read off its jaxpr.

A weight matrix W used once, in y = h W, has the Jacobian

    d f_c / d W = sum_t h_t (x) delta_ct,     delta_ct = d f_c / d y_t,

t running over the positions (pixels, tokens) at which W is applied.  h and delta are
small; their outer product is the size of W.  This module evaluates the jaxpr of
`f(params, x)` for a single row x, watches each parameter until it meets an input in a
product or a sum, and returns h and delta there.  It so needs no framework and no change
to the model, and follows parameters into `jit`, `remat` and `lax.scan` (Flax `nn.scan`:
a stacked parameter yields stacked factors).  A parameter used in another way, or twice,
gets its plain Jacobian: always right, only larger.

Source: layer factors: Novak, Sohl-Dickstein & Schoenholz 2022, arXiv:2206.08720.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from testbed.errors import UserError
from testbed.kernels.leaves import real_leaves
from testbed.kernels.rows import check_outputs

# Calls that are followed: primitive -> the parameter that holds its jaxpr.  `jit` and
# `remat` have gone by several names.  Calls with a derivative rule of their own
# (custom_jvp, custom_vjp) are not followed: their rule is what counts.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
}
# Of one operand: rearrange the entries of a parameter, or repeat them.
_REARRANGE = {"reshape", "broadcast_in_dim", "expand_dims", "squeeze", "transpose",
              "rev", "copy", "copy_p", "convert_element_type"}  # fmt: skip


class Dense(NamedTuple):
    """Jacobian of a weight matrix: sum_t h_t (x) delta_ct, for L stacked layers."""

    h: jax.Array  # (L, B, T, n)
    delta: jax.Array  # (L, B, C, T, m)


class Plain(NamedTuple):
    """Jacobian of any parameter, its entries in one axis, for L stacked layers."""

    jacobian: jax.Array  # (L, B, C, p)


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """A parameter on its way: value = factor * rearranged(leaf)."""

    leaf: int
    value: Any
    shape: tuple[int, ...]  # of the leaf, or of its slice within a scan
    dtype: Any
    factor: Any = 1.0
    steps: tuple = ()  # equations that rearranged it

    @property
    def intact(self) -> bool:
        """Every entry of the leaf occurs once in `value`."""
        return np.size(self.value) == math.prod(self.shape)

    def rearranged(self, leaf):
        """Applies to `leaf` what has been done to this parameter but for `factor`."""
        for eqn in self.steps:
            (leaf,) = _bind(eqn, leaf)
        return leaf


@dataclasses.dataclass
class _Use:
    """How a parameter meets an input: what is known before any number is."""

    factors: Callable  # (h, delta, number of leading axes) -> Dense or Plain
    scans: int = 0


class _Watch:
    """What one evaluation of the jaxpr finds out."""

    def __init__(self, nudges, plain: set[int], uses: dict[int, _Use]):
        self.nudges, self.plain, self.uses = nudges, plain, uses
        self.found: dict[int, Any] = {}

    def release(self, value):
        """A parameter used in a way that is not followed becomes an ordinary value."""
        if not isinstance(value, _Parameter):
            return value
        self.plain.add(value.leaf)
        return value.value

    def meet(self, parameter: _Parameter, y, h, factors):
        """Records the use y = y(h, parameter); y's nudge yields delta."""
        leaf = parameter.leaf
        if leaf in self.found:
            self.plain.add(leaf)  # second use: its cross terms are not followed
            return y
        self.uses[leaf] = _Use(factors)
        if self.nudges is None:
            self.found[leaf] = (h, y)
            return y
        self.found[leaf] = h
        return y + self.nudges[leaf]


# ------------------------------------------------------------- walking through a jaxpr
def _bind(eqn, *args):
    got = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = got if isinstance(got, tuple) else ((), got)
    out = eqn.primitive.bind(*subfuns, *args, **params)
    return out if eqn.primitive.multiple_results else [out]


def _open(jaxpr):
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())


def _evaluate(jaxpr, consts, args, watch: _Watch):
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    read = lambda v: v.val if isinstance(v, Literal) else env[v]
    for eqn in jaxpr.eqns:
        operands = [read(v) for v in eqn.invars]
        if any(isinstance(v, _Parameter) for v in operands):
            out = _follow(eqn, operands, watch)
        else:
            out = _bind(eqn, *operands)
        env.update(zip(eqn.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _follow(eqn, operands, watch: _Watch):
    """Evaluates an equation at least one operand of which is a parameter."""
    name = eqn.primitive.name
    if name in _CALLS:
        return _evaluate(*_open(eqn.params[_CALLS[name]]), operands, watch)
    if name == "scan":
        return _scan(eqn, operands, watch)
    which = [i for i, v in enumerate(operands) if isinstance(v, _Parameter)]
    if len(which) == 1 and len(operands) <= 2:
        i = which[0]
        other = operands[1 - i] if len(operands) == 2 else None
        out = _use(eqn, name, i, operands[i], other, watch)
        if out is not None:
            return [out]
    return _bind(eqn, *[watch.release(v) for v in operands])


def _use(eqn, name, i, w: _Parameter, other, watch: _Watch):
    """The result where parameter `w`, operand i, is followed; else None."""
    if np.iscomplexobj(other):  # h and delta would be complex
        return None
    if name in _REARRANGE and other is None:
        (value,) = _bind(eqn, w.value)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return None
        return dataclasses.replace(w, value=value, steps=(*w.steps, eqn))
    if name == "neg":
        return dataclasses.replace(w, value=-w.value, factor=-w.factor)
    if name == "mul" or (name == "div" and i == 0):
        assert other is not None  # they have two operands
        operands = (w.value, other) if i == 0 else (other, w.value)
        (value,) = _bind(eqn, *operands)
        gain = w.factor * other if name == "mul" else w.factor / other
        if np.ndim(other) == 0:
            return dataclasses.replace(w, value=value, factor=gain)
        return watch.meet(w, value, gain, _entrywise(w))
    if name in ("add", "add_any", "sub"):
        operands = (w.value, other) if i == 0 else (other, w.value)
        (value,) = _bind(eqn, *operands)
        sign = -1.0 if name == "sub" and i == 1 else 1.0
        gain = jnp.asarray(sign * w.factor, value.dtype)
        return watch.meet(w, value, gain, _entrywise(w))
    if name == "dot_general" and w.intact:
        return _dot(eqn, i, w, other, watch)
    if name == "conv_general_dilated" and w.intact and i == 1:
        return _conv(eqn, w, other, watch)
    return None


def _dot(eqn, i, w, other, watch):
    contract, batch = eqn.params["dimension_numbers"]
    if batch[0] or batch[1]:
        return None
    operands = (w.value, other) if i == 0 else (other, w.value)
    (y,) = _bind(eqn, *operands)
    kept = [a for a in range(other.ndim) if a not in contract[1 - i]]
    h = jnp.transpose(other, (*kept, *contract[1 - i])) * w.factor
    positions = math.prod(other.shape[a] for a in kept)

    def factors(h, delta, lead):
        h = h.reshape(*h.shape[:lead], positions, -1)
        if i == 1:
            return h, delta.reshape(*delta.shape[: lead + 1], positions, -1)
        delta = delta.reshape(*delta.shape[: lead + 1], -1, positions)
        return h, delta.swapaxes(-1, -2)

    return watch.meet(w, y, h, factors)


def _conv(eqn, w, other, watch):
    p = eqn.params
    if p["feature_group_count"] != 1 or p["batch_group_count"] != 1:
        return None
    dimensions = p["dimension_numbers"]
    (y,) = _bind(eqn, other, w.value)
    # The order of entries within a patch is immaterial: only inner products count.
    patches = lax.conv_general_dilated_patches(
        other,
        [w.value.shape[a] for a in dimensions.rhs_spec[2:]],
        p["window_strides"],
        p["padding"],
        p["lhs_dilation"],
        p["rhs_dilation"],
        dimension_numbers=dimensions,
        precision=lax.Precision.HIGHEST,
    )
    channel = dimensions.out_spec[1]
    h = jnp.moveaxis(patches, channel, -1) * w.factor

    def factors(h, delta, lead):
        delta = jnp.moveaxis(delta, lead + 1 + channel, -1)
        delta = delta.reshape(*delta.shape[: lead + 1], -1, delta.shape[-1])
        return h.reshape(*h.shape[:lead], -1, h.shape[-1]), delta

    return watch.meet(w, y, h, factors)


def _entrywise(w: _Parameter):
    """Factors of y = ... + gain * rearranged(leaf): the Jacobian itself."""

    def factors(gain, delta, lead):
        leaf = jax.ShapeDtypeStruct(w.shape, w.dtype)

        def pull(gain, delta):
            def term(leaf):
                value = gain * w.rearranged(leaf).astype(delta.dtype)
                return jnp.broadcast_to(value, delta.shape)

            return jax.linear_transpose(term, leaf)(delta)[0].ravel()

        pull = jax.vmap(pull, (None, 0))  # over outputs
        for _ in range(lead):
            pull = jax.vmap(pull)
        return (pull(gain, delta),)

    return factors


def _scan(eqn, operands, watch: _Watch):
    p = eqn.params
    if "num_consts" in p:
        n_consts, n_carry = p["num_consts"], p["num_carry"]
    else:  # jax >= 0.11
        n_consts, n_carry = (len(group) for group in p["ft_in"].unpack()[:2])
    first = n_consts + n_carry
    values = [watch.release(v) for v in operands[:first]]
    consts, carry, xs = values[:n_consts], values[n_consts:], operands[first:]
    # A stacked parameter is sliced along its first axis: only scaling may precede that.
    xs = [v if isinstance(v, _Parameter) and not v.steps else watch.release(v)
          for v in xs]  # fmt: skip
    stacked = {i: v for i, v in enumerate(xs) if isinstance(v, _Parameter)}
    leaves = {v.leaf for v in stacked.values()}
    jaxpr, inner_consts = _open(p["jaxpr"])
    nudges = watch.nudges
    if nudges is not None:
        nudges = {k: v for k, v in nudges.items() if k in leaves}

    def body(carry, xs):
        xs, nudges_here = xs
        inside = _Watch(
            None if nudges is None else nudges_here, watch.plain, watch.uses
        )
        xs = [
            dataclasses.replace(stacked[i], value=v, shape=stacked[i].shape[1:])
            if i in stacked
            else v
            for i, v in enumerate(xs)
        ]
        out = _evaluate(jaxpr, inner_consts, [*consts, *carry, *xs], inside)
        out = [inside.release(v) for v in out]
        return out[:n_carry], (out[n_carry:], inside.found)

    values = [v.value if isinstance(v, _Parameter) else v for v in xs]
    carry, (ys, found) = lax.scan(
        body,
        carry,
        (values, nudges or {}),
        length=p["length"],
        reverse=p["reverse"],
        unroll=p["unroll"],
    )
    for leaf, h in found.items():
        watch.uses[leaf].scans += 1
        if leaf in watch.found:
            watch.plain.add(leaf)
        watch.found[leaf] = h
    return [*carry, *ys]


# ---------------------------------------------------------------------- the factors
def jacobian_factors(apply_fn, params, x) -> dict[int, Dense | Plain]:
    """Factors of d apply_fn(params, x) / d params, one entry for each leaf of `params`.

    Args:
      apply_fn: pure, (params, x) -> outputs (B, C).  Rows are evaluated one at a
        time, as x[b : b + 1]: nothing of another row enters.
      params: any pytree; leaves that are not real or complex are held fixed.
      x: (B, ...).

    Returns:
      `Dense` or `Plain` by position of the leaf in `jax.tree.leaves(params)`, where a
      complex leaf counts as two, its real and imaginary parts; leaves that the function
      does not use are missing.

    Raises:
      UserError: outputs that are not real, or a function that uses no parameter at all.
    """
    leaves, rebuild = real_leaves(params)
    wanted = {
        i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)
    }

    def of_row(leaves, row):
        out = apply_fn(rebuild(leaves), row[None])[0]
        check_outputs(out)
        return out

    row = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    jaxpr, consts = _open(jax.make_jaxpr(of_row)(leaves, row))
    plain: set[int] = set()
    uses: dict[int, _Use] = {}

    def run(row, nudges):
        fixed = plain | (set(range(len(leaves))) - wanted)
        watch = _Watch(nudges, plain, uses)
        args = [
            leaf if i in fixed else _Parameter(i, leaf, leaf.shape, leaf.dtype)
            for i, leaf in enumerate(leaves)
        ]
        (out,) = _evaluate(jaxpr, consts, [*args, row], watch)
        return watch.release(out), watch.found

    while True:  # abstract evaluations, until no parameter turns out to be plain
        before = len(plain)
        uses.clear()
        _, found = jax.eval_shape(lambda row: run(row, None), row)
        if len(plain) == before:
            break
    if not found and not plain:
        rule = "must use a real or complex parameter, or it has no tangent kernel"
        raise UserError(
            "apply_fn", "uses no parameter", rule, "pass those it depends on"
        )
    shapes = {i: y for i, (_, y) in found.items()}
    scans = {i: use.scans for i, use in uses.items()}
    plain_now = sorted(plain)

    def row_factors(row):
        nudges = {i: jnp.zeros(y.shape, y.dtype) for i, y in shapes.items()}
        out, pull, hs = jax.vjp(lambda n: run(row, n), nudges, has_aux=True)
        deltas = jax.vmap(lambda c: pull(c)[0])(jnp.eye(out.size, dtype=out.dtype))
        factors: dict[int, Dense | Plain] = {}
        for i, h in hs.items():
            lead, dtype = scans[i], leaves[i].dtype
            delta = jnp.moveaxis(deltas[i], 0, lead).astype(dtype)
            parts = uses[i].factors(h.astype(dtype), delta, lead)
            # (*lead, ...) -> (L, ...)
            parts = [p.reshape(-1, *p.shape[lead:]) for p in parts]
            factors[i] = Dense(*parts) if len(parts) == 2 else Plain(*parts)
        if plain_now:
            all_of = lambda ws: [ws.get(i, leaf) for i, leaf in enumerate(leaves)]
            pull_back = jax.jacrev(lambda ws: of_row(all_of(ws), row))
            with warnings.catch_warnings():
                # Of a complex cotangent a real leaf takes the real part.
                warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
                jacobians = pull_back({i: leaves[i] for i in plain_now})
            for i, jacobian in jacobians.items():
                factors[i] = Plain(jacobian.reshape(1, out.size, -1))
        return factors

    return jax.vmap(row_factors, out_axes=1)(x)
