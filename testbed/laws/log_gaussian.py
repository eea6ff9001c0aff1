"""The log-Gaussian law of residual ReLU networks whose depth is comparable to width.

    z_{l+1} = alpha z_l + lam sqrt(2/n) W_l phi(z_l),     l = 0, ..., d - 1,

phi = ReLU, W_l with independent N(0, 1) entries, no biases.  As d, n -> infinity with
d/n fixed, log(|z_l|^2 / |z_0|^2) is Gaussian with the mean and variance below; at
infinite width alone it would be the constant l log(alpha^2 + lam^2).  Two effects
distinguish the vanilla network from the Balanced one, whose units carry fresh random
signs at every layer: activations of different layers are correlated, because the skip
carries z along, and slightly fewer than half of the units are active.

Notation: r^2 = alpha^2 + lam^2, c = alpha / r, the correlation of one unit in
neighbouring layers, and s = lam^2 / r^2 = 1 - c^2.

Source: Li, Nica & Roy 2021, "The Future is Log-Gaussian", arXiv:2106.04013, for the
law.  The constants follow from the model: write R_l = |z_l|^2 and
Y_l = sum_i z_i |z_i| / R_l; then R_{l+1} / R_l has mean r^2 (1 + s Y_l) given z_l,
n Cov(Y_l, Y_k) -> Phi(c^|k - l|), and Gaussian integration by parts gives E Y_l.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from testbed.errors import UserError


def square_correlation(rho: ArrayLike) -> np.ndarray:
    """Phi(rho) = E[u|u| v|v|] for standard Gaussians u, v of correlation rho.

        Phi(rho) = (2/pi) [3 rho sqrt(1 - rho^2) + (1 + 2 rho^2) arcsin rho]

    n Cov(Y_l, Y_k) tends to Phi(c^|k - l|).

    Args:
      rho: correlation in [-1, 1], any shape.

    Returns:
      The same shape; odd in rho, Phi(1) = 3.

    Source: Phi' = E[2|u| 2|v|] (Price 1958, "A useful theorem for nonlinear devices
    having Gaussian inputs"), integrated from Phi(0) = 0.  Equally twice the odd part of
    J_2(arccos rho) / pi, Cho & Saul 2009, "Kernel methods for deep learning", eq. 6.
    """
    rho = np.asarray(rho, np.float64)
    root, angle = np.sqrt(1 - rho**2), np.arcsin(rho)
    return (2 / np.pi) * (3 * rho * root + (1 + 2 * rho**2) * angle)


def sign_correlation(rho: ArrayLike) -> np.ndarray:
    """Psi(rho) = E[u|u| sign v] for standard Gaussians u, v of correlation rho.

        Psi(rho) = (2/pi) [rho sqrt(1 - rho^2) + arcsin rho]

    Args:
      rho: correlation in [-1, 1], any shape.

    Returns:
      The same shape; odd in rho, Psi(1) = 1.

    Source: Psi' = E[2|u| 2 delta(v)] = (4/pi) sqrt(1 - rho^2) by Price's theorem,
    integrated from Psi(0) = 0.
    """
    rho = np.asarray(rho, np.float64)
    return (2 / np.pi) * (rho * np.sqrt(1 - rho**2) + np.arcsin(rho))


@dataclasses.dataclass(frozen=True, eq=False)
class LayerLaw:
    """What holds at every layer of one network at initialization, on one input.

    Attributes:
      log_norm_mean: mean of log(|z_l|^2 / |z_0|^2), l = 0, ..., d, (d + 1,).
      log_norm_var: its variance over networks, (d + 1,).
      active_fraction: expected share of units with phi > 0, l = 0, ..., d - 1, (d,).
      active_fraction_var: variance of that share over networks, (d,).
    """

    log_norm_mean: np.ndarray
    log_norm_var: np.ndarray
    active_fraction: np.ndarray
    active_fraction_var: np.ndarray


def layer_law(
    width: int, depth: int, alpha: float, lam: float, balanced: bool = False
) -> LayerLaw:
    """The law of the layers' log-norms and active fractions, to leading order in 1/n.

        Balanced:  var_l  = (l/n) (5 s^2 + 4 c^2 s)
                   mean_l = l log r^2 - var_l / 2
                   active = 1/2
        vanilla:   var_l  = var_l^Balanced + (2 s^2/n) sum_{k<l} (l - k) Phi(c^k)
                   mean_l = mean_l^Balanced
                            - (s^2/n) sum_{k<l} sum_{q<=k} [Phi(c^q) - Psi(c^q)]
                   active = 1/2 - (s/(pi n)) sum_{q<=l} c^q sqrt(1 - c^{2q})

    with k, q from 1.  alpha = 0, the MLP, has 5 l/n and l log lam^2 - 5 l/(2n) in both.
    The input layer is left out: log(|z_0|^2 n_in / (n |x|^2)) adds mean -1/n and
    variance 2/n.  The share's variance is 1/(4n): units are independent given what came
    before.  Finite-width corrections are of relative order 1/n: at alpha = lam the
    vanilla variance is larger by 7 to 8 in n for n >= 64, the Balanced one by 1 to 3 %
    even at n = 16.

    Args:
      width: n.
      depth: d.
      alpha: weight of the skip, the same in every layer.
      lam: weight of the branch.
      balanced: whether units carry random signs, drawn afresh for every layer.

    Returns:
      A `LayerLaw`.

    Raises:
      UserError: width < 1, depth < 0, or alpha = lam = 0.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013 (see the top of this file).

    Example:
      >>> law = layer_law(width=64, depth=64, alpha=0.5**0.5, lam=0.5**0.5)
      >>> print(f"{law.log_norm_mean[-1]:.4f} {law.log_norm_var[-1]:.4f}")
      -1.9407 5.2756
    """
    if width < 1:
        raise UserError("width", width, "must be at least 1", "give the layers' units")
    if depth < 0:
        raise UserError("depth", depth, "must be at least 0", "count residual blocks")
    r = float(np.hypot(alpha, lam))
    if not (r > 0 and np.isfinite(r)):
        rule = "alpha and lam must be finite and not both 0"
        raise UserError("lam", lam, rule, "give lam or alpha a value")
    c, s = float(alpha) / r, (float(lam) / r) ** 2
    layers = np.arange(depth + 1, dtype=np.float64)

    var = layers * (5 * s**2 + 4 * c**2 * s) / width
    mean = layers * 2 * np.log(r) - var / 2
    inactive = np.zeros(depth)
    if not balanced:
        lags = np.clip(c, -1, 1) ** np.arange(1, depth)  # c^k, k = 1, ..., d - 1
        phi, psi = square_correlation(lags), sign_correlation(lags)
        var += 2 * s**2 / width * _twice_summed(phi)[: depth + 1]
        mean -= s**2 / width * _twice_summed(phi - psi)[: depth + 1]
        inactive[1:] = s / (np.pi * width) * np.cumsum(lags * np.sqrt(1 - lags**2))
    share_var = np.full(depth, 1 / (4 * width))
    return LayerLaw(mean, var, 0.5 - inactive, share_var)


def _twice_summed(terms: np.ndarray) -> np.ndarray:
    """sum_{k<l} sum_{q<=k} terms_q = sum_{k<l} (l - k) terms_k for l = 0, 1, ..."""
    return np.concatenate([[0.0, 0.0], np.cumsum(np.cumsum(terms))])
