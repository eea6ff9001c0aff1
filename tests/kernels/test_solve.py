"""Linearization, eigensystems and solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import ResNet
from testbed.errors import RunError, UserError
from testbed.kernels import (
    critical_learning_rate,
    eigensystem,
    empirical_ntk,
    infinite_kernel,
    linearize,
)
from testbed.kernels.neural_tangents import lenient, nt

pytestmark = pytest.mark.float64


def kernel(n=8, seed=0):
    root = np.random.default_rng(seed).standard_normal((n, n))
    return root @ root.T + 0.1 * np.eye(n)


@pytest.mark.usefixtures("quick_compile")
def test_linearize_equals_neural_tangents():
    """f_lin is the first-order Taylor model, and has the tangent kernel of f."""
    net = ResNet(width=8, depth=3, out_features=2, dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(0), (3, 5))
    params = jax.jit(net.init)(jax.random.key(1), x)["params"]
    f = jax.jit(lambda p, x: net.apply({"params": p}, x))
    f_lin = linearize(f, params)
    np.testing.assert_array_equal(jax.jit(f_lin)(params, x), f(params, x))
    moved = jax.tree.map(lambda p: 0.7 * p + 0.3 * jnp.cos(5 * p), params)
    with lenient():
        theirs = jax.jit(nt.linearize(f, params))(moved, x)
    got = jax.jit(f_lin)(moved, x)
    np.testing.assert_allclose(got, theirs, rtol=1e-12, atol=1e-12)
    assert float(jnp.abs(f(moved, x) - theirs).max()) > 1e-2
    np.testing.assert_allclose(
        empirical_ntk(f_lin, moved, x), empirical_ntk(f, params, x), rtol=1e-11
    )


def test_solve_equals_dense_solve():
    """V w^-1 V^T y solves (K + ridge I) a = y, for one right-hand side and for many."""
    for ridge in (0.0, 0.7):
        system = eigensystem(kernel(), ridge)
        matrix = kernel() + ridge * np.eye(8)
        for rhs in (np.arange(8.0), np.arange(24.0).reshape(8, 3)):
            want = np.linalg.solve(matrix, rhs)
            np.testing.assert_allclose(system.solve(jnp.asarray(rhs)), want, rtol=1e-10)
        assert system.ridge == ridge
        assert system.condition == pytest.approx(np.linalg.cond(matrix), rel=1e-10)
        assert system.values.dtype == jnp.float64


def test_apply_is_a_function_of_the_matrix():
    """apply(exp(-w t), y) is expm(-K t) y."""
    import scipy.linalg

    y = np.arange(8.0)
    got = eigensystem(kernel()).apply(lambda w: jnp.exp(-0.3 * w), jnp.asarray(y))
    np.testing.assert_allclose(got, scipy.linalg.expm(-0.3 * kernel()) @ y, rtol=1e-10)


def test_float32_is_solved_in_float64():
    """A float32 kernel is cast before it is diagonalized."""
    system = eigensystem(jnp.asarray(kernel(), jnp.float32))
    assert system.vectors.dtype == jnp.float64
    eye = system.vectors.T @ system.vectors
    np.testing.assert_allclose(eye, np.eye(8), atol=1e-14)


def test_duplicate_inputs_are_singular_until_a_ridge_is_added():
    """Two equal inputs: round-off below zero is no error, but a solve is."""
    x = np.random.default_rng(0).standard_normal((5, 4))
    ntk = infinite_kernel(ResNet(depth=4))(np.concatenate([x, x])).ntk
    system = eigensystem(ntk, name="ntk")
    assert float(system.values[0]) >= 0
    with pytest.raises(RunError, match="kernel is singular"):
        system.solve(jnp.ones(10))
    ridged = eigensystem(ntk, ridge=1e-3)
    assert np.isfinite(ridged.solve(jnp.ones(10))).all()
    assert float(ridged.values[0]) >= 1e-3


@pytest.mark.parametrize(
    ("matrix", "options", "error", "message"),
    [
        (np.diag([1.0, -1e-3]), {}, RunError, "drift is not positive semi-definite"),
        (np.array([[1.0, 0.1], [0.2, 1]]), {}, RunError, "drift is not symmetric"),
        (np.array([[1.0, np.nan], [0, 1]]), {}, RunError, "drift is not finite"),
        (np.ones((2, 3)), {}, UserError, r"drift=array of shape \(2, 3\)"),
        (np.eye(2), {"ridge": -1.0}, UserError, "ridge=-1.0"),
        (np.eye(2), {"ridge": float("nan")}, UserError, "ridge=nan"),
    ],
)
def test_what_is_no_kernel_is_refused(matrix, options, error, message):
    """Not finite, not symmetric, not PSD, not square, negative ridge: named."""
    with pytest.raises(error, match=message):
        eigensystem(matrix, name="drift", **options)
    if "semi-definite" in message:
        eigensystem(matrix, name="drift", tolerance=1e-2)


def test_critical_learning_rate_contracts_both_ends_alike():
    """At 2 / (w_min + w_max) the slowest mode is fastest; beside it, slower."""
    values = np.array([0.5, 3.0, 7.5])
    rate = critical_learning_rate(values)
    worst = lambda eta: np.abs(1 - eta * values).max()
    assert abs(1 - rate * 0.5) == pytest.approx(abs(1 - rate * 7.5), rel=1e-15)
    assert worst(rate) < min(worst(1.01 * rate), worst(0.99 * rate))
    with pytest.raises(RunError, match="w_min"):
        critical_learning_rate(np.zeros(3))
