"""Moments of the tangent kernel: tables, limits, and networks with real weights."""

import numpy as np
import pytest
from scipy import integrate

from testbed.errors import UserError
from testbed.laws.ntk_limits import (
    limit_biases,
    limit_first_step,
    limit_mixed,
    limit_ratio,
    limit_weights,
)
from testbed.laws.ntk_moments import (
    first_step_change,
    ntk_mean,
    ntk_second_moment_ratio,
)

# Hidden layers, and E[K^2]/E[K]^2 by sigma_w2; all widths 100, |x| = 1, standard.
HIDDEN = (1, 5, 10, 20, 30, 40, 49)
PHASES = {
    0.5: (1.006, 1.003, 1.003, 1.003, 1.003, 1.003, 1.003),
    1.0: (1.012, 1.020, 1.017, 1.017, 1.017, 1.017, 1.017),
    1.5: (1.015, 1.065, 1.079, 1.071, 1.069, 1.069, 1.069),
    1.8: (1.017, 1.095, 1.181, 1.284, 1.308, 1.299, 1.287),
    2.0: (1.018, 1.112, 1.253, 1.621, 2.152, 2.926, 3.932),
    2.2: (1.019, 1.126, 1.308, 1.865, 2.782, 4.250, 6.294),
    2.5: (1.020, 1.141, 1.356, 1.999, 3.009, 4.585, 6.753),
    3.0: (1.022, 1.157, 1.390, 2.052, 3.078, 4.675, 6.872),
    3.5: (1.023, 1.165, 1.402, 2.067, 3.097, 4.701, 6.906),
}
# (n, L): ratio and its limit for weights, biases and both, sigma_w2 = 2, NTK.
CRITICAL = {
    (16, 4): ((1.795, 1.312, 1.462), (2.659, 1.588, 1.904)),
    (16, 8): ((4.451, 2.088, 2.810), (7.760, 2.778, 4.253)),
    (64, 8): ((1.466, 1.191, 1.274), (1.607, 1.245, 1.352)),
    (64, 16): ((2.373, 1.502, 1.762), (2.659, 1.588, 1.904)),
    (64, 32): ((6.621, 2.559, 3.772), (7.760, 2.778, 4.253)),
    (64, 64): ((59.83, 9.763, 24.47), (76.97, 11.39, 30.51)),
}
COUNTED = ((True, False), (False, True), (True, True))


def network(width, layers):
    """Widths of a net with n_0 = n and this many layers of weights."""
    return [width] * layers + [1]


def tangents(weights, x, rng):
    """f, every layer's inputs x_{i-1}, and delta_i = df/d(z_i), for many nets.

    Units whose input is exactly 0, behind a dead layer, are on or off at random, as the
    theory has them.
    """
    inputs, masks = [x], []
    for W in weights[:-1]:
        z = np.einsum("kij,kj->ki", W, inputs[-1])
        masks.append(np.where(z == 0, rng.random(z.shape) < 0.5, z > 0))
        inputs.append(z * masks[-1])
    f = np.einsum("kij,kj->ki", weights[-1], inputs[-1])[:, 0]
    deltas = [np.ones((len(x), 1))]
    for W, mask in zip(weights[:0:-1], masks[::-1], strict=True):
        deltas.insert(0, np.einsum("kij,ki->kj", W, deltas[0]) * mask)
    return f, inputs, deltas


def drawn(rng, widths, sigma_w2, nets):
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return [rng.normal(0, (sigma_w2 / m) ** 0.5, (nets, n, m)) for m, n in pairs]


def weight_kernel(inputs, deltas, omega):
    layers = zip(omega, inputs, deltas, strict=True)
    return sum(w * (x**2).sum(1) * (d**2).sum(1) for w, x, d in layers)


def mean_and_error(sample):
    return sample.mean(), sample.std() / len(sample) ** 0.5


@pytest.mark.parametrize("sigma_w2", PHASES)
def test_three_phases(sigma_w2):
    """Dispersion stays bounded in the ordered phase and grows with depth otherwise."""
    ratios = [
        ntk_second_moment_ratio(
            network(100, hidden + 1), sigma_w2, parameterization="standard"
        )
        for hidden in HIDDEN
    ]
    np.testing.assert_allclose(ratios, PHASES[sigma_w2], atol=5.1e-4)  # rounded


@pytest.mark.parametrize("case", CRITICAL)
def test_critical_tables(case):
    """E[K^2]/E[K]^2 of weights, biases and both at finite width, and their limits."""
    width, layers = case
    widths, (exact, limits) = network(width, layers), CRITICAL[case]
    ratios = [ntk_second_moment_ratio(widths, 2.0, *which) for which in COUNTED]
    T = layers / width
    found = [limit_weights(T), limit_biases(T), limit_ratio(T, 2.0)]
    # Four digits were kept.
    np.testing.assert_allclose(ratios, exact, rtol=5.1e-4)
    np.testing.assert_allclose(found, limits, rtol=5.1e-4)


def test_limits_at_hundredths():
    """I_ww and the limit of equal shares at depths 5, ..., 49 of width 100."""
    T = np.array(HIDDEN[1:]) / 100
    expected = (1.204, 1.458, 2.168, 3.274, 5.013, 7.425)
    np.testing.assert_allclose(limit_weights(T), expected, atol=5.1e-4)
    np.testing.assert_allclose(limit_ratio(T, 3.0), expected, atol=5.1e-4)
    np.testing.assert_allclose(limit_ratio(T, 1.0, 1.0), expected, atol=5.1e-4)
    expected = (1.123, 1.269, 1.652, 2.209, 3.029, 4.107)
    np.testing.assert_allclose(limit_ratio(T, 2.0, 0.5), expected, atol=5.1e-4)
    np.testing.assert_array_equal(limit_ratio(T, 1.0), np.ones(6))


@pytest.mark.parametrize("width", [256, 1024])
def test_widths_approach_the_limit(width):
    """At L = n/2 the ratio of the weights is 7.447 (n = 256), 7.680 (1024), 7.760."""
    expected = {256: 7.447, 1024: 7.680}[width]
    ratio = ntk_second_moment_ratio(network(width, width // 2), 2.0, biases=False)
    np.testing.assert_allclose(ratio, expected, atol=5.1e-4)


def test_limits_are_averages_over_pairs_of_layers():
    """Each limit is the double integral over the two differentiated layers."""
    T = 0.6

    def between(u):  # the transfer's eigenvalues are 5, -1 and -1
        return (np.exp(5 * T * u) + 2 * np.exp(-T * u)) / 3

    def averaged(later, earlier):
        """Average over s > t in the unit square of what the two layers give."""
        return (
            2
            * integrate.dblquad(
                lambda s, t: (later(s, t) + earlier(s, t)) / 2, 0, 1, lambda t: t, 1
            )[0]
        )

    def both_weights(s, t):
        return np.exp(5 * T * (1 - s + t)) * between(s - t)

    def both_biases(s, t):
        return np.exp(5 * T * (1 - s))

    def bias_first(s, t):
        return np.exp(5 * T * (1 - s)) * between(s - t)

    weights = averaged(both_weights, both_weights)
    np.testing.assert_allclose(limit_weights(T), weights, rtol=1e-10)
    biases = averaged(both_biases, both_biases)
    np.testing.assert_allclose(limit_biases(T), biases, rtol=1e-10)
    mixed = averaged(bias_first, both_biases)
    np.testing.assert_allclose(limit_mixed(T), mixed, rtol=1e-10)


def test_limits_as_printed():
    """The series agree with the closed forms, and with their small-T behaviour."""
    T = np.array([0.3, 1.0, 4.0])
    e5, e1, e6 = np.exp(5 * T), np.exp(-T), np.exp(-6 * T)
    bracket = 1 / 3 + (6 * T - 1 + e6) / (27 * T**2)
    np.testing.assert_allclose(limit_weights(T), e5 * bracket, rtol=1e-12)
    biases = 2 * (e5 - 1 - 5 * T) / (25 * T**2)
    np.testing.assert_allclose(limit_biases(T), biases, rtol=1e-12)
    mean = (e5 - 1) / (5 * T)
    mixed = (e5 - mean) / (15 * T) + 2 / (3 * T) * (mean - (e5 - e1) / (6 * T))
    np.testing.assert_allclose(limit_mixed(T), biases / 2 + mixed, rtol=1e-12)
    change = (1 - (6 * T - 1 + e6) / (18 * T**2)) / 3
    np.testing.assert_allclose(limit_first_step(T), change, rtol=1e-12)

    small = 1e-9
    np.testing.assert_allclose(limit_weights(small) - 1, 11 / 3 * small, atol=1e-15)
    np.testing.assert_allclose(limit_first_step(small), 2 / 3 * small, rtol=1e-7)
    for limit in (limit_weights, limit_mixed, limit_biases):
        assert limit(0.0) == 1
    assert limit_first_step(0.0) == 0


@pytest.mark.parametrize("sigma_w2", [1.0, 3.0])
def test_weights_disperse_alike_in_every_phase(sigma_w2):
    """The weights' dispersion does not depend on sigma_w2 or the parametrization."""
    widths = network(16, 6)
    reference = ntk_second_moment_ratio(widths, 2.0, biases=False)
    for kind in ("ntk", "standard"):
        ratio = ntk_second_moment_ratio(
            widths, sigma_w2, biases=False, parameterization=kind, input_norm2=0.3
        )
        np.testing.assert_allclose(ratio, reference, rtol=1e-12)
    # With biases the phase does matter.
    both = ntk_second_moment_ratio(widths, sigma_w2)
    assert abs(both / ntk_second_moment_ratio(widths, 2.0) - 1) > 0.1


def test_ordered_phase_at_finite_width():
    """There the ratio is 1 + (5/n) a^2 / (1 - a^2) to first order in 1/n."""
    for sigma_w2, n in ((0.5, 1000), (1.0, 1000), (1.5, 4000)):
        a2 = (sigma_w2 / 2) ** 2
        ratio = ntk_second_moment_ratio(network(n, 300), sigma_w2)
        np.testing.assert_allclose((ratio - 1) * n, 5 * a2 / (1 - a2), rtol=0.02)


def test_chaotic_phase():
    """Weights win with depth: I_ww with them, exp(5T) for biases alone, up to 1/n."""
    for weights, limit in ((True, limit_weights(1.0)), (False, np.exp(5))):
        share = 0.5 if weights else 0.0
        np.testing.assert_allclose(limit_ratio(1.0, 3.0, share), limit, rtol=1e-12)
        far, near = (
            limit - ntk_second_moment_ratio(network(n, n), 3.0, weights)
            for n in (256, 1024)
        )
        # Four times the width; corrections of order 1/n^2 are a few per cent of 1/n's.
        np.testing.assert_allclose(far / near, 4, rtol=0.1)


def test_very_deep_networks():
    """A thousand layers neither overflow nor underflow, in any phase."""
    widths = network(500, 1000)
    critical = ntk_second_moment_ratio(widths, 2.0, biases=False)
    for sigma_w2 in (0.01, 50.0):
        ratio = ntk_second_moment_ratio(widths, sigma_w2, biases=False)
        np.testing.assert_allclose(ratio, critical, rtol=1e-10)
    np.testing.assert_allclose(ntk_second_moment_ratio(widths, 0.01), 1, atol=1e-6)


def test_linear_model():
    """Without hidden layers K = omega |x|^2 + 1 is deterministic."""
    for kind, mean in (("ntk", 2 / 5 * 5 / 2 + 1), ("standard", 2)):
        np.testing.assert_allclose(ntk_mean([5, 1], 2.0, parameterization=kind), mean)
        ratio = ntk_second_moment_ratio([5, 1], 2.0, parameterization=kind)
        np.testing.assert_allclose(ratio, 1, rtol=1e-15)
    assert first_step_change([5, 1], 2.0) == 0


def test_mean_at_the_edge_of_chaos():
    """E K = 2 L (1/2 + |x|^2/n_0) in NTK parametrization at sigma_w2 = 2."""
    for norm2 in (0.7, 3.0):
        mean = ntk_mean([10, 8, 6, 4, 1], 2.0, input_norm2=norm2)
        np.testing.assert_allclose(mean, 8 * (0.5 + norm2 / 10), rtol=1e-14)


@pytest.mark.parametrize("kind", ["ntk", "standard"])
@pytest.mark.parametrize("sigma_w2", [1.5, 2.2])
def test_moments_of_real_networks(kind, sigma_w2):
    """Uneven widths 4-5-6-3-1 have the mean and second moment of the recursion."""
    widths, nets, norm2 = [4, 5, 6, 3, 1], 200_000, 1.7
    rng = np.random.default_rng(0)
    weights = drawn(rng, widths, sigma_w2, nets)
    x = np.tile(np.array([1.0, -0.5, 0.2, 0.7]), (nets, 1))
    x *= (norm2 / (x[0] ** 2).sum()) ** 0.5
    _, inputs, deltas = tangents(weights, x, rng)
    omega = [sigma_w2 / n if kind == "ntk" else 1.0 for n in widths[:-1]]
    parts = (
        weight_kernel(inputs, deltas, omega),
        sum((d**2).sum(1) for d in deltas),
    )
    for which in COUNTED:
        kernel = sum(used * part for used, part in zip(which, parts, strict=True))
        arguments = (*which, kind, norm2)
        expected = ntk_mean(widths, sigma_w2, *arguments)
        mean, error = mean_and_error(kernel)
        assert abs(mean - expected) < 4 * error
        ratio, error = mean_and_error((kernel / expected) ** 2)
        assert abs(ratio - ntk_second_moment_ratio(widths, sigma_w2, *arguments)) < (
            4 * error
        )
        # Rejected: the simple exponential, the other parts' recursion, other widths.
        T = sum(1 / n for n in widths[1:-1])
        swapped = (*which[::-1], kind, norm2)
        wrong = [np.exp(5 * T), ntk_second_moment_ratio([4, 5, 6, 4, 1], sigma_w2)]
        if not all(which):
            wrong.append(ntk_second_moment_ratio(widths, sigma_w2, *swapped))
        assert all(abs(ratio - other) > 4 * error for other in wrong)


def test_dispersion_of_real_networks_at_width_16():
    """n = 16, L = 4: 1.795 (weights), 1.312 (biases), 1.462 (both)."""
    widths, nets = network(16, 4), 25_000
    rng = np.random.default_rng(1)
    x = np.tile(np.eye(16)[0] * 8**0.5, (nets, 1))
    _, inputs, deltas = tangents(drawn(rng, widths, 2.0, nets), x, rng)
    parts = (
        weight_kernel(inputs, deltas, [1 / 8] * 4),
        sum((d**2).sum(1) for d in deltas),
    )
    for which, expected in zip(COUNTED, CRITICAL[16, 4][0], strict=True):
        kernel = sum(used * part for used, part in zip(which, parts, strict=True))
        ratio, error = mean_and_error((kernel / ntk_mean(widths, 2.0, *which)) ** 2)
        assert abs(ratio - expected) < 4 * error
        limit = limit_ratio(0.25, 2.0, which[0] / sum(which))
        assert abs(ratio - limit) > 4 * error


CHANGES = {(16, 4): 7.453, (8, 3): 5.750, (32, 8): 39.75, (16, 8): 144.5, (32, 16): 792}
CHANGES_OVER_LIMIT = {(64, 16): 0.863, (256, 64): 0.964, (64, 64): 0.763}
CHANGES_OVER_LIMIT[256, 256] = 0.932


@pytest.mark.parametrize("case", CHANGES)
def test_first_step_table(case):
    """E[f <grad f, grad K>] over the weights at sigma_w2 = 2, |x|^2 = n_0/2."""
    found = first_step_change(network(*case), 2.0)
    np.testing.assert_allclose(found, CHANGES[case], rtol=7e-4)  # rounded


@pytest.mark.parametrize("case", CHANGES_OVER_LIMIT)
def test_first_step_approaches_its_limit(case):
    """The relative change tends to 2 q L exp(5T) J(T), q = E f^2."""
    width, layers = case
    T, widths = layers / width, network(*case)
    mean = ntk_mean(widths, 2.0, biases=False)
    limit = 2 * (mean / layers) * layers * np.exp(5 * T) * limit_first_step(T)
    share = first_step_change(widths, 2.0) / mean / limit
    np.testing.assert_allclose(share, CHANGES_OVER_LIMIT[case], atol=5.1e-4)


@pytest.mark.parametrize(
    ("widths", "kind", "sigma_w2"),
    [([16] * 4 + [1], "ntk", 2.0), ([4, 6, 9, 5, 1], "standard", 1.6)],
)
def test_first_step_of_real_networks(widths, kind, sigma_w2):
    """f d/de K(theta + e grad f) averages to the recursion's value."""
    nets, norm2, step = 15_000, widths[0] / 2, 1e-7
    rng = np.random.default_rng(2)
    weights = drawn(rng, widths, sigma_w2, nets)
    x = np.tile(np.full(widths[0], (norm2 / widths[0]) ** 0.5), (nets, 1))
    omega = [sigma_w2 / n if kind == "ntk" else 1.0 for n in widths[:-1]]
    f, inputs, deltas = tangents(weights, x, rng)

    def moved(e):
        """K after a step, and which units are on."""
        layers = zip(weights, omega, inputs, deltas, strict=True)
        # A step on the trained parameter moves a weight by omega times its gradient.
        there = [W + e * w * d[:, :, None] * a[:, None] for W, w, a, d in layers]
        _, new_inputs, new_deltas = tangents(there, x, rng)
        on = np.concatenate(new_inputs[1:], axis=1) > 0
        return weight_kernel(new_inputs, new_deltas, omega), on

    (ahead, on), (behind, on_behind) = moved(step), moved(-step)
    # K jumps where a unit switches; the few nets that meet such a point have no slope.
    smooth = (on == on_behind).all(axis=1)
    assert smooth.mean() > 0.999
    mean, error = mean_and_error((f * (ahead - behind) / (2 * step))[smooth])
    expected = first_step_change(widths, sigma_w2, kind, norm2)
    assert abs(mean - expected) < 4 * error
    T = sum(1 / n for n in widths[1:-1])
    kernel = ntk_mean(widths, sigma_w2, True, False, kind, norm2)
    for wrong in (expected / 2, 2 * expected, 4 / 3 * kernel**2 * T * np.exp(5 * T)):
        assert abs(mean - wrong) > 4 * error


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: ntk_mean([4], 2.0), "widths"),
        (lambda: ntk_mean([4, 4, 2], 2.0), "widths"),
        (lambda: ntk_second_moment_ratio([4, 4, 1], 0.0), "sigma_w2"),
        (lambda: ntk_second_moment_ratio([1] * 900, 2.0), "sigma_w2"),
        (lambda: ntk_mean([4] * 900 + [1], 1e3), "sigma_w2"),
        (lambda: first_step_change([4] * 900 + [1], 1e3), "sigma_w2"),
        (lambda: ntk_mean([4, 4, 1], 2.0, weights=False, biases=False), "weights"),
        (
            lambda: ntk_mean([4, 4, 1], 2.0, parameterization="nkt"),
            "parameterization",
        ),
        (lambda: first_step_change([4, 4, 1], 2.0, input_norm2=-1.0), "input_norm2"),
        (lambda: limit_weights(-0.1), "T"),
        (lambda: limit_ratio(np.inf, 2.0), "T"),
        (lambda: limit_ratio(0.5, -2.0), "sigma_w2"),
        (lambda: limit_ratio(0.5, 2.0, weight_share=1.5), "weight_share"),
    ],
)
def test_mistakes_are_named(call, field):
    """An argument without a law is refused by name."""
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.field == field
