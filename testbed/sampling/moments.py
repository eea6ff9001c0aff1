"""Means and central moments that merge, so that no sample needs to be kept."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Moments(NamedTuple):
    """Moments of a statistic over networks; arrays of one shape.

    Of too few networks, none where all have died, a mean or variance is nan.

    Attributes:
      count: networks counted.
      mean: their mean.
      m2, m3, m4: sums of the 2nd, 3rd and 4th powers of deviations from it.
      groups: independent groups (a network and its antithetic copy), all counted.
      group_mean, group_m2: mean of the groups' means, and their squared deviations.
    """

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    m4: np.ndarray
    groups: np.ndarray
    group_mean: np.ndarray
    group_m2: np.ndarray

    @property
    def var(self) -> np.ndarray:
        """Variance over networks, unbiased."""
        return _per(self.m2, self.count - 1)

    @property
    def skewness(self) -> np.ndarray:
        """Third standardized moment."""
        return _per(self.m3, self.count) / self._spread**1.5

    @property
    def kurtosis(self) -> np.ndarray:
        """Fourth standardized moment; 3 for a Gaussian."""
        return _per(self.m4, self.count) / self._spread**2

    @property
    def _spread(self) -> np.ndarray:
        return np.where(self.m2 > 0, _per(self.m2, self.count), 1.0)

    @property
    def mean_se(self) -> np.ndarray:
        """Standard error of the mean; antithetic pairs count as one."""
        return np.sqrt(_per(_per(self.group_m2, self.groups - 1), self.groups))

    @property
    def var_se(self) -> np.ndarray:
        """Standard error of the variance, from the fourth moment."""
        var = _per(self.m2, self.count)
        spread = np.maximum(_per(self.m4, self.count) - var**2, 0)
        return np.sqrt(_per(spread, self.groups))


def moments_of(x: jax.Array, counted: jax.Array) -> Moments:
    """Moments of x (copies, batch) where `counted` (same shape), traceable."""
    x = x.astype(jnp.float64)
    count, mean = _mean(x, counted)
    d = jnp.where(counted, x - mean, 0)
    whole = counted.all(0)
    group = jnp.where(counted, x, 0).mean(0)
    groups, group_mean = _mean(group, whole)
    e = jnp.where(whole, group - group_mean, 0)
    powers = [jnp.sum(d**k) for k in (2, 3, 4)]
    parts = [count, mean, *powers, groups, group_mean, jnp.sum(e**2)]
    return Moments._make(parts)


def merge(parts: Moments) -> Moments:
    """Merges moments along their leading axis, in float64.

    With N_i, mu_i the count and mean of part i and delta_i = mu_i - mu,
    M_k = sum_i sum_j binom(k, j) delta_i^j M_{k-j,i}, where M_1 = 0, M_0 = N.
    """
    parts = Moments(*(np.asarray(a, np.float64) for a in parts))
    n = parts.count
    mean = _weighted(parts.mean, n)
    delta = np.where(n > 0, parts.mean - mean, 0)
    m2, m3, m4 = parts.m2, parts.m3, parts.m4
    group_mean = _weighted(parts.group_mean, parts.groups)
    gap = np.where(parts.groups > 0, parts.group_mean - group_mean, 0)
    return Moments(
        n.sum(0),
        mean,
        (m2 + n * delta**2).sum(0),
        (m3 + 3 * delta * m2 + n * delta**3).sum(0),
        (m4 + 4 * delta * m3 + 6 * delta**2 * m2 + n * delta**4).sum(0),
        parts.groups.sum(0),
        group_mean,
        (parts.group_m2 + parts.groups * gap**2).sum(0),
    )


def stack(*parts: Moments) -> Moments:
    """Moments side by side along a new leading axis, ready to be merged."""
    return Moments._make(np.stack(columns) for columns in zip(*parts, strict=True))


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _per((weights * np.where(weights > 0, values, 0)).sum(0), weights.sum(0))


def _per(total, count) -> np.ndarray:
    """total / count; nan where nothing is counted."""
    count = np.asarray(count, np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean(x, counted):
    count = counted.sum(dtype=jnp.float64)
    return count, jnp.where(counted, x, 0).sum() / jnp.maximum(count, 1)
