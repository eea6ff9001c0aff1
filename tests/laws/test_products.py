"""The norm behind ReLU layers: exact law and Gaussian limit against real weights."""

import numpy as np
import pytest
from scipy import stats

from testbed.errors import UserError
from testbed.laws.products import (
    dead_probability,
    gaussian_limit,
    layer_moments,
    log_variance,
    mlp_log_norm,
    relu_log_norm,
    second_moment_ratio,
)

KS_LIMIT = 2.27  # sqrt(N) times the Kolmogorov distance: chance 7e-5, as 4 s.e.

# n m(n) and n v(n), measured here by an independent sum over B.
MOMENTS = {
    8: (-3.190, 9.976),
    16: (-2.822, 6.714),
    32: (-2.641, 5.680),
    64: (-2.567, 5.312),
    128: (-2.533, 5.150),
    256: (-2.516, 5.074),
    1024: (-2.504, 5.018),
}


def distance(sample, law):
    """Kolmogorov distance times sqrt(N)."""
    return stats.kstest(sample, law.cdf).statistic * len(sample) ** 0.5


def deviations(sample, law):
    """Standard errors of sample mean and variance away from the law's."""
    centred = sample - sample.mean()
    mean_error = sample.std() / len(sample) ** 0.5
    var_error = (centred**2).std() / len(sample) ** 0.5
    return np.array(
        [
            (sample.mean() - law.mean()) / mean_error,
            (sample.var() - law.var()) / var_error,
        ]
    )


def propagate(rng, widths, nets):
    """Normalized |x_d|^2 and |J u|^2 of networks with real weights, (nets,) each."""
    n_0 = widths[0]
    x = np.ones((nets, n_0)) / n_0**0.5
    u = np.zeros((nets, n_0))
    u[:, 0] = 1
    for fan_in, n in zip(widths[:-1], widths[1:], strict=True):
        W = rng.normal(0, (2 / fan_in) ** 0.5, (nets, n, fan_in))
        z = np.einsum("kij,kj->ki", W, x)
        on = z > 0
        x, u = z * on, np.einsum("kij,kj->ki", W, u) * on
    scale = n_0 / widths[-1]
    return scale * (x**2).sum(1), scale * (u**2).sum(1)


@pytest.mark.parametrize("width", MOMENTS)
def test_layer_moments(width):
    """One layer adds m(n) to the mean and v(n) to the variance of the log-norm."""
    scaled = width * np.array(layer_moments(width))
    # 5.1e-4 is the table's rounding.
    np.testing.assert_allclose(scaled, MOMENTS[width], atol=5.1e-4)


def test_wide_layers_have_five_over_n():
    """n m(n) -> -5/2 and n v(n) -> 5, with corrections of order 1/n."""
    scaled = 10_000 * np.array(layer_moments(10_000))
    np.testing.assert_allclose(scaled, [-2.5, 5], rtol=1e-3)


def test_one_unit():
    """A single unit that is on has 2 chi^2_1, a log-gamma law."""
    law, exact = relu_log_norm([7, 1]), stats.loggamma(0.5, loc=np.log(4))
    x = np.linspace(-50, 6, 1001)
    np.testing.assert_allclose(law.pdf(x), exact.pdf(x), atol=1e-13)
    np.testing.assert_allclose(law.cdf(x), exact.cdf(x), atol=1e-13)


def test_forward_and_jacobian_with_real_weights():
    """|x_d|^2 and |J u|^2 have the exact law; dead networks their probability."""
    widths, nets = [6, 8, 12, 5], 40_000
    law = relu_log_norm(widths)
    dead = dead_probability(widths)
    for norms in propagate(np.random.default_rng(0), widths, nets):
        alive = norms > 0
        error = (dead * (1 - dead) / nets) ** 0.5
        assert abs((1 - alive.mean()) - dead) < 4 * error
        logs = np.log(norms[alive])
        assert (abs(deviations(logs, law)) < 4).all()
        assert distance(logs, law) < KS_LIMIT
        # Not the Gaussian limit, nor the law of widths counted from n_0.
        for wrong in (gaussian_limit(widths), relu_log_norm([5, 6, 8, 12])):
            assert distance(logs, wrong) > KS_LIMIT
            assert (abs(deviations(logs, wrong)) > 4).any()


def test_mlp_with_real_weights():
    """|z_d|^2 / |z_0|^2, both before the ReLU, has the law of d whole layers."""
    width, depth, nets = 16, 8, 20_000
    rng = np.random.default_rng(1)
    z = rng.normal(size=(nets, width))
    first = (z**2).sum(1)
    for _ in range(depth):
        W = rng.normal(0, (2 / width) ** 0.5, (nets, width, width))
        z = np.einsum("kij,kj->ki", W, np.maximum(z, 0))
    alive = z.any(axis=1)
    logs = np.log((z[alive] ** 2).sum(1) / first[alive])
    law = mlp_log_norm(width, depth)
    assert (abs(deviations(logs, law)) < 4).all()
    assert distance(logs, law) < KS_LIMIT
    # A last layer without ReLU on top, one layer less, and the Gaussian limit.
    linear = stats.norm(law.mean() - 1 / width, (law.var() + 2 / width) ** 0.5)
    for wrong in (linear, mlp_log_norm(width, depth - 1), gaussian_limit([16] * 9)):
        assert distance(logs, wrong) > KS_LIMIT
        assert (abs(deviations(logs, wrong)) > 4).any()


@pytest.mark.parametrize(("width", "depth"), [(64, 64), (16, 32)])
def test_deep_networks(width, depth):
    """A product of chi-squares of binomial dof has the law, not N(-beta/2, beta)."""
    nets, widths = 20_000, [width] * (depth + 1)
    rng = np.random.default_rng(2)
    units = rng.binomial(width, 0.5, (depth, nets))
    units = units[:, units.all(axis=0)]
    logs = np.log(2 / width * rng.chisquare(units)).sum(0)
    law, limit = relu_log_norm(widths), gaussian_limit(widths)
    assert (abs(deviations(logs, law)) < 4).all()
    assert distance(logs, law) < KS_LIMIT
    assert (abs(deviations(logs, limit)) > 4).any()


def test_the_limit_is_reached_along_depth_equal_width():
    """At d = n the distance to N(-beta/2, beta) falls like 1/n."""
    distances = []
    for n in (16, 64, 256):
        law, limit = relu_log_norm([n] * (n + 1)), gaussian_limit([n] * (n + 1))
        x = limit.mean() + limit.std() * np.linspace(-5, 5, 2001)
        distances.append(np.abs(law.cdf(x) - limit.cdf(x)).max())
    np.testing.assert_allclose(distances[1:], [0.0146, 0.0036], atol=1e-4)
    assert distances[0] > 3 * distances[1] > 9 * distances[2]


def test_law_of_draws():
    """Draws from the law have its distribution."""
    law = mlp_log_norm(8, 3)
    assert distance(law.rvs(20_000, random_state=3), law) < KS_LIMIT


def test_second_moment_two_ways():
    """prod (1 + 5/n_i) equals the integral of exp(2x) against the exact density."""
    widths = [3, 6, 9]
    law, alive = relu_log_norm(widths), 1 - dead_probability(widths)
    x = np.linspace(-90, 9, 20_001)
    first, second = (
        alive * np.trapezoid(np.exp(k * x) * law.pdf(x), x) for k in (1, 2)
    )
    np.testing.assert_allclose(first, 1, rtol=1e-9)  # n_0/n_d is the normalization
    np.testing.assert_allclose(second, second_moment_ratio(widths), rtol=1e-7)


@pytest.mark.parametrize("active", [0.5, 1.0])
@pytest.mark.parametrize("fourth_moment", [1.0, 3.0])
@pytest.mark.parametrize("quartic", [1.0, 0.1])
def test_variance_of_one_layer(active, fourth_moment, quartic):
    """The relative variance of |D W u|^2 is beta of one layer, exactly."""
    n_0, n, nets = 10, 8, 40_000
    rng = np.random.default_rng(4)
    W = rng.normal(size=(nets, n, n_0))
    if fourth_moment == 1:
        W = np.sign(W)
    u = np.eye(n_0)[0] if quartic == 1 else np.full(n_0, n_0**-0.5)
    on = rng.random((nets, n)) < active
    square = ((W @ u) ** 2 * on).sum(1) / (active * n)
    spread = (square - 1) ** 2  # the mean is 1, exactly
    # Rounding where all of it is deterministic: random signs, e_1, p = 1.
    error = 4 * spread.std() / nets**0.5 + 1e-12
    beta = log_variance([n_0, n], active, fourth_moment, quartic)
    assert abs(spread.mean() - beta) < error
    wrong = log_variance([n_0, n], active, 4 - fourth_moment, quartic)
    if quartic == 1:  # with equal entries the term is a tenth of that
        assert abs(spread.mean() - wrong) > error


def test_variances_of_the_limit():
    """5 sum 1/n for ReLU, 2 sum 1/n if linear, (mu_4 - 3) |u|_4^4 / (p n_1) on top."""
    widths = [10, 20, 50, 25]
    total = 1 / 20 + 1 / 50 + 1 / 25
    np.testing.assert_allclose(log_variance(widths), 5 * total)
    np.testing.assert_allclose(log_variance(widths, active=1.0), 2 * total)
    signs = log_variance(widths, fourth_moment=1.0, quartic=0.1)
    np.testing.assert_allclose(signs, 5 * total - 2 * 2 * 0.1 / 20)
    limit = gaussian_limit(widths, fourth_moment=1.0, quartic=0.1)
    np.testing.assert_allclose([limit.mean(), limit.var()], [-signs / 2, signs])


def test_dead_probability():
    """1 - prod (1 - 2^-n), without cancellation."""
    np.testing.assert_allclose(dead_probability([4, 2, 3]), 1 - 3 / 4 * 7 / 8)
    np.testing.assert_allclose(dead_probability([9] + [100] * 7), 7 * 2.0**-100)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: relu_log_norm([]), "widths"),
        (lambda: relu_log_norm([4, 0]), "widths"),
        (lambda: second_moment_ratio([4, 2.5]), "widths"),
        (lambda: dead_probability([4, float("nan")]), "widths"),
        (lambda: layer_moments(0), "width"),
        (lambda: mlp_log_norm(4, -1), "depth"),
        (lambda: log_variance([4, 4], active=0.0), "active"),
        (lambda: log_variance([4, 4], quartic=2.0), "quartic"),
        (lambda: log_variance([4, 4], fourth_moment=0.5), "fourth_moment"),
        (lambda: gaussian_limit([4, 4], active=1.0, fourth_moment=1.0), "widths"),
    ],
)
def test_mistakes_are_named(call, field):
    """An argument without a law is refused by name."""
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.field == field
