"""Gradients drawn in law against gradients of networks with weights."""

import jax
import numpy as np
import pytest
from scipy import stats

from models import MLP, BalancedResNet, BranchScaling, ResNet
from testbed.errors import UserError
from testbed.laws.ntk_moments import ntk_second_moment_ratio
from testbed.sampling import sample_gradients
from testbed.sampling.weights import ntk_with_weights

KEY = jax.random.key(9)
MANY = 20_000  # one number for all, and a program compiled for it serves again
RAMP = BranchScaling.fixed([0.4, 1.0, 0.7], [1.1, 0.5, 0.9])
TURNED = BranchScaling.fixed([0.7, 1.0, 0.4], [0.9, 0.5, 1.1])
SIZE = dict(width=12, depth=3, out_features=2)
VANILLA = ResNet(branch=RAMP, head="linear", **SIZE)
SIGNED = BalancedResNet(branch=RAMP, head="relu", **SIZE)
TANH = ResNet(branch=RAMP, activation="tanh", bias_std=0.6, **SIZE)
# Each network with one whose gradients have another law.
CASES = {
    "vanilla, linear head": (VANILLA, VANILLA.clone(branch=TURNED)),
    "balanced, relu head": (SIGNED, VANILLA.clone(head="relu")),
    "mlp, relu head": (MLP(**SIZE), SIGNED),
    "tanh, biases": (TANH, TANH.clone(branch=TURNED)),
}


def moments(columns):
    """Means and second central moments, each with its standard error."""
    off = columns - columns.mean(0)
    i, j = np.triu_indices(columns.shape[1])
    values = np.concatenate([columns, off[:, i] * off[:, j]], 1)
    return values.mean(0), values.std(0) / len(columns) ** 0.5


def same_law(a, b) -> bool:
    """KS in every column; means and covariances within 4.5 standard errors.

    At most 50 correlated comparisons, each of which errs with probability 1e-5.
    Networks that send nothing back, one of some thousands, are left out.
    """
    a, b = (x[np.isfinite(x).all(1)] for x in (a, b))
    (mean_a, se_a), (mean_b, se_b) = moments(a), moments(b)
    near = np.abs(mean_a - mean_b) < 4.5 * np.hypot(se_a, se_b)
    columns = range(a.shape[1])
    ks = [stats.ks_2samp(a[:, i], b[:, i], method="asymp").pvalue for i in columns]
    return bool(near.all() and min(ks) > 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_layers_of_the_ntk_have_the_law_of_weights(case):
    """Squared gradient norms of all layers, jointly; another network's have not."""
    net, other = CASES[case]
    with np.errstate(divide="ignore"):
        weights = np.log(ntk_with_weights(KEY, 4000, net).astype(np.float64))
    assert same_law(sample_gradients(KEY, MANY, net).log_ntk, weights)
    assert not same_law(sample_gradients(KEY, MANY, other).log_ntk, weights)


def loop(networks, seed, backward):
    """log|h_l|^2 / n and log|df/dy_l|^2 of `VANILLA` in NumPy, side by side.

    `backward` says what pulls delta back: "weights", the transposes of the forward
    pass's matrices, or "fresh", matrices independent of the forward pass.
    """
    rng = np.random.default_rng(seed)
    n = VANILLA.width
    z = rng.standard_normal((networks, n))
    log_h, kept = [], []
    scales = list(zip(RAMP.alpha, np.sqrt(2 / n) * np.array(RAMP.lam), strict=True))
    for alpha, lam in scales:
        h = np.maximum(z, 0)
        log_h.append(np.log(np.mean(h**2, 1)))
        w = rng.standard_normal((networks, n, n))
        kept.append((w, z > 0))
        z = alpha * z + lam * np.einsum("bij,bj->bi", w, h)
    log_h.append(np.log(np.mean(z**2, 1)))
    delta = rng.standard_normal((networks, n)) / n**0.5
    log_delta = [np.log(np.sum(delta**2, 1))]
    for (alpha, lam), (w, on) in zip(scales[::-1], kept[::-1], strict=True):
        if backward == "fresh":
            w = rng.standard_normal(w.shape)
        delta = alpha * delta + lam * on * np.einsum("bij,bi->bj", w, delta)
        log_delta.append(np.log(np.sum(delta**2, 1)))
    return np.stack(log_h + log_delta[::-1], 1)


def test_forward_and_backward_pass_are_one_law():
    """Norms of both passes are correlated as with weights, not as with fresh ones."""
    seen = sample_gradients(KEY, MANY, VANILLA)
    both = np.concatenate([seen.log_h[:, 1:], seen.log_delta[:, :-1]], 1)
    with np.errstate(divide="ignore"):
        weights, fresh = loop(15_000, 1, "weights"), loop(MANY, 2, "fresh")
    assert same_law(both, weights)
    assert not same_law(fresh, weights)  # gradient independence
    shuffled = np.concatenate([both[:, :4], np.roll(both[:, 4:], 1, 0)], 1)
    assert not same_law(shuffled, weights)


def test_parts_of_the_kernel():
    """Each part is scale^2 |h|^2 |delta|^2, with 1 at the two ends."""
    seen = sample_gradients(KEY, MANY, SIGNED)
    lam = 2 * np.log(np.array(RAMP.lam))
    scale = np.array([0, *lam + np.log(2), np.log(2)])
    parts = scale + seen.log_h + seen.log_delta
    np.testing.assert_allclose(seen.log_ntk, parts, atol=1e-6)  # lam is float32
    bias = np.array([0, *lam, 0])
    np.testing.assert_allclose(seen.log_ntk_bias, bias + seen.log_delta, atol=1e-6)
    np.testing.assert_array_equal(seen.log_h[:, 0], 0)
    np.testing.assert_array_equal(seen.log_delta[:, -1], 0)


def test_dispersion_of_the_mlp_kernel():
    """E K^2 / (E K)^2 has its exact value, of weights and of biases, n = 16."""
    seen = sample_gradients(KEY, 40_000, MLP(width=16, depth=2))
    widths = [16, 16, 16, 16, 1]
    for log_parts, golden, kind in (
        (seen.log_ntk, 1.795, dict(biases=False)),
        (seen.log_ntk_bias, 1.312, dict(weights=False)),
    ):
        exact = ntk_second_moment_ratio(widths, 2.0, **kind)
        np.testing.assert_allclose(exact, golden, atol=5e-4)
        k = np.exp(log_parts).sum(1)
        k /= k.mean()
        ratio = np.mean(k**2)
        se = np.std(k**2 - 2 * ratio * k) / len(k) ** 0.5
        assert abs(ratio - exact) < 4 * se
        longer = ntk_second_moment_ratio([16, *widths], 2.0, **kind)
        assert abs(ratio - longer) > 6 * se


def test_any_depth():
    """Parts stay finite logarithms where norms and gradients leave the floats' range.

    At alpha = lam = 1 every part of the Balanced kernel has mean 2^(d - 1) or 2^d.
    """
    net = BalancedResNet(width=16, depth=2000, branch=BranchScaling.fixed(1.0, 1.0))
    seen = sample_gradients(KEY, 30, net)
    assert all(np.isfinite(part).all() for part in seen)
    assert (seen.log_ntk > 745).all()  # what float64 can hold ends at exp(709)
    # The logarithms scatter around 2000 log 2 - beta / 2, beta = 2.25 d / n.
    mean, se = seen.log_ntk.mean(), seen.log_ntk.mean(1).std() / 30**0.5
    middle = 2000 * np.log(2) - 2.25 * 125 / 2
    assert abs(mean - middle) < 4 * se + 2.25 * 125 / 2 / 16


def test_dead_networks_send_nothing_back():
    """Kernels of dead MLPs are 0 at every weight: -inf, never nan."""
    seen = sample_gradients(KEY, 2000, MLP(width=4, depth=8))
    assert not any(np.isnan(part).any() for part in seen)
    dead = np.isneginf(seen.log_h[:, -1])
    share, se = 1 - (1 - 2.0**-4) ** 9, 0.5 / 2000**0.5
    assert abs(dead.mean() - share) < 4 * se
    assert np.isneginf(seen.log_ntk[dead]).all()
    assert np.isfinite(seen.log_ntk[~dead]).all()


def test_networks_drawn_do_not_depend_on_how_many_follow():
    """100 networks are the first of 20,000; another key gives others."""
    few, many = (sample_gradients(KEY, count, VANILLA) for count in (100, MANY))
    np.testing.assert_allclose(few.log_ntk, many.log_ntk[:100], atol=1e-4)
    other = sample_gradients(jax.random.key(1), 100, VANILLA)
    assert np.abs(other.log_ntk - few.log_ntk).min() > 1e-6


@pytest.mark.parametrize("field", ["samples", "head", "depth"])
def test_mistakes_are_named(field):
    """A setting without networks is refused by name."""
    net = {"head": VANILLA.clone(head="wide"), "depth": VANILLA.clone(depth=0)}
    with pytest.raises(UserError, match=f"^{field}="):
        sample_gradients(KEY, int(field != "samples"), net.get(field, VANILLA))
