import numpy as np
import pytest

from testbed.divergence.collapse import (
    collapse,
    free_collapse,
    leave_one_out,
    variables,
)
from testbed.errors import UserError

NAN, INF = np.nan, np.inf
WIDTHS, DEPTHS = [16, 32, 64, 128, 256], [2, 4, 8, 16, 32]
X = variables(WIDTHS, DEPTHS)
SQUARE = {"d^2/n": X["d/sqrt(n)"] ** 2}


def saturating(x):
    """A master curve that is no power law, about its bend."""
    x = x / np.median(x)
    return x / (1 + x)


def data(median, seed=0, count=6, sigma=0.2):
    noise = np.random.default_rng(seed).normal(size=(*np.shape(median), count))
    return np.asarray(median)[..., None] * np.exp(sigma * noise)


@pytest.mark.parametrize("name", ["1/n", "d/n", "d/sqrt(n)", "d"])
def test_the_true_variable_is_first(name):
    """It wins in each of 20 data sets, and all others are told to be worse."""
    wins, worse, misfits = [], [], []
    for seed in range(20):
        y = data(saturating(X[name]), seed)
        best, *others = collapse(WIDTHS, DEPTHS, y, resamples=200, seed=seed)
        wins.append(best.name == name and not best.worse)
        worse.extend(other.worse for other in others)
        misfits.append((best.misfit, min(other.misfit for other in others)))
    assert all(wins) and np.mean(worse) > 0.95
    # Only noise is left with the true variable, and more than it with any other.
    right, wrong = np.mean(misfits, 0)
    assert 0.6 < right < 1.5 and wrong > 2


def test_quality_of_an_exact_collapse():
    """Without noise the true variable's quality is near 0, a worthless one's near 1."""
    found = collapse(WIDTHS, DEPTHS, saturating(X["d/n"])[..., None] * np.ones(4))
    ranks = {one.name: one for one in found}
    assert found[0].name == "d/n" and found[0].quality < 0.01
    assert found[0].gap == (0.0, 0.0) and np.isnan(found[0].misfit)
    only_depth = collapse(WIDTHS, DEPTHS, X["d"][..., None] * np.ones(4))
    (worthless,) = (one for one in only_depth if one.name == "1/n")
    assert 0.9 < worthless.quality < 1.2
    assert ranks["1/n"].worse and ranks["d"].worse


def test_powers_of_one_another_are_the_same_variable():
    """d/sqrt(n) and d^2/n have one quality, and neither is called worse."""
    y = data(saturating(X["d/sqrt(n)"]))
    first, second, *rest = collapse(WIDTHS, DEPTHS, y, X | SQUARE, resamples=200)
    assert {first.name, second.name} == {"d/sqrt(n)", "d^2/n"}
    assert first.quality == pytest.approx(second.quality, rel=1e-9)
    assert first.misfit == pytest.approx(second.misfit, rel=1e-9)
    assert not first.worse and not second.worse
    assert all(one.worse for one in rest)


def test_indistinguishable_candidates_are_not_told_apart():
    """d^0.99/n, d/n, d^1.01/n: at most 15 of 100 data sets call any worse."""
    d, n = X["d"], 1 / X["1/n"]
    near = {"d/n": d / n, "less": d**0.99 / n, "more": d**1.01 / n}
    claims = 0
    for seed in range(100):
        y = data((d / n) ** 0.5, seed)
        ranking = collapse(WIDTHS, DEPTHS, y, near, resamples=200, seed=seed)
        claims += any(one.worse for one in ranking)
    assert claims <= 15


def test_noise_collapses_with_nothing():
    """Where y depends on neither d nor n no variable is better: at most 15 in 100."""
    claims, qualities = 0, []
    for seed in range(100):
        ranking = collapse(
            WIDTHS, DEPTHS, data(np.ones((5, 5)), seed), resamples=200, seed=seed
        )
        claims += any(one.worse for one in ranking)
        qualities.extend(one.quality for one in ranking)
    assert claims <= 15 and 0.9 < np.mean(qualities) < 1.2


def test_leave_one_out_is_leaving_out():
    """Row i agrees with a weighted line fitted to the other cells, and ignores z_i."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=12), rng.normal(size=12)
    u = (x - x.mean()) / x.std()
    for h, residual in zip((0.4, 0.8, 10.0), leave_one_out(x), strict=True):
        for i in range(12):
            others = np.arange(12) != i
            root = np.exp(-((u[others] - u[i]) ** 2) / (4 * h**2))
            line = np.polyfit(u[others], z[others], 1, w=root)
            assert (residual @ z)[i] == pytest.approx(
                z[i] - np.polyval(line, u[i]), rel=1e-6
            )
        np.testing.assert_allclose(np.diag(residual), 1)
        np.testing.assert_allclose(residual @ (2 + 3 * x), 0, atol=1e-8)


def test_leave_one_out_with_ties():
    """Cells that share x, far from all others, predict each other by their mean."""
    x = np.repeat([0.0, 100.0, 200.0], 3)
    z = np.arange(9.0)
    narrow = leave_one_out(x)[0] @ z
    np.testing.assert_allclose(narrow, np.tile([-1.5, 0, 1.5], 3), atol=0.05)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_free_exponent(exponent):
    """x = d^a / n: the interval holds a in most of 30 data sets, and rejects others."""
    d, n = X["d"], 1 / X["1/n"]
    x = d**exponent / n
    held, rejected = 0, 0
    for seed in range(30):
        y = data(saturating(x), seed)
        free = free_collapse(WIDTHS, DEPTHS, y, resamples=100, seed=seed)
        low, high = free.interval
        assert low <= free.exponent <= high and free.cells == 25
        held += low <= exponent <= high
        rejected += not any(low <= exponent + by <= high for by in (-0.7, 0.7))
    # Binomial(30, .88) is below 22 in 1 of 100 cases.
    assert held >= 22 and rejected >= 25


def test_free_exponent_of_depth_alone():
    """y of d alone is x = d^inf / n: the interval reaches to an infinite exponent."""
    free = free_collapse(WIDTHS, DEPTHS, data(saturating(X["d"])), resamples=100)
    assert abs(free.exponent) > 10
    assert np.isinf(free.interval).any()


def test_free_beats_the_fixed_variables():
    """The best exponent's quality is not above that of 1/n, d/n or d/sqrt(n)."""
    y = data(saturating(X["d/n"]))
    best, *_ = collapse(WIDTHS, DEPTHS, y, resamples=50)
    free = free_collapse(WIDTHS, DEPTHS, y, resamples=50)
    assert free.quality <= best.quality + 1e-3


def test_cells_left_out():
    """Cells that never departed or are missing are counted, and the rest collapses."""
    y = data(saturating(X["d/n"]))
    y[0, 0] = INF
    y[1, 1, :4] = INF
    y[2, 2] = NAN
    y[3, 3, 0] = NAN
    best, *_ = collapse(WIDTHS, DEPTHS, y, resamples=100)
    assert best.name == "d/n"
    assert (best.cells, best.never, best.missing) == (22, 2, 1)
    assert np.isfinite(best.misfit)
    assert abs(free_collapse(WIDTHS, DEPTHS, y, resamples=100).exponent - 1) < 0.3


def test_few_seeds_have_no_misfit():
    """Two seeds a cell: a ranking, but no statement about noise or the exponent's."""
    y = data(saturating(X["d/n"]), count=2)
    best, *_ = collapse(WIDTHS, DEPTHS, y, resamples=50)
    assert np.isnan(best.misfit) and best.quality > 0
    free = free_collapse(WIDTHS, DEPTHS, y, resamples=20)
    assert np.isfinite(free.exponent) and np.isnan(free.interval).all()


def test_collapse_arguments():
    """Bad data and candidates are refused by name."""
    y = data(X["d/n"])
    with pytest.raises(UserError, match="6 cells"):
        collapse([1, 2], [1, 2], np.ones((2, 2, 3)))
    with pytest.raises(UserError, match="constant"):
        collapse(WIDTHS, DEPTHS, np.ones((5, 5, 3)))
    with pytest.raises(UserError, match=r"candidates\['flat'\]=.*same"):
        collapse(WIDTHS, DEPTHS, y, {"flat": np.ones((5, 5))})
    with pytest.raises(UserError, match=r"candidates\['minus'\]=.*positive"):
        collapse(WIDTHS, DEPTHS, y, {"minus": -X["d"]})
    with pytest.raises(UserError, match=r"candidates\['row'\].shape"):
        collapse(WIDTHS, DEPTHS, y, {"row": np.ones(5)})
    with pytest.raises(UserError, match="widths"):
        variables([0, 1], [1, 2])
    with pytest.raises(UserError, match="independently"):
        free_collapse([16, 32, 64, 128, 256, 512], [4], data(np.arange(1.0, 7)[None]))
