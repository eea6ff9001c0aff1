"""NNGP and NTK of infinitely many channels: `ConvResNet` and `BalancedConvResNet`.

For a pair of images, K(p, p') the covariance of a channel at pixels p, p' and
(A K)(p, p') = k^-2 sum_delta K(p + delta, p' + delta), each block maps

    K -> alpha^2 K + lam^2 (A[sigma_w^2 E phi phi] + sigma_b^2)
    T -> alpha^2 T + lam^2 (A[sigma_w^2 (E phi phi + E phi' phi' T)] + sigma_b^2)

and a block of stride s has A over 1x1 windows, at stride s, on its skip, whose weights
add alpha^2 K to T.  The read-out is the mean over p = p', with pooling over all pairs.
Signs of channels leave it unchanged.

Only pixels of one offset D = p' - p meet in a layer, so that without pooling D = 0 is
all there is, and with pooling one offset follows another: memory is that of one.  After
a stride s the offset D of a block's output is s D of its input.

As in `testbed.kernels.recursion` H = p - S and G = p + S are carried, p the product of
both standard deviations.  A window adds terms a_i b_i of both images' deviations, of
norms |a|, |b|; p exceeds their sum by |a||b| |a/|a| - b/|b||^2 / 2, exact where images
agree, and H and G both gain it.

Source: Garriga-Alonso et al. 2019, arXiv:1808.05587; Novak et al. 2019,
arXiv:1810.05148 (pixels without pooling); NTK: Arora et al. 2019, arXiv:1904.11955.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models import ConvResNet
from models.conv_resnet import check_settings, stage_depths
from testbed.errors import RunError, UserError, check_name
from testbed.kernels.infinite import (
    Kernel,
    KernelFn,
    branch_arrays,
    check_real,
    infinite_kernel,
)
from testbed.kernels.memory import check_memory
from testbed.kernels.recursion import relu_bend
from testbed.kernels.tiles import check_block_rows, take_rows, tiles
from testbed.numerics import in_float64, is_traced

ROUTES = ("auto", "recursion")


class _Shape(NamedTuple):
    """What of a network shapes the compiled program."""

    filter_size: int
    circular: bool
    strides: tuple[int, ...]
    lengths: tuple[int, ...]
    pooling: bool
    relu: bool
    relu_head: bool
    bias_variance: float


@infinite_kernel.register
def _of_conv_resnet(net: ConvResNet, *, route: str = "auto") -> KernelFn:
    """`kernel_fn` of images (N, H, W, C), of ReLU and the identity.

    Raises:
      UserError: activation tanh, the standard parameterization, kernels of layers, or
        pooling over a circular image whose sides the strides do not divide.
    """
    check_name("route", route, ROUTES)
    try:
        check_settings(net)
    except ValueError as error:
        rule, remedy = f"makes no network ({error})", "correct it"
        raise UserError("model", type(net).__name__, rule, remedy) from None
    if net.activation not in ("relu", "identity"):
        rule = "has no kernel in convolutional networks"
        raise UserError("model.activation", net.activation, rule, "use relu")
    if net.parameterization != "ntk":
        rule = "has no kernel in convolutional networks"
        raise UserError("model.parameterization", net.parameterization, rule, "use ntk")
    branch = net.branch
    alpha, lam = branch_arrays(branch.alpha, branch.lam, branch.exponent, net.depth)
    relu = net.activation == "relu"
    shape = _Shape(
        net.filter_size,
        net.padding == "CIRCULAR",
        tuple(net.strides),
        stage_depths(net.depth, len(net.strides)),
        net.pooling,
        relu,
        relu and net.head == "relu",
        net.bias_std**2,
    )

    def kernel_fn(x1, x2=None, *, layers=False, block_rows=None) -> Kernel:
        check_block_rows(block_rows)
        if layers:
            rule = "is not there for convolutional networks"
            raise UserError("layers", layers, rule, "leave it out")
        known = not is_traced((x1, x2, alpha, lam))
        x1, x2 = (
            _images("x1", x1, known),
            None if x2 is None else _images("x2", x2, known),
        )
        _check_sizes(x1, x2, shape)
        symmetric = x2 is None
        x2 = x1 if symmetric else x2
        n1, n2 = len(x1), len(x2)
        rows = block_rows or max(n1, n2)
        tile = min(rows, n1), min(rows, n2)
        remedy = "take fewer examples, or set block_rows"
        needed = 16 * n1 * n2 + tile_bytes(*tile, x1.shape[1:3])
        check_memory("kernel", needed, f"{n1} x {n2}", remedy=remedy)
        evaluate = lambda a, b: in_float64(_evaluate)(a, b, alpha, lam, shape=shape)
        if block_rows is None:
            nngp, ntk = evaluate(x1, x2)
            if symmetric:
                nngp, ntk = (nngp + nngp.T) / 2, (ntk + ntk.T) / 2
        elif known:
            nngp, ntk = _in_tiles(evaluate, x1, x2, rows, symmetric)
        else:
            rule = "needs concrete arrays"
            raise UserError("block_rows", block_rows, rule, "leave it out")
        if known and not (np.isfinite(nngp).all() and np.isfinite(ntk).all()):
            raise RunError(
                f"kernel of {type(net).__name__}, depth {net.depth}, is not finite: "
                "variances overflow; use a depth-scaled branch"
            )
        return Kernel(nngp, ntk)

    return kernel_fn


def tile_bytes(n1: int, n2: int, sides: Sequence[int]) -> int:
    """Bytes that a tile of n1 x n2 images takes beside its result.

    Measured with XLA's memory_analysis on the CPU: 16 to 24 arrays of all pairs of
    images and one offset of pixels.
    """
    return 25 * 8 * n1 * n2 * math.prod(sides)


def _images(name: str, x, known: bool):
    check_real(name, x)
    x = np.asarray(x, np.float64) if known else jnp.asarray(x, jnp.float64)
    if x.ndim != 4 or 0 in x.shape[1:]:
        rule = "must be images (N, H, W, C)"
        raise UserError(name, f"array of shape {x.shape}", rule, "reshape it")
    if known and not np.isfinite(x).all():
        raise UserError(name, "array", "must be finite", "remove NaN and infinity")
    return x


def _check_sizes(x1, x2, shape: _Shape) -> None:
    if x2 is not None and x1.shape[1:] != x2.shape[1:]:
        rule = f"must hold images of shape {x1.shape[1:]}, as x1"
        raise UserError("x2", f"array of shape {x2.shape}", rule, "reshape it")
    total = math.prod(shape.strides)
    if shape.circular and shape.pooling and any(v % total for v in x1.shape[1:3]):
        rule = f"must divide the sides {x1.shape[1:3]} where circular pixels are pooled"
        remedy = "use padding=SAME, or other strides"
        raise UserError("strides", shape.strides, rule, remedy)


def _in_tiles(evaluate, x1, x2, rows: int, symmetric: bool):
    n1, n2 = len(x1), len(x2)
    out = np.empty((n1, n2)), np.empty((n1, n2))
    for i, j in tiles(n1, n2, rows, symmetric):
        found = evaluate(take_rows(x1, i, rows), take_rows(x2, j, rows))
        for whole, part in zip(out, found, strict=True):
            part = np.asarray(part)[: n1 - i, : n2 - j]
            if symmetric and i == j:
                part = (part + part.T) / 2
            whole[i : i + rows, j : j + rows] = part
            if symmetric:
                whole[j : j + rows, i : i + rows] = part.T
    return out


def _windows(a, k: int, stride: int, circular: bool):
    """(k^2, ..., H', W'): what each tap sees of the last two axes of `a`."""
    sides = a.shape[-2:]
    out = [-(-side // stride) for side in sides]
    total = [max((o - 1) * stride + k - n, 0) for o, n in zip(out, sides, strict=True)]
    pad = [(k // 2, k // 2)] * 2 if circular else [(t // 2, t - t // 2) for t in total]
    mode = "wrap" if circular else "constant"
    a = jnp.pad(a, [(0, 0)] * (a.ndim - 2) + pad, mode=mode)
    reach = [(o - 1) * stride + 1 for o in out]
    return jnp.stack(
        [
            a[..., i : i + reach[0] : stride, j : j + reach[1] : stride]
            for i in range(k)
            for j in range(k)
        ]
    )


def _moved(a, offset, circular: bool):
    """a(p + offset) at p, over the last two axes; 0 outside."""
    moved = jnp.roll(a, (-offset[0], -offset[1]), (-2, -1))
    if circular:
        return moved
    inside = _inside(a.shape[-2:], offset)
    return moved * jnp.broadcast_to(inside, a.shape)


def _inside(sides, offset):
    rows, columns = (
        (jnp.arange(n) + o >= 0) & (jnp.arange(n) + o < n)
        for n, o in zip(sides, (offset[0], offset[1]), strict=True)
    )
    return (rows[:, None] & columns[None]).astype(jnp.float64)


def _unit(entries):
    """Norms and directions of (E, N, H, W) along E; zero has the norm 0."""
    square = jnp.sum(entries**2, 0)
    norm = jnp.sqrt(jnp.where(square > 0, square, 1))
    return square, jnp.where(square > 0, norm, 0), entries / norm[None]


def _chords(u1, u2):
    """|u1 - u2|^2 and |u1 + u2|^2 of all pairs, (N1, N2, H, W), one entry at a time."""

    def add(sums, entry):
        a, b = entry[0][:, None], entry[1][None]
        return (sums[0] + (a - b) ** 2, sums[1] + (a + b) ** 2), None

    zero = jnp.zeros((u1.shape[1], *u2.shape[1:]))
    return jax.lax.scan(add, (zero, zero), (u1, u2))[0]


@functools.partial(jax.jit, static_argnames="shape")
def _evaluate(x1, x2, alpha, lam, shape: _Shape):
    """(K, Theta), (N1, N2) each."""
    of = functools.partial(_of_offset, x1, x2, alpha, lam, shape)
    b = shape.bias_variance
    zero = jnp.zeros(2, int)
    if shape.pooling:
        sides = x1.shape[1:3]
        for s in shape.strides:
            sides = tuple(-(-n // s) for n in sides)
        each = [range(n) if shape.circular else range(1 - n, n) for n in sides]
        offsets = jnp.array([(i, j) for i in each[0] for j in each[1]])
        add = lambda sums, at: (jax.tree.map(jnp.add, sums, of(at)), None)
        start = jax.tree.map(jnp.zeros_like, jax.eval_shape(of, zero))
        (covariance, tangent), _ = jax.lax.scan(add, start, offsets)
        covariance, tangent = (v / math.prod(sides) for v in (covariance, tangent))
    else:
        covariance, tangent = of(zero)
    return covariance + b, tangent + covariance + b


def _of_offset(x1, x2, alpha, lam, shape: _Shape, offset):
    """Means over p of K(p, p + offset) and of T, pairs outside the image being 0."""
    k, circular, b = shape.filter_size, shape.circular, shape.bias_variance
    see = functools.partial(_windows, circular=circular)
    at = offset * math.prod(shape.strides)

    def meet(entries1, entries2, at):
        """Variances of both, and p less and plus the covariance."""
        q1, norm1, u1 = _unit(entries1)
        q2, norm2, u2 = _unit(entries2)
        norm2, u2 = _moved(norm2, at, circular), _moved(u2, at, circular)
        chord, co_chord = _chords(u1, u2)
        half = norm1[:, None] * norm2[None] / 2
        return q1, q2, half * chord, half * co_chord

    def first(x):
        seen = see(jnp.moveaxis(x, -1, 0), k, 1) / (k * x.shape[-1] ** 0.5)
        seen = seen.reshape(-1, *seen.shape[2:])
        bias = jnp.full((1, *seen.shape[1:]), b**0.5)
        return jnp.concatenate([seen, bias]) if b else seen

    q1, q2, h, g = meet(first(x1), first(x2), at)
    carry = (q1, q2, h, g, (g - h) / 2)

    def bend(h, g):
        if shape.relu:
            p_bend, theta = relu_bend(h, g)
            return p_bend, 1 - theta / jnp.pi
        return jnp.zeros_like(h), jnp.ones_like(h)

    def block(carry, scales, at, stride):
        q1, q2, h, g, t = carry
        a2, l2 = scales[0] ** 2, scales[1] ** 2
        p_bend, kappa = bend(h, g)

        def entries(q):
            taps = l2 / k**2 * see(q, k, stride)
            skip = a2 * see(q, 1, stride)
            bias = jnp.broadcast_to(l2 * b, skip.shape)
            whole = jnp.concatenate([skip, taps, bias] if b else [skip, taps])
            return jnp.sqrt(jnp.where(whole > 0, whole, 1)) * (whole > 0)

        q1, q2, excess, _ = meet(entries(q1), entries(q2), at)
        window = lambda v: jnp.mean(see(v, k, stride), 0)
        skip = lambda v: see(v, 1, stride)[0]
        if stride > 1:
            t = t + (g - h) / 2
            own = kappa * (t - (g - h) / 2)
        else:
            own = kappa * t
        mask = jnp.ones(q1.shape[-2:]) if circular else _inside(q1.shape[-2:], at)
        t = a2 * skip(t) + l2 * (window((g - h) / 2 + p_bend + own) + b)
        new_h = a2 * skip(h) + l2 * window(h - p_bend) + excess
        new_g = a2 * skip(g) + l2 * (window(g + p_bend) + 2 * b) + excess
        mask = jnp.broadcast_to(mask, t.shape)
        return q1, q2, new_h * mask, new_g * mask, t * mask

    start = 0
    for i, (stride, length) in enumerate(
        zip(shape.strides, shape.lengths, strict=True)
    ):
        at = offset * math.prod(shape.strides[i + 1 :])
        if stride > 1:
            carry = block(carry, (alpha[start], lam[start]), at, stride)
            start, length = start + 1, length - 1
        part = slice(start, start + length)
        step = lambda carry, scales, at=at: (block(carry, scales, at, 1), None)
        carry, _ = jax.lax.scan(step, carry, (alpha[part], lam[part]))
        start += length
    _, _, h, g, t = carry
    s = (g - h) / 2
    if shape.relu_head:
        p_bend, kappa = bend(h, g)
        s, t = s + p_bend, kappa * t
    return jnp.mean(s, (-2, -1)), jnp.mean(t, (-2, -1))
