import jax
import numpy as np
import pytest

from models import BalancedResNet, BranchScaling, ResNet
from testbed.errors import UserError
from testbed.laws.ntk_moments import ntk_second_moment_ratio
from testbed.laws.resnet_ntk import resnet_ntk_moments
from testbed.sampling import sample_gradients

SAMPLES = 30_000


def kernels(kind, head, width=8, depth=4, lam=0.5):
    """K(x, x) of sampled networks, alpha = 1, and their law."""
    branch = BranchScaling.fixed(1.0, lam)
    net = kind(width=width, depth=depth, out_features=1, head=head, branch=branch)
    seen = sample_gradients(jax.random.key(3), SAMPLES, net)
    law = resnet_ntk_moments(width, depth, 1.0, lam, head)
    return np.exp(seen.log_ntk).sum(1), law


def z_scores(kernel, law):
    error = lambda v: v.std() / np.sqrt(len(v))
    square = (kernel / law.mean) ** 2
    return (
        (kernel.mean() - law.mean) / error(kernel),
        (square.mean() - law.ratio) / error(square),
    )


@pytest.mark.parametrize("width", [1, 3, 16, 64])
@pytest.mark.parametrize("depth", [0, 1, 8])
def test_without_skips_it_is_the_fully_connected_law(width, depth):
    """alpha = 0 with head "relu" is an MLP of d + 1 hidden layers, to rounding."""
    found = resnet_ntk_moments(width, depth, 0.0, 0.7, "relu")
    widths = [width] * (depth + 2) + [1]
    other = ntk_second_moment_ratio(widths, sigma_w2=2.0, biases=False)
    assert float(found.ratio) == pytest.approx(other, rel=1e-12)


def test_without_blocks_it_is_a_sum_of_two_chi_squares():
    """K = (|w|^2 + |z_0|^2) / n: mean 2, variance 4/n."""
    found = resnet_ntk_moments([1, 5, 100], 0, 1.0, 1.0)
    assert float(found.mean) == 2.0
    np.testing.assert_allclose(found.dispersion, 1 / np.array([1, 5, 100]), rtol=1e-12)


@pytest.mark.parametrize("head", ["linear", "relu"])
def test_balanced_networks_follow_it_and_vanilla_ones_do_not(head):
    """Mean and second moment within 4 standard errors; correlated layers beyond 6."""
    assert np.all(np.abs(z_scores(*kernels(BalancedResNet, head))) < 4)
    assert np.all(np.abs(z_scores(*kernels(ResNet, head))) > 6)


def test_dispersion_goes_as_one_over_width_and_stays_with_depth_scaled_branches():
    """n dispersion tends to a limit in n; with lam = d^-1/2 also in d, fixed not."""
    n = np.array([1e4, 1e5])
    scaled = [n * resnet_ntk_moments(n, d, 1.0, d**-0.5).dispersion for d in (400, 800)]
    np.testing.assert_allclose(scaled[0][0], scaled[0][1], rtol=2e-3)
    np.testing.assert_allclose(scaled[0], scaled[1], rtol=1e-2)
    fixed = [n * resnet_ntk_moments(n, d, 0.5, 0.5).dispersion for d in (40, 80)]
    assert fixed[1][1] > 1.9 * fixed[0][1]  # it grows as d / n


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ((0, 4, 1.0, 1.0), "width"),
        ((8, -1, 1.0, 1.0), "depth"),
        ((8, 4, 0.0, 0.0), "lam"),
        ((8, 4, 1.0, 1.0, "tanh"), "head"),
    ],
)
def test_bad_arguments_are_named(args, field):
    """One line that names the argument."""
    with pytest.raises(UserError, match=field):
        resnet_ntk_moments(*args)
