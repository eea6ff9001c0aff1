"""Networks drawn in law against networks with weights, and against the limit laws."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from models import MLP, BalancedResNet, BranchScaling, ResNet
from testbed.errors import UserError
from testbed.laws.gaussian import gaussian_log_norm
from testbed.laws.log_gaussian import interlayer_covariance, layer_law, resnet_log_norm
from testbed.laws.products import mlp_log_norm
from testbed.sampling import LayerSampler, sample_log_norm
from testbed.sampling.architecture import describe
from testbed.sampling.forward import forward
from testbed.sampling.normals import normal_and_sign
from testbed.sampling.weights import layers_with_weights

pytestmark = pytest.mark.float64

KEY = jax.random.key(5)
HALF = 0.5**0.5
EVEN = dict(alpha=HALF, lam=HALF)
RAMP = BranchScaling.fixed([0.2, 0.9, 0.5, 1.0], [1.2, 0.3, 0.8, 0.5])
TURNED = BranchScaling.fixed([1.0, 0.5, 0.9, 0.2], [0.5, 0.8, 0.3, 1.2])
STRONG = BranchScaling.fixed(HALF, HALF)
SIZE = dict(width=12, depth=4, out_features=10)
FIRST = ResNet(branch=RAMP, head="linear", **SIZE)
TANH = ResNet(branch=RAMP, activation="tanh", bias_std=0.7, **SIZE)
SIGNED = BalancedResNet(branch=RAMP, bias_std=0.5, head="relu", **SIZE)
# Each network with one whose law is another.
CASES = {
    "resnet, a weight for every layer": (FIRST, FIRST.clone(branch=TURNED)),
    "resnet, linear head": (FIRST, FIRST.clone(head="relu")),
    "identity, relu head": (
        FIRST.clone(activation="identity", head="relu"),
        FIRST.clone(activation="relu", head="relu"),
    ),
    "tanh, biases": (TANH, TANH.clone(branch=TURNED)),
    "balanced, biases": (SIGNED, SIGNED.clone(bias_std=0.4)),
    "mlp, relu head": (
        MLP(head="relu", **SIZE),
        FIRST.clone(branch=BranchScaling.fixed(0.3, 1.0), head="relu"),
    ),
}


draw = jax.jit(forward, static_argnames=("shape", "batch", "antithetic", "each"))


def everything(layer):
    return layer


def drawn(net, networks, key=KEY):
    """Log-norms of layers 1 to d, ratios, active fractions and log-output, in columns.

    (networks, 3 d + 1), as `with_weights` has them.
    """
    shape, scales = describe(net)
    seen = draw(key, shape, scales, networks, each=everything)
    norms = np.concatenate([seen.each.log_norm[1:, 0], seen.last.log_norm])
    layers = (norms, seen.each.activation_ratio[:, 0], seen.each.active_fraction[:, 0])
    return np.concatenate([*layers, seen.log_output]).T


def with_weights(net, networks, key=KEY):
    seen = layers_with_weights(key, networks, net)
    layers = (seen.log_norm[:, 1:], seen.activation_ratio, seen.active_fraction)
    return np.concatenate([*layers, seen.log_output[:, None]], 1)


def moments(columns):
    """Means and all second central moments, each with its standard error."""
    means = columns.mean(0)
    off = columns - means
    i, j = np.triu_indices(columns.shape[1])
    values = np.concatenate([columns, off[:, i] * off[:, j]], 1)
    return values.mean(0), values.std(0) / len(columns) ** 0.5


def same_law(a, b) -> bool:
    """Every column by KS, every mean and covariance within 5 standard errors.

    Some 100 correlated comparisons, each of which errs with a probability below 1e-5.
    Of 4096 networks one has nothing to show to a ReLU head; these are left out.
    """
    a, b = (x[np.isfinite(x).all(1)] for x in (a, b))
    (mean_a, se_a), (mean_b, se_b) = moments(a), moments(b)
    # A constant column, such as the identity's ratio, is one up to rounding.
    near = np.abs(mean_a - mean_b) < 5 * np.hypot(se_a, se_b) + 1e-6
    moving = np.flatnonzero(a.std(0) > 1e-6)
    ks = [stats.ks_2samp(a[:, i], b[:, i], method="asymp").pvalue for i in moving]
    return bool(near.all() and min(ks) > 1e-5)


def within(value, law, se, errors=4.0) -> bool:
    return bool(np.all(np.abs(np.asarray(value) - law) < errors * se))


@pytest.fixture(scope="module")
def weighted():
    """Networks with weights; a network that two cases share is drawn once."""
    kept = {}

    def get(net):
        if net not in kept:
            kept[net] = with_weights(net, 4000)
        return kept[net]

    return get


@pytest.mark.parametrize("case", CASES)
def test_drawn_networks_have_the_law_of_weights(case, weighted):
    """Norms, ratios, active units and outputs: margins and covariances over layers."""
    net, other = CASES[case]
    assert same_law(drawn(net, 20_000), weighted(net))
    assert not same_law(drawn(other, 20_000), weighted(net))


def test_the_comparison_sees_a_layer_that_forgets_its_activations(weighted):
    """With |phi(z)|^2 replaced by its mean |z|^2 / 2 the law is another."""
    net, rng = FIRST, np.random.default_rng(1)
    n, networks = net.width, 20_000
    z = rng.standard_normal((networks, n))
    start = np.sum(z**2, 1)
    norms = []
    for alpha, lam in zip(RAMP.alpha, RAMP.lam, strict=True):
        drive = np.sqrt(np.sum(z**2, 1, keepdims=True) / n)
        z = alpha * z + lam * drive * rng.standard_normal(z.shape)
        norms.append(np.log(np.sum(z**2, 1) / start))
    assert not same_law(np.stack(norms, 1), weighted(net)[:, : net.depth])


def test_mlp_has_its_exact_law():
    """log-norms are sums of log chi^2 with a binomial number of units."""
    drop = dict(alpha=0.0, lam=1.0)
    x = sample_log_norm(KEY, 20_000, width=64, depth=64, **drop)
    law = mlp_log_norm(64, 64)
    assert stats.kstest(x, law.cdf).pvalue > 0.01
    assert stats.kstest(x, mlp_log_norm(64, 56).cdf).pvalue < 1e-6
    assert within(x.mean(), law.mean(), (law.var() / len(x)) ** 0.5)
    net = MLP(width=16, depth=8)
    x = layers_with_weights(KEY, 4000, net).log_norm[:, -1]
    assert stats.kstest(x, mlp_log_norm(16, 8).cdf).pvalue > 0.01


def test_balanced_law():
    """Balanced: N(-beta/2, beta), beta = 2.25 d/n at alpha = lam."""
    x = sample_log_norm(KEY, 20_000, width=64, depth=64, balanced=True, **EVEN)
    law = resnet_log_norm(64, 64, HALF, HALF, balanced=True)
    se = (x.var() / len(x)) ** 0.5
    # The law is the leading order in 1/n; corrections are below 1/n of its values.
    assert abs(x.mean() - law.mean()) < 4 * se + 1.125 / 64
    assert abs(x.var() / law.var() - 1) < 4 * (2 / len(x)) ** 0.5 + 1 / 64
    assert stats.kstest(x, law.cdf).statistic < 0.02
    assert stats.kstest(x, resnet_log_norm(64, 64, HALF, HALF).cdf).statistic > 0.2


def test_one_sign_vector_for_all_layers_is_vanilla():
    """Signs that layers share give the vanilla law; fresh ones do not."""
    n, d, networks = 16, 16, 20_000
    rng = np.random.default_rng(3)
    signs = rng.choice([-1.0, 1.0], (networks, n))
    z = rng.standard_normal((networks, n))
    start = np.sum(z**2, 1)
    for _ in range(d):
        drive = np.sqrt(2 / n * np.sum(np.maximum(signs * z, 0) ** 2, 1, keepdims=True))
        z = HALF * (z + drive * rng.standard_normal(z.shape))
    shared = np.log(np.sum(z**2, 1) / start)
    size = dict(width=n, depth=d, **EVEN)
    vanilla = sample_log_norm(KEY, networks, **size)
    balanced = sample_log_norm(KEY, networks, balanced=True, **size)
    assert stats.ks_2samp(shared, vanilla).pvalue > 0.01
    assert stats.ks_2samp(shared, balanced).pvalue < 1e-9


def test_vanilla_law():
    """Vanilla: KS < 0.03 to the log-Gaussian law, > 0.4 to the infinite-width one."""
    x = sample_log_norm(KEY, 5000, width=256, depth=128, **EVEN)
    law = resnet_log_norm(256, 128, HALF, HALF)
    balanced = resnet_log_norm(256, 128, HALF, HALF, balanced=True)
    # Measured finite-width excess of the variance: 8/n.
    assert abs(x.var() / law.var() - 1) < 4 * (2 / len(x)) ** 0.5 + 8 / 256
    assert x.var() > 2 * balanced.var()
    assert stats.kstest(x, law.cdf).statistic < 0.03
    gaussian = gaussian_log_norm(256, 128, HALF, HALF)
    assert stats.kstest(x, gaussian.cdf).statistic > 0.4


def test_hypoactivation():
    """n E Y_8 = -1.62 and n (1/2 - active share) = 0.31, to leading order in 1/n.

    Antithetic pairs measure Y with an error of 1.5 / sqrt(N) in place of sqrt(3 n / N).
    """
    n, pairs = 256, 8000
    net = ResNet(width=n, depth=9, branch=STRONG)
    law = layer_law(n, 9, HALF, HALF)
    seen = LayerSampler(net, antithetic=True).moments(KEY, pairs)
    compared = (
        (seen.activation_ratio, law.activation_ratio),
        (seen.active_fraction, law.active_fraction),
    )
    for found, expected in compared:
        off, deficit = found.mean[:9] - expected, 0.5 - expected
        # Measured finite-width excess of the deficits: 8/n.
        assert (np.abs(off) <= 4 * found.mean_se[:9] + 8 / n * deficit).all()
        assert (deficit[2:] > 10 * found.mean_se[2:9]).all()
    error = 2 * n * seen.activation_ratio.mean_se[8]
    np.testing.assert_allclose(error, 1.5 / pairs**0.5, rtol=0.25)
    error = 2 * n * (seen.activation_ratio.var[8] / pairs) ** 0.5
    np.testing.assert_allclose(error, (3 * n / pairs) ** 0.5, rtol=0.1)


@pytest.mark.parametrize("balanced", [False, True])
def test_interlayer_covariance(balanced):
    """n Cov(Y_l, Y_{l+q}) = Phi(c^q) in vanilla networks; 0 for q > 0 in Balanced."""
    n, networks, lags = 512, 10_000, np.arange(7)
    net = (BalancedResNet if balanced else ResNet)(width=n, depth=9, branch=STRONG)
    shape, scales = describe(net)
    seen = draw(KEY, shape, scales, networks, each=_ratio)
    y = 2 * np.asarray(seen.each, np.float64)[:, 0] - 1
    y -= y.mean(1, keepdims=True)
    products = n * y[2] * y[2 + lags]
    se = products.std(1) / networks**0.5
    vanilla = interlayer_covariance(lags, HALF, HALF)
    signed = np.where(lags == 0, 3.0, 0.0)
    law, other = (signed, vanilla) if balanced else (vanilla, signed)
    # Measured finite-width excess: 8/n of Phi(c^q), which the tail exceeds by 0.02.
    assert (np.abs(products.mean(1) - law) < 4 * se + 8 / n * law + 0.02).all()
    assert (np.abs(products.mean(1) - other)[1:5] > 6 * se[1:5]).all()


def _ratio(layer):
    return layer.activation_ratio


def test_any_depth():
    """Log-norms far beyond what floats hold follow their law: d/n = 20 and d = 10^4."""
    x = sample_log_norm(KEY, 200, width=50, depth=1000, alpha=0.0, lam=1.0)
    law = mlp_log_norm(50, 1000)
    assert within(x.mean(), law.mean(), (law.var() / len(x)) ** 0.5)
    assert within(x.var(), law.var(), law.var() * (2 / len(x)) ** 0.5)
    deep = dict(width=16, depth=10_000, balanced=True)
    x = sample_log_norm(KEY, 50, alpha=0.5, lam=0.5, **deep)
    assert (x < -745).all()  # exp(-745) is the smallest double
    law = resnet_log_norm(16, 10_000, 0.5, 0.5, balanced=True)
    # The law is the leading order in 1/n; corrections are below 1/n of its values.
    allowed = 4 * (x.var() / len(x)) ** 0.5 + law.var() / 2 / 16
    assert abs(x.mean() - law.mean()) < allowed
    # alpha = lam = 1 only adds d log 4.
    twice = sample_log_norm(KEY, 50, alpha=1.0, lam=1.0, **deep)
    np.testing.assert_allclose(twice - 10_000 * np.log(4), x, rtol=1e-4)


def test_dead_networks():
    """A ReLU MLP dies with probability 2^-n a layer, is -inf, and is left out."""
    n, d, networks = 4, 30, 10_000
    x = sample_log_norm(KEY, networks, width=n, depth=d, alpha=0.0, lam=1.0)
    dead = np.isneginf(x)
    assert not np.isnan(x).any()
    binomial = stats.binom(networks, 1 - (1 - 2.0**-n) ** d)
    assert 1e-3 < binomial.cdf(dead.sum()) < 1 - 1e-3
    assert stats.kstest(x[~dead], mlp_log_norm(n, d).cdf).pvalue > 0.01

    seen = LayerSampler(MLP(width=n, depth=d, head="relu")).moments(KEY, networks)
    alive = (1 - 2.0**-n) ** np.arange(d + 1)
    share, se = seen.log_norm.count / networks, (alive * (1 - alive) / networks) ** 0.5
    assert within(share, alive, se + 1e-12)
    assert seen.log_norm.count[-1] == (~dead).sum()
    np.testing.assert_allclose(seen.log_norm.mean[-1], x[~dead].mean(), rtol=1e-12)
    # A living z_d may show a ReLU head nothing: these networks have no log-output.
    assert within(
        seen.log_output.count / networks, alive[-1] * (1 - 2.0**-n), se[-1] + 1e-12
    )
    for moments in seen:
        assert all(np.isfinite(part).all() for part in moments)


def test_first_samples_do_not_depend_on_how_many_follow():
    """1000 networks are the first of 2000 and of several batches; the key decides."""
    size = dict(width=256, depth=3, **EVEN)
    many = sample_log_norm(KEY, 3000, **size)  # batches of 1024
    for fewer in (1, 1000, 2000):
        few = sample_log_norm(KEY, fewer, **size)
        # Another batch size is another program: equal up to float32 rounding.
        np.testing.assert_allclose(few, many[:fewer], atol=1e-5)
    other = sample_log_norm(jax.random.key(6), 3000, **size)
    assert not np.isin(other, many).any()
    assert len(np.unique(many)) == len(many)


def test_random_bits_serve_twice():
    """The Gaussian numbers are jax's own; the signs are fair and independent of them.

    The bits of the sign are none of those that make the number.
    """
    g, s = normal_and_sign(KEY, (1000, 200))
    np.testing.assert_array_equal(g, jax.random.normal(KEY, (1000, 200), "float32"))
    g, s = (np.asarray(a, np.float64) for a in (g, s))
    assert set(np.unique(s)) == {-1.0, 1.0}
    odd = (s, s * g, s * np.abs(g), s * np.sign(g), s * np.cos(40 * g))
    odd += (s[1:] * s[:-1], s[:, 1:] * s[:, :-1])
    for values in odd:
        assert within(values.mean(), 0.0, values.std() / values.size**0.5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (dict(samples=0), "samples"),
        (dict(width=0), "width"),
        (dict(depth=0), "depth"),
        (dict(alpha=[1.0, 1.0]), "branch"),
        (dict(lam=float("nan")), "lam"),
        (dict(alpha=[1.0, 0.0, 1.0], lam=[0.5, 0.0, 0.5]), "branch"),
    ],
)
def test_mistakes_are_named(change, field):
    """A setting without networks is refused by name."""
    settings = dict(samples=10, width=8, depth=3, **EVEN) | change
    samples = settings.pop("samples")
    with pytest.raises(UserError, match=f"^{field}="):
        sample_log_norm(KEY, samples, **settings)


def test_unknown_names_are_refused():
    """An unknown head or activation is named before anything is drawn."""
    for field in ("head", "activation"):
        net = dataclasses.replace(MLP(width=4, depth=2), **{field: "wide"})
        with pytest.raises(UserError, match=f"^{field}=wide"):
            LayerSampler(net).moments(KEY, 10)
