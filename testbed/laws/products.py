"""The norm of a signal through fully connected ReLU layers: exact law and its limit.

    x_i = phi(z_i),   z_i = sqrt(2/n_{i-1}) W_i x_{i-1},      i = 1, ..., d,

phi = ReLU, W_i of shape (n_i, n_{i-1}) with independent N(0, 1) entries, x_0 fixed and
not 0.  By symmetry of the weights the units are on independently with probability 1/2,
and the size of z_i does not depend on which:
|x_i|^2 / |x_{i-1}|^2 = (2/n_{i-1}) chi^2_{B_i} with independent B_i ~ Bin(n_i, 1/2).
For wide layers log(n_0 |x_d|^2 / (n_d |x_0|^2)) tends to N(-beta/2, beta),
beta = 5 sum_i 1/n_i.  The Jacobian J of the network at a fixed input, applied to a
fixed unit vector u, obeys the same laws with |J u|^2 in place of |x_d|^2 / |x_0|^2.

Source: Hanin & Nica 2018, "Products of many large random matrices and gradients in deep
neural networks", arXiv:1812.05994, for the Gaussian limit.  The exact law and the
constants are derived here from the model.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from testbed.arguments import number, whole, wholes
from testbed.errors import UserError
from testbed.laws.characteristic import CharacteristicLaw
from testbed.laws.law import Law, Point


def check_widths(widths: ArrayLike, least: int = 1) -> tuple[int, ...]:
    """(n_0, ..., n_d) as a tuple of whole numbers, at least `least` of them.

    Raises:
      UserError: fewer of them, or one that is not a whole number from 1 on.
    """
    remedy = "give (n_0, ..., n_d)"
    sizes = wholes("widths", widths, remedy=remedy)
    if sizes.ndim != 1 or len(sizes) < least:
        rule = f"must be a list of at least {least}"
        raise UserError("widths", sizes.tolist(), rule, remedy)
    return tuple(sizes.tolist())


def layer_moments(width: int) -> tuple[float, float]:
    """Mean and variance that one layer of n units adds to the log-norm.

        m(n) = E[digamma(B/2)] + log 2 - log(n/2)
        v(n) = E[trigamma(B/2)] + Var[digamma(B/2)]

    with B ~ Bin(n, 1/2) given B >= 1: mean and variance of log((2/n) chi^2_B).  For
    large n they are -5/(2n) and 5/n; at n = 16 v is larger than that by 34 %, at 64 by
    6 %, at 256 by 1.5 %.

    Args:
      width: n.

    Returns:
      (m(n), v(n)).

    Raises:
      UserError: a width that is not a whole number from 1 on.

    Source: derived here from the model (see the top of this file).

    Example:
      >>> m, v = layer_moments(64)
      >>> print(f"{64 * m:.3f} {64 * v:.3f}")
      -2.567 5.312
    """
    width = whole("width", width)
    on, probability = _units_on(width)
    logs = special.digamma(on / 2)
    mean = probability @ logs
    spread = probability @ (special.polygamma(1, on / 2) + (logs - mean) ** 2)
    return float(mean + math.log(4 / width)), float(spread)


@dataclasses.dataclass(frozen=True)
class _ReluProduct:
    """The cumulant function of `relu_log_norm`: {n: how many layers have it}."""

    layers: dict[int, int]

    def __call__(self, s: np.ndarray) -> np.ndarray:
        total = np.zeros_like(s)
        for n, count in self.layers.items():
            on, probability = _units_on(n)
            gamma = special.loggamma(on / 2 + s[:, None]) - special.loggamma(on / 2)
            mixed = np.asarray(special.logsumexp(gamma, axis=1, b=probability))
            total += count * (mixed + s * math.log(4 / n))
        return total


def relu_log_norm(widths: Sequence[int]) -> Law:
    """The exact law of log(n_0 |x_d|^2 / (n_d |x_0|^2)), given that no layer is dead.

        sum_{i=1}^d log((2/n_i) chi^2_{B_i}),   B_i ~ Bin(n_i, 1/2) given B_i >= 1

    Here |x_d| is the norm behind the last ReLU.  The mean is sum_i m(n_i), the variance
    sum_i v(n_i); n_0 does not enter.  In the notation of `models.MLP`, with its input
    layer, log(2 n_in |phi(z_d)|^2 / (n |x|^2)) has the law of (n_in, n, ..., n), n
    written d + 1 times; without it, see `mlp_log_norm`.

    Args:
      widths: (n_0, ..., n_d).

    Returns:
      A `CharacteristicLaw`; at d = 0 the `Point` 0.

    Raises:
      UserError: no width, or one that is not a whole number from 1 on.

    Source: derived here from the model of Hanin & Nica 2018, arXiv:1812.05994.

    Example:
      >>> law = relu_log_norm([16] * 33)
      >>> print(f"{law.mean():.3f} {law.var():.2f} {law.cdf(0.0):.3f}")
      -5.645 13.43 0.944
    """
    layers = Counter(check_widths(widths)[1:])
    if not layers:
        return Point(0.0)
    moments = {n: layer_moments(n) for n in layers}
    return CharacteristicLaw(
        _ReluProduct(dict(layers)),
        sum(count * moments[n][0] for n, count in layers.items()),
        sum(count * moments[n][1] for n, count in layers.items()),
        strip=(-min(_units_on(n)[0][0] for n in layers) / 2, math.inf),
    )


def mlp_log_norm(width: int, depth: int) -> Law:
    """The exact law of log(|z_d|^2 / |z_0|^2) in `models.MLP`, no layer being dead.

        z_{l+1} = sqrt(2/n) W_l phi(z_l),  l = 0, ..., d - 1,    z_0 ~ N(0, s^2 I_n)

    It is `relu_log_norm` of n_0 = ... = n_d = n: one factor per layer,
    |z_{l+1}|^2 / |z_l|^2 = (2/n) (|phi(z_l)|^2 / |z_l|^2) chi^2_n with the new layer's
    chi^2_n.  The ratio in brackets is chi^2_B / (chi^2_B + chi^2_{n-B}), a function of
    z_l's direction, hence independent of |z_l|^2, and times an independent chi^2_n it
    is chi^2_B again.  The factors are independent of one another, so this holds jointly
    for all l.

    Args:
      width: n.
      depth: d.

    Returns:
      A `CharacteristicLaw`; at d = 0 the `Point` 0.

    Raises:
      UserError: a width below 1, a depth below 0, or one that is not whole.

    Source: derived here from the model (see the top of this file).

    Example:
      >>> law = mlp_log_norm(width=64, depth=64)
      >>> print(f"{law.mean():.3f} {law.var():.3f}")
      -2.567 5.312
    """
    depth = whole("depth", depth, 0, remedy="count hidden-to-hidden layers")
    return relu_log_norm((whole("width", width),) * (depth + 1))


def log_variance(
    widths: Sequence[int],
    active: float = 0.5,
    fourth_moment: float = 3.0,
    quartic: float = 1.0,
) -> float:
    """The limit's variance beta of the log-norm, to leading order in the 1/n_i.

        beta = (3/p - 1) sum_{i=1}^d 1/n_i + (mu_4 - 3) |u|_4^4 / (p n_1)

    for D_d W_d ... D_1 W_1 u, |u| = 1: W_i has independent symmetric entries of
    variance 1/(p n_{i-1}) and fourth standardized moment mu_4; D_i is diagonal with
    entries 1 of probability p, else 0.  ReLU is p = 1/2, and 5/n a layer; linear is
    p = 1, and 2/n.  Only the first layer feels mu_4: behind it the signal is spread.

    Args:
      widths: (n_0, ..., n_d).
      active: p, in (0, 1].
      fourth_moment: mu_4 of the weights, at least 1; 3 is Gaussian, 1 random signs.
      quartic: |u|_4^4 = sum_j u_j^4, in (0, 1]; 1 is a coordinate vector, 1/n_0 the
        vector of equal entries.

    Returns:
      beta.

    Raises:
      UserError: an argument outside of its range.

    Source: Hanin & Nica 2018, arXiv:1812.05994, for the limit; constants derived here
    from the model.

    Example:
      >>> print(log_variance([64] * 65), log_variance([64] * 65, active=1.0))
      5.0 2.0
    """
    widths = check_widths(widths)
    active = number("active", active, most=1, above=0, remedy="1/2 is ReLU, 1 linear")
    remedy = "give sum_j u_j^4 of a unit vector"
    quartic = number("quartic", quartic, most=1, above=0, remedy=remedy)
    fourth_moment = number("fourth_moment", fourth_moment, 1, remedy="3 is Gaussian")
    if len(widths) == 1:
        return 0.0
    layers = (3 / active - 1) * sum(1 / n for n in widths[1:])
    return layers + (fourth_moment - 3) * quartic / (active * widths[1])


def gaussian_limit(
    widths: Sequence[int],
    active: float = 0.5,
    fourth_moment: float = 3.0,
    quartic: float = 1.0,
) -> Law:
    """N(-beta/2, beta), the limit law of the log-norm for wide layers.

    Of log(n_0 |x_d|^2 / (n_d |x_0|^2)), and of log(n_0 |J u|^2 / n_d), with beta as in
    `log_variance`, whose arguments it takes.

    Returns:
      A frozen `scipy.stats.norm`; at d = 0 the `Point` 0.

    Raises:
      UserError: an argument outside of its range, or layers so narrow that beta, to
        leading order, is not above 0.

    Source: Hanin & Nica 2018, arXiv:1812.05994.

    Example:
      >>> law = gaussian_limit([64] * 65)
      >>> print(f"{law.mean():.1f} {law.var():.1f}")
      -2.5 5.0
    """
    beta = log_variance(widths, active, fourth_moment, quartic)
    if len(check_widths(widths)) == 1:
        return Point(0.0)
    if beta <= 0:
        rule = "gives a variance that is not above 0: the layers are too narrow"
        raise UserError("widths", tuple(widths), rule, "use wider or more layers")
    return cast(Law, stats.norm(-beta / 2, math.sqrt(beta)))


def second_moment_ratio(widths: Sequence[int]) -> float:
    """E|x_d|^4 / (E|x_d|^2)^2 = prod_{i=1}^d (1 + 5/n_i), dead networks included.

    Exact for Gaussian weights at every width.

    Args:
      widths: (n_0, ..., n_d).

    Returns:
      The ratio.

    Raises:
      UserError: no width, or one that is not a whole number from 1 on.

    Source: derived here from the model: E chi^4_B = E[B (B + 2)] = n (n + 5) / 4.

    Example:
      >>> print(f"{second_moment_ratio([10, 5, 5]):.1f}")
      4.0
    """
    return math.prod(1 + 5 / n for n in check_widths(widths)[1:])


def dead_probability(widths: Sequence[int]) -> float:
    """Probability that some layer has no active unit, 1 - prod_{i=1}^d (1 - 2^-n_i).

    Args:
      widths: (n_0, ..., n_d).

    Returns:
      The probability, to full relative precision.

    Raises:
      UserError: no width, or one that is not a whole number from 1 on.

    Source: derived here from the model (see the top of this file).

    Example:
      >>> print(dead_probability([3, 1, 1]))
      0.75
    """
    widths = check_widths(widths)
    return -math.expm1(sum(math.log1p(-(2.0**-n)) for n in widths[1:]))


def _units_on(width: int) -> tuple[np.ndarray, np.ndarray]:
    """B = 1, ..., n and its probabilities given that a unit is on; the negligible cut.

    Beyond 12 standard deviations of n/2 lies a share below 1e-30.
    """
    reach = 12 * math.sqrt(width / 4)
    first = max(1, math.floor(width / 2 - reach))
    on = np.arange(first, math.ceil(min(width, width / 2 + reach)) + 1.0)
    probability = stats.binom.pmf(on, width, 0.5)
    return on, probability / probability.sum()
