"""The residual kernel from neural-tangents' `stax` layers, for any activation.

A block's `kernel_fn` maps a Kernel to a Kernel, so depth is a scan over it, and the
weights of skip and branch are what the scan runs over.  `stax.serial` would unroll the
depth, and `stax.repeat` make all blocks alike.
"""

import jax
import jax.numpy as jnp

from models.activations import activation as activation_of
from testbed.errors import UserError
from testbed.kernels.neural_tangents import lenient, nt
from testbed.kernels.tanh_dual import tanh_dual, tanh_slope_dual


@lenient()
def stax_kernel(
    x1: jax.Array,
    x2: jax.Array | None,
    alpha: jax.Array,
    lam: jax.Array,
    *,
    activation: str,
    head: str,
    bias_std: float = 0.0,
    standard_width: int | None = None,
    layers: bool = False,
):
    """NNGP and NTK of a residual network, composed of `stax` layers.

    Args:
      x1: inputs, (N1, n_in) float64.
      x2: inputs, (N2, n_in) float64; None means x1.
      alpha: weight of the skips, (depth,).
      lam: weight of the branches, (depth,).
      activation: "relu", "identity" or "tanh".
      head: "linear" or "relu", as in `models.ResNet`.
      bias_std: sigma_b of every layer; 0 means no biases.
      standard_width: width in the standard parameterization; None means NTK's.
      layers: also return the kernels of every z_l.

    Returns:
      (K, Theta, layers) like `testbed.kernels.recursion.relu_recursion`.
    """
    stax = nt.stax
    weight_variance = activation_of(activation).weight_variance
    phi = _activation_layer(activation)

    def dense(variance):
        return stax.Dense(
            standard_width or 1,
            W_std=variance**0.5,
            b_std=bias_std or None,
            parameterization="standard" if standard_width else "ntk",
        )

    def block(alpha, lam):
        branch = stax.serial(phi, dense(weight_variance), scale(lam))
        skip_and_branch = stax.parallel(scale(alpha), branch)
        return stax.serial(stax.FanOut(2), skip_and_branch, stax.FanInSum())

    def step(kernel, scales):
        kept = (kernel.nngp, kernel.ntk) if layers else None
        _, _, kernel_fn = block(*scales)
        return kernel_fn(kernel), kept

    kernel = dense(1.0)[2](x1, x2)
    # The first block stands outside the scan: it settles nt's static fields.
    kernel, first = step(kernel, (alpha[0], lam[0]))
    kernel, kept = jax.lax.scan(step, kernel, (alpha[1:], lam[1:]))
    if layers:
        stack = lambda a, middle, b: jnp.concatenate([a[None], middle, b[None]])
        kept = jax.tree.map(stack, first, kept, (kernel.nngp, kernel.ntk))
    if head == "relu":
        last = stax.serial(phi, dense(weight_variance))
    else:
        last = dense(1.0)
    kernel = last[2](kernel)
    return kernel.nngp, kernel.ntk, kept


@nt.stax.layer
def scale(c):
    """The layer z -> c z, which stax lacks; c may be traced."""

    @nt.stax.requires()
    def kernel_fn(kernel, **_):
        return kernel * c

    return (lambda rng, shape: (shape, ())), (lambda _, z, **__: c * z), kernel_fn


def _activation_layer(name: str):
    if name == "relu":
        return nt.stax.Relu()
    if name == "identity":
        return nt.stax.Identity()
    if name == "tanh":
        return nt.stax.Elementwise(jnp.tanh, tanh_dual, tanh_slope_dual)
    raise UserError(
        "model.activation",
        name,
        "has no infinite-width layer",
        "use relu, identity or tanh",
    )
