"""The dense layer in its two parameterizations."""

import flax.linen as nn
import jax
import jax.numpy as jnp

PARAMETERIZATIONS = ("ntk", "standard")


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
        if self.parameterization not in PARAMETERIZATIONS:
            raise ValueError(
                f"parameterization={self.parameterization!r}: must be one of "
                f"{', '.join(PARAMETERIZATIONS)}"
            )
        n_in = h.shape[-1]
        scale = (self.weight_variance / n_in) ** 0.5
        ntk = self.parameterization == "ntk"
        init = nn.initializers.normal
        shape = (n_in, self.features)
        kernel = self.param("kernel", init(1.0 if ntk else scale), shape, self.dtype)
        y = h @ kernel
        if ntk:
            y = scale * y
        if self.bias_std:
            bias_init = init(1.0 if ntk else self.bias_std)
            bias = self.param("bias", bias_init, (self.features,), self.dtype)
            y = y + jnp.broadcast_to(self.bias_std * bias if ntk else bias, y.shape)
        return y
