"""The infinite-width (Gaussian) law of the quantities that other laws describe.

At infinite width the units of a layer are independent Gaussians of variance r^{2l},
r^2 = alpha^2 + lam^2, and one unit has correlation c^l, c = alpha / r, with itself l
layers before.  Taken at its word at width n, that fixes the law of every norm.

Source: Neal 1996, "Bayesian learning for neural networks"; Lee et al. 2018,
arXiv:1711.00165; Matthews et al. 2018, arXiv:1804.11271.  The laws of norms follow.
"""

import dataclasses
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from testbed.arguments import branch_weights, numbers, wholes
from testbed.laws.law import FrozenLaw, Law, with_points


@dataclasses.dataclass(frozen=True, eq=False)
class LogRatioLaw(FrozenLaw):
    """log of a ratio of squared norms of two n-vectors of Gaussian pairs.

        X = log(|v|^2 / |u|^2) = loc + 2 asinh(sqrt(apart / n) T),   T ~ t_n,

    (u_i, v_i) independent over i, of variances 1 and e^loc and correlation rho, with
    apart = 1 - rho^2.

    Attributes:
      width: n; this and the others may be arrays that broadcast.
      apart: 1 - rho^2, in (0, 1]: of a rho near 1, rho itself has lost it in rounding.
      loc: log of the ratio of variances.

    Source: the density of the ratio (Bose 1935, Finney 1938) is, in w = X - loc,
    proportional to cosh(w/2) / (sinh^2(w/2) + 1 - rho^2)^((n + 1)/2), hence Student's.
    """

    width: Any
    apart: Any
    loc: Any = 0.0

    def mean(self) -> Any:
        """E X, by symmetry `loc`, in the law's whole shape."""
        return (np.asarray(self.loc, np.float64) + 0 * self._scale)[()]

    def var(self) -> Any:
        """Var X, see `log_ratio_var`."""
        return (log_ratio_var(self.width, self.apart) + 0 * self.mean())[()]

    @property
    def _scale(self) -> Any:
        return np.sqrt(np.asarray(self.apart, np.float64) / self.width)

    def _half(self, x: np.ndarray) -> np.ndarray:
        # Far beyond all mass; cosh and sinh of more would overflow.
        return np.clip((x - self.loc) / 2, -300, 300)

    def _student(self, x: np.ndarray) -> np.ndarray:
        return np.sinh(self._half(x)) / self._scale

    def _pdf(self, x: np.ndarray) -> np.ndarray:
        slope = np.cosh(self._half(x)) / 2 / self._scale
        return stats.t.pdf(self._student(x), self.width) * slope

    def _cdf(self, x: np.ndarray) -> np.ndarray:
        return stats.t.cdf(self._student(x), self.width)

    def _sf(self, x: np.ndarray) -> np.ndarray:
        return stats.t.sf(self._student(x), self.width)

    def _ppf(self, q: np.ndarray) -> np.ndarray:
        return self.loc + 2 * np.arcsinh(self._scale * stats.t.ppf(q, self.width))


def log_ratio_var(width: ArrayLike, apart: ArrayLike) -> np.ndarray:
    """Variance of `LogRatioLaw`, about 4 (1 - rho^2) / n, for arrays that broadcast.

    With T = sqrt(n) sinh u, u has density proportional to cosh(u)^-n, and

        Var = 4 E asinh^2(sqrt(1 - rho^2) sinh u),

    by the trapezoid rule, which converges geometrically here.

    Args:
      width: n, of any shape.
      apart: 1 - rho^2, in [0, 1].

    Returns:
      The broadcast shape.

    Raises:
      UserError: a width below 1 or not whole, or apart outside of [0, 1].
    """
    n = wholes("width", width)[..., None].astype(np.float64)
    apart = numbers("apart", apart, 0, 1, remedy="give 1 - rho^2")
    reach = np.minimum(40.0, 9 / np.sqrt(n) + 45 / n)  # cosh(u)^-n < 1e-17 beyond
    u = reach * np.linspace(-1, 1, 2001)
    weight = np.exp(-n * np.log(np.cosh(u)))
    weight /= weight.sum(-1, keepdims=True)
    root = np.sqrt(apart)[..., None]
    return 4 * np.sum(weight * np.arcsinh(root * np.sinh(u)) ** 2, -1)


def gaussian_log_norm(
    width: ArrayLike, depth: ArrayLike, alpha: float, lam: float
) -> Law:
    """Infinite-width law of log(|z_d|^2 / |z_0|^2), of vanilla and Balanced alike.

    Its mean is d log r^2 and its variance about 4 (1 - c^{2d}) / n: it does not widen
    with depth.  At lam = 0, and at d = 0, nothing is random and the law is the `Point`
    d log alpha^2.

    Args:
      width: n, of any shape that broadcasts with that of depth.
      depth: d.
      alpha: weight of the skip.
      lam: weight of the branch.

    Returns:
      A `LogRatioLaw`, or a `Point`.

    Raises:
      UserError: a width below 1 or depth below 0, one that is not whole, a weight that
        is not finite, or alpha = lam = 0.

    Example:
      >>> law = gaussian_log_norm(64, 64, 0.5**0.5, 0.5**0.5)
      >>> print(f"{law.mean():.4f} {law.var():.4f}")
      0.0000 0.0635
    """
    width, depth = wholes("width", width), wholes("depth", depth, 0)
    log_c2, log_r2 = _log_squares(alpha, lam)
    # d log c^2 as it is: at alpha = 0 it is -inf, but 0 at depth 0.
    apart = -np.expm1(np.where(depth == 0, 0.0, np.maximum(depth, 1) * log_c2))
    loc = depth * log_r2 + 0.0 * width

    def law(certain: np.ndarray) -> Law:
        return LogRatioLaw(width, np.where(certain, 1.0, apart), loc)

    return with_points(law, (apart == 0) & (width > 0), loc)


def gaussian_log_hidden(
    width: ArrayLike, depth: ArrayLike, alpha: float, lam: float
) -> Law:
    """Infinite-width law of log(|z_d|^2 / n): log(r^{2d} chi^2_n / n).

    Args:
      width: n, of any shape that broadcasts with that of depth.
      depth: d.
      alpha: weight of the skip.
      lam: weight of the branch.

    Returns:
      A frozen `scipy.stats.loggamma`.

    Raises:
      UserError: as `gaussian_log_norm`.
    """
    width = wholes("width", width)
    return _log_chi2(depth, alpha, lam, width, np.log(width))


def gaussian_log_output(
    depth: ArrayLike, alpha: float, lam: float, n_out: ArrayLike
) -> Law:
    """Infinite-width law of log|z_out|^2 for |x|^2 = n_in: log(r^{2d} chi^2_{n_out}).

    The density is e^{kt/2} exp(-e^t/2) / (2^{k/2} Gamma(k/2)), k = n_out, at r = 1; its
    variance psi'(k/2) does not depend on depth.

    Args:
      depth: d, of any shape.
      alpha: weight of the skip.
      lam: weight of the branch.
      n_out: k, number of outputs, of any shape that broadcasts with that of depth.

    Returns:
      A frozen `scipy.stats.loggamma`.

    Raises:
      UserError: as `gaussian_log_norm`, or n_out < 1.
    """
    return _log_chi2(depth, alpha, lam, wholes("n_out", n_out), 0.0)


def _log_chi2(depth, alpha, lam, dof, log_divisor) -> Law:
    depth = wholes("depth", depth, 0)
    _, log_r2 = _log_squares(alpha, lam)
    loc = depth * log_r2 + np.log(2) - log_divisor
    return cast(Law, stats.loggamma(dof / 2, loc=loc))


def _log_squares(alpha: Any, lam: Any) -> tuple[float, float]:
    """log c^2, c = alpha / r, and log r^2; no digit lost where lam is small."""
    alpha, lam = branch_weights(alpha, lam)
    log_r2 = 2 * float(np.log(np.hypot(alpha, lam)))
    if alpha == 0:
        return -np.inf, log_r2
    with np.errstate(over="ignore"):
        return -float(np.log1p(np.square(lam / alpha))), log_r2
