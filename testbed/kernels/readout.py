"""The tangent kernel of a network of which only the readout is trained."""

import functools

import flax.linen as nn
import numpy as np

from models import MLP, ResNet
from models.activations import activation
from testbed.errors import UserError


@functools.singledispatch
def readout_ntk(net: nn.Module, nngp: np.ndarray) -> np.ndarray:
    """Theta of the head's weights and biases alone, from K.

    In the NTK parameterization it is K itself.  In the standard one the gradient with
    respect to a weight is its input, so that

        Theta = (n / sigma_w^2) (K - sigma_b^2) + 1,

    with the head's weight variance sigma_w^2 (1, or that of the activation for a relu
    head) and the 1 only where there are biases.

    Args:
      net: the network.
      nngp: its K, (N1, N2).

    Returns:
      (N1, N2).

    Raises:
      UserError: a network of another kind.

    Source: Lee et al. 2019, arXiv:1902.06720, sec. 2.3.1 (training the readout only).
    """
    rule = "has no kernel of its readout alone"
    remedy = "train all parameters, or register one with readout_ntk"
    raise UserError("model", type(net).__name__, rule, remedy)


@readout_ntk.register(MLP)
@readout_ntk.register(ResNet)
def _of_dense(net: MLP | ResNet, nngp: np.ndarray) -> np.ndarray:
    if net.parameterization == "ntk":
        return nngp
    variance = activation(net.activation).weight_variance if net.head == "relu" else 1.0
    biased = 1.0 if net.bias_std else 0.0
    return (net.width / variance) * (nngp - net.bias_std**2) + biased
