"""Activations, each with the weight variance that belongs to it."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Activation:
    """phi together with sigma_w^2, the variance of a weight times its fan-in.

    The scale sqrt(sigma_w^2 / n) W phi(z) keeps the mean square of a layer for ReLU
    (2, He et al. 2015, arXiv:1502.01852) and for the identity (1).  For tanh it is 1,
    the edge of chaos at z = 0, where phi'(0) = 1.  `homogeneous` says that
    phi(c z) = c phi(z) for c > 0.
    """

    phi: Callable[[jax.Array], jax.Array]
    weight_variance: float
    homogeneous: bool = False


ACTIVATIONS = {
    "relu": Activation(jax.nn.relu, 2.0, homogeneous=True),
    "identity": Activation(lambda z: z, 1.0, homogeneous=True),
    "tanh": Activation(jnp.tanh, 1.0),
}


def activation(name: str) -> Activation:
    """Returns the activation called `name`; raises ValueError for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation={name!r}: must be one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]
