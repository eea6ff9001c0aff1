"""Distributions on the line known by their cumulant function, by Fourier inversion.

A sum of independent terms has no density in closed form, but the logarithm of its
moment generating function is the sum of theirs.  On the imaginary axis that gives the
characteristic function, hence density and distribution function; on the real axis it
bounds the tails (Chernoff), hence how fine the inversion has to be.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy import special

from testbed.arguments import number
from testbed.errors import UserError
from testbed.laws.law import FrozenLaw

_LOG_NEGLIGIBLE = math.log(1e-18)  # of a tail's probability, or of |cf| where it is cut
_TABLE = 2**12
_CHUNK = 2**21  # terms of the inversion's sum held at once


class CharacteristicLaw(FrozenLaw):
    """The law with a given cumulant function K(s) = log E exp(s X).

        pdf(x) = (1/pi) int_0^inf Re[exp(K(it) - itx)] dt
        cdf(x) = 1/2 - (1/pi) int_0^inf Im[exp(K(it) - itx)] / t dt

    Both integrals by the midpoint rule.  Its step is 2 pi over the length of an
    interval outside of which, by Chernoff's bounds P(X > x) <= exp(K(s) - s x) and
    P(X < -x) <= exp(K(-s) - s x), lies a probability below 1e-18; so the rule's only
    errors are rounding (about 1e-16 times the size of K's terms) and |cf| < 1e-18
    beyond the last node.  Errors are absolute: far tails have no digits.  The
    characteristic function must die out, so X needs a smooth density.

    It pickles if `cumulant` does: a function of a module or an instance, no lambda.

    Args:
      cumulant: K, for complex s of shape (k,) with real part inside `strip`.
      mean: E X, exactly.
      var: Var X, exactly.
      strip: the open interval of real s, with 0 inside, where K is finite.

    Raises:
      UserError: a mean that is not finite, var not above 0, or a strip without 0.

    Source: the inversion formulas are Gil-Pelaez 1951, "Note on the inversion theorem",
    the bound on the midpoint rule's error Davies 1973, "Numerical inversion of a
    characteristic function".

    Example:
      >>> law = CharacteristicLaw(lambda s: s**2 / 2, mean=0.0, var=1.0)
      >>> print(f"{law.cdf(1.96):.6f} {law.ppf(0.5):.6f}")
      0.975002 0.000000
    """

    def __init__(
        self,
        cumulant: Callable[[np.ndarray], np.ndarray],
        mean: float,
        var: float,
        strip: tuple[float, float] = (-math.inf, math.inf),
    ):
        self._mean = number("mean", mean, remedy="give E X")
        self._var = number("var", var, above=0, remedy="give the variance of X")
        if not strip[0] < 0 < strip[1]:
            rule = "must have 0 inside"
            raise UserError("strip", strip, rule, "give where E exp(s X) is finite")
        self._cumulant, self._strip = cumulant, strip

    def __reduce__(self):  # what was computed on the way is computed anew
        return type(self), (self._cumulant, self._mean, self._var, self._strip)

    def mean(self) -> float:
        """E X."""
        return self._mean

    def var(self) -> float:
        """Var X."""
        return self._var

    def _pdf(self, x: np.ndarray) -> np.ndarray:
        low, high = self._support
        density = np.real(self._sum(x, self._cf)) * self._step / np.pi
        # The sum is periodic: outside of the interval it would start again.
        return np.where((low <= x) & (x <= high), np.maximum(density, 0), 0.0)

    def _cdf(self, x: np.ndarray) -> np.ndarray:
        low, high = self._support
        integral = np.imag(self._sum(x, self._cf / self._nodes)) * self._step
        return np.select(
            [x < low, x > high], [0.0, 1.0], np.clip(0.5 - integral / np.pi, 0, 1)
        )

    def _ppf(self, q: np.ndarray) -> np.ndarray:
        """By Newton's method, from a table."""
        x, width = self._draw(q), self._grid[1] - self._grid[0]
        low, high = x - width, x + width
        for _ in range(4):
            slope = np.maximum(self._pdf(x), np.finfo(float).tiny)
            x = np.clip(x + (q - self._cdf(x)) / slope, low, high)
        return x

    def _draw(self, uniform: np.ndarray) -> np.ndarray:
        """The inverse of the cdf interpolated in a table.

        Its 4096 points put the draws' cdf within 1e-5 of the law's.
        """
        return np.interp(uniform, self._table, self._grid)

    @cached_property
    def _support(self) -> tuple[float, float]:
        """An interval around the mean outside of which hardly any probability lies."""
        left, right = self._strip
        scales = np.geomspace(1e-2, 1e3, 200) / self.std()
        shares = np.linspace(0.5, 0.95, 10)

        def reach(edge: float, sign: int) -> float:
            s = scales[scales < 0.95 * edge]
            if math.isfinite(edge):
                s = np.concatenate([s, edge * shares])
            bound = np.real(self._cumulant((sign * s).astype(complex)))
            return sign * float(np.min((bound - _LOG_NEGLIGIBLE) / s))

        return reach(-left, -1), reach(right, 1)

    @cached_property
    def _step(self) -> float:
        return 2 * np.pi / (self._support[1] - self._support[0])

    @cached_property
    def _nodes(self) -> np.ndarray:
        """Midpoints (j + 1/2) h, as far as the characteristic function reaches."""
        end = 1 / self.std()
        while np.real(self._cumulant(np.array([1j * end])))[0] > _LOG_NEGLIGIBLE:
            end *= 1.25
        return (np.arange(math.ceil(end / self._step)) + 0.5) * self._step

    @cached_property
    def _cf(self) -> np.ndarray:
        return np.exp(self._cumulant(1j * self._nodes))

    def _sum(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """sum_j weights_j exp(-i t_j x), x moved into the support."""
        flat, rows = x.clip(*self._support).ravel(), max(1, _CHUNK // self._nodes.size)
        parts = [
            np.exp(-1j * flat[k : k + rows, None] * self._nodes) @ weights
            for k in range(0, flat.size, rows)
        ]
        return np.concatenate([*parts, np.empty(0)]).reshape(x.shape)

    @cached_property
    def _grid(self) -> np.ndarray:
        return np.linspace(*self._support, _TABLE)

    @cached_property
    def _table(self) -> np.ndarray:
        return np.maximum.accumulate(self._cdf(self._grid))


@dataclasses.dataclass(frozen=True)
class _NormalPlusLogChi2:
    """The cumulant function of `normal_plus_log_chi2`."""

    mean: float
    var: float
    dof: float

    def __call__(self, s: np.ndarray) -> np.ndarray:
        half = self.dof / 2
        gamma = special.loggamma(half + s) - special.loggamma(half)
        return (self.mean + math.log(2)) * s + self.var / 2 * s**2 + gamma


def normal_plus_log_chi2(mean: float, var: float, dof: float) -> CharacteristicLaw:
    """The law of G + log C, with independent G ~ N(mean, var) and C ~ chi^2_dof.

        K(s)  = mean s + var s^2 / 2 + s log 2 + log Gamma(dof/2 + s) - log Gamma(dof/2)
        E     = mean + digamma(dof/2) + log 2
        Var   = var + trigamma(dof/2)

    The log of the squared norm of `dof` Gaussian outputs whose common scale is
    log-Gaussian.  Multiples of C go into the mean: -log dof for the average.

    Args:
      mean: mean of G.
      var: variance of G; 0 leaves log C.
      dof: degrees of freedom, above 0, not necessarily whole.

    Returns:
      A `CharacteristicLaw`.

    Raises:
      UserError: a mean that is not finite, var < 0, or dof not above 0.

    Example:
      >>> law = normal_plus_log_chi2(mean=0.0, var=1.0, dof=10)
      >>> print(f"{law.mean():.4f} {law.var():.4f} {law.cdf(2.0):.4f}")
      2.1993 1.2213 0.4261
    """
    mean = number("mean", mean, remedy="give the mean of G")
    var = number("var", var, 0, remedy="give the variance of G")
    dof = number("dof", dof, above=0, remedy="count the outputs")
    return CharacteristicLaw(
        _NormalPlusLogChi2(mean, var, dof),
        mean + math.log(2) + float(special.digamma(dof / 2)),
        var + float(special.polygamma(1, dof / 2)),
        strip=(-dof / 2, math.inf),
    )
