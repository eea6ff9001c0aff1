"""NNGP and NTK of the infinitely wide version of a network of `models`.

With S_0 = <x, x'> / n_in (+ sigma_b^2) and T_0 = S_0, each block maps

    S_{l+1} = alpha_l^2 S_l + lam_l^2 (sigma_w^2 E[phi(u) phi(v)] + sigma_b^2)
    T_{l+1} = alpha_l^2 T_l + lam_l^2 (sigma_w^2 E[phi'(u) phi'(v)] T_l
                                       + sigma_w^2 E[phi(u) phi(v)] + sigma_b^2),

(u, v) ~ N(0, S_l); for ReLU, sigma_w^2 = 2, the expectations are q kappa_1(rho) and
kappa_0(rho).  The head adds its own weights:

    head "linear":  K = S_d + sigma_b^2,                Theta = T_d + K
    head "relu":    K = q kappa_1 + sigma_b^2,          Theta = kappa_0 T_d + K.

On the diagonal, without biases and with s = alpha^2 + lam^2 the same in every block,
K = s^d q_0 and Theta = s^d q_0 (2 + d lam^2 / s).  Random signs (`BalancedResNet`)
leave all of it unchanged: (u, v) and (-u, -v) have one law.

In the standard parameterization K is the same, and each layer's own term in Theta is
that of its gradient in weights of variance sigma_w^2 / n_in and biases of variance
sigma_b^2: fan-in times E[phi(u) phi(v)], and 1 for a bias.  Theta is then that of a
network of this width, to leading order in each term.

Depth is a scan, so that compile time does not grow with it; alpha, lam are its inputs,
so that changing them compiles nothing.  Everything is float64.

Source: Jacot et al. 2018, arXiv:1806.07572; Lee et al. 2019, arXiv:1902.06720; standard
parameterization: Sohl-Dickstein et al. 2020, arXiv:2001.07301.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models import MLP, BranchScaling, ResNet
from models.layers import PARAMETERIZATIONS
from models.resnet import HEADS
from testbed.errors import RunError, UserError, check_name
from testbed.kernels.memory import check_memory
from testbed.kernels.recursion import relu_recursion
from testbed.kernels.tiles import check_block_rows, take_rows, tiles
from testbed.numerics import in_float64, is_traced

ROUTES = ("auto", "neural_tangents", "recursion")


class Kernel(NamedTuple):
    """A pair of kernels, float64.

    Attributes:
      nngp: K, covariance of an output at initialization, (N1, N2).
      ntk: Theta, tangent kernel of an output, all parameters trained, (N1, N2).
      layers: on request, S_l and T_l of z_l for l = 0..depth, (depth + 1, N1, N2).
    """

    nngp: Any
    ntk: Any
    layers: "Kernel | None" = None


KernelFn = Callable[..., Kernel]


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """What of a residual network shapes the compiled program."""

    activation: str
    head: str
    bias_std: float
    standard_width: int | None  # None: NTK parameterization, where width does not enter


@functools.singledispatch
def infinite_kernel(net: nn.Module, *, route: str = "auto") -> KernelFn:
    """Returns `kernel_fn` of the infinitely wide `net`.

    ``kernel_fn(x1, x2=None, *, layers=False, block_rows=None) -> Kernel``

      x1, x2: inputs (N1, n_in), (N2, n_in) of any real dtype; None means x1, and the
        kernels are then exactly symmetric.
      layers: also the kernels of every layer, as `Kernel.layers`.
      block_rows: evaluate in tiles of this many rows and columns, each half of a
        symmetric kernel once; memory beyond the result is then that of a tile.  None:
        in one piece; may be traced, with 64-bit types on.

    Kernels are NumPy arrays in float64, unless traced.

    Two routes lead to the result.  "recursion" is the half-angle recursion of
    `testbed.kernels.recursion`: ReLU only, with or without biases, exact to round-off
    for every pair of inputs.  "neural_tangents" composes `stax` layers, for every
    activation.  There the NTK of ReLU errs by about 1e-7 for collinear and nearly
    collinear inputs (the square root of round-off) and by round-off elsewhere; the
    identity is exact; tanh, by the mixture of `testbed.kernels.tanh_dual`, errs by less
    than 1e-9 at every variance.  "auto" takes the recursion for ReLU and
    neural-tangents for the rest.  Kernels can be differentiated by the inputs and by
    arrays of `net.branch`; `testbed.kernels.recursion` says what is chosen at kinks.

    Args:
      net: an `MLP`, `ResNet` or `BalancedResNet`, or one of their convolutional kin
        (`testbed.kernels.convolutional`), which take images (N, H, W, C).  Arrays of
        `net.branch` may be traced.  Width, depth and number of outputs are the
        network's own; width matters in the standard parameterization only.
      route: "auto", "recursion" or "neural_tangents".

    Raises:
      UserError: a model, option or input that has no such kernel.
      RunError: a kernel that is not finite.

    Example:
      >>> net = ResNet(width=64, depth=1000, out_features=1)
      >>> kernel_fn = infinite_kernel(net)
      >>> kernel_fn(np.eye(64)).ntk.shape
      (64, 64)
    """
    raise UserError(
        "model",
        type(net).__name__,
        "has no infinite-width kernel",
        "use a network of `models`, or register one with infinite_kernel",
    )


@infinite_kernel.register
def _of_mlp(net: MLP, *, route: str = "auto") -> KernelFn:
    return _residual_kernel(net, np.zeros(net.depth), np.ones(net.depth), route)


@infinite_kernel.register
def _of_resnet(net: ResNet, *, route: str = "auto") -> KernelFn:
    branch = net.branch
    pair = branch_arrays(branch.alpha, branch.lam, branch.exponent, net.depth)
    return _residual_kernel(net, *pair, route)


@in_float64
def branch_arrays(alpha, lam, exponent: float, depth: int):
    """(alpha_l, lam_l) of a `BranchScaling`, (depth,) each, float64."""
    return BranchScaling(alpha, lam, exponent).at_depth(depth, jnp.float64)


def _residual_kernel(net: MLP | ResNet, alpha: Any, lam: Any, route: str) -> KernelFn:
    check_name("route", route, ROUTES)
    check_name("model.head", net.head, HEADS)
    check_name("model.parameterization", net.parameterization, PARAMETERIZATIONS)
    if route == "recursion" and net.activation != "relu":
        raise UserError("route", route, "serves ReLU only", "use route=auto")
    standard = net.parameterization == "standard"
    options: dict[str, Any] = dict(
        architecture=_Architecture(
            net.activation, net.head, net.bias_std, net.width if standard else None
        ),
        recursion=route != "neural_tangents" and net.activation == "relu",
    )

    def kernel_fn(x1, x2=None, *, layers=False, block_rows=None) -> Kernel:
        check_block_rows(block_rows)
        known = not is_traced((x1, x2, alpha, lam))
        x1, x2 = _inputs(x1, x2, known)
        _check_memory(x1, x2, block_rows, net.depth + 2 if layers else 1)
        evaluate = functools.partial(
            in_float64(_evaluate), alpha=alpha, lam=lam, layers=layers, **options
        )
        if block_rows is None:
            kernel = evaluate(x1, x2)
        elif known:
            kernel = _in_tiles(evaluate, x1, x2, block_rows, layers and net.depth + 1)
        else:
            raise UserError(
                "block_rows", block_rows, "needs concrete arrays", "leave it out"
            )
        if known and not all(np.isfinite(k).all() for k in jax.tree.leaves(kernel)):
            raise RunError(
                f"kernel of {type(net).__name__}, depth {net.depth}, is not finite: "
                "variances overflow; use a depth-scaled branch"
            )
        return kernel

    return kernel_fn


def _inputs(x1, x2, known: bool):
    cast = (lambda x: np.asarray(x, np.float64)) if known else (
        lambda x: jnp.asarray(x, jnp.float64)
    )  # fmt: skip
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None:
            check_real(name, x)
    x1, x2 = cast(x1), None if x2 is None else cast(x2)
    for name, x in (("x1", x1), ("x2", x2)):
        if x is None:
            continue
        if x.ndim != 2 or x.shape[1] != x1.shape[1]:
            rule = "must be (examples, features), with as many features in x1 and x2"
            raise UserError(name, f"array of shape {x.shape}", rule, "reshape it")
        if known and not np.isfinite(x).all():
            raise UserError(name, "array", "must be finite", "remove NaN and infinity")
    return x1, x2


def check_real(name: str, x) -> None:
    """Raises a `UserError` unless `x` is an array of real numbers."""
    try:
        dtype = x.dtype if hasattr(x, "dtype") else jnp.asarray(x).dtype
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or not any(
        jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)
    ):
        value = type(x).__name__ if dtype is None else f"array of {dtype}"
        remedy = "give real and imaginary parts as features of their own"
        if dtype is None or not jnp.issubdtype(dtype, jnp.complexfloating):
            remedy = "convert it to numbers"
        raise UserError(name, value, "must be an array of real numbers", remedy)


def _check_memory(x1, x2, block_rows: int | None, pairs: int) -> None:
    """Refuses what cannot fit: `pairs` pairs of kernels, and a tile's temporaries."""
    n1, n2 = len(x1), len(x1 if x2 is None else x2)
    rows = min(block_rows or n1, n1)
    # Measured with XLA's memory_analysis on the CPU: up to 8 arrays of a tile's size.
    needed = 16 * pairs * n1 * n2 + 64 * rows * min(block_rows or n2, n2)
    check_memory(
        "kernel",
        needed,
        f"{n1} x {n2}",
        remedy="take fewer examples, or set block_rows",
    )


def _in_tiles(evaluate, x1, x2, rows: int, n_layers: int) -> Kernel:
    symmetric = x2 is None
    x2 = x1 if symmetric else x2
    n1, n2 = len(x1), len(x2)
    new = lambda *lead: Kernel(np.empty((*lead, n1, n2)), np.empty((*lead, n1, n2)))
    out = new()._replace(layers=new(n_layers) if n_layers else None)
    for i, j in tiles(n1, n2, rows, symmetric):
        a = take_rows(x1, i, rows)
        tile = evaluate(a, None if symmetric and i == j else take_rows(x2, j, rows))
        height, width = min(rows, n1 - i), min(rows, n2 - j)
        for whole, part in zip(
            jax.tree.leaves(out), jax.tree.leaves(tile), strict=True
        ):
            part = np.asarray(part)[..., :height, :width]
            whole[..., i : i + height, j : j + width] = part
            if symmetric:
                whole[..., j : j + width, i : i + height] = part.swapaxes(-1, -2)
    return out


@functools.partial(jax.jit, static_argnames=("architecture", "recursion", "layers"))
def _evaluate(x1, x2, alpha, lam, *, architecture, recursion, layers) -> Kernel:
    if recursion:
        nngp, ntk, kept = _by_recursion(x1, x2, alpha, lam, architecture, layers)
    else:
        from testbed.kernels.stax_kernel import stax_kernel  # neural-tangents is heavy

        nngp, ntk, kept = stax_kernel(
            x1,
            x2,
            alpha,
            lam,
            **dataclasses.asdict(architecture),
            layers=layers,
        )
    kernel = Kernel(nngp, ntk, None if kept is None else Kernel(*kept))
    if x2 is None:
        kernel = jax.tree.map(lambda k: (k + jnp.swapaxes(k, -1, -2)) / 2, kernel)
    return kernel


def _by_recursion(x1, x2, alpha, lam, architecture, layers):
    width, bias_std = architecture.standard_width, architecture.bias_std
    scales: dict[str, Any] = {}
    if width is not None:
        relu_head = architecture.head == "relu"
        fan_in = (x1.shape[1], width / 2, width / (2 if relu_head else 1))
        scales = dict(fan_in_scale=fan_in, bias_scale=bias_std and bias_std**-2)
    return relu_recursion(
        x1,
        x1 if x2 is None else x2,
        alpha,
        lam,
        head=architecture.head,
        bias_variance=bias_std**2,
        layers=layers,
        **scales,
    )
