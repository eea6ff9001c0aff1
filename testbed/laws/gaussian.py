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

from testbed.errors import UserError
from testbed.laws.law import Law


@dataclasses.dataclass(frozen=True, eq=False)
class LogRatioLaw:
    """log of a ratio of squared norms of two n-vectors of Gaussian pairs.

        X = log(|v|^2 / |u|^2) = loc + 2 asinh(sqrt((1 - rho^2) / n) T),   T ~ t_n,

    (u_i, v_i) independent over i, of variances 1 and e^loc and correlation rho.

    Attributes:
      width: n; this and the others may be arrays that broadcast.
      rho: correlation of u_i and v_i; |rho| < 1.
      loc: log of the ratio of variances.

    Source: the density of the ratio (Bose 1935, Finney 1938) is, in w = X - loc,
    proportional to cosh(w/2) / (sinh^2(w/2) + 1 - rho^2)^((n + 1)/2), hence Student's.
    """

    width: Any
    rho: Any
    loc: Any = 0.0

    @property
    def _scale(self) -> Any:
        return np.sqrt((1 - np.asarray(self.rho) ** 2) / self.width)

    def _half(self, x: ArrayLike) -> np.ndarray:
        # Far beyond all mass; cosh and sinh of more would overflow.
        return np.clip((np.asarray(x, np.float64) - self.loc) / 2, -300, 300)

    def _student(self, x: ArrayLike) -> np.ndarray:
        return np.sinh(self._half(x)) / self._scale

    def mean(self) -> Any:
        """E X, by symmetry `loc`."""
        return self.loc

    def var(self) -> Any:
        """Var X, see `log_ratio_var`."""
        return log_ratio_var(self.width, self.rho)

    def std(self) -> Any:
        """Standard deviation of X."""
        return np.sqrt(self.var())

    def pdf(self, x: ArrayLike) -> np.ndarray:
        """Density at x."""
        slope = np.cosh(self._half(x)) / 2 / self._scale
        return stats.t.pdf(self._student(x), self.width) * slope

    def cdf(self, x: ArrayLike) -> np.ndarray:
        """P(X <= x)."""
        return stats.t.cdf(self._student(x), self.width)

    def ppf(self, q: ArrayLike) -> np.ndarray:
        """The x with cdf(x) = q."""
        return self.loc + 2 * np.arcsinh(self._scale * stats.t.ppf(q, self.width))

    def rvs(
        self,
        size: int | tuple[int, ...] = 1,
        random_state: int | np.random.Generator | None = None,
    ) -> np.ndarray:
        """Independent draws."""
        return self.ppf(np.random.default_rng(random_state).random(size))


def log_ratio_var(width: ArrayLike, rho: ArrayLike) -> np.ndarray:
    """Variance of `LogRatioLaw`, about 4 (1 - rho^2) / n, for arrays that broadcast.

    With T = sqrt(n) sinh u, u has density proportional to cosh(u)^-n, and

        Var = 4 E asinh^2(sqrt(1 - rho^2) sinh u),

    by the trapezoid rule, which converges geometrically here.
    """
    n = np.asarray(width, np.float64)[..., None]
    reach = np.minimum(40.0, 9 / np.sqrt(n) + 45 / n)  # cosh(u)^-n < 1e-17 beyond
    u = reach * np.linspace(-1, 1, 2001)
    weight = np.exp(-n * np.log(np.cosh(u)))
    weight /= weight.sum(-1, keepdims=True)
    root = np.sqrt(1 - np.asarray(rho, np.float64)[..., None] ** 2)
    return 4 * np.sum(weight * np.arcsinh(root * np.sinh(u)) ** 2, -1)


def gaussian_log_norm(
    width: ArrayLike, depth: ArrayLike, alpha: float, lam: float
) -> LogRatioLaw:
    """Infinite-width law of log(|z_d|^2 / |z_0|^2), of vanilla and Balanced alike.

    Its mean is d log r^2 and its variance about 4 (1 - c^{2d}) / n: it does not widen
    with depth.

    Args:
      width: n, of any shape that broadcasts with that of depth.
      depth: d.
      alpha: weight of the skip.
      lam: weight of the branch; not 0.

    Raises:
      UserError: a size below 1, or lam = 0.

    Example:
      >>> law = gaussian_log_norm(64, 64, 0.5**0.5, 0.5**0.5)
      >>> print(f"{law.mean():.4f} {law.var():.4f}")
      0.0000 0.0615
    """
    _check_size("width", width)
    _check_size("depth", depth)
    r2 = alpha**2 + lam**2
    if lam == 0 or not np.isfinite(r2):
        rule = "must be finite and not 0, alpha finite"
        raise UserError("lam", lam, rule, "give the branch a weight")
    depth = np.asarray(depth, np.float64)
    rho = (alpha / np.sqrt(r2)) ** depth
    if not np.all(np.abs(rho) < 1):
        rule = f"is lost in rounding beside alpha={alpha}"
        raise UserError("lam", lam, rule, "give the branch more weight")
    return LogRatioLaw(np.asarray(width), rho, depth * np.log(r2))


def gaussian_log_hidden(
    width: ArrayLike, depth: ArrayLike, alpha: float, lam: float
) -> Law:
    """Infinite-width law of log(|z_d|^2 / n): log(r^{2d} chi^2_n / n).

    Raises:
      UserError: a size below 1, or alpha = lam = 0.
    """
    _check_size("width", width)
    return _log_chi2(depth, alpha, lam, np.asarray(width), np.log(width))


def gaussian_log_output(depth: ArrayLike, alpha: float, lam: float, n_out: int) -> Law:
    """Infinite-width law of log|z_out|^2 for |x|^2 = n_in: log(r^{2d} chi^2_{n_out}).

    The density is e^{kt/2} exp(-e^t/2) / (2^{k/2} Gamma(k/2)), k = n_out, at r = 1; its
    variance psi'(k/2) does not depend on depth.

    Returns:
      A frozen `scipy.stats.loggamma`.

    Raises:
      UserError: a size below 1, or alpha = lam = 0.
    """
    return _log_chi2(depth, alpha, lam, n_out, 0.0)


def _log_chi2(depth, alpha, lam, dof, log_divisor) -> Law:
    _check_size("depth", depth)
    _check_size("n_out", dof)
    r2 = alpha**2 + lam**2
    if not (r2 > 0 and np.isfinite(r2)):
        rule = "alpha and lam must be finite and not both 0"
        raise UserError("lam", lam, rule, "give lam or alpha a value")
    law = stats.loggamma(
        dof / 2, loc=np.asarray(depth) * np.log(r2) + np.log(2) - log_divisor
    )
    return cast(Law, law)


def _check_size(name: str, value: ArrayLike) -> None:
    if np.any(np.asarray(value) < 1):
        raise UserError(name, value, "must be at least 1", "use 1 or more")
