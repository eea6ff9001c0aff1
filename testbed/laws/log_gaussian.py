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
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from testbed.arguments import branch_weights, numbers, whole, wholes
from testbed.errors import UserError
from testbed.laws.characteristic import CharacteristicLaw, normal_plus_log_chi2
from testbed.laws.law import Law, with_points

_UNITS, _BLOCKS = "give the layers' units", "count residual blocks"


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
    rho = numbers("rho", rho, -1, 1, remedy="give a correlation")
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
    rho = numbers("rho", rho, -1, 1, remedy="give a correlation")
    return (2 / np.pi) * (rho * np.sqrt(1 - rho**2) + np.arcsin(rho))


def interlayer_covariance(lags: ArrayLike, alpha: float, lam: float) -> np.ndarray:
    """Limit of n Cov(Y_l, Y_{l+q}) at lags q: Phi(c^q), and 3 at q = 0.

    Y_l = sum_i s_i z_i|z_i| / |z_l|^2 is the imbalance of layer l, s_i the signs that
    its units carry.  This is for the vanilla network, s_i = 1.  In the Balanced one the
    s_i are fair and fresh in every layer, and it is 3 at q = 0 and 0 elsewhere: without
    them, z being carried along, it would be Phi(c^q) there too.  Divided by 3 it is the
    interlayer correlation.

    Args:
      lags: q, whole numbers of any shape and sign.
      alpha: weight of the skip.
      lam: weight of the branch.

    Raises:
      UserError: a lag that is not whole, a weight that is not finite, or both 0.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013 (interlayer correlations); the form is
    derived here from z_l and z_{l+q} having correlation c^q.
    """
    c, _, _ = _correlation(alpha, lam)
    lags = wholes("lags", np.abs(numbers("lags", lags)), 0, remedy="count layers")
    return square_correlation(c**lags)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerLaw:
    """What holds at every layer of one network at initialization, on one input.

    Attributes:
      log_norm_mean: mean of log(|z_l|^2 / |z_0|^2), l = 0, ..., d, (d + 1,).
      log_norm_var: its variance over networks, (d + 1,).
      active_fraction: expected share of units with phi > 0, l = 0, ..., d - 1, (d,).
      active_fraction_var: variance of that share over networks, (d,).
      activation_ratio: E |phi(z_l)|^2 / |z_l|^2, l = 0, ..., d - 1, (d,).
    """

    log_norm_mean: np.ndarray
    log_norm_var: np.ndarray
    active_fraction: np.ndarray
    active_fraction_var: np.ndarray
    activation_ratio: np.ndarray


def layer_law(
    width: int, depth: int, alpha: float, lam: float, balanced: bool = False
) -> LayerLaw:
    """The law of the layers' log-norms and active units, to leading order in 1/n.

        Balanced:  var_l  = (l/n) (5 s^2 + 4 c^2 s)
                   mean_l = l log r^2 - var_l / 2
                   active = ratio = 1/2
        vanilla:   var_l  = var_l^Balanced + (2 s^2/n) sum_{k<l} (l - k) Phi(c^k)
                   mean_l = mean_l^Balanced
                            - (s^2/n) sum_{k<l} sum_{q<=k} [Phi(c^q) - Psi(c^q)]
                   active = 1/2 - (s/(pi n)) sum_{q<=l} c^q sqrt(1 - c^{2q})
                   ratio  = 1/2 - (s/(2 n)) sum_{q<=l} [Phi(c^q) - Psi(c^q)]

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
      UserError: width < 1, depth < 0, one that is not whole, a weight that is not
        finite, or alpha = lam = 0.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013 (see the top of this file).

    Example:
      >>> law = layer_law(width=64, depth=64, alpha=0.5**0.5, lam=0.5**0.5)
      >>> print(f"{law.log_norm_mean[-1]:.4f} {law.log_norm_var[-1]:.4f}")
      -1.9407 5.2756
    """
    width = whole("width", width, remedy=_UNITS)
    depth = whole("depth", depth, 0, remedy=_BLOCKS)
    order = _first_order(depth, alpha, lam, balanced)
    mean = np.arange(depth + 1) * order.log_r2 + order.mean / width
    share_var = np.full(depth, 1 / (4 * width))
    return LayerLaw(
        mean,
        order.var / width,
        0.5 - order.inactive / width,
        share_var,
        0.5 + order.imbalance / (2 * width),
    )


def resnet_log_norm(
    width: ArrayLike,
    depth: ArrayLike,
    alpha: float,
    lam: float,
    balanced: bool = False,
) -> Law:
    """The law of log(|z_d|^2 / |z_0|^2): Gaussian, moments as in `layer_law`.

    At lam = 0, and at d = 0, nothing is random and the law is the `Point`
    d log alpha^2: z_d is alpha^d z_0 exactly, and the moments have that limit.

    Args:
      width: n, of any shape that broadcasts with that of depth.
      depth: d.
      alpha: weight of the skip; 0 is the fully connected network.
      lam: weight of the branch.
      balanced: whether units carry random signs, drawn afresh for every layer.

    Returns:
      A frozen `scipy.stats.norm`, or a `Point`.

    Raises:
      UserError: a width below 1 or depth below 0, one that is not whole, a weight that
        is not finite, or alpha = lam = 0.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013.

    Example:
      >>> law = resnet_log_norm(64, 64, 0.5**0.5, 0.5**0.5, balanced=True)
      >>> print(f"{law.mean():.4f} {law.var():.4f}")
      -1.1250 2.2500
    """
    width = wholes("width", width, remedy=_UNITS)
    depth = wholes("depth", depth, 0, remedy=_BLOCKS)
    order = _first_order(int(depth.max(initial=0)), alpha, lam, balanced)
    mean = depth * order.log_r2 + order.mean[depth] / width
    std = np.sqrt(order.var[depth] / width)

    def law(certain: np.ndarray) -> Law:
        return cast(Law, stats.norm(mean, np.where(certain, 1.0, std)))

    return with_points(law, std == 0, mean)


def resnet_log_output(
    width: int,
    depth: int,
    alpha: float,
    lam: float,
    n_out: int,
    balanced: bool = False,
) -> CharacteristicLaw:
    """The law of log|z_out|^2 for |x|^2 = n_in: log-norm + input layer + log chi^2.

        z_out = W_out z_d / sqrt(n),    log|z_out|^2 = G + d log r^2 + log chi^2_{n_out}

    with G Gaussian: `resnet_log_norm`'s law less d log r^2, and mean -1/n and variance
    2/n more for the input layer.

    Args:
      width: n.
      depth: d.
      alpha: weight of the skip.
      lam: weight of the branch.
      n_out: number of outputs.
      balanced: whether units carry random signs, drawn afresh for every layer.

    Raises:
      UserError: as `resnet_log_norm`, or n_out < 1.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013.
    """
    width, depth = whole("width", width, remedy=_UNITS), whole("depth", depth, 0)
    n_out = whole("n_out", n_out, remedy="count the outputs")
    law = resnet_log_norm(width, depth, alpha, lam, balanced)
    return normal_plus_log_chi2(
        float(law.mean()) - 1 / width, float(law.var()) + 2 / width, n_out
    )


class OutputMoments(NamedTuple):
    """Moments of one output coordinate over networks, |x|^2 = n_in.

    Attributes:
      power: E z_out,i^2.
      kurtosis: E z_out,i^4 / (E z_out,i^2)^2, by log-normal closure.
      square_covariance: Cov(z_i^2, z_j^2) / (E z^2)^2 for i != j.
    """

    power: float
    kurtosis: float
    square_covariance: float


def output_moments(
    width: int, depth: int, alpha: float, lam: float, balanced: bool = False
) -> OutputMoments:
    """Power, kurtosis and dependence of outputs.

        Balanced:  E z_i^2 = r^{2d}, exactly
        vanilla:   E z_i^2 = r^{2d} exp[(s^2/n) sum_{k<d} sum_{q<=k} Psi(c^q)]
        both:      kurtosis 3 e^beta,  Cov(z_i^2, z_j^2) / (E z^2)^2 = e^beta - 1

    with beta the variance of log|z_d|^2, input layer included.  The vanilla log-norm is
    skewed to the left at finite n, so that its kurtosis lies below 3 e^beta.  Beyond
    float64 they are inf.

    Raises:
      UserError: as `resnet_log_norm`.

    Source: derived here from the law of Li, Nica & Roy 2021, arXiv:2106.04013.
    """
    width, depth = whole("width", width, remedy=_UNITS), whole("depth", depth, 0)
    law = resnet_log_norm(width, depth, alpha, lam, balanced)
    beta = float(law.var()) + 2 / width
    # The mean of a log-normal, from which the input layer drops out: -1/n + (2/n)/2.
    with np.errstate(over="ignore"):
        power = float(np.exp(law.mean() + law.var() / 2))
        return OutputMoments(power, 3 * np.exp(beta), np.expm1(beta))


class Rates(NamedTuple):
    """Large-depth rates of the law per unit of d/n, r = 1; see `rates`.

    Attributes:
      sum_phi, sum_psi: sums of Phi(c^k), Psi(c^k) over k >= 1.
      var_balanced, var_vanilla: growth of the log-norm's variance.
      mean_vanilla: growth of its mean, vanilla; Balanced has -var_balanced / 2.
      imbalance: limit of n E Y_k; half of it is that of n (E|phi|^2/|z|^2 - 1/2).
      inactive: limit of n (1/2 - active fraction).
      power: growth of log E|z|^2, vanilla; Balanced has 0.
    """

    sum_phi: float
    sum_psi: float
    var_balanced: float
    var_vanilla: float
    mean_vanilla: float
    imbalance: float
    inactive: float
    power: float


def rates(alpha: float, lam: float) -> Rates:
    """What the finite sums of `layer_law` grow like once d >> 1/s.

    They need d much larger than 1/s to hold: with s = 0.05, a few hundred layers.

    Raises:
      UserError: a weight that is not finite, or lam = 0.
    """
    c, s, _ = _correlation(alpha, lam)
    if s == 0:
        rule = "a network without branches has no rates"
        raise UserError("lam", lam, rule, "give lam a value")
    # c^k below 1e-18 adds nothing to sums of odd functions of it.
    count = 1 if c == 0 else int(np.ceil(np.log(1e-18) / np.log(abs(c)))) + 1
    lags = np.clip(c, -1, 1) ** np.arange(1, count + 1)
    phi, psi = square_correlation(lags).sum(), sign_correlation(lags).sum()
    inactive = s / np.pi * np.sum(lags * np.sqrt(1 - lags**2))
    balanced = 5 * s**2 + 4 * c**2 * s
    imbalance = -s * (phi - psi)
    vanilla = balanced + 2 * s**2 * phi
    mean = -balanced / 2 + s * imbalance
    values = (phi, psi, balanced, vanilla, mean, imbalance, inactive, s**2 * psi)
    return Rates(*map(float, values))


class _Order(NamedTuple):
    """Coefficients of 1/n, by layer: of the log-norm's mean (beyond l log r^2) and
    variance, (d + 1,); of 1/2 - active fraction and of E Y, (d,).
    """

    log_r2: float
    mean: np.ndarray
    var: np.ndarray
    inactive: np.ndarray
    imbalance: np.ndarray


def _first_order(depth: int, alpha: float, lam: float, balanced: bool) -> _Order:
    c, s, log_r2 = _correlation(alpha, lam)
    var = np.arange(depth + 1, dtype=np.float64) * (5 * s**2 + 4 * c**2 * s)
    mean = -var / 2
    inactive, imbalance = np.zeros(depth), np.zeros(depth)
    if not balanced:
        lags = np.clip(c, -1, 1) ** np.arange(1, depth)  # c^k, k = 1, ..., d - 1
        phi, psi = square_correlation(lags), sign_correlation(lags)
        var += 2 * s**2 * _twice_summed(phi)[: depth + 1]
        mean = mean - s**2 * _twice_summed(phi - psi)[: depth + 1]
        inactive[1:] = s / np.pi * np.cumsum(lags * np.sqrt(1 - lags**2))
        imbalance[1:] = -s * np.cumsum(phi - psi)
    return _Order(log_r2, mean, var, inactive, imbalance)


def _twice_summed(terms: np.ndarray) -> np.ndarray:
    """sum_{k<l} sum_{q<=k} terms_q = sum_{k<l} (l - k) terms_k for l = 0, 1, ..."""
    return np.concatenate([[0.0, 0.0], np.cumsum(np.cumsum(terms))])


def _correlation(alpha: Any, lam: Any) -> tuple[float, float, float]:
    """c = alpha / r, s = lam^2 / r^2 and log r^2."""
    alpha, lam = branch_weights(alpha, lam)
    r = np.hypot(alpha, lam)
    return float(alpha / r), float((lam / r) ** 2), float(2 * np.log(r))
