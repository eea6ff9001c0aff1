"""Fully connected network."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.resnet import residual_forward
from models.scaling import BranchScaling


class MLP(nn.Module):
    """Fully connected network with d hidden-to-hidden layers.

        z_0     = W_in x / sqrt(n_in)
        z_{l+1} = sqrt(2/n) W_l phi(z_l),                        l = 0, ..., d - 1
        f       = W_out z_d / sqrt(n)              head "linear"
        f       = sqrt(2/n) W_out phi(z_d)         head "relu"

    This is `models.ResNet` at alpha = 0, lam = 1; attributes and conventions are the
    same.  The usual MLP with d + 1 hidden layers of ReLUs has head "relu", the default
    here.
    """

    width: int = 64
    depth: int = 4
    out_features: int = 10
    head: str = "relu"
    activation: str = "relu"
    parameterization: str = "ntk"
    bias_std: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (batch, n_in) to (batch, out_features); refuses x like `ResNet`."""
        alpha, lam = BranchScaling.fixed(0.0, 1.0).at_depth(self.depth, self.dtype)
        return residual_forward(self, x, alpha, lam, signed=False)
