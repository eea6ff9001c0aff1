"""Whether samples follow a law, as numbers: distance, moments, quantiles, and the same
for the laws that compete with it.

Only for laws that are fully specified before the samples are seen: nothing is fitted,
and Kolmogorov's distribution is that of a law whose parameters were not estimated.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from testbed.arguments import number
from testbed.errors import UserError
from testbed.laws.law import Law

LEVELS = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
_KOLMOGOROV_95 = 1.3581  # 95 % quantile of sqrt(N) KS under the law


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """What is known of N independent numbers: all of them, or a fine histogram.

    Attributes:
      count: N.
      mean, mean_se: their mean and its standard error.
      var, var_se: their variance and its standard error.
      points: increasing places (K,).
      at_most, below: shares of the sample <= and < each place, (K,).
    """

    count: int
    mean: float
    mean_se: float
    var: float
    var_se: float
    points: np.ndarray
    at_most: np.ndarray
    below: np.ndarray

    @classmethod
    def of(cls, x: ArrayLike) -> "Sample":
        """Of numbers x, any shape.

        Raises:
          UserError: fewer than two numbers, one that is not finite, or all the same.
        """
        x = np.sort(np.asarray(x, np.float64), axis=None)
        n = len(x)
        if n < 2:
            raise UserError("samples", n, "must be at least 2", "draw more networks")
        if not np.isfinite(x).all():
            lost = int((~np.isfinite(x)).sum())
            rule = f"{lost} of them are not finite (dead networks)"
            raise UserError("samples", n, rule, "leave these out and say so")
        if x[0] == x[-1]:
            raise UserError("samples", n, "are all equal", "draw what varies")
        d = x - x.mean()
        var = float(np.mean(d**2))
        var_se = np.sqrt(max(np.mean(d**4) - var**2, 0) / n)
        mean_se = np.sqrt(var / (n - 1))
        rank = np.arange(n + 1) / n
        return cls(
            n,
            float(x.mean()),
            float(mean_se),
            var * n / (n - 1),
            float(var_se),
            x,
            rank[1:],
            rank[:-1],
        )

    @classmethod
    def of_histogram(
        cls,
        edges: np.ndarray,
        counts: np.ndarray,
        *,
        mean: float,
        mean_se: float,
        var: float,
        var_se: float,
    ) -> "Sample":
        """Of counts (K + 1,) between edges (K,), the first and last ones unbounded."""
        share = np.cumsum(counts)[:-1] / counts.sum()
        return cls(int(counts.sum()), mean, mean_se, var, var_se, edges, share, share)

    def quantile(self, q: ArrayLike) -> np.ndarray:
        """The place below which a share q lies."""
        return np.interp(np.asarray(q, np.float64), self.at_most, self.points)


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """A sample beside one law.

    Attributes:
      ks: sup_x |F_N(x) - F(x)|.
      ks_noise: what ks stays below in 95 % of samples of this size from the law itself.
      ks_p: probability of a ks as large as this from the law itself.
      mean, var: of the law.
      mean_z, var_z: deviation of the sample's in its standard errors.
      quantiles: levels -> (sample, law).
    """

    ks: float
    ks_noise: float
    ks_p: float
    mean: float
    var: float
    mean_z: float
    var_z: float
    quantiles: dict[float, tuple[float, float]]

    @property
    def indistinguishable(self) -> bool:
        """Whether the distance is within the noise of a sample of this size."""
        return self.ks <= self.ks_noise


def agreement(sample: Sample, law: Law) -> Agreement:
    """Puts a sample beside a fully specified law."""
    n, cdf = sample.count, np.asarray(law.cdf(sample.points))
    ks = float(max(np.max(sample.at_most - cdf), np.max(cdf - sample.below), 0))
    mean, var = float(law.mean()), float(law.var())
    inside = [q for q in LEVELS if q * n >= 1 and (1 - q) * n >= 1]
    pairs = zip(sample.quantile(inside), np.asarray(law.ppf(inside)), strict=True)
    quantiles = {
        q: (float(a), float(b)) for q, (a, b) in zip(inside, pairs, strict=True)
    }
    return Agreement(
        ks,
        _KOLMOGOROV_95 / np.sqrt(n),
        float(stats.kstwobign.sf(np.sqrt(n) * ks)),
        mean,
        var,
        _deviation(sample.mean - mean, sample.mean_se),
        _deviation(sample.var - var, sample.var_se),
        quantiles,
    )


def _deviation(difference: float, error: float) -> float:
    """In standard errors; infinite where a difference has none."""
    if error > 0:
        return difference / error
    return 0.0 if difference == 0 else float(np.copysign(np.inf, difference))


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """A sample beside competing laws.

    Attributes:
      laws: name -> `Agreement`.
      gap: smallest KS distance between the nearest law and another.
      nearest: name of the law nearest to the sample.
      decided: whether the sample is large enough to tell the nearest from the others.
      verdict: one sentence.
    """

    laws: dict[str, Agreement]
    gap: float
    nearest: str
    decided: bool
    verdict: str


def compare(sample: Sample, laws: Mapping[str, Law]) -> Comparison:
    """Puts a sample beside competing laws and says which one it follows.

    The sample can tell when the laws lie further apart than twice the noise of its KS
    distance: it is then beyond the noise of all of them but one.
    """
    seen = {name: agreement(sample, law) for name, law in laws.items()}
    noise = _KOLMOGOROV_95 / np.sqrt(sample.count)
    order = sorted(seen, key=lambda name: seen[name].ks)
    nearest, best = order[0], seen[order[0]]
    gaps = {name: _gap(laws[nearest], laws[name]) for name in order[1:]}
    rejected = [name for name in order[1:] if gaps[name] > 2 * noise]
    unresolved = [name for name in order[1:] if gaps[name] <= 2 * noise]
    gap = min(gaps.values(), default=np.inf)
    if gap < 1e-6 and not rejected:  # the rounding of distribution functions
        verdict = "is described alike by all laws, which are the same here"
        return Comparison(seen, gap, nearest, False, verdict)
    if unresolved and not rejected:
        need = int(np.ceil((2 * _KOLMOGOROV_95 / gap) ** 2))
        verdict = (
            f"is sampled too little to tell: the laws differ by KS {gap:.2g}, the "
            f"noise is {noise:.2g}; about {need:,} samples would tell"
        )
        return Comparison(seen, gap, nearest, False, verdict)
    verdict = f"is nearest to the {nearest} law, KS {best.ks:.2g} (noise {noise:.2g})"
    if best.indistinguishable:
        verdict = f"follows the {nearest} law, KS {best.ks:.2g} (noise {noise:.2g})"
    for name in unresolved:
        verdict += f", at this sample size indistinguishable from the {name} one"
    for name in rejected:
        verdict += f", and misses the {name} one by KS {seen[name].ks:.2g}"
    return Comparison(seen, gap, nearest, not unresolved, verdict)


def _gap(a: Law, b: Law) -> float:
    """KS distance between two laws, on a grid that covers both."""
    levels = np.concatenate([np.geomspace(1e-9, 1e-3, 60), np.linspace(1e-3, 0.5, 500)])
    levels = np.concatenate([levels, 1 - levels[::-1]])
    x = np.concatenate([np.asarray(a.ppf(levels)), np.asarray(b.ppf(levels))])
    return float(np.max(np.abs(np.asarray(a.cdf(x)) - np.asarray(b.cdf(x)))))


@dataclasses.dataclass(frozen=True)
class SecondMoment:
    """E R^2 / (E R)^2 of a heavy-tailed R > 0.

    Attributes:
      ratio, ratio_se: from the sample; None if it cannot be had from it.
      reference: from an exact recursion or a law.
      reliable: whether the sample reaches the networks that decide the moment.
      text: one sentence.
    """

    ratio: float | None
    ratio_se: float | None
    reference: float
    reliable: bool
    text: str


def second_moment(log_r: ArrayLike, reference: float) -> SecondMoment:
    """E R^2 / (E R)^2 from samples of log R, if these can have seen it.

    For R = e^X with X ~ N(mu, beta), E R^2 is decided by networks around
    X = mu + 2 beta, which are 2 sqrt(beta) standard deviations out: a sample that holds
    fewer than 100 of them is biased low, with an error bar that does not show it.
    beta is that of a log-normal of this ratio, log(reference).

    Args:
      log_r: samples of log R; -inf where R = 0.
      reference: the exact ratio, e.g. `ntk_moments.ntk_second_moment_ratio`.

    Raises:
      UserError: fewer than two samples, one that is no logarithm, R = 0 in all, or a
        reference below 1.
    """
    x = np.asarray(log_r, np.float64).ravel()
    if len(x) < 2:
        raise UserError("samples", len(x), "must be at least 2", "draw more networks")
    if not (x < np.inf).all() or np.isneginf(x).all():
        rule = "must be finite, or -inf for some"
        raise UserError("samples", len(x), rule, "draw other networks")
    # A second moment exceeds the mean's square.
    reference = number("reference", reference, 1, remedy="give E R^2 / (E R)^2")
    beta = np.log(reference)
    deciding = len(x) * stats.norm.sf(2 * np.sqrt(beta))
    if deciding < 100:
        text = (
            f"{len(x):,} samples hold about {deciding:.2g} of the networks that decide "
            "E R^2: plain Monte Carlo is biased low; the exact value is "
            f"{reference:.4g}"
        )
        return SecondMoment(None, None, reference, False, text)
    r = np.exp(x - special.logsumexp(x) + np.log(len(x)))  # mean 1
    ratio = float(np.mean(r**2))
    # Delta method for E R^2 / (E R)^2 at E R = 1.
    influence = r**2 - 2 * ratio * r
    se = float(np.std(influence) / np.sqrt(len(x)))
    z = _deviation(ratio - reference, se)
    text = f"{ratio:.4g} +- {se:.2g}, exact {reference:.4g} ({z:+.1f} s.e.)"
    return SecondMoment(ratio, se, reference, True, text)
