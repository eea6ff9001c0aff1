"""Every distribution of a sweep file draws its law, and another law is noticed."""

import numpy as np
import pytest
from scipy import stats

from testbed.sweeps.distributions import FORMS, place, quantile
from testbed.sweeps.parameter import DISTRIBUTIONS, Parameter
from testbed.sweeps.points import draw

DRAWS = 4000
E = np.e
# By name: its numbers, its law, and one that it is not.
LAWS = {
    "uniform": (dict(min=-1.0, max=3.0), stats.uniform(-1, 4), stats.uniform(-1, 5)),
    "log_uniform_values": (
        dict(min=0.1, max=10.0),
        stats.loguniform(0.1, 10),
        stats.uniform(0.1, 9.9),
    ),
    "inv_log_uniform_values": (
        dict(min=0.1, max=10.0),
        stats.loguniform(0.1, 10),
        stats.uniform(0.1, 9.9),
    ),
    "inv_log_uniform": (  # log(1/x) between 1 and 3
        dict(min=1, max=3),
        stats.loguniform(E**-3, E**-1),
        stats.loguniform(E, E**3),
    ),
    "normal": (dict(mu=2.0, sigma=3.0), stats.norm(2, 3), stats.norm(2, 4)),
    "log_normal": (
        dict(mu=2.0, sigma=0.5),
        stats.lognorm(0.5, scale=E**2),
        stats.norm(E**2, 3.7),
    ),
    "beta": (dict(a=2.0, b=5.0), stats.beta(2, 5), stats.beta(5, 2)),
}
# Rounded to multiples of q; the ends of a range need not be any.
ROUNDED = {
    "int_uniform": (dict(min=2, max=5), stats.uniform(1.5, 4), stats.norm(3.5, 1), 1),
    "q_uniform": (dict(min=5, max=35, q=8), stats.uniform(5, 30), stats.norm(20, 7), 8),
    "q_log_uniform_values": (
        dict(min=8, max=64, q=8),
        stats.loguniform(8, 64),
        stats.uniform(8, 56),
        8,
    ),
    "q_normal": (dict(mu=1, sigma=2, q=0.5), stats.norm(1, 2), stats.norm(1, 3), 0.5),
    "q_log_normal": (
        dict(mu=1, sigma=1, q=1),
        stats.lognorm(1, scale=E),
        stats.lognorm(1),
        1,
    ),
    "q_beta": (dict(a=2, b=2, q=0.25), stats.beta(2, 2), stats.uniform(), 0.25),
}


def drawn(kind, numbers):
    parameter, rng = Parameter("x", (), kind, numbers), np.random.default_rng(0)
    return [draw(parameter, rng) for _ in range(DRAWS)]


def test_every_distribution_is_tested_here():
    """The list of the program and those of this file agree."""
    assert set(LAWS) | set(ROUNDED) == set(FORMS)
    listed = {"constant", "categorical", "categorical_w_probabilities"}
    assert set(FORMS) | listed == set(DISTRIBUTIONS)


@pytest.mark.parametrize("kind", LAWS)
def test_draws_have_the_law_they_are_called(kind):
    """4000 draws pass a Kolmogorov-Smirnov test at 1e-3; a wrong law fails at 1e-6.

    They are Python's own numbers, and within the range where there is one.
    """
    numbers, law, wrong = LAWS[kind]
    values = drawn(kind, numbers)
    assert {type(v) for v in values} == {float}
    assert stats.kstest(values, law.cdf).pvalue > 1e-3
    assert stats.kstest(values, wrong.cdf).pvalue < 1e-6
    low, high = law.support()
    assert low * (1 - 1e-12) <= min(values) or low <= min(values)
    assert max(values) <= high * (1 + 1e-12)


@pytest.mark.parametrize("kind", ROUNDED)
def test_rounded_draws_are_counted_as_their_law_has_it(kind):
    """Each multiple of q as often as the law has numbers nearest to it (chi²)."""
    numbers, law, wrong, q = ROUNDED[kind]
    values = drawn(kind, numbers)
    whole = float(q).is_integer()
    assert {type(v) for v in values} == {int if whole else float}
    places, counts = np.unique(values, return_counts=True)
    assert np.allclose(places / q, np.round(places / q))
    for one, passes in ((law, True), (wrong, False)):
        chance = one.cdf(places + q / 2) - one.cdf(places - q / 2)
        often = chance * DRAWS >= 5
        seen = [*counts[often], DRAWS - counts[often].sum()]
        wanted = [*chance[often] * DRAWS, DRAWS * (1 - chance[often].sum())]
        if wanted[-1] < 1e-9:  # nothing is left
            seen, wanted = seen[:-1], wanted[:-1]
        chi = ((np.array(seen) - wanted) ** 2 / np.array(wanted)).sum()
        p = stats.chi2.sf(chi, len(seen) - 1)
        assert p > 1e-3 if passes else p < 1e-6


@pytest.mark.parametrize("kind", FORMS)
def test_places_rise_with_quantiles(kind):
    """A bayes search sees every distribution as a number that grows with the value."""
    numbers = (LAWS.get(kind) or ROUNDED[kind])[0]
    values = [quantile(kind, numbers, u) for u in np.linspace(0.001, 0.999, 50)]
    places = [place(kind, numbers, v) for v in values]
    assert values == sorted(values) and len(set(values)) > 2
    assert places == sorted(places) and np.isfinite(places).all()
    assert -0.6 <= min(places) < 0.5 < max(places) <= 1.6


def test_a_draw_of_zero_is_finite():
    """A generator may give exactly 0, where the normal quantile is -inf."""
    for kind in ("normal", "log_normal", "q_normal", "beta"):
        numbers = (LAWS.get(kind) or ROUNDED[kind])[0]
        assert np.isfinite(quantile(kind, numbers, 0.0))
