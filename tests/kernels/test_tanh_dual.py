"""E[tanh(u) tanh(v)] and of the slopes, against quadrature over the whole plane."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLP, BranchScaling, ResNet
from testbed.kernels import infinite_kernel
from testbed.kernels.tanh_dual import tanh_dual, tanh_slope_dual

pytestmark = pytest.mark.float64

REACH = 9.5  # standard deviations; the rest weighs 2e-21


def slope(z):
    return 1 / np.cosh(np.clip(z, -350, 350)) ** 2


def panels(edges, order):
    """Nodes and weights of Gauss-Legendre rules between the edges, on the last axis."""
    x, w = np.polynomial.legendre.leggauss(order)
    middle, half = (edges[..., 1:] + edges[..., :-1]) / 2, np.diff(edges) / 2
    flat = lambda a: a.reshape(*edges.shape[:-1], -1)
    return flat(middle[..., None] + half[..., None] * x), flat(half[..., None] * w)


def quadrature(f, q1, q2, rho, gap):
    """E[f(u) f(v)] at correlation rho = +-(1 - gap), over u and over v given u.

    Panels resolve f, which varies on the scale 1, and the densities on theirs.
    """
    (s2, s1), near = np.sort(np.sqrt([q1, q2])), np.linspace(0, 20, 41)
    edges = np.union1d(s1 * np.linspace(0, REACH, 20), near[near < REACH * s1])
    u, weight = panels(edges, 16)
    weight = 2 * weight * np.exp(-((u / s1) ** 2) / 2) / (s1 * np.sqrt(2 * np.pi))
    mean, width = rho * s2 / s1 * u, s2 * np.sqrt(gap * (2 - gap))
    if width == 0:
        return np.sum(weight * f(u) * f(mean))
    spread = mean[:, None] + width * np.linspace(-REACH, REACH, 39)
    edges = np.broadcast_to(np.union1d(near, -near), (len(u), 81))
    edges = np.clip(edges, spread[:, :1], spread[:, -1:])
    v, inner = panels(np.sort(np.concatenate([spread, edges], 1), 1), 10)
    z = (v - mean[:, None]) / width
    inner = inner * np.exp(-(z**2) / 2) / (width * np.sqrt(2 * np.pi))
    return np.sum(weight * f(u) * np.sum(inner * f(v), 1))


VARIANCES = [(v, v) for v in (1e-6, 0.01, 1.0, 30.0, 255.0**2, 1e6)]
VARIANCES += [(1e-6, 1.0), (0.3, 1e6), (50.0, 2.0), (1e-6, 1e6)]
GAPS = [0.0, 1e-12, 1e-6, 0.02, 0.6, 0.99]  # of 1 - |rho|


@pytest.mark.parametrize("q1, q2", VARIANCES)
def test_every_variance_and_correlation(q1, q2):
    """Both expectations err by less than 3e-11 of themselves, however singular."""
    pairs = [(sign * (1 - gap), gap) for gap in GAPS for sign in (1, -1)]
    cov = jnp.asarray([rho for rho, _ in pairs]) * np.sqrt(q1 * q2)
    both = lambda c: (tanh_dual(c, q1, q2), tanh_slope_dual(c, q1, q2))
    got = jax.jit(jax.vmap(both))(cov)
    for f, values in zip((np.tanh, slope), got, strict=True):
        want = [quadrature(f, q1, q2, *at) for at in pairs]
        np.testing.assert_allclose(values, want, rtol=3e-11)
    # The arcsine law of a single error function of the same slope would not do.
    arcsine = np.arcsin(np.pi * cov / np.sqrt((2 + np.pi * q1) * (2 + np.pi * q2)))
    error = np.abs(2 / np.pi * arcsine / got[0] - 1)
    assert error.max() > 1000 * 3e-11


def test_zero_variance():
    """Without variance tanh gives nothing and its slope is one, up to the mixture."""
    assert tanh_dual(0.0, 0.0, 2.0) == 0
    assert float(tanh_slope_dual(0.0, 0.0, 0.0)) == pytest.approx(1, abs=3e-11)


def mean(f, q):
    """E f(sqrt(q) g) by the trapezoid rule on a step that resolves f."""
    g = np.arange(-9, 9, min(0.02, 0.1 / np.sqrt(q)))
    return np.exp(-(g**2) / 2) @ f(np.sqrt(q) * g) * (g[1] - g[0]) / np.sqrt(2 * np.pi)


def tangent_kernel(q, depth, alpha, lam):
    """Theta of one input, from the recursion on the diagonal."""
    s = t = q
    for _ in range(depth):
        square, gain = (
            mean(lambda z: np.tanh(z) ** 2, s),
            mean(lambda z: slope(z) ** 2, s),
        )
        s, t = (
            alpha**2 * s + lam**2 * square,
            alpha**2 * t + lam**2 * (gain * t + square),
        )
    return s + t


NETS = [
    (MLP(width=8, depth=1, activation="tanh", head="linear"), 255.0, 0.0),
    (MLP(width=8, depth=1, activation="tanh", head="linear"), 5.4, 0.0),
    (
        ResNet(width=8, depth=300, activation="tanh", branch=BranchScaling.fixed(1, 1)),
        1.0,
        1.0,
    ),
]


@pytest.mark.parametrize("net, scale, alpha", NETS)
def test_large_variances_in_a_network(net, scale, alpha):
    """Raw pixels, and 300 blocks that add variance: to 1e-9, traced or not."""
    x = np.full((1, 6), scale)
    want = tangent_kernel(scale**2, net.depth, alpha, 1.0)
    kernel_fn = infinite_kernel(net)
    for got in (kernel_fn(x).ntk, jax.jit(lambda x: kernel_fn(x).ntk)(x)):
        assert float(got[0, 0]) == pytest.approx(want, rel=1e-9)


def test_gradients():
    """By x and lam, forward and reverse, they equal differences; equal inputs too."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3)) * np.array([[1.0], [0.0], [30.0], [1.0]])
    x[3] = -2 * x[0]
    direction, weights = rng.standard_normal((4, 3)), rng.standard_normal((2, 4, 4))

    def total(t, lam):
        branch = BranchScaling.fixed(1.0, lam)
        net = ResNet(width=8, depth=2, activation="tanh", branch=branch)
        kernel = infinite_kernel(net)(x + t * direction)
        return jnp.sum(weights * jnp.stack([kernel.nngp, kernel.ntk]))

    at, h = (0.0, 0.8), 1e-5
    value = jax.jit(total)
    want = [
        (value(h, 0.8) - value(-h, 0.8)) / (2 * h),
        (value(0.0, 0.8 + h) - value(0.0, 0.8 - h)) / (2 * h),
    ]
    for derivative in (jax.jacfwd, jax.grad):
        got = jax.jit(derivative(total, (0, 1)))(*at)
        np.testing.assert_allclose(got, want, rtol=1e-7)
