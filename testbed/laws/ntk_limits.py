"""Limits of the tangent kernel's dispersion and first change, depth L = T n.

The network, K = K_w + K_b and the recursion are those of `testbed.laws.ntk_moments`;
here all widths are n -> infinity with T fixed.  In every layer the four paths' state is
multiplied by 1 + 5/n or 1 - 1/n, so all limits are averages of exp(5T u) and exp(-T u)
over the places of the two differentiated layers.

Source: Hanin & Nica 2019, arXiv:1909.05989, for exp(5T) up to constants, and Seleznova
& Kutyniok 2022, arXiv:2202.00553, for the phases.  The formulas are derived here.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from testbed.arguments import number, numbers


def limit_weights(T: ArrayLike) -> np.ndarray:
    """E[K_w^2] / E[K_w]^2 for widths n -> infinity, depth L = T n, in every phase.

        I_ww = exp(5T) [1/3 + (6T - 1 + exp(-6T)) / (27 T^2)]

    Two differentiated layers a share u of the depth apart have
    exp(5T (1-u)) [exp(5Tu) + 2 exp(-Tu)] / 3; this is the average over both.

    Args:
      T: depth over width, at least 0, any shape.

    Returns:
      The same shape; 1 + 11 T/3 for small T.

    Source: derived here from the recursion of `ntk_moments`.
    """
    T = _ratio(T)
    return np.exp(5 * T) * (1 + 4 * _phi2(-6 * T)) / 3


def limit_biases(T: ArrayLike) -> np.ndarray:
    """E[K_b^2] / E[K_b]^2 for n -> infinity, L = T n, at sigma_w2 = 2.

        I_bb = 2 (exp(5T) - 1 - 5T) / (25 T^2)

    Args and Returns: as for `limit_weights`.

    Source: derived here from the recursion of `ntk_moments`.
    """
    return 2 * _phi2(5 * _ratio(T))


def limit_mixed(T: ArrayLike) -> np.ndarray:
    """E[K_w K_b] / (E[K_w] E[K_b]) for n -> infinity, L = T n, at sigma_w2 = 2.

        I_wb = (e^{5T} - 1 - 5T)/(25 T^2) + [e^{5T} - (e^{5T} - 1)/(5T)] / (15T)
               + (2/(3T)) [(e^{5T} - 1)/(5T) - (e^{5T} - e^{-T})/(6T)]

    Args and Returns: as for `limit_weights`.

    Source: derived here from the recursion of `ntk_moments`.
    """
    T = _ratio(T)
    later = np.exp(5 * T) * _phi2(-5 * T) / 3
    return _phi2(5 * T) + later + (5 * _phi2(5 * T) + _phi2(-T)) / 9


def limit_ratio(T: ArrayLike, sigma_w2: float, weight_share: float = 0.5) -> np.ndarray:
    """E[K^2] / E[K]^2 for n -> infinity, L = T n, in the three phases.

        sigma_w2 < 2, ordered:          1: the kernel is that of the last biases
        sigma_w2 = 2, edge of chaos:    w^2 I_ww + 2 w (1-w) I_wb + (1-w)^2 I_bb
        sigma_w2 > 2, chaotic:          I_ww: the weights have L times the biases' share

    If K counts weights alone, w = 1, it is I_ww in every phase; biases alone, w = 0,
    have exp(5T) in the chaotic phase.  At finite width the ordered phase has
    1 + (5/n) a^2 / (1 - a^2), a = sigma_w2/2, to first order.

    Args:
      T: depth over width, at least 0, any shape.
      sigma_w2: variance of a weight times its fan-in.
      weight_share: w = E K_w / E K at sigma_w2 = 2, which is r / (1 + r) with
        r = 2 |x|^2 / n_0 in NTK and n |x|^2 / n_0 in standard parametrization.

    Returns:
      The shape of T.

    Raises:
      UserError: T < 0, sigma_w2 not above 0, or a share outside of [0, 1].

    Source: Seleznova & Kutyniok 2022, arXiv:2202.00553, for the phases; the formulas
    are derived here from the recursion of `ntk_moments`.
    """
    T, sigma_w2 = _ratio(T), number("sigma_w2", sigma_w2, above=0)
    w = number("weight_share", weight_share, 0, 1, remedy="1 leaves the biases out")
    if w == 1 or (sigma_w2 > 2 and w > 0):
        return limit_weights(T)
    if sigma_w2 != 2:
        return np.exp(5 * T) if sigma_w2 > 2 else np.ones_like(T)
    mixed, biases = limit_mixed(T), limit_biases(T)
    return w**2 * limit_weights(T) + 2 * w * (1 - w) * mixed + (1 - w) ** 2 * biases


def limit_first_step(T: ArrayLike) -> np.ndarray:
    """J(T), the first step's change of the kernel for n -> infinity, L = T n.

        E[f <grad f, grad K>] / E[K] -> 2 q L exp(5T) J(T),   q = E f^2 = E K / L
        J = (1/3) [1 - (6T - 1 + exp(-6T)) / (18 T^2)]

    at sigma_w2 = 2, K over the weights.

    Args and Returns: as for `limit_weights`; 2 T/3 for small T.

    Source: derived here from the recursion of `ntk_moments`.
    """
    T = _ratio(T)
    return 2 * T / 3 * special.hyp1f1(1, 4, -6 * T)


def _phi2(z: np.ndarray) -> np.ndarray:
    """(exp(z) - 1 - z) / z^2, 1/2 at z = 0."""
    return special.hyp1f1(1, 3, z) / 2


def _ratio(T: ArrayLike) -> np.ndarray:
    return numbers("T", T, 0, remedy="give depth over width")
