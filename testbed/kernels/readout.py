"""The tangent kernel of a network of which only the readout is trained."""

import numpy as np

from models import MLP, ResNet
from models.activations import activation


def readout_ntk(net: MLP | ResNet, nngp: np.ndarray) -> np.ndarray:
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

    Source: Lee et al. 2019, arXiv:1902.06720, sec. 2.3.1 (training the readout only).
    """
    if net.parameterization == "ntk":
        return nngp
    variance = activation(net.activation).weight_variance if net.head == "relu" else 1.0
    biased = 1.0 if net.bias_std else 0.0
    return (net.width / variance) * (nngp - net.bias_std**2) + biased
