"""The residual network of width 1 that becomes an Ornstein-Uhlenbeck process.

    Y_{l+1} = Y_l + sqrt(t/L) w_l phi(Y_l),   w_l ~ N(0, 1),   L -> infinity:
    dX_t = phi(X_t) dB_t

has a second closed form besides ReLU's geometric Brownian motion (`infinite_depth`):
the phi below makes a function of X an Ornstein-Uhlenbeck process.

Source: Hayou 2022, "On the infinite-depth limit of finite-width neural networks",
arXiv:2210.00688, announces a second closed form; the parameterization and the formulas
below were derived here.
"""

import dataclasses
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, special, stats

from testbed.arguments import number, numbers
from testbed.laws.law import FrozenLaw, Law, Point


@dataclasses.dataclass(frozen=True)
class OrnsteinUhlenbeckActivation:
    """The activation that makes the network of width 1 an Ornstein-Uhlenbeck process.

        phi(x) = exp(h^{-1}(a x + b)^2),   h(y) = int_0^y exp(u^2) du

    Then Y = h^{-1}(a X + b) solves dY = -a^2 Y dt + a dB.

    Attributes:
      a: slope, > 0.
      b: shift.

    Source: that a second closed form besides ReLU exists is announced in
    arXiv:2210.00688; this parameterization was derived here by Ito's formula.

    Example:
      >>> phi = OrnsteinUhlenbeckActivation(a=1.0)
      >>> law = phi.law(start=1.0, time=1.0)
      >>> print(f"{law.mean():.1f} {law.ppf(0.5):.4f}")
      1.0 0.3011
    """

    a: float = 1.0
    b: float = 0.0

    def __post_init__(self):
        number("a", self.a, above=0)
        number("b", self.b)

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """phi(x), the shape of x."""
        return np.exp(self.transform(x) ** 2)

    def transform(self, x: ArrayLike) -> np.ndarray:
        """Y = h^{-1}(a x + b), the shape of x."""
        return _inverse_growth(self.a * numbers("x", x, infinite=True) + self.b)

    def inverse(self, y: ArrayLike) -> np.ndarray:
        """X = (h(y) - b) / a, the shape of y."""
        return (_growth(numbers("y", y, infinite=True)) - self.b) / self.a

    def transformed_law(self, start: float, time: float = 1.0) -> Law:
        """Law of Y_t = h^{-1}(a X_t + b) from X_0 = start.

        N(Y_0 exp(-a^2 t), (1 - exp(-2 a^2 t)) / 2); at t = 0 the `Point` Y_0.

        Raises:
          UserError: a time below 0 or not finite, a start that is not finite.
        """
        decay = self.a**2 * number("time", time, 0)
        origin = self.transform(number("start", start))
        if decay == 0:
            return Point(origin)
        scale = np.sqrt(-np.expm1(-2 * decay) / 2)
        return cast(Law, stats.norm(origin * np.exp(-decay), scale))

    def law(self, start: float, time: float = 1.0) -> Law:
        """Law of X_t from X_0 = start; at t = 0 the `Point` X_0.

        Raises:
          UserError: a time below 0 or not finite, a start that is not finite.
        """
        start, time = number("start", start), number("time", time, 0)
        return OrnsteinUhlenbeckLaw(self, start, time) if time else Point(start)


class OrnsteinUhlenbeckLaw(FrozenLaw):
    """Law of X_t = (h(Y_t) - b) / a with Y_t normal; methods as in `scipy.stats`.

    X is a martingale: E X_t = X_0.  Its variance is int_0^t E phi(X_s)^2 ds, that is

        int_0^t w^{-1/2} exp(2 Y_0^2 e^{-2 a^2 s} / w) ds,   w = 2 e^{-2 a^2 s} - 1,

    and infinite from a^2 t = (log 2) / 2 on.

    Args:
      activation: phi.
      start: X_0.
      time: t > 0.
    """

    def __init__(
        self, activation: OrnsteinUhlenbeckActivation, start: float, time: float
    ):
        self._phi, self._start = activation, number("start", start)
        self._time = number("time", time, above=0)
        self._state = activation.transformed_law(start, time)

    def mean(self) -> float:
        """E X_t = X_0."""
        return self._start

    def var(self) -> float:
        """Variance, infinite if a^2 t >= (log 2) / 2."""
        rate = 2 * self._phi.a**2
        if rate * self._time >= np.log(2):
            return float("inf")
        square = float(self._phi.transform(self._start)) ** 2

        def power(s):  # E phi(X_s)^2 = E exp(2 Y_s^2)
            left = np.exp(-rate * s)
            return np.exp(2 * square * left / (2 * left - 1)) / np.sqrt(2 * left - 1)

        return float(integrate.quad(power, 0, self._time, epsrel=1e-10)[0])

    def _pdf(self, x: np.ndarray) -> np.ndarray:
        """dY/dX = a / phi times the density of Y."""
        y, law = self._phi.transform(x), self._state
        return self._phi.a * np.exp(-(y**2)) * stats.norm.pdf(y, law.mean(), law.std())

    def _cdf(self, x: np.ndarray) -> np.ndarray:
        return self._state.cdf(self._phi.transform(x))

    def _sf(self, x: np.ndarray) -> np.ndarray:
        return self._state.sf(self._phi.transform(x))

    def _ppf(self, q: np.ndarray) -> np.ndarray:
        return self._phi.inverse(self._state.ppf(q))


def _growth(y: np.ndarray) -> np.ndarray:
    """h(y) = int_0^y exp(u^2) du = exp(y^2) Dawson(y)."""
    return np.sqrt(np.pi) / 2 * special.erfi(y)


def _inverse_growth(z: np.ndarray) -> np.ndarray:
    """h^{-1}(z), by Newton's method on log h, whose derivative is 1 / Dawson."""
    size = np.where(z == 0, 1.0, np.abs(z))
    grown = np.log1p(size)
    y = np.minimum(grown, np.sqrt(grown))
    for _ in range(5):  # from this start 4 reach 1e-14, for any number
        d = special.dawsn(y)
        y -= d * (y**2 + np.log(d / size))
    return np.where(z == 0, 0.0, np.copysign(y, z))
