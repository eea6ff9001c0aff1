"""Derivatives of the ReLU kernels, also where pairs of inputs are collinear."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BranchScaling, ResNet
from testbed.kernels import infinite_kernel
from testbed.kernels.recursion import relu_recursion

pytestmark = [pytest.mark.float64, pytest.mark.usefixtures("quick_compile")]
RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 4))
# Equal, parallel and antiparallel pairs of equal and unequal norms, and generic ones.
ROWS = np.stack([A, B, A, 3 * A, -A, -0.7 * A, B + 1e-7 * A])
WITH_ZERO = np.concatenate([ROWS, np.zeros((1, 4))])
ALPHA, LAM = np.array([1.0, 0.6, 0.9]), np.array([0.5, 1.1, 0.3])
OPTIONS = {
    "linear": {"head": "linear"},
    "relu": {"head": "relu"},
    "linear, bias": {"head": "linear", "bias_variance": 0.2},
    "relu, bias, standard": {
        "head": "relu",
        "bias_variance": 0.2,
        "fan_in_scale": (4.0, 6.0, 5.0),
        "bias_scale": 5.0,
    },
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def along(name, order, t, x1, x2, alpha, lam, dx1, dx2, dalpha, dlam):
    """K and Theta, or a derivative of them, by t on a line through the arguments."""

    def kernels(t):
        moved = x1 + t * dx1, x2 + t * dx2, alpha + t * dalpha, lam + t * dlam
        return jnp.stack(relu_recursion(*moved, **OPTIONS[name])[:2])

    for _ in range(order):
        kernels = jax.jacfwd(kernels)
    return kernels(t)


def difference(name, order, step, *line):
    """The next derivative, by central differences."""
    ahead, behind = (along(name, order, t, *line) for t in (step, -step))
    return (ahead - behind) / (2 * step)


def check(got, want, slack):
    """Compares K and Theta, each in units of its own largest entry."""
    for g, w in zip(np.asarray(got), np.asarray(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=slack * np.abs(w).max())


@pytest.mark.parametrize("name", OPTIONS)
def test_by_alpha_and_lam(name):
    """First and second derivatives by alpha and lam equal finite differences."""
    x, still = WITH_ZERO, jnp.zeros_like(WITH_ZERO)
    dalpha, dlam = jnp.asarray([0.3, -0.5, 1.0]), jnp.asarray([1.0, 0.7, -0.4])
    line = (x, x, ALPHA, LAM, still, still, dalpha, dlam)
    for order in (0, 1):
        # Truncation h^2 and round-off 1e-16 / h, at h = 1e-5
        want = difference(name, order, 1e-5, *line)
        check(along(name, order + 1, 0.0, *line), want, 1e-9)


@pytest.mark.parametrize("name", OPTIONS)
def test_by_the_inputs(name):
    """Derivatives by x equal central differences, which are symmetric at the kinks.

    Without biases the kernel has a kink at x = 0 that no symmetry decides.
    """
    x = WITH_ZERO if "bias" in name else ROWS
    x = jnp.asarray(x).at[6].set(B + 0.1 * A)  # wide of the step
    dx = jnp.asarray(np.random.default_rng(1).standard_normal(x.shape))
    still = jnp.zeros(3)
    for other in (dx, jnp.zeros_like(dx)):  # both inputs, or one of them
        line = (x, x, ALPHA, LAM, dx, other, still, still)
        # Extrapolated: across a kink the error is of first order in the step.
        want = 2 * difference(name, 0, 1e-6, *line) - difference(name, 0, 2e-6, *line)
        check(along(name, 1, 0.0, *line), want, 1e-7)


def test_zero_input_without_bias():
    """At x = 0 the derivative of K is the symmetric one of a single layer."""
    x, dx = jnp.zeros((1, 4)), jnp.asarray(B)[None]
    scales = jnp.asarray([0.6]), jnp.asarray([1.1])
    line = (x, ROWS, *scales, dx, jnp.zeros_like(ROWS), jnp.zeros(1), jnp.zeros(1))
    got = along("linear", 1, 0.0, *line)
    check(got, difference("linear", 0, 1e-6, *line), 1e-9)
    # S -> (alpha^2 + lam^2 / 2) S, the mean over both sides of the kink
    want = (0.6**2 + 1.1**2 / 2) * dx @ ROWS.T / 4
    np.testing.assert_allclose(got[0], want, rtol=1e-14)
    deep = along("relu", 1, 0.0, x, ROWS, ALPHA, LAM, *line[4:6], 0 * ALPHA, 0 * LAM)
    assert np.isfinite(deep).all()


def test_reverse_equals_forward():
    """grad of `infinite_kernel` by x, alpha and lam equals jvp, in jit or not.

    So does the Hessian, which is forward over reverse.
    """
    weights = jnp.asarray(RNG.standard_normal((2, 8, 8)))

    def total(x, alpha, lam):
        branch = BranchScaling.fixed(alpha, lam)
        net = ResNet(width=8, depth=3, branch=branch, head="relu", bias_std=0.3)
        kernel = infinite_kernel(net)(x)
        return jnp.sum(weights * jnp.stack([kernel.nngp, kernel.ntk]))

    at = (WITH_ZERO, ALPHA, LAM)
    direction = tuple(jnp.asarray(RNG.standard_normal(v.shape)) for v in at)
    along_it = lambda t: total(*(a + t * d for a, d in zip(at, direction, strict=True)))
    slope = jax.jvp(along_it, (0.0,), (1.0,))[1]
    gradient = jax.grad(total, argnums=(0, 1, 2))
    for gradients in (gradient(*at), jax.jit(gradient)(*at)):
        pairs = zip(gradients, direction, strict=True)
        got = sum(jnp.sum(g * d) for g, d in pairs)
        # Sums of terms a hundred times the result.
        assert float(got) == pytest.approx(float(slope), rel=1e-11)
    of_lam = lambda lam: total(WITH_ZERO, ALPHA, lam)
    hessian = jax.jit(jax.hessian(of_lam))(LAM)
    step = jnp.asarray([0.0, 1e-5, 0.0])
    gradient = jax.jit(jax.grad(of_lam))
    want = (gradient(LAM + step) - gradient(LAM - step)) / 2e-5
    np.testing.assert_allclose(hessian[1], want, rtol=1e-7)


def test_both_routes_have_one_gradient():
    """The recursion and stax layers agree in derivatives, off the collinear pairs."""
    x, y = jnp.asarray(RNG.standard_normal((2, 5, 4)))
    gradients = []
    for route in ("recursion", "neural_tangents"):

        def total(x, lam, route=route):
            branch = BranchScaling.fixed(0.9, lam)
            net = ResNet(width=8, depth=3, branch=branch, head="relu", bias_std=0.3)
            return infinite_kernel(net, route=route)(x, y).ntk.sum()

        gradients.append(jax.jit(jax.grad(total, (0, 1)))(x, 0.7))
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)
