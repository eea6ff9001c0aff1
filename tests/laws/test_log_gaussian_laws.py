"""The log-Gaussian law as distributions: of norms, of outputs, and their rates."""

import jax
import numpy as np
import pytest
from scipy import special, stats

from models import BalancedResNet, BranchScaling, ResNet
from testbed.errors import UserError
from testbed.laws.gaussian import gaussian_log_output
from testbed.laws.log_gaussian import (
    interlayer_covariance,
    layer_law,
    output_moments,
    rates,
    resnet_log_norm,
    resnet_log_output,
    square_correlation,
)
from testbed.sampling.architecture import describe
from testbed.sampling.forward import forward

pytestmark = pytest.mark.float64

HALF = 0.5**0.5

# At alpha^2 + lam^2 = 1, by alpha^2: sum of Phi and of Psi; growth of the variance, of
# Balanced and of vanilla, and their ratio; n E Y, half of it, n (1/2 - active share);
# growth of the vanilla mean and of log E|z|^2, per unit of d/n.
RATES = """
0.05    0.7382    0.3643 4.7025 6.0350 1.283 -0.3552 -0.1776 0.0854 -2.6887 0.3288
0.10    1.1916    0.5818 4.4100 6.3404 1.438 -0.5488 -0.2744 0.1277 -2.6989 0.4713
0.20    2.1022    1.0086 3.8400 6.5309 1.701 -0.8749 -0.4375 0.1929 -2.6199 0.6455
0.30    3.1685    1.4984 3.2900 6.3951 1.944 -1.1691 -0.5845 0.2462 -2.4634 0.7342
0.50    6.3850    2.9495 2.2500 5.4425 2.419 -1.7177 -0.8589 0.3350 -1.9839 0.7374
0.70   13.6606    6.1928 1.2900 3.7489 2.906 -2.2403 -1.1202 0.4091 -1.3171 0.5574
0.80   22.6754   10.1952 0.8400 2.6540 3.160 -2.4960 -1.2480 0.4420 -0.9192 0.4078
0.90   49.6401   22.1492 0.4100 1.4028 3.421 -2.7491 -1.3745 0.4724 -0.4799 0.2215
0.95  103.5183   46.0227 0.2025 0.7201 3.556 -2.8748 -1.4374 0.4866 -0.2450 0.1151
0.99  534.4335  236.9343 0.0401 0.1470 3.666 -2.9750 -1.4875 0.4974 -0.0498 0.0237
"""


@pytest.mark.parametrize("row", RATES.split("\n")[1:-1])
def test_rates_to_all_digits(row):
    """Every constant of large depth, to the four decimals of the table."""
    alpha2, *expected = map(float, row.split())
    found = rates(alpha2**0.5, (1 - alpha2) ** 0.5)
    values = [
        found.sum_phi,
        found.sum_psi,
        found.var_balanced,
        found.var_vanilla,
        found.var_vanilla / found.var_balanced,
        found.imbalance,
        found.imbalance / 2,
        found.inactive,
        found.mean_vanilla,
        found.power,
    ]
    off = np.abs(np.subtract(values, expected))
    assert (off <= 5.01e-5 + np.array([0, 0, 0, 0, 4.5e-4, 0, 0, 0, 0, 0])).all()
    # The scale of (alpha, lam) does not enter; their places do.
    np.testing.assert_allclose(rates(3 * alpha2**0.5, 3 * (1 - alpha2) ** 0.5), found)
    if alpha2 != 0.5:
        turned = rates((1 - alpha2) ** 0.5, alpha2**0.5)
        assert abs(turned.var_vanilla - found.var_vanilla) > 0.01


def test_rates_are_what_the_sums_grow_by():
    """One more layer adds a rate to each finite sum, once d is large."""
    alpha, lam, d = 1.6, 1.2, 300  # c = 0.8: c^300 is nothing
    found, r2 = rates(alpha, lam), 4.0
    vanilla = layer_law(1, d, alpha, lam)
    balanced = layer_law(1, d, alpha, lam, balanced=True)
    np.testing.assert_allclose(np.diff(vanilla.log_norm_var)[-1], found.var_vanilla)
    np.testing.assert_allclose(np.diff(balanced.log_norm_var)[-1], found.var_balanced)
    growth = np.diff(vanilla.log_norm_mean)[-1] - np.log(r2)
    np.testing.assert_allclose(growth, found.mean_vanilla)
    np.testing.assert_allclose(2 * vanilla.activation_ratio[-1] - 1, found.imbalance)
    np.testing.assert_allclose(0.5 - vanilla.active_fraction[-1], found.inactive)
    power = [np.log(output_moments(1, k, alpha, lam).power) for k in (d - 1, d)]
    np.testing.assert_allclose(power[1] - power[0] - np.log(r2), found.power, rtol=1e-9)


# (alpha^2, n, d, balanced): mean, its error, variance, its error of log |z_d|^2/|z_0|^2
# in 12,000 to 200,000 networks each; mean and variance of the law.
MEASURED = {
    (0.5, 64, 6, False): (-0.1482, 0.0019, 0.3782, 0.0017, -0.1480, 0.3639),
    (0.5, 64, 32, False): (-0.9740, 0.0053, 2.8346, 0.0130, -0.9488, 2.5544),
    (0.5, 64, 128, False): (-4.0943, 0.0110, 12.0823, 0.0540, -3.9246, 10.7181),
    (0.5, 256, 26, False): (-0.1856, 0.0051, 0.5216, 0.0052, -0.1907, 0.5110),
    (0.5, 256, 512, False): (-3.9567, 0.0235, 11.0227, 0.1108, -3.9569, 10.8432),
    (0.5, 64, 6, True): (-0.1034, 0.0019, 0.2115, 0.0012, -0.1055, 0.2109),
    (0.5, 64, 128, True): (-2.2428, 0.0087, 4.4986, 0.0259, -2.2500, 4.5000),
    (0.8, 64, 64, False): (-0.8861, 0.0065, 2.5686, 0.0150, -0.8518, 2.3940),
    (0.8, 64, 128, False): (-1.8402, 0.0096, 5.5729, 0.0327, -1.7709, 5.0478),
    (0.8, 256, 512, False): (-1.8491, 0.0210, 5.2712, 0.0688, -1.8215, 5.2430),
    (0.8, 64, 128, True): (-0.8273, 0.0053, 1.6806, 0.0097, -0.8400, 1.6800),
    (0.8, 256, 512, True): (-0.8539, 0.0119, 1.6859, 0.0219, -0.8400, 1.6800),
}


def agrees(measured, mean, var, share) -> bool:
    """Within 4 standard errors and a share of the law's own values."""
    off_mean, off_var = abs(measured[0] - mean), abs(measured[2] - var)
    near_mean = off_mean <= 4 * measured[1] + share * abs(mean)
    return bool(near_mean and off_var <= 4 * measured[3] + share * var)


@pytest.mark.parametrize("case", MEASURED)
def test_networks_have_the_law_and_no_other(case):
    """The law's digits, and networks; refused are lam^2 for lam and 5 d/n.

    Networks exceed the leading order in 1/n by the share 8/n (vanilla, measured) and
    less than 1/n (Balanced).
    """
    alpha2, n, d, balanced = case
    alpha, lam = alpha2**0.5, (1 - alpha2) ** 0.5
    share = (1 if balanced else 8) / n
    measured = MEASURED[case]
    law = resnet_log_norm(n, d, alpha, lam, balanced)
    np.testing.assert_allclose([law.mean(), law.var()], measured[4:], atol=5.1e-5)
    assert agrees(measured, law.mean(), law.var(), share)
    other = resnet_log_norm(n, d, alpha, lam, not balanced)
    assert not agrees(measured, other.mean(), other.var(), share)
    if alpha2 != 0.5:
        squared = resnet_log_norm(n, d, alpha2, 1 - alpha2, balanced)
        at_one = squared.mean() - d * np.log(alpha2**2 + (1 - alpha2) ** 2)
        assert not agrees(measured, squared.mean(), squared.var(), share)
        assert not agrees(measured, at_one, squared.var(), share)
        turned = resnet_log_norm(n, d, lam, alpha, balanced)
        assert not agrees(measured, turned.mean(), turned.var(), share)
    connected = resnet_log_norm(n, d, 0.0, 1.0)
    np.testing.assert_allclose(
        [connected.mean(), connected.var()], [-2.5 * d / n, 5 * d / n]
    )
    assert not agrees(measured, connected.mean(), connected.var(), share)


@pytest.mark.parametrize("balanced", [False, True])
def test_arrays_of_sizes(balanced):
    """Widths and depths broadcast; each entry is the law of that network."""
    widths, depths = np.array([[8], [64], [100]]), np.array([1, 2, 50, 7])
    law = resnet_log_norm(widths, depths, 0.9, 0.5, balanced)
    assert law.mean().shape == law.var().shape == (3, 4)
    for i, n in enumerate(widths[:, 0]):
        for j, d in enumerate(depths):
            one = resnet_log_norm(int(n), int(d), 0.9, 0.5, balanced)
            each = layer_law(int(n), int(d), 0.9, 0.5, balanced)
            np.testing.assert_allclose(law.mean()[i, j], one.mean(), rtol=1e-13)
            np.testing.assert_allclose(law.var()[i, j], one.var(), rtol=1e-13)
            np.testing.assert_allclose(each.log_norm_mean[-1], one.mean(), rtol=1e-13)
            np.testing.assert_allclose(each.log_norm_var[-1], one.var(), rtol=1e-13)


def test_interlayer_covariance_is_phi_of_the_skips():
    """Lag q has Phi(c^q), c = alpha / r; 3 at lag 0, either sign of q the same."""
    lags = np.array([[0, 1], [-1, 5]])
    c = 0.9 / np.hypot(0.9, 0.4)
    found = interlayer_covariance(lags, 0.9, 0.4)
    np.testing.assert_allclose(found, square_correlation(c ** np.abs(lags)))
    assert found[0, 0] == 3
    printed = [3, 1.955, 1.327, 0.919, 0.643]
    np.testing.assert_allclose(
        interlayer_covariance(np.arange(5), HALF, HALF), printed, atol=5.1e-4
    )
    assert (interlayer_covariance([1, 2], 0.0, 1.0) == 0).all()  # the MLP forgets


def log_outputs(net, networks):
    """log|f|^2, (networks,)."""
    draw = jax.jit(forward, static_argnames=("shape", "batch"))
    shape, scales = describe(net)
    return np.asarray(draw(jax.random.key(3), shape, scales, networks).log_output[0])


SIZE = dict(width=128, depth=64, branch=BranchScaling.fixed(HALF, HALF))


@pytest.mark.parametrize(("balanced", "n_out"), [(False, 10), (True, 1)])
def test_outputs_of_networks(balanced, n_out):
    """log|z_out|^2 of networks: KS to its law, and far from the infinite-width law."""
    net = (BalancedResNet if balanced else ResNet)(**SIZE, out_features=n_out)
    x = log_outputs(net, 10_000)
    settings = (128, 64, HALF, HALF)
    law = resnet_log_output(*settings, n_out, balanced)
    # One sample of 100 exceeds 1.63 / sqrt(N); at n = 128 vanilla networks lie 0.009
    # from the law, their variance being 5 % larger (both measured in 120,000).
    assert stats.kstest(x, law.cdf).statistic < 1.63 / len(x) ** 0.5 + 0.009
    wrong = resnet_log_output(*settings, n_out, not balanced)
    assert stats.kstest(x, wrong.cdf).statistic > 0.05
    gaussian = gaussian_log_output(64, HALF, HALF, n_out)
    assert stats.kstest(x, gaussian.cdf).statistic > (0.3 if n_out == 10 else 0.1)


def test_output_law_is_the_sum_of_its_parts():
    """Mean and variance add up; the sampled sum follows the distribution function."""
    norm = resnet_log_norm(50, 20, 1.0, 0.5)
    law = resnet_log_output(50, 20, 1.0, 0.5, n_out=4)
    log_chi2 = special.digamma(2) + np.log(2)
    np.testing.assert_allclose(law.mean(), norm.mean() - 1 / 50 + log_chi2)
    np.testing.assert_allclose(law.var(), norm.var() + 2 / 50 + special.polygamma(1, 2))
    rng = np.random.default_rng(1)
    shift = rng.normal(norm.mean() - 0.02, (norm.var() + 0.04) ** 0.5, 100_000)
    x = shift + np.log(rng.chisquare(4, 100_000))
    assert stats.kstest(x, law.cdf).pvalue > 0.01
    assert stats.kstest(x + 0.05, law.cdf).pvalue < 1e-4


def test_output_moments_of_networks():
    """E z^2 = r^{2d} in Balanced networks, kurtosis 3 e^beta, dependent outputs.

    From |f|^2 of one output, and of two: E|f|^4 / (E|f|^2)^2 is the kurtosis, and half
    of kurtosis + 1 + the covariance of squares.
    """
    n, d, alpha, lam, networks = 32, 4, 0.9, 0.6, 60_000
    law = output_moments(n, d, alpha, lam, balanced=True)
    np.testing.assert_allclose(law.power, (alpha**2 + lam**2) ** d, rtol=1e-12)
    beta = 2 / n + float(resnet_log_norm(n, d, alpha, lam, True).var())
    np.testing.assert_allclose(law.kurtosis, 3 * np.exp(beta))
    np.testing.assert_allclose(law.square_covariance, np.exp(beta) - 1)
    both = (law.kurtosis + 1 + law.square_covariance) / 2
    branch = BranchScaling.fixed(alpha, lam)
    for outputs, dispersion, refused in ((1, law.kurtosis, 3.0), (2, both, 2.0)):
        net = BalancedResNet(width=n, depth=d, out_features=outputs, branch=branch)
        square = np.exp(log_outputs(net, networks))
        se = square.std() / networks**0.5
        assert abs(square.mean() - outputs * law.power) < 4 * se
        square /= square.mean()
        ratio = np.mean(square**2)
        se = np.std(square**2 - 2 * ratio * square) / networks**0.5
        assert abs(ratio - dispersion) < 4 * se
        assert abs(ratio - refused) > 8 * se  # independent Gaussian outputs


def test_power_of_vanilla_networks():
    """E|z_d|^2 grows by the sum of Psi: values measured in 100,000 networks, n = 64."""
    for d, measured, se in (
        (8, 1.0539, 0.0028),
        (16, 1.148, 0.005),
        (32, 1.371, 0.013),
    ):
        power = output_moments(64, d, HALF, HALF).power
        assert abs(power - measured) < 4 * se
        assert abs(1 - measured) > 10 * se  # Balanced


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: resnet_log_norm([4, 0], 3, 1.0, 1.0), "width"),
        (lambda: resnet_log_norm(4, [3, -1], 1.0, 1.0), "depth"),
        (lambda: resnet_log_norm(4, 3, 0.0, 0.0), "lam"),
        (lambda: resnet_log_output(4, 3, 1.0, 1.0, 0), "n_out"),
        (lambda: output_moments(0, 3, 1.0, 1.0), "width"),
        (lambda: rates(1.0, 0.0), "lam"),
        (lambda: rates(np.nan, 1.0), "alpha"),
        (lambda: interlayer_covariance(1, 0.0, 0.0), "lam"),
    ],
)
def test_mistakes_are_named(make, field):
    """A setting without a law is refused by name."""
    with pytest.raises(UserError, match=f"^{field}="):
        make()
