"""Factors of Gram matrices: regular, singular, zero, in both precisions."""

import jax.numpy as jnp
import numpy as np
import pytest

from testbed.sampling.cholesky import cholesky

pytestmark = pytest.mark.float64


def grams(k, rank, dtype):
    x = np.random.default_rng(k).normal(size=(200, k, rank))
    return jnp.asarray(x @ x.transpose(0, 2, 1), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_regular_matrices_have_lapacks_factor(k, dtype):
    """F is numpy's Cholesky factor where there is one."""
    a = grams(k, k + 4, dtype)
    found = cholesky(a)
    assert found.dtype == dtype
    want = np.linalg.cholesky(np.asarray(a, np.float64))
    scale = np.sqrt(np.diagonal(a, axis1=1, axis2=2).max())
    # Rounding grows with the condition number's root.
    root = np.sqrt(np.linalg.cond(np.asarray(a, np.float64)).max())
    np.testing.assert_allclose(
        found, want, atol=20 * float(jnp.finfo(dtype).eps) * root * scale
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_matrices_are_their_factors_square(dtype):
    """F F^T = a for rank 2 of 5, for rank 0, and for one input that is 0."""
    eps = float(jnp.finfo(dtype).eps)
    x = np.random.default_rng(0).normal(size=(200, 5, 2))
    x[:, :2] = np.eye(2)  # nearly parallel ones would cost digits
    low_rank = jnp.asarray(x @ x.transpose(0, 2, 1), dtype)
    for a in (low_rank, jnp.zeros((3, 4, 4), dtype), jnp.ones((4, 4), dtype)):
        f = np.asarray(cholesky(a), np.float64)
        assert np.isfinite(f).all()
        error = np.abs(f @ np.swapaxes(f, -1, -2) - np.asarray(a, np.float64))
        scale = np.diagonal(np.asarray(a), axis1=-2, axis2=-1).max()
        assert error.max() <= 20 * eps * scale, error.max()
    a = jnp.diag(jnp.asarray([0.0, 4.0, 0.0], dtype))
    np.testing.assert_array_equal(cholesky(a), np.diag([0.0, 2.0, 0.0]))


def test_the_cut_off_is_that_of_the_precision():
    """1e-8 of a direction is kept in float64, in float32 it is rounding."""
    a = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-8]])
    np.testing.assert_allclose(cholesky(jnp.asarray(a))[1, 1], 1e-4, rtol=1e-6)
    a = np.array([[1.0, 1.0], [1.0, 1.0 + 4e-7]], np.float32)
    assert cholesky(jnp.asarray(a))[1, 1] == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_inputs_have_equal_rows(dtype):
    """a^i = a^j gives F_i = F_j to the bit, so that equal inputs stay equal."""
    x = np.random.default_rng(1).normal(size=(500, 4, 3))
    x[:, 2] = x[:, 0]
    f = cholesky(jnp.asarray(x @ x.transpose(0, 2, 1), dtype))
    np.testing.assert_array_equal(f[:, 0], f[:, 2])
