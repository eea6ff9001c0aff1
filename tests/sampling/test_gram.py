"""Gram matrices of several inputs, drawn in law."""

import jax
import numpy as np
import pytest
from scipy import stats

from models import MLP, BalancedResNet, BranchScaling, ResNet
from testbed.errors import UserError
from testbed.sampling import sample_gram, sample_log_norm

KEY = jax.random.key(8)
THREE = np.array([[1.0, -0.5, 0.3], [-0.5, 2.0, 0.1], [0.3, 0.1, 0.7]])
OPPOSITE = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
DEPTH, WIDTH = 3, 10
RAMP = BranchScaling.fixed([0.3, 1.0, 0.6], [1.2, 0.4, 0.9])
SIZE = dict(width=WIDTH, depth=DEPTH, branch=RAMP)
NETS = {
    "vanilla": ResNet(**SIZE),
    "balanced": BalancedResNet(**SIZE),
    "identity": ResNet(activation="identity", **SIZE),
    "tanh with biases": ResNet(activation="tanh", bias_std=0.8, **SIZE),
}
PHI = {"relu": (lambda z: np.maximum(z, 0), 2), "tanh": (np.tanh, 1)}
PHI["identity"] = (lambda z: z, 1)


def with_weights(net, gram, networks, seed):
    """<z^i, z^j> / n of networks with weight matrices, (networks, d + 1, k, k)."""
    rng = np.random.default_rng(seed)
    phi, variance = PHI[net.activation]
    values, vectors = np.linalg.eigh(gram)
    x = vectors * np.sqrt(np.maximum(values, 0))  # rows are inputs, |x|^2 = n_in G_ii
    draw = lambda *shape: rng.standard_normal((networks, *shape))
    z = x @ draw(len(gram), WIDTH) + net.bias_std * draw(1, WIDTH)
    seen = [z @ z.transpose(0, 2, 1) / WIDTH]
    for alpha, lam in zip(RAMP.alpha, RAMP.lam, strict=True):
        s = np.sign(draw(1, WIDTH)) if net.signed else 1.0
        h = phi(s * z) @ draw(WIDTH, WIDTH) * np.sqrt(variance / WIDTH)
        z = alpha * z + lam * (h + net.bias_std * draw(1, WIDTH))
        seen.append(z @ z.transpose(0, 2, 1) / WIDTH)
    return np.stack(seen, 1)


def columns(covariance):
    """Norms' logarithms and cosines of all layers, (networks, columns)."""
    k = covariance.shape[-1]
    i, j = np.triu_indices(k, 1)
    square = np.diagonal(covariance, axis1=-2, axis2=-1)
    cosine = covariance[..., i, j] / np.sqrt(square[..., i] * square[..., j])
    both = np.concatenate([np.log(square), cosine], -1)
    return both.reshape(len(both), -1)


def moments(x):
    """Means and second central moments, with standard errors."""
    off = x - x.mean(0)
    i, j = np.triu_indices(x.shape[1])
    values = np.concatenate([x, off[:, i] * off[:, j]], 1)
    return values.mean(0), values.std(0) / len(x) ** 0.5


def same_law(a, b) -> bool:
    """KS in every column; means and covariances within 5 standard errors of 300."""
    (mean_a, se_a), (mean_b, se_b) = moments(a), moments(b)
    near = np.abs(mean_a - mean_b) < 5 * np.hypot(se_a, se_b) + 1e-6
    moving = np.flatnonzero(a.std(0) > 1e-5)  # cosines of opposite inputs start at -1
    ks = [stats.ks_2samp(a[:, i], b[:, i], method="asymp").pvalue for i in moving]
    return bool(near.all() and min(ks) > 1e-5)


def within(sample, law, errors=4.0) -> bool:
    """Means over the first axis, in their standard errors."""
    sample = np.asarray(sample, np.float64)
    se = sample.std(0) / len(sample) ** 0.5
    return bool((np.abs(sample.mean(0) - law) < errors * se + 1e-12).all())


@pytest.mark.parametrize("gram", [THREE, OPPOSITE], ids=["three", "opposite"])
@pytest.mark.parametrize("name", NETS)
def test_drawn_grams_have_the_law_of_weights(name, gram):
    """Norms and angles of three inputs, jointly over layers; another net's have not."""
    net = NETS[name]
    drawn = columns(np.asarray(sample_gram(KEY, 10_000, net, gram).covariance))
    assert same_law(drawn, columns(with_weights(net, gram, 6000, seed=1)))
    other = NETS["vanilla" if name == "balanced" else "balanced"]
    assert not same_law(drawn, columns(with_weights(other, gram, 6000, seed=2)))


def test_one_input_is_the_forward_pass():
    """A Gram matrix of one input has the law of the log-norm, at any depth."""
    net = ResNet(width=16, depth=2000, branch=BranchScaling.fixed(0.5**0.5, 0.5**0.5))
    path = sample_gram(KEY, 400, net, np.ones((1, 1)))
    size = path.log_scale + np.log(path.gram[..., 0, 0])
    assert np.isfinite(size).all()
    gain = size[:, -1] - size[:, 0]
    settings = dict(width=16, depth=2000, alpha=0.5**0.5, lam=0.5**0.5)
    norms = sample_log_norm(KEY, 2000, **settings)
    assert stats.ks_2samp(gain, norms).pvalue > 0.01
    other = sample_log_norm(KEY, 2000, balanced=True, **settings)
    assert stats.ks_2samp(gain, other).pvalue < 1e-9


def test_collinear_inputs_stay_collinear():
    """x and 2 x keep the angle 0 and the ratio 4; -x keeps pi only without ReLUs."""
    deep = BranchScaling.fixed(0.6, 0.8)
    net = ResNet(width=8, depth=50, branch=deep)
    path = sample_gram(KEY, 500, net, np.array([[1.0, 2.0], [2.0, 4.0]]))
    np.testing.assert_allclose(path.correlation, 1, atol=1e-5)
    ratio = path.gram[..., 1, 1] / path.gram[..., 0, 0]
    np.testing.assert_allclose(ratio, 4, rtol=1e-3)  # float32 over 50 layers
    opposite = np.array([[1.0, -1.0], [-1.0, 1.0]])
    linear = net.clone(activation="identity")
    path = sample_gram(KEY, 500, linear, opposite)
    np.testing.assert_allclose(path.correlation[..., 0, 1], -1, atol=1e-5)
    path = sample_gram(KEY, 500, net, opposite)
    assert path.correlation[:, 5, 0, 1].max() > -0.9


@pytest.mark.parametrize("c", [-0.9, -0.3, 0.0, 0.5, 1.0])
def test_first_layer_of_an_mlp(c):
    """E <z_1^a, z_1^b> / n = kappa_1(c), the arc-cosine kernel, at every width."""
    path = sample_gram(KEY, 20_000, MLP(width=6, depth=1), np.array([[1, c], [c, 1]]))
    covariance = np.asarray(path.covariance)
    kernel = (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / np.pi
    assert within(covariance[:, 0], np.array([[1, c], [c, 1]]))
    assert within(covariance[:, 1], np.array([[1, kernel], [kernel, 1]]))
    # The covariance of the identity is another, except at c = 1.
    assert within(covariance[:, 1, 0, 1], c) == (c == 1)


def test_covariance_follows_its_differential_equation():
    """q_1(a, b) = -0.14858587 from q_0 = -0.3, alpha = 1, lam = (2 d)^{-1/2}.

    With c = q_ab / q_aa: dq/dt = q_aa kappa_1(c) / 2, q_aa = e^{t/2}.
    """
    n, d, networks = 256, 64, 2000
    net = ResNet(width=n, depth=d, branch=BranchScaling.depth_scaled(0.5**0.5))
    start = np.array([[1.0, -0.3], [-0.3, 1.0]])
    last = np.asarray(sample_gram(KEY, networks, net, start).covariance)[:, -1]
    se = last.std(0) / networks**0.5
    # Steps of 1/d err by 0.4/d in either entry, width by about 0.1/n.
    bias = 0.5 / d + 0.2 / n
    assert abs(last[:, 0, 1].mean() + 0.14858587) < 4 * se[0, 1] + bias
    assert abs(last[:, 0, 0].mean() - np.exp(0.5)) < 4 * se[0, 0] + bias
    assert np.abs(last[:, 0, 1].mean() - np.array([-0.3, -0.3 * np.e**0.5])).min() > 0.1


def test_networks_drawn_do_not_depend_on_how_many_follow():
    """100 networks are the first of 10,000, though their batch is smaller."""
    net = NETS["balanced"]
    few, many = (sample_gram(KEY, count, net, THREE) for count in (100, 10_000))
    np.testing.assert_allclose(few.gram, many.gram[:100], rtol=1e-4, atol=1e-5)
    assert few.gram.shape == (100, DEPTH + 1, 3, 3)
    assert few.log_scale.shape == (100, DEPTH + 1)


@pytest.mark.parametrize(
    ("gram", "rule"),
    [
        (np.ones(3), "has shape"),
        (np.zeros((0, 0)), "has shape"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "positive semi-definite"),
        (np.array([[1.0, 0.5], [0.2, 1.0]]), "symmetric"),
        (np.array([[np.nan]]), "finite"),
        (np.zeros((2, 2)), "positive semi-definite"),
    ],
)
def test_mistakes_are_named(gram, rule):
    """What is no Gram matrix is refused."""
    with pytest.raises(UserError, match=f"^gram=.*{rule}"):
        sample_gram(KEY, 10, NETS["vanilla"], gram)
