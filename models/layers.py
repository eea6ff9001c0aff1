"""The dense layer in its two parameterizations."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

PARAMETERIZATIONS = ("ntk", "standard")


def blocks_at_once() -> int:
    """How many blocks of a scan over depth are compiled together: 1 on a CPU, else 4.

    An iteration of a loop costs a card microseconds whatever is in it, 7.7 of them on
    an H200: there a step of 4 networks of width and depth 64 takes 1.82 ms by ones and
    1.21 ms by fours.  A CPU would lose a tenth.  The functions are the same.
    """
    return 1 if jax.default_backend() == "cpu" else 4


class Dense(nn.Module):
    """h -> sqrt(weight_variance / n_in) h W + bias_std b, over the last axis.

    ``ntk``: entries of W, b are N(0, 1) and the scales above are applied in the forward
    pass (Jacot et al. 2018, arXiv:1806.07572).  ``standard``: the scales are in the
    initial weights, h -> h W + b with W ~ N(0, weight_variance / n_in) and
    b ~ N(0, bias_std^2).  The function at initialization has the same law; gradients,
    hence the NTK, differ.

    Attributes:
      features: size of the last axis of the output.
      weight_variance: sigma_w^2.
      bias_std: sigma_b; 0 means that there is no bias.
    """

    features: int
    weight_variance: float = 1.0
    bias_std: float = 0.0
    parameterization: str = "ntk"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        """Maps (..., n_in) to (..., features)."""
        return affine(self, (h.shape[-1], self.features), lambda kernel: h @ kernel)


def affine(module, shape: tuple[int, ...], linear: Callable) -> jax.Array:
    """What a layer makes of `linear(kernel)` in its parameterization, with its bias.

    Args:
      module: in its compact scope, with the attributes of `Dense`.
      shape: of the kernel, outputs last; the other axes are the fan-in.
      linear: the layer without scale and bias.

    Raises:
      ValueError: an unknown parameterization.
    """
    if module.parameterization not in PARAMETERIZATIONS:
        raise ValueError(
            f"parameterization={module.parameterization!r}: must be one of "
            f"{', '.join(PARAMETERIZATIONS)}"
        )
    scale = (module.weight_variance / math.prod(shape[:-1])) ** 0.5
    ntk = module.parameterization == "ntk"
    init = nn.initializers.normal
    kernel = module.param("kernel", init(1.0 if ntk else scale), shape, module.dtype)
    y = linear(kernel)
    if ntk:
        y = scale * y
    if module.bias_std:
        bias_init = init(1.0 if ntk else module.bias_std)
        bias = module.param("bias", bias_init, shape[-1:], module.dtype)
        y = y + jnp.broadcast_to(module.bias_std * bias if ntk else bias, y.shape)
    return y
