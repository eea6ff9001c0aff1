"""Whether samples follow a law: false alarms, power, and too few to tell."""

import numpy as np
import pytest
from scipy import stats

from testbed.errors import UserError
from testbed.laws.agreement import Sample, agreement, compare, second_moment
from testbed.laws.gaussian import gaussian_log_norm
from testbed.laws.law import Point
from testbed.laws.log_gaussian import resnet_log_norm

NORMAL = stats.norm(0.3, 1.7)
SKEWED = stats.loggamma(2.5)


def draws(law, runs, n, seed):
    x = law.rvs((runs, n), random_state=np.random.default_rng(seed))
    return [agreement(Sample.of(row), law) for row in x]


@pytest.mark.parametrize("law", [NORMAL, SKEWED], ids=["normal", "skewed"])
def test_samples_of_the_law_agree_as_often_as_promised(law):
    """KS is within its noise in 95 % of samples, its p uniform, z-scores standard."""
    runs = 1500
    seen = draws(law, runs, 800, seed=1)
    rate = np.mean([a.indistinguishable for a in seen])
    # Kolmogorov's limit is a little large at finite N: up to 0.3 % more agree.
    assert -4 < (rate - 0.95) / (0.95 * 0.05 / runs) ** 0.5 < 4 + 0.003 * 180
    assert stats.kstest([a.ks_p for a in seen], "uniform").statistic < 0.05
    for z in ([a.mean_z for a in seen], [a.var_z for a in seen]):
        assert abs(np.mean(z)) < 0.25  # a variance and its error are correlated
        share = np.mean(np.abs(z) < 2)
        assert abs(share - 0.9545) < 4 * (0.9545 * 0.0455 / runs) ** 0.5 + 0.01


def test_ks_is_scipys():
    """The distance from all samples is that of scipy's test, and so is p."""
    x = SKEWED.rvs(500, random_state=2)
    for law in (SKEWED, NORMAL):
        found = agreement(Sample.of(x), law)
        theirs = stats.kstest(x, law.cdf, method="asymp")
        np.testing.assert_allclose(found.ks, theirs.statistic, rtol=1e-12)
        np.testing.assert_allclose(found.ks_p, theirs.pvalue, rtol=1e-6)
        assert found.indistinguishable == (law is SKEWED)
        assert (found.mean, found.var) == (law.mean(), law.var())


def test_quantiles_are_those_of_sample_and_law():
    """Each level that the sample can show stands beside the law's quantile."""
    x = NORMAL.rvs(4000, random_state=3)
    found = agreement(Sample.of(x), NORMAL).quantiles
    assert list(found) == [0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999]
    for level, (sample, law) in found.items():
        assert abs(NORMAL.cdf(sample) - level) < 4 * (level * (1 - level) / 4000) ** 0.5
        np.testing.assert_allclose(NORMAL.cdf(law), level)
    few = agreement(Sample.of(x[:50]), NORMAL).quantiles
    assert list(few) == [0.05, 0.25, 0.5, 0.75, 0.95]


def test_a_wrong_law_is_noticed():
    """A shift, a spread or a shape beyond the noise is never called agreement."""
    x = NORMAL.rvs((50, 2000), random_state=np.random.default_rng(4))
    for wrong in (stats.norm(0.3 + 0.3, 1.7), stats.norm(0.3, 1.9), stats.t(3, 0.3, 1)):
        found = [agreement(Sample.of(row), wrong) for row in x]
        assert not any(a.ks_p > 0.05 and abs(a.var_z) < 4 for a in found)
    shifted = agreement(Sample.of(x[0]), stats.norm(0.6, 1.7))
    assert shifted.mean_z < -4 and abs(shifted.var_z) < 4
    wider = agreement(Sample.of(x[0]), stats.norm(0.3, 1.9))
    assert wider.var_z < -4 and abs(wider.mean_z) < 4


def test_histogram_says_what_the_samples_say():
    """Counts in fine bins give KS and quantiles up to a bin, moments as they were."""
    x = NORMAL.rvs(5000, random_state=5)
    edges = np.linspace(-9, 9, 2001)
    counts = np.bincount(np.searchsorted(edges, x, side="left"), minlength=2002)
    whole = Sample.of(x)
    kept = dict(mean=whole.mean, mean_se=whole.mean_se)
    kept |= dict(var=whole.var, var_se=whole.var_se)
    binned = Sample.of_histogram(edges, counts, **kept)
    bin_mass = 18 / 2000 * NORMAL.pdf(0.3)
    for law in (NORMAL, stats.norm(0.4, 1.7)):
        a, b = agreement(whole, law), agreement(binned, law)
        assert a.ks - bin_mass <= b.ks <= a.ks + 1e-12
        assert (a.mean_z, a.var_z, a.ks_noise) == (b.mean_z, b.var_z, b.ks_noise)
        for level in (0.05, 0.5, 0.95):
            pair = (a.quantiles[level][0], b.quantiles[level][0])
            assert abs(pair[0] - pair[1]) < 2 * 18 / 2000
    assert binned.count == 5000


LAWS = {
    "Gaussian": gaussian_log_norm(64, 64, 0.5**0.5, 0.5**0.5),
    "log-Gaussian": resnet_log_norm(64, 64, 0.5**0.5, 0.5**0.5),
    "Balanced": resnet_log_norm(64, 64, 0.5**0.5, 0.5**0.5, balanced=True),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_law_that_was_drawn_from_is_found(name):
    """Of three competing laws the right one is nearest, in every one of 50 samples."""
    for seed in range(50):
        x = LAWS[name].rvs(1000, random_state=np.random.default_rng(seed))
        found = compare(Sample.of(x), LAWS)
        assert found.decided
        assert found.nearest == name
        assert f"the {name} law" in found.verdict
        others = [a for other, a in found.laws.items() if other != name]
        assert not any(a.indistinguishable for a in others)


def test_equal_laws_are_called_equal():
    """No number of samples tells a law from itself, and none is asked for."""
    for law in (stats.norm(0, 1), Point(0.0)):
        found = compare(Sample.of(np.arange(-3.0, 4.0)), {"one": law, "same": law})
        assert not found.decided and found.gap == 0
        assert found.verdict.endswith("all laws, which are the same here")


def test_too_few_samples_are_called_too_few():
    """Laws closer than the noise are not told apart; the number asked for does."""
    laws = {"one": stats.norm(0, 1), "other": stats.norm(0.1, 1)}
    gap = 2 * stats.norm.cdf(0.05) - 1  # of two Gaussians 0.1 apart
    found = compare(Sample.of(laws["one"].rvs(200, random_state=6)), laws)
    np.testing.assert_allclose(found.gap, gap, rtol=1e-3)
    assert not found.decided
    assert "too little to tell" in found.verdict
    need = int((2 * 1.3581 / gap) ** 2)
    asked = int(found.verdict.split("about ")[1].split(" ")[0].replace(",", ""))
    assert abs(asked - need) <= 0.01 * need
    right = []
    for seed in range(100):
        x = laws["one"].rvs(2 * need, random_state=np.random.default_rng(seed))
        told = compare(Sample.of(x), laws)
        assert told.decided
        right.append(told.nearest == "one")
    assert all(right)


def test_one_law_alone_is_compared_with_nothing():
    """The verdict on a single law speaks of no others."""
    x = NORMAL.rvs(500, random_state=7)
    found = compare(Sample.of(x), {"only": NORMAL})
    assert found.decided and found.verdict.startswith("follows the only law")
    assert "misses" not in found.verdict


def test_second_moment_of_light_tails():
    """At small beta E R^2 / (E R)^2 = e^beta is measured, with an honest error."""
    beta, runs = 0.25, 400
    rng = np.random.default_rng(8)
    scores = []
    for _ in range(runs):
        x = rng.normal(500.0, beta**0.5, 4000)  # far beyond what exp can hold
        found = second_moment(x, np.exp(beta))
        assert found.reliable and found.ratio is not None
        scores.append((found.ratio - np.exp(beta)) / found.ratio_se)
        wrong = (found.ratio - np.exp(2 * beta)) / found.ratio_se
        assert wrong < -6
    share = np.mean(np.abs(scores) < 2)
    # Skewed, hence a little less than the Gaussian 95 %.
    assert 0.90 < share < 0.98
    assert abs(np.mean(scores)) < 0.3


def test_second_moment_of_heavy_tails_is_refused():
    """Where the deciding networks are not in the sample, no number is given.

    At beta = 9 plain Monte Carlo is low by orders of magnitude in most samples.
    """
    beta = 9.0
    x = np.random.default_rng(9).normal(-beta / 2, beta**0.5, 20_000)
    found = second_moment(x, np.exp(beta))
    assert (found.reliable, found.ratio, found.ratio_se) == (False, None, None)
    assert found.reference == np.exp(beta)
    assert "biased low" in found.text
    r = np.exp(x)
    plain, exact = np.mean(r**2) / np.mean(r) ** 2, np.exp(beta)
    assert plain < exact / 3
    # 100 deciding networks: P(Z > 2) = 0.0228 at beta = 1, hence 4396 networks.
    for count, reliable in ((4300, False), (4500, True)):
        assert second_moment(x[:count] / 3, np.e).reliable is reliable


def test_dead_networks_have_no_kernel():
    """-inf is R = 0: it counts in both moments."""
    x = np.concatenate([np.zeros(3000), np.full(1000, -np.inf)])
    found = second_moment(x, 4 / 3)
    np.testing.assert_allclose(found.ratio, 4 / 3)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Sample.of([1.0]), "samples=1: must be at least 2"),
        (lambda: Sample.of([1.0, -np.inf, 2.0]), "samples=3: 1 of them are not finite"),
        (lambda: Sample.of([2.0, 2.0]), "samples=2: are all equal"),
        (lambda: second_moment([0.0], 2.0), "samples=1"),
        (lambda: second_moment([0.0, np.nan], 2.0), "samples=2: must be finite"),
        (lambda: second_moment([0.0, np.inf], 2.0), "samples=2: must be finite"),
        (lambda: second_moment([-np.inf] * 3, 2.0), "samples=3: must be finite"),
        (lambda: second_moment([0.0, 1.0], 0.5), "reference=0.5: must be at least 1"),
        (lambda: second_moment([0.0, 1.0], np.nan), "reference=nan"),
    ],
)
def test_mistakes_are_named(make, rule):
    """What no statement can be made about is refused."""
    with pytest.raises(UserError, match=f"^{rule}"):
        make()
