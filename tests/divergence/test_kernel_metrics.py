import jax
import jax.numpy as jnp
import numpy as np
import pytest

from testbed.divergence import (
    alignment,
    kernel_distance,
    kernel_drift,
    kernel_error,
    kernel_velocity,
    top_eigenvalues,
)
from testbed.errors import UserError

pytestmark = pytest.mark.float64

KEY = jax.random.key(2)
METRICS = [kernel_drift, kernel_error, kernel_distance]


def psd(index, size=6, *lead):
    a = jax.random.normal(jax.random.fold_in(KEY, index), (*lead, size, size))
    return a @ jnp.swapaxes(a, -1, -2)


@pytest.mark.parametrize("metric", METRICS)
def test_kernel_is_at_distance_zero_from_itself(metric):
    """drift(k, k) = error(k, k) = distance(k, k) = 0 exactly."""
    assert metric(psd(0), psd(0)) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_kernel_stacks_broadcast_like_a_loop(metric):
    """(T, S) stacks against one kernel a seed, and against one kernel for all."""
    k, k_0 = psd(0, 5, 3, 2), psd(1, 5, 2)
    got = metric(k, k_0)
    assert got.shape == (3, 2) and got.dtype == jnp.float64
    for t in range(3):
        for s in range(2):
            np.testing.assert_allclose(got[t, s], metric(k[t, s], k_0[s]), rtol=1e-13)
    np.testing.assert_allclose(metric(k, k_0[0])[:, 0], got[:, 0], rtol=1e-13)


@pytest.mark.parametrize("metric", [kernel_drift, kernel_error])
def test_drift_is_measured_in_units_of_the_reference(metric):
    """|c k - k| / |k| = |c - 1|; an added e counts |e|_F / |k|_F."""
    k, e = psd(0), psd(1)
    np.testing.assert_allclose(metric(1.25 * k, k), 0.25, rtol=1e-14)
    expected = np.linalg.norm(np.asarray(e)) / np.linalg.norm(np.asarray(k))
    np.testing.assert_allclose(metric(k + e, k), expected, rtol=1e-13)
    assert abs(metric(k, k + e) / metric(k + e, k) - 1) > 0.1  # not symmetric


def test_kernel_distance_is_one_minus_the_cosine():
    """1 - Tr(k k'^T) / sqrt(Tr(k k^T) Tr(k' k'^T)); symmetric; in (0, 1) for psd."""
    k, other = np.asarray(psd(0)), np.asarray(psd(1))
    tr = lambda a, b: np.trace(a @ b.T)  # noqa: E731
    for a, b in ((k, other), (k[:, :4], other[:, :4])):
        expected = 1 - tr(a, b) / np.sqrt(tr(a, a) * tr(b, b))
        np.testing.assert_allclose(kernel_distance(a, b), expected, rtol=1e-12)
        np.testing.assert_allclose(kernel_distance(b, a), expected, rtol=1e-12)
    many = kernel_distance(psd(2, 6, 50), psd(3, 6, 50))
    assert (many > 0).all() and (many < 1).all()


def test_kernel_distance_of_orthogonal_kernels_is_one():
    """Kernels with disjoint supports are as far as psd kernels can be."""
    first, second = jnp.diag(jnp.array([1.0, 2, 0])), jnp.diag(jnp.array([0.0, 0, 5]))
    np.testing.assert_allclose(kernel_distance(first, second), 1.0, rtol=1e-15)


def test_kernel_distance_ignores_scale_and_drift_does_not():
    """S(a k, b k') = S(k, k') for a, b > 0; drift of 2 k is 1."""
    k, other = psd(0), psd(1)
    scaled = kernel_distance(1e-4 * k, 3e5 * other)
    np.testing.assert_allclose(scaled, kernel_distance(k, other), rtol=1e-13)
    assert kernel_distance(k, 2 * k) < 1e-30
    np.testing.assert_allclose(kernel_drift(2 * k, k), 1.0, rtol=1e-14)


def test_small_kernel_distance_keeps_its_digits():
    """k + e, e orthogonal to k: S = (|e|/|k|)^2 / 2, where 1 - cos has no digits."""
    k = jnp.diag(jnp.array([1.0, 1.0]))
    e = 1e-9 * jnp.array([[0.0, 1.0], [1.0, 0.0]])
    # e itself is rounded to 1e-16 of k, i.e. 1e-7 of e.
    np.testing.assert_allclose(kernel_distance(k + e, k), 0.5e-18, rtol=1e-6)
    cosine = jnp.sum(k * (k + e)) / (jnp.linalg.norm(k) * jnp.linalg.norm(k + e))
    assert abs((1 - cosine) / 0.5e-18 - 1) > 0.5


def test_kernel_velocity_is_distance_by_time():
    """v = S / dt, with one dt for all or one a time."""
    k, k_prev = psd(0, 5, 3, 2), psd(1, 5, 3, 2)
    distance = kernel_distance(k, k_prev)
    np.testing.assert_allclose(kernel_velocity(k, k_prev, 0.4), distance / 0.4)
    dt = jnp.array([0.1, 0.2, 0.4])[:, None]
    np.testing.assert_allclose(kernel_velocity(k, k_prev, dt), distance / dt)


def test_kernel_velocity_is_of_order_dt_on_a_smooth_path():
    """Along k + t e the distance is quadratic: v halves with dt."""
    path = lambda t: psd(0) + t * psd(1)  # noqa: E731
    velocity = [kernel_velocity(path(dt), path(0.0), dt) for dt in (2e-4, 1e-4)]
    np.testing.assert_allclose(velocity[0] / velocity[1], 2.0, rtol=1e-3)


def test_alignment_analytic_cases():
    """y y^T is aligned 1 with y; the identity 1/sqrt(N); a kernel orthogonal to y 0."""
    y = jnp.array([[1.0], [-1], [1], [-1]])
    np.testing.assert_allclose(alignment(y @ y.T, y), 1.0, rtol=1e-14)
    np.testing.assert_allclose(alignment(jnp.eye(4), y), 0.5, rtol=1e-14)
    assert alignment(jnp.ones((4, 4)), y) == 0


def test_alignment_is_the_cosine_with_the_targets_kernel():
    """<K, y y^T>_F / (|K| |y y^T|) for several outputs and stacks; blind to scales."""
    k, y = psd(0, 6, 3), jax.random.normal(KEY, (6, 2))
    yy = np.asarray(y @ y.T)
    got = alignment(k, y)
    for i in range(3):
        k_i = np.asarray(k[i])
        cosine = np.sum(k_i * yy) / (np.linalg.norm(k_i) * np.linalg.norm(yy))
        np.testing.assert_allclose(got[i], cosine, rtol=1e-13)
    np.testing.assert_allclose(alignment(7 * k, 1e-3 * y), got, rtol=1e-13)


def test_alignment_is_plain():
    """A constant added to K counts for bare one-hot targets, not for centred ones."""
    classes = jnp.array([0, 1, 2, 0, 1, 2])
    one_hot = jax.nn.one_hot(classes, 3, dtype=jnp.float64)
    constant = jnp.ones((6, 6))
    assert alignment(constant, one_hot) > 0.5
    np.testing.assert_allclose(alignment(constant, one_hot - 1 / 3), 0, atol=1e-15)


def test_top_eigenvalues_descend():
    """The largest eigenvalues, largest first, of every matrix of a stack."""
    values = jnp.array([0.5, 7.0, -1.0, 3.0])
    q, _ = jnp.linalg.qr(jax.random.normal(KEY, (4, 4)))
    k = (q * jnp.broadcast_to(values, (4, 4))) @ q.T
    np.testing.assert_allclose(top_eigenvalues(k, 3), [7, 3, 0.5], rtol=1e-13)
    stacked = top_eigenvalues(jnp.stack([k, 2 * k]), 2)
    np.testing.assert_allclose(stacked, [[7, 3], [14, 6]], rtol=1e-13)


def test_top_eigenvalues_are_those_of_the_symmetric_part():
    """An antisymmetric rounding error has no influence."""
    k = psd(0)
    skew = jnp.triu(jnp.ones((6, 6)), 1)
    skew = 0.1 * (skew - skew.T)
    np.testing.assert_allclose(top_eigenvalues(k + skew, 6), top_eigenvalues(k, 6))


@pytest.mark.parametrize("count", [0, 7])
def test_impossible_count_of_eigenvalues_is_refused(count):
    """The error names the count and the kernel's size."""
    with pytest.raises(UserError, match=f"count={count}.*6"):
        top_eigenvalues(psd(0), count)
