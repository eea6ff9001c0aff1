"""An ensemble of networks against the Gaussian process that is its limit."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class GaussianAgreement:
    """Mean and variance of E networks' outputs in units of a Gaussian process's.

    Points on one network are correlated, so N C outputs are far fewer than N C
    independent observations and nothing here counts them as such.  The independent
    observations are the networks: the standard error of `variance_ratio` is a jackknife
    over them and its z is a test.  `mean_z_rms` has expected square 1 under the law,
    but a spread that depends on the correlations: it is a description.

    Attributes:
      mean_z: (mean over networks - mean) / sqrt(variance / E), (..., N, C);
        each entry is N(0, 1) under the law.
      mean_z_rms: root mean square of `mean_z`, (...).
      point_ratio: unbiased variance over networks, averaged over outputs, divided by
        `variance`, (..., N).
      point_ratio_se: standard error of every entry of `point_ratio` under the law,
        sqrt(2 / (C (E - 1))): C independent outputs with E - 1 degrees of freedom each.
      variance_ratio: mean of `point_ratio` over points, (...).
      variance_ratio_se: its standard error, jackknife over networks, (...).
      variance_ratio_z: (variance_ratio - 1) / variance_ratio_se, (...).  It is close to
        N(0, 1) for tens of networks; for a handful it has longer tails.

    What E is too small for is nan: the ratios at E = 1, their jackknife at E = 2.
    Points of variance 0 are nan and left out of the summaries.
    """

    mean_z: np.ndarray
    mean_z_rms: np.ndarray
    point_ratio: np.ndarray
    point_ratio_se: float
    variance_ratio: np.ndarray
    variance_ratio_se: np.ndarray
    variance_ratio_z: np.ndarray


def gaussian_agreement(
    outputs: ArrayLike, mean: ArrayLike, variance: ArrayLike
) -> GaussianAgreement:
    """Compares an ensemble with a Gaussian process whose outputs are independent.

    Args:
      outputs: of E networks, (..., E, N, C).
      mean: of the process, (..., N, C).
      variance: of the process, the same for every output, (..., N).

    Returns:
      A `GaussianAgreement`; leading axes are kept.

    Source: the law is Lee et al. 2019, arXiv:1902.06720, equations 13 to 16; the
    jackknife is Efron & Stein 1981, "The jackknife estimate of variance".
    """
    f = np.asarray(outputs, np.float64)
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    e, c = f.shape[-3], f.shape[-1]
    known = variance > 0
    variance = np.where(known, variance, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):  # nan and inf are the answer
        centre = f.mean(-3)
        mean_z = (centre - mean) / np.sqrt(variance[..., None] / e)
        mean_z_rms = np.sqrt(_mean((mean_z**2).mean(-1), known))

        # A network's share of the variance, averaged over outputs, in the law's units.
        off_ExNxC = f - centre[..., None, :, :]
        share_ExN = (off_ExNxC**2).mean(-1) / variance[..., None, :]
        point_ratio = share_ExN.sum(-2) / np.float64(e - 1)
        point_ratio_se = (2 / (c * (e - 1))) ** 0.5 if e > 1 else np.nan
        ratio = _mean(point_ratio, known)

        # Leaving network i out takes share_i e / (e - 1) off the sum over networks;
        # the jackknife's se^2 = (e - 1)/e sum (ratio without i - ratio)^2 follows.
        share_E = _mean(share_ExN, known[..., None, :])
        spread = ((share_E - share_E.mean(-1, keepdims=True)) ** 2).sum(-1)
        se = np.sqrt(spread * e / np.float64(e - 1)) / np.float64(e - 2)
        se = se if e > 2 else np.full_like(se, np.nan)
        ratio_z = (ratio - 1) / se
    return GaussianAgreement(
        mean_z, mean_z_rms, point_ratio, point_ratio_se, ratio, se, ratio_z
    )


def _mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean over the last axis where `known`; nan where nothing is."""
    total = np.sum(values, -1, where=known)
    return total / known.sum(-1)


def spread(outputs: ArrayLike) -> np.ndarray:
    """Root mean square, over examples and outputs, of the deviation between networks.

    Args:
      outputs: of E networks, (..., E, N, C).

    Returns:
      (...): sqrt(mean over N, C of the unbiased variance over E); nan for E = 1.
    """
    f = np.asarray(outputs, np.float64)
    off = f - f.mean(-3, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (off**2).sum(-3) / np.float64(f.shape[-3] - 1)
    return np.sqrt(variance.mean((-2, -1)))
