"""Infinite depth at fixed width: closed forms against networks sampled in law."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate, special, stats

from testbed.errors import UserError
from testbed.laws import layer_law
from testbed.laws.infinite_depth import (
    hayou_time,
    identity_layer_law,
    identity_log_law,
    identity_log_moments,
    inactive_units,
    initial_log_drift,
    log_norm_bounds,
    log_norm_from_active,
    log_norm_mean,
    output_power,
    relu_log_law,
    second_moment,
    second_moment_correction,
)


@dataclasses.dataclass
class Paths:
    """Sampled ReLU networks with R_0 > 0.

    Attributes:
      growth: log(R_t / R_0) at the end, (networks,).
      noise: B'_t, the part of it that is Brownian, (networks,).
      active: numbers of active units, l = 0, ..., L, (L + 1, networks).
      power: |Y_L|^2 / |Y_0|^2, (networks,).
    """

    growth: np.ndarray
    noise: np.ndarray
    active: np.ndarray
    power: np.ndarray


def sampled(width, depth, networks, seed, time=1.0, antithetic=False):
    """Networks exact in law without weights: W phi(z) | z is |phi(z)| times a Gaussian.

    `antithetic` pairs every network with one that starts at -z and uses -g.
    """
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((networks, width))
    y = np.concatenate([y, -y]) if antithetic else y
    y = y[(y > 0).any(1)]
    start, first = (y**2).sum(1), (np.maximum(y, 0) ** 2).sum(1)
    active, noise = [(y > 0).sum(1)], np.zeros(len(y))
    for _ in range(depth):
        phi = np.maximum(y, 0)
        norm = np.sqrt((phi**2).sum(1))
        if antithetic:
            half = rng.standard_normal((networks, width))
            g = np.concatenate([half, -half])
        else:
            g = rng.standard_normal(y.shape)
        noise += (phi * g).sum(1) / norm * (time / depth) ** 0.5
        y = y + (time / (width * depth)) ** 0.5 * norm[:, None] * g
        active.append((y > 0).sum(1))
    last = (np.maximum(y, 0) ** 2).sum(1)
    # R stays > 0: the largest unit moves by about 1/sqrt(L) of itself a layer.
    growth = np.log(last / first) / 2
    return Paths(growth, noise, np.array(active), (y**2).sum(1) / start)


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / len(values) ** 0.5


def log_growth(paths, width):
    """E log(R_t/R_0) and its standard error; B' has mean 0, so it is subtracted."""
    return mean_and_error(paths.growth - paths.noise / width**0.5)


def test_width_one():
    """ReLU, n = 1: log(Y_L / Y_0) is N(-t/2, t)."""
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((200, 50_000))
    logs = np.log1p(steps * (1 / 200) ** 0.5).sum(0)
    assert stats.kstest(logs, relu_log_law(1.0).cdf).pvalue > 1e-3
    for wrong in (stats.norm(0, 1), relu_log_law(0.95), stats.norm(-0.5, 1.03)):
        assert stats.kstest(logs, wrong.cdf).pvalue < 1e-3


def test_width_one_is_a_martingale():
    """ReLU, n = 1: E X_t = X_0 and E X_t^2 = X_0^2 e^t."""
    g, weight = np.polynomial.hermite_e.hermegauss(60)
    weight /= weight.sum()
    for time in (0.3, 2.0):
        law = relu_log_law(time)
        x = np.exp(law.mean() + law.std() * g)
        np.testing.assert_allclose(weight @ x, 1, rtol=1e-10)
        np.testing.assert_allclose(weight @ x**2, np.exp(time), rtol=1e-10)


# log(|Y_L| / |Y_0|) at L = 20 of a linear network: (1/2 - 1/n) and its 1/L term.
@pytest.mark.parametrize(("width", "printed"), [(8, 0.37031), (3, 0.16806)])
def test_linear_networks(width, printed):
    """phi(x) = x at finite depth: exact mean and variance; the limit's mean is off."""
    depth, networks = 20, 300_000
    rng = np.random.default_rng(width)
    along = rng.standard_normal((depth, networks)) * (1 / (width * depth)) ** 0.5
    across = rng.chisquare(width - 1, (depth, networks)) / (width * depth)
    logs = np.log((1 + along) ** 2 + across).sum(0) / 2
    # E along = 0: without it the mean's error is six times smaller.
    mean, error = mean_and_error(logs - along.sum(0))
    exact_mean, exact_var = identity_log_moments(width, depth)
    assert abs(mean - exact_mean) < 4 * error
    assert abs(mean - identity_log_law(width).mean()) > 4 * error
    var_error = exact_var * (2 / networks) ** 0.5  # nearly normal
    assert abs(logs.var() - exact_var) < 4 * var_error
    assert abs(logs.var() - identity_log_law(width - 1).var()) > 4 * var_error
    np.testing.assert_allclose(exact_mean, printed, atol=6e-5)


@pytest.mark.parametrize("time", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 10, 50])
def test_linear_networks_tend_to_their_limit(width, time):
    """The mean's 1/L term is -(n - 2)(n - 4) t^2 / (4 n^2); the variance -> t/n."""
    depths = np.array([1000, 2000])
    limit = identity_log_law(width, time)
    means, variances = np.transpose(
        [identity_log_moments(width, d, time) for d in depths]
    )
    errors = depths * (means - limit.mean())
    term = -(width - 2) * (width - 4) * time**2 / (4 * width**2)
    extrapolated = 2 * errors[1] - errors[0]
    np.testing.assert_allclose(extrapolated, term, rtol=1e-3, atol=2e-5)
    off = variances / limit.var() - 1
    assert abs(off[1]) < 0.01
    np.testing.assert_allclose(off[1] / off[0], 0.5, atol=0.01)


def test_linear_layer_law():
    """A layer's ratio (1 + g sqrt h)^2 + h chi^2_{n-1}: law, mean 1 + t/L, log mean."""
    width, depth, time = 5, 7, 1.5
    law, h = identity_layer_law(width, depth, time), time / 35
    np.testing.assert_allclose(law.mean(), 1 + time / depth, rtol=1e-12)
    np.testing.assert_allclose(law.var(), 4 * h + 2 * width * h**2, rtol=1e-12)
    mean = law.expect(np.log)
    var = law.expect(lambda x: (np.log(x) - mean) ** 2)
    moments = identity_log_moments(width, depth, time)
    np.testing.assert_allclose((depth * mean / 2, depth * var / 4), moments, rtol=1e-7)
    rng = np.random.default_rng(4)
    ratio = (1 + rng.standard_normal(20_000) * h**0.5) ** 2
    ratio += h * rng.chisquare(width - 1, 20_000)
    assert stats.kstest(ratio, law.cdf).pvalue > 1e-3
    assert stats.kstest(ratio, identity_layer_law(width, depth, 1.4).cdf).pvalue < 1e-3


def test_initial_drift():
    """mubar_n = (1/4)/(1 - 2^-n) - 1/n: its table; negative to n = 3, then positive."""
    widths = np.array([1, 2, 3, 4, 5, 6, 8, 16, 64, np.inf])
    table = [-1 / 2, -1 / 6, -1 / 21, 1 / 60, 0.05806, 0.0873, 0.12598, 0.1875, 0.23438]
    np.testing.assert_allclose(initial_log_drift(widths), [*table, 0.25], atol=5.1e-6)
    # E[A_0 | A_0 > 0] by summation over sign patterns.
    for n in range(1, 8):
        active = np.arange(1, n + 1)
        share = stats.binom(n, 0.5).pmf(active)
        drift = (share @ active / share.sum() / 2 - 1) / n
        np.testing.assert_allclose(initial_log_drift(n), drift, rtol=1e-12)


@pytest.mark.parametrize("width", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("time", [1.0, 2.0])
def test_typical_norms_fall_up_to_width_three(width, time):
    """E log(R_t/R_0) < 0 for n <= 3, > 0 for n >= 4, and not the linear network's."""
    mean, error = log_growth(sampled(width, 100, 40_000, seed=width, time=time), width)
    assert mean * (1 if width >= 4 else -1) > 4 * error
    assert abs(mean - identity_log_law(width, time).mean()) > 4 * error


@pytest.mark.parametrize("width", [3, 4, 8, 16])
def test_drift_identity(width):
    """E log(R_t/R_0) = (1/n) int (E A_s/2 - 1) ds with the networks' own A_s."""
    depth = 200
    paths = sampled(width, depth, 20_000, seed=10 + width)
    drift = lambda active: log_norm_from_active(
        width, np.linspace(0, 1, depth + 1), active
    )[..., -1]
    mean, error = mean_and_error(
        paths.growth - paths.noise / width**0.5 - drift(paths.active.T)
    )
    scheme = 0.1 / depth  # the Euler scheme's error, measured below 0.05/L
    assert abs(mean) < 4 * error + scheme
    every_unit = drift(np.full(depth + 1, width))
    mean, error = log_growth(paths, width)
    assert abs(mean - drift(paths.active.mean(1))) < 4 * error + scheme
    assert abs(mean - every_unit) > 4 * error + scheme


@pytest.mark.parametrize("width", [2, 3, 4, 8, 16, 64])
def test_log_norm_mean(width):
    """The mean with the slow loss of active units: within 0.003 of networks."""
    networks = 200_000 // width
    mean, error = log_growth(sampled(width, 100, networks, 30 + width), width)
    law = log_norm_mean(width, 1.0)
    assert abs(mean - law) < 4 * error + 0.003
    assert abs(mean - (0.25 - 2 / width)) > 4 * error + 0.003  # twice the Ito term


def test_pathwise_bounds():
    """1 <= A <= n bounds log(R_t/R_0) on every path; A >= 2 would not hold at n = 2."""
    width, outside = 2, []
    for depth in (100, 400):
        paths = sampled(width, depth, 10_000, seed=5)
        left = paths.growth - paths.noise / width**0.5
        left -= log_norm_from_active(
            width, np.linspace(0, 1, depth + 1), paths.active.T
        )[:, -1]
        outside.append(left.std())
        lower, upper = log_norm_bounds(width, 1.0, paths.noise)
        slack = 6 * left.std()  # the Euler scheme's own error, O(L^-1/2)
        assert (paths.growth > lower - slack).mean() > 0.9999
        assert (paths.growth < upper + slack).mean() > 0.9999
        tighter = paths.noise / width**0.5  # A >= 2
        assert (paths.growth < tighter - slack).mean() > 0.05
    assert outside[1] < 0.6 * outside[0]


NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)
NODES, WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2  # on [0, 1]
normal_pdf = lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def power_gap(x, s):
    """g(x, s) = (1/2) int_0^s e^{(s-r)/2} odd dr, what a unit at x at time s has seen.

    odd is the part of E[phi(X_r)^2 | X_s = x] odd in x, on a Brownian bridge of
    variance e^{r/2}.
    """
    r = s * (1 - NODES**2)  # substituted because of the square root at r = s
    m = x[..., None] * np.exp((r - s) / 2)
    v = np.sqrt(np.exp(r / 2) * -np.expm1((r - s) / 2))
    odd = (m**2 + v**2) * (special.ndtr(m / v) - 0.5) + m * v * normal_pdf(m / v)
    return (np.exp((s - r) / 2) * odd * WEIGHTS * 2 * NODES * s).sum(-1) / 2


def over_past(inner, t, reach):
    """int_0^t ds int_0^reach dy inner(y, s, tau), tau = e^{t/2} - e^{s/2}."""
    total = 0.0
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        s = t * (1 - node**2)
        values = inner(reach * NODES, s, np.exp(t / 2) - np.exp(s / 2))
        total += (values * reach * WEIGHTS).sum() * weight * 2 * node * t
    return total


def density(x, s):
    return normal_pdf(x * np.exp(-s / 4)) * np.exp(-s / 4)


def test_lost_active_units_two_ways():
    """k(t) = k_a + k_b, the closed form against the first-order double integral."""

    def k_b(y, s, tau):
        """x tau^{-3/2} pdf(x/sqrt tau) dx = y pdf(y) dy / sqrt tau, x = sqrt(tau) y."""
        x = tau**0.5 * y
        return power_gap(x, s) * density(x, s) * y * normal_pdf(y) / tau**0.5

    for t in (0.25, 1.0, 4.0):
        rise = lambda r: np.exp(-0.75 * r) * np.sqrt(-np.expm1(-r / 2))
        k_a = integrate.quad(rise, 0, t)[0] / (2 * np.pi)
        both = k_a + over_past(k_b, t, reach=12.0)
        np.testing.assert_allclose(inactive_units(t), both, rtol=2e-5)
        assert abs(k_a / inactive_units(t) - 1) > 0.05  # k_b is needed


def test_lost_active_units_have_their_values():
    """k at t = 1/4 to 8, its integral to 1, and k -> 1/2."""
    table = [0.0089, 0.0237, 0.0603, 0.1391, 0.2712, 0.4141]
    times = np.array([0.25, 0.5, 1, 2, 4, 8])
    np.testing.assert_allclose(inactive_units(times), table, atol=5.1e-5)
    np.testing.assert_allclose(inactive_units([0, 1e3]), [0, 0.5], atol=1e-15)
    whole = log_norm_mean(16, 1.0) - initial_log_drift(16)
    np.testing.assert_allclose(whole, -0.02568 / 32, atol=5e-7)


def test_active_units_of_networks():
    """E A_t = n/2 - k(t), not n/2, at n = 32 in antithetic pairs."""
    width, pairs, depth = 32, 10_000, 50
    paths = sampled(width, depth, pairs, seed=8, time=2.0, antithetic=True)
    # R_0 > 0 for every one of them, so pairs stay pairs.
    active = (paths.active[:, :pairs] + paths.active[:, pairs:]) / 2
    for layer in (depth // 2, depth):
        mean, error = mean_and_error(active[layer])
        lost = inactive_units(2.0 * layer / depth)
        assert abs(width / 2 - mean - lost) < 4 * error
        assert abs(width / 2 - mean) > 4 * error


def test_second_moment_correction_has_its_values():
    """G2 at t = 1/4 to 4, t^2/8 at small t, and the same from the log-Gaussian law."""
    table = [0.0078, 0.0309, 0.1212, 0.4617, 1.649]
    times = np.array([0.25, 0.5, 1, 2, 4])
    correction = second_moment_correction(times)
    off = np.abs(correction - table)
    assert (off <= [5.1e-5] * 4 + [5.1e-4]).all()
    np.testing.assert_allclose(second_moment_correction(1e-3), 1e-6 / 8, rtol=1e-3)
    assert abs(correction[-1] - 2) > 5.1e-4  # t^2/8 is not the law at t = 4
    for time, law in zip(times, correction, strict=True):
        deep = layer_law(1, 20_000, 1.0, (time / 40_000) ** 0.5)
        power = deep.log_norm_mean[-1] + deep.log_norm_var[-1] / 2
        np.testing.assert_allclose(power - time / 2, law, rtol=1e-3, atol=1e-4)


def test_second_moment_correction_two_ways():
    """G2 = int e^{-s/2} D(s) ds, D = n (E X_+^2 - E X^2 / 2) to first order."""

    def excess(x, s, tau):
        odd = x**2 / 2 + power_gap(x, s)
        return odd * density(x, s) * special.erf(x / np.sqrt(2 * tau))

    for t in (0.5, 2.0):
        power = lambda s: over_past(excess, s, reach=12 * np.exp(s / 4))
        integral = sum(
            weight * t * np.exp(-s / 2) * power(s)
            for s, weight in zip(t * NODES, WEIGHTS, strict=True)
        )
        np.testing.assert_allclose(second_moment_correction(t), integral, rtol=2e-5)


def test_output_power_of_networks():
    """E|z_d|^2: s^d for Balanced, s^d (1 + G2(2 c^2)/n) for vanilla, not s^d."""
    width, depth, branch = 8, 40, 1.0
    size = dict(depth=depth, time=float(hayou_time(branch)))
    law = dict(width=width, depth=depth, branch=branch)
    vanilla = sampled(width, networks=200_000, seed=9, **size).power
    # Networks with R_0 = 0 keep their power 1 and are not sampled.
    frozen = 2.0**-width
    mean, error = mean_and_error(vanilla * (1 - frozen) + frozen)
    assert abs(mean - output_power(**law)) < 4 * error
    assert abs(mean - output_power(**law, balanced=True)) > 4 * error


@pytest.mark.parametrize("width", [3, 8])
def test_balanced_output_power(width):
    """Balanced networks have E|z_d|^2 = s^d exactly, at any width."""
    depth, branch = 20, 1.0
    rng = np.random.default_rng(width)
    z = np.ones((100_000, width))
    for _ in range(depth):
        active = np.maximum(z * rng.choice([-1.0, 1.0], size=z.shape), 0)
        norm = np.sqrt((active**2).sum(1, keepdims=True))
        lam = branch / depth**0.5
        z = z + lam * (2 / width) ** 0.5 * norm * rng.standard_normal(z.shape)
    mean, error = mean_and_error((z**2).sum(1) / width)
    law = output_power(width, depth, branch, balanced=True)
    np.testing.assert_allclose(law, (1 + branch**2 / depth) ** depth, rtol=1e-13)
    assert abs(mean - law) < 4 * error
    assert abs(mean - output_power(width, depth, branch)) > 4 * error  # vanilla


def test_second_moment_at_width_one():
    """n = 1: (1 + e^t)/2, half of the networks being frozen; n = inf: e^{t/2}."""
    np.testing.assert_allclose(
        second_moment(1, 1.0), (1 + np.exp(relu_log_law().var())) / 2
    )
    np.testing.assert_allclose(second_moment([1, np.inf], 2.0)[1], np.e, rtol=1e-12)
    np.testing.assert_allclose(hayou_time([0.5**0.5, 1.0]), [1, 2], rtol=1e-12)


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("time", lambda: relu_log_law(-1.0)),
        ("time", lambda: identity_log_law(2, np.inf)),
        ("width", lambda: identity_log_law(0)),
        ("width", lambda: identity_layer_law(0, 3)),
        ("depth", lambda: identity_log_moments(2, 0)),
        ("width", lambda: initial_log_drift([4, 0])),
        ("time", lambda: log_norm_bounds(2, -1.0, 0.0)),
        ("noise", lambda: log_norm_bounds(2, 1.0, np.nan)),
        ("times", lambda: log_norm_from_active(2, [0.0, 0.0], [1, 1])),
        ("active", lambda: log_norm_from_active(2, [0.0, 1.0], [1, 1, 1])),
        ("time", lambda: inactive_units(-1.0)),
        ("time", lambda: second_moment(2, np.nan)),
        ("width", lambda: output_power(0.5, 3, 1.0)),
        ("depth", lambda: output_power(2, 0, 1.0)),
        ("branch", lambda: hayou_time(np.nan)),
    ],
)
def test_bad_input_is_named(field, call):
    """A width, depth or time that makes no sense is refused by its name."""
    with pytest.raises(UserError, match=rf"^{field}="):
        call()
