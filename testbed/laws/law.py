"""What every law on the line can do, alike for scipy's frozen distributions and ours.

`Law` is the interface.  `FrozenLaw` gives it to the laws that scipy does not have, with
scipy's behaviour at the edges: nan where an argument is nan or a probability lies
outside [0, 1], the support's ends at the probabilities 0 and 1, numbers for numbers and
arrays for arrays, and `rvs()` a single draw.

Where nothing is random, as in a network without branches, the law is a `Point`: its
value is exact, and a law over many widths and depths has it at some of them only.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from testbed.errors import UserError

RandomState = int | np.random.Generator | np.random.RandomState | None


class Law(Protocol):
    """A distribution on the line, or an array of them that broadcasts."""

    def mean(self) -> Any: ...  # noqa: D102
    def var(self) -> Any: ...  # noqa: D102
    def std(self) -> Any: ...  # noqa: D102
    def pdf(self, x: Any, /) -> Any: ...  # noqa: D102
    def cdf(self, x: Any, /) -> Any: ...  # noqa: D102
    def sf(self, x: Any, /) -> Any: ...  # noqa: D102
    def ppf(self, q: Any, /) -> Any: ...  # noqa: D102
    def rvs(self, size: Any = ..., random_state: Any = ...) -> Any: ...  # noqa: D102


class FrozenLaw:
    """The methods of `Law` from those of a subclass.

    The subclass has `mean`, `var`, and for finite x and q inside (0, 1), float64 arrays
    that broadcast with the law's own shape, `_pdf(x)`, `_cdf(x)` and `_ppf(q)`; `_sf`
    and `_draw` where it knows better than 1 - cdf and ppf.
    """

    def mean(self) -> Any:
        """E X."""
        raise NotImplementedError

    def var(self) -> Any:
        """Var X."""
        raise NotImplementedError

    def std(self) -> Any:
        """Standard deviation of X."""
        return np.sqrt(self.var())

    def pdf(self, x: ArrayLike) -> Any:
        """Density at x, of any shape."""
        return _at(self._pdf, x, 0.0, 0.0)

    def cdf(self, x: ArrayLike) -> Any:
        """P(X <= x), x of any shape."""
        return _at(self._cdf, x, 0.0, 1.0)

    def sf(self, x: ArrayLike) -> Any:
        """P(X > x), x of any shape."""
        return _at(self._sf, x, 1.0, 0.0)

    def ppf(self, q: ArrayLike) -> Any:
        """The x with cdf(x) = q, q of any shape; nan outside of [0, 1]."""
        q = np.asarray(q, np.float64)
        inside = (q > 0) & (q < 1)
        low, high = self._ends
        ends = np.where(q == 0, low, np.where(q == 1, high, np.nan))
        return np.where(inside, self._ppf(np.where(inside, q, 0.5)), ends)[()]

    def rvs(
        self,
        size: int | tuple[int, ...] | None = None,
        random_state: RandomState = None,
    ) -> Any:
        """Independent draws.

        Args:
          size: their shape; None is one draw of each law.
          random_state: a seed or a generator; None takes fresh entropy.

        Raises:
          UserError: a size that does not broadcast with the law's own shape.
        """
        if not isinstance(random_state, np.random.RandomState):
            random_state = np.random.default_rng(random_state)
        own = np.shape(self.mean())
        shape = own if size is None else tuple(np.atleast_1d(size).tolist())
        try:
            fits = np.broadcast_shapes(shape, own) == shape
        except ValueError:
            fits = False
        if not fits:
            rule = f"must end in the law's own shape, {own}"
            raise UserError("size", shape, rule, "e.g. (1000, *that shape)")
        return self._draw(random_state.uniform(size=shape))[()]

    @property
    def _ends(self) -> tuple[Any, Any]:
        """The support's ends."""
        return -np.inf, np.inf

    def _pdf(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _cdf(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _sf(self, x: np.ndarray) -> np.ndarray:
        return 1 - self._cdf(x)

    def _ppf(self, q: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _draw(self, uniform: np.ndarray) -> np.ndarray:
        return self._ppf(uniform)


@dataclasses.dataclass(frozen=True, eq=False)
class Point(FrozenLaw):
    """The law of a number, or of an array of numbers, that is certain.

        E X = at,   Var X = 0,   P(X <= x) = 1 from `at` on,   all quantiles are `at`

    Its density is infinite there and 0 elsewhere.

    Attributes:
      at: the value, finite.

    Example:
      >>> law = Point(1.5)
      >>> print(law.mean(), law.var(), law.cdf([1.0, 1.5]), law.rvs(2))
      1.5 0.0 [0. 1.] [1.5 1.5]
    """

    at: Any

    def mean(self) -> Any:
        """The value itself."""
        return np.asarray(self.at, np.float64)[()]

    def var(self) -> Any:
        """0."""
        return np.zeros_like(self.mean())[()]

    @property
    def _ends(self) -> tuple[Any, Any]:
        return self.mean(), self.mean()

    def _pdf(self, x: np.ndarray) -> np.ndarray:
        return np.where(x == self.at, np.inf, 0.0)

    def _cdf(self, x: np.ndarray) -> np.ndarray:
        return np.where(x >= self.at, 1.0, 0.0)

    def _ppf(self, q: np.ndarray) -> np.ndarray:
        return self.at + np.zeros_like(q)


@dataclasses.dataclass(frozen=True, eq=False)
class _Mixed:
    """An array of laws of which some, where `certain`, are points."""

    law: Law
    certain: np.ndarray
    point: Point

    def _either(self, name: str, *args: Any) -> Any:
        points = getattr(self.point, name)(*args)
        return np.where(self.certain, points, getattr(self.law, name)(*args))

    def mean(self) -> Any:
        return self._either("mean")

    def var(self) -> Any:
        return self._either("var")

    def std(self) -> Any:
        return self._either("std")

    def pdf(self, x: ArrayLike) -> Any:
        return self._either("pdf", x)

    def cdf(self, x: ArrayLike) -> Any:
        return self._either("cdf", x)

    def sf(self, x: ArrayLike) -> Any:
        return self._either("sf", x)

    def ppf(self, q: ArrayLike) -> Any:
        return self._either("ppf", q)

    def rvs(self, size: Any = None, random_state: RandomState = None) -> Any:
        draws = self.law.rvs(size, random_state)
        return np.where(self.certain, self.point.mean(), draws)


def with_points(law: Callable[[np.ndarray], Law], certain: ArrayLike, at: ArrayLike):
    """The law, with the point `at` wherever X is certain.

    Args:
      law: makes the law of all entries from `certain`; what it has where that is True
        is not used, but must be a law.
      certain: where nothing is random, of the law's shape.
      at: value of X there.

    Returns:
      `law(certain)` itself, a `Point`, or an array of both.
    """
    certain, at = np.broadcast_arrays(certain, np.asarray(at, np.float64))
    if certain.all():
        return Point(at[()])
    made = law(certain)
    return _Mixed(made, certain, Point(at)) if certain.any() else made


def _at(function: Callable, x: ArrayLike, below: float, above: float) -> Any:
    """function(x) where x is finite, its limits at both infinities, nan at nan."""
    x = np.asarray(x, np.float64)
    finite = np.isfinite(x)
    limits = np.where(np.isnan(x), np.nan, np.where(x > 0, above, below))
    return np.where(finite, function(np.where(finite, x, 0.0)), limits)[()]
