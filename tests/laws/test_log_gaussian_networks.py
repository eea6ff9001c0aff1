"""The log-Gaussian law against networks: sampled in law, and with their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLP, BalancedResNet, BranchScaling, ResNet, layer_statistics
from testbed.laws import layer_law

HALF = 0.5**0.5
STRONG_SKIP = (0.8**0.5, 0.2**0.5)

# log(|z_d|^2 / |z_0|^2) of many networks: (n, d): mean, its standard error, variance,
# its standard error.  20,000 to 200,000 networks each, drawn as `sampled` draws them.
VANILLA = {
    (64, 6): (-0.1482, 0.0019, 0.3782, 0.0017),
    (64, 32): (-0.9740, 0.0053, 2.8346, 0.0130),
    (64, 64): (-2.0182, 0.0077, 5.9200, 0.0269),
    (256, 26): (-0.1856, 0.0051, 0.5216, 0.0052),
    (256, 128): (-1.0019, 0.0117, 2.7482, 0.0278),
    (256, 512): (-3.9567, 0.0235, 11.0227, 0.1108),
}
BALANCED = {
    (16, 8): (-0.5417, 0.0023, 1.0980, 0.0035),
    (64, 6): (-0.1034, 0.0019, 0.2115, 0.0012),
    (64, 64): (-1.1161, 0.0061, 2.2513, 0.0130),
    (64, 128): (-2.2428, 0.0087, 4.4986, 0.0259),
    (256, 128): (-0.5479, 0.0097, 1.1201, 0.0145),
    (256, 512): (-2.2092, 0.0193, 4.4703, 0.0583),
}
VANILLA_STRONG_SKIP = {
    (64, 64): (-0.8861, 0.0065, 2.5686, 0.0150),
    (256, 512): (-1.8491, 0.0210, 5.2712, 0.0688),
}
# The law is the leading order in 1/n; corrections are (so many) / n of its value:
# measured 7 to 8 for the vanilla variance at n >= 64, below 1 for Balanced.  For the
# MLP a layer's variance is E trigamma(K/2) + Var digamma(K/2) with K ~ Binomial(n, 1/2)
# active units, which is 5/n + about 19/n^2.
CORRECTION = {"vanilla": 9.0, "balanced": 1.0, "mlp": 4.0}


def agrees(measured, law, allowed) -> bool:
    """Within 4 standard errors and a share `allowed` of the law's own value."""
    mean, mean_se, var, var_se = measured
    off_mean = abs(mean - law.log_norm_mean[-1])
    off_var = abs(var - law.log_norm_var[-1])
    return bool(
        off_mean <= 4 * mean_se + allowed * abs(law.log_norm_mean[-1])
        and off_var <= 4 * var_se + allowed * law.log_norm_var[-1]
    )


@pytest.mark.parametrize(
    ("measured", "scales", "balanced"),
    [
        (VANILLA, (HALF, HALF), False),
        (BALANCED, (HALF, HALF), True),
        (VANILLA_STRONG_SKIP, STRONG_SKIP, False),
    ],
)
def test_law_against_many_networks(measured, scales, balanced):
    """The right law agrees at every (n, d); the other network's law at none."""
    for (width, depth), numbers in measured.items():
        allowed = CORRECTION["balanced" if balanced else "vanilla"] / width
        right = layer_law(width, depth, *scales, balanced=balanced)
        wrong = layer_law(width, depth, *scales, balanced=not balanced)
        assert agrees(numbers, right, allowed), (width, depth)
        assert not agrees(numbers, wrong, allowed), (width, depth)


def sampled(width, depth, alpha, lam, balanced, networks, seed):
    """Log-norms (d + 1, networks) and active fractions (d, networks).

    Exact in law without weights: given z, W phi(z) is |phi(z)| times a standard
    Gaussian vector.
    """
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((networks, width))
    start = (z**2).sum(1)
    logs, active = [np.zeros(networks)], []
    for _ in range(depth):
        h = z * rng.choice([-1.0, 1.0], size=z.shape) if balanced else z
        active.append((h > 0).mean(1))
        norm = np.sqrt((np.maximum(h, 0) ** 2).sum(1, keepdims=True))
        g = rng.standard_normal(z.shape)
        z = alpha * z + lam * np.sqrt(2 / width) * norm * g
        logs.append(np.log((z**2).sum(1) / start))
    return np.array(logs), np.array(active)


def moments(values):
    """Mean, its standard error, variance, its standard error, over the last axis."""
    count, mean = values.shape[-1], values.mean(-1)
    var = values.var(-1, ddof=1)
    fourth = ((values - mean[..., None]) ** 4).mean(-1)
    var_se = np.sqrt(np.maximum(fourth - var**2, 0) / count)
    return mean, np.sqrt(var / count), var, var_se


@pytest.mark.parametrize("balanced", [False, True])
def test_the_tables_are_what_sampling_gives(balanced):
    """A fresh sample of 3000 networks reproduces a row of the tables above."""
    table = BALANCED if balanced else VANILLA
    logs, _ = sampled(64, 64, HALF, HALF, balanced, 3000, seed=1)
    mean, mean_se, var, var_se = moments(logs[-1])
    stored = table[64, 64]
    assert abs(mean - stored[0]) < 4 * np.hypot(mean_se, stored[1])
    assert abs(var - stored[2]) < 4 * np.hypot(var_se, stored[3])
    other = (VANILLA if balanced else BALANCED)[64, 64]
    assert abs(var - other[2]) > 4 * np.hypot(var_se, other[3])


def test_hypoactivation():
    """n (1/2 - active share) grows with the layer as predicted; 0 is refused."""
    width, depth = 64, 17
    logs, active = sampled(width, depth, HALF, HALF, False, 20_000, seed=2)
    law = layer_law(width, depth, HALF, HALF)
    mean, se, var, var_se = moments(active)
    # Finite-width corrections: relative 8/n of the deficit, 1/n of the variance.
    deficit = 0.5 - law.active_fraction
    assert (np.abs(mean - law.active_fraction) < 4 * se + 8 / width * deficit).all()
    assert (np.abs(mean - 0.5)[4:] > 4 * se[4:] + 8 / width * deficit[4:]).all()
    allowed = 4 * var_se + law.active_fraction_var * 8 / width
    assert (np.abs(var - law.active_fraction_var) < allowed).all()


NETWORKS = 2000
WIDTH, DEPTH = 32, 12


def flax_statistics(net):
    """Log-norms (d + 1, networks) and active fractions of networks with weights."""
    x = jnp.ones((1, 10))

    def one(key):
        variables = net.init(key, x)
        found = layer_statistics(net, variables, x)
        return found["squared_norm"][:, 0], found["active_fraction"][:, 0]

    keys = jax.random.split(jax.random.key(7), NETWORKS)
    norms, active = jax.jit(lambda k: jax.lax.map(one, k, batch_size=500))(keys)
    norms = np.asarray(norms, np.float64).T
    return np.log(norms / norms[:1]), np.asarray(active, np.float64).T


@pytest.mark.parametrize("kind", ["vanilla", "balanced", "mlp"])
def test_flax_networks_have_the_law(kind):
    """Every layer of 2000 networks with real weights follows its law, not another."""
    branch = BranchScaling.fixed(1.0, 1.0)
    size = dict(width=WIDTH, depth=DEPTH, out_features=1)
    net = {
        "vanilla": ResNet(branch=branch, **size),
        "balanced": BalancedResNet(branch=branch, **size),
        "mlp": MLP(**size),
    }[kind]
    logs, active = flax_statistics(net)
    law = layer_law(WIDTH, DEPTH, float(kind != "mlp"), 1.0, kind == "balanced")
    correction = CORRECTION[kind] / WIDTH
    # alpha = lam = 1 doubles |z|^2 a layer: that part is exact and not corrected.
    doubled = np.log(2) * np.arange(DEPTH + 1) * (kind != "mlp")

    def fits(law) -> bool:
        mean, mean_se, var, var_se = moments(logs[1:])
        drift = np.abs(law.log_norm_mean - doubled)[1:]
        off_mean = np.abs(mean - law.log_norm_mean[1:])
        off_var = np.abs(var - law.log_norm_var[1:])
        return bool(
            (off_mean <= 4.5 * mean_se + correction * drift).all()
            and (off_var <= 4.5 * var_se + correction * law.log_norm_var[1:]).all()
        )

    assert fits(law)  # 4.5 standard errors: 24 comparisons, correlated
    wrong = {
        "vanilla": layer_law(WIDTH, DEPTH, 1.0, 1.0, balanced=True),
        "balanced": layer_law(WIDTH, DEPTH, 1.0, 1.0),
        "mlp": layer_law(WIDTH, DEPTH, 0.0, 1.1),
    }[kind]
    assert not fits(wrong)
    mean, se, _, _ = moments(active)
    allowed = 4.5 * se + 8 / WIDTH * (0.5 - law.active_fraction)
    assert (np.abs(mean - law.active_fraction) <= allowed).all()
