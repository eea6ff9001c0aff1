"""Kernels of residual networks infinitely deep and then infinitely wide, phi''(0) = 0.

Both the NNGP and the NTK are affine in <z, z'>: inference with the network is Bayesian
linear regression, whichever weights are trained.  Setting and notation are those of
`doubly_infinite.py`: C = phi'(0)^2 sigma_w^2 T, E = e^C, r = sigma_b^2 / sigma_w^2.

Source: Peluchetti & Favaro 2020, arXiv:1905.11065; section and equation numbers are
those of the extended journal version (JMLR 20-706).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from testbed.arguments import number, numbers
from testbed.laws.diffusion import Branch


class IncrementKernels(NamedTuple):
    """Kernels of one unit of x_T - x_0, x_0 given: NNGP, and the NTK's two parts."""

    nngp: np.ndarray
    ntk_weights: np.ndarray
    ntk_biases: np.ndarray


def increment_kernels(
    branch: Branch, overlap: ArrayLike, time: ArrayLike = 1.0
) -> IncrementKernels:
    """NNGP and NTK of one unit; the NTK in the N(0, 1) variables eps^W and eps^b.

        NNGP = (lam_0 + r)(E - 1),
        K_W  = lam_0 C E + r (C E - (E - 1)),     K_b = r (E - 1),
        K_W + K_b = (lam_0 + r) C E

    Args:
      branch: phi, sigma_w, sigma_b; phi''(0) = 0.
      overlap: lam_0, any shape.
      time: T.

    Returns:
      NNGP, K_W and K_b, of the broadcast shape.

    Raises:
      UserError: phi''(0) != 0 or time < 0.

    Source: sections 5.3-5.5.
    """
    branch.require_symmetric()
    growth, strength, r = branch.growth(time), branch.strength(time), branch.ratio
    start = numbers("overlap", overlap) + r
    biases = r * (growth - 1) + np.zeros_like(start)
    weights = start * strength * growth - biases
    return IncrementKernels(start * (growth - 1), weights, biases)


class Kernels(NamedTuple):
    """NNGP and NTK of a network's output."""

    nngp: np.ndarray
    ntk: np.ndarray


def completed_kernels(
    branch: Branch,
    inner: ArrayLike,
    *,
    input_std: float = 1.0,
    output_std: float = 1.0,
    time: ArrayLike = 1.0,
) -> Kernels:
    """Kernels of y = G x_T, x_0 = A z, A ~ N(0, sZ^2), G ~ N(0, sY^2/D), all trained.

        NNGP = sY^2 [sZ^2 E <z, z'> + r (E - 1)]
        NTK  = sY^2 [sZ^2 (C + 2) E <z, z'> + r (C E + E - 1)]

    Args:
      branch: phi, sigma_w, sigma_b; phi''(0) = 0.
      inner: <z, z'>, any shape.
      input_std: sZ.
      output_std: sY.
      time: T.

    Returns:
      NNGP and NTK, of the broadcast shape.

    Raises:
      UserError: phi''(0) != 0, a standard deviation not positive, or time < 0.

    Source: eqs. (41)-(43).
    """
    input_std = number("input_std", input_std, above=0, remedy="e.g. 1.0")
    output_std = number("output_std", output_std, above=0, remedy="e.g. 1.0")
    overlap = input_std**2 * numbers("inner", inner)
    inside = increment_kernels(branch, overlap, time)
    output = overlap + inside.nngp
    # A's gradient passes through every layer, which multiplies <x_0, x_0'>/D by E.
    first = branch.growth(time) * overlap
    ntk = first + inside.ntk_weights + inside.ntk_biases + output
    return Kernels(output_std**2 * output, output_std**2 * ntk)
