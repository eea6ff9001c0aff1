import jax
import jax.numpy as jnp
import numpy as np
import pytest

from testbed.divergence import accuracy, relative_distance, rms_distance

pytestmark = pytest.mark.float64

KEY = jax.random.key(1)


def draw(index, *shape):
    return jax.random.normal(jax.random.fold_in(KEY, index), shape)


def test_rms_distance_is_the_root_of_the_mean_square():
    """RMS = |f - g|_F / sqrt(N C); a constant gap c has RMS |c|."""
    f, g = draw(0, 7, 3), draw(1, 7, 3)
    expected = np.linalg.norm(np.asarray(f - g)) / 21**0.5
    np.testing.assert_allclose(rms_distance(f, g), expected, rtol=1e-14)
    np.testing.assert_allclose(rms_distance(f, f + 2.5), 2.5, rtol=1e-14)
    assert rms_distance(f, f) == 0


def test_leading_axes_broadcast_like_a_loop():
    """Distances of (T, S) stacks against one reference are those of each pair."""
    f, g, g_start = draw(0, 4, 3, 5, 2), draw(1, 4, 1, 5, 2), draw(2, 5, 2)
    got = relative_distance(f, g, g_start)
    assert got.shape == (4, 3) and got.dtype == jnp.float64
    for t in range(4):
        for s in range(3):
            one = relative_distance(f[t, s], g[t, 0], g_start)
            np.testing.assert_allclose(got[t, s], one, rtol=1e-14)


def test_float32_outputs_are_compared_in_float64():
    """Distances of float32 outputs are exact: no float32 sum over 10^6 entries."""
    f = jnp.full((10**6, 1), 0.1, jnp.float32)
    expected = float(np.float32(0.1))
    distance = rms_distance(f, jnp.zeros_like(f))
    assert distance.dtype == jnp.float64
    np.testing.assert_allclose(distance, expected, rtol=1e-12)


def test_unit_is_the_way_of_the_reference():
    """A predictor that stayed behind is at distance 1; so is one twice as far."""
    start, way = draw(0, 6, 2), draw(1, 6, 2)
    g = start + way
    np.testing.assert_allclose(relative_distance(start, g, start), 1, rtol=1e-14)
    f = start + 2 * way
    np.testing.assert_allclose(relative_distance(f, g, start), 1, rtol=1e-14)


def test_relative_distance_does_not_see_the_start():
    """Adding f_0 to predictor, reference and start changes nothing; RMS(g) would."""
    f, g, f_0 = draw(0, 6, 2), draw(1, 6, 2), 10 * draw(2, 6, 2)
    plain = relative_distance(f, g, jnp.zeros((6, 2)))
    moved = relative_distance(f + f_0, g + f_0, f_0)
    np.testing.assert_allclose(moved, plain, rtol=1e-13)
    by_size = rms_distance(f + f_0, g + f_0) / rms_distance(f_0, -g)
    assert abs(by_size / plain - 1) > 0.5


def test_linearization_starts_at_distance_zero():
    """f_0 + t v + t^2 w against f_0 + t v: proportional to t, so 0 at the start."""
    f_0, v, w = (draw(i, 6, 2) for i in range(3))
    t = jnp.array([1e-3, 1e-2, 1e-1])[:, None, None]
    lift = lambda a: a[None]  # noqa: E731
    g = lift(f_0) + t * lift(v)
    distance = relative_distance(g + t**2 * lift(w), g, f_0)
    # Cancellation of f_0 in g - f_0 costs 1e-16 / t.
    np.testing.assert_allclose(distance[1:] / distance[:-1], 10.0, rtol=1e-9)
    # A reference that starts elsewhere is infinitely far at first.
    elsewhere = relative_distance(g, g - lift(f_0), jnp.zeros((6, 2)))
    assert elsewhere[0] > 90 * elsewhere[2]


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_without_a_way_there_is_no_unit(gap):
    """Where the reference has not moved the ratio is nan, be f on it or off it."""
    g = draw(0, 6, 2)
    assert jnp.isnan(relative_distance(g + gap, g, g))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_diverged_predictor_is_infinitely_far(bad):
    """Non-finite f: inf against a sound reference; a non-finite reference: nan."""
    f, g, g_start = draw(0, 6, 2), draw(1, 6, 2), draw(2, 6, 2)
    broken = f.at[3, 1].set(bad)
    assert relative_distance(broken, g, g_start) == jnp.inf
    assert jnp.isnan(relative_distance(f, broken, g_start))
    assert jnp.isnan(relative_distance(broken, broken, g_start))


def test_accuracy_of_many_classes_is_that_of_argmax():
    """C > 1: share of examples whose largest output is the label's."""
    outputs = jnp.array([[3.0, 1, 2], [0, 5, 1], [0, 1, 2], [9, 1, 2]])
    assert accuracy(outputs, jnp.array([0, 1, 1, 2])) == 0.5
    stacked = jnp.stack([outputs, -outputs])
    np.testing.assert_array_equal(accuracy(stacked, [0, 1, 2, 0]), [1.0, 0.0])


def test_accuracy_of_two_classes_is_that_of_the_sign():
    """C = 1: class 1 is coded +1, class 0 is coded -1, a tie at 0 counts as class 0."""
    outputs = jnp.array([[0.3], [-0.1], [2.0], [0.0]])
    assert accuracy(outputs, jnp.array([1, 0, 1, 0])) == 1.0
    assert accuracy(outputs, jnp.array([1, 0, 0, 1])) == 0.5
    two = jnp.concatenate([-outputs, outputs], -1)  # the same as two outputs
    assert accuracy(two, jnp.array([1, 0, 0, 1])) == 0.5


@pytest.mark.parametrize("outputs", [1, 3])
def test_nan_output_is_a_wrong_answer(outputs):
    """A nan never counts as right, whatever the label."""
    f = jnp.full((4, outputs), jnp.nan)
    for label in range(max(outputs, 2)):
        assert accuracy(f, jnp.full(4, label)) == 0


def test_rounding_is_no_distance():
    """A gap of rounding size on a reference that hardly moved is undefined; the same
    gap on one that moved far is small, and a true gap on a slow one is kept.
    """
    start = np.zeros((5, 2))
    gap, rounding = 1e-6, 5e-6
    slow, far = start + 1e-5, start + 1.0
    assert np.isnan(relative_distance(slow + gap, slow, start, rounding))
    np.testing.assert_allclose(relative_distance(slow + gap, slow, start), 0.1)
    np.testing.assert_allclose(
        relative_distance(far + gap, far, start, rounding), 1e-6, rtol=1e-9
    )
    np.testing.assert_allclose(
        relative_distance(slow + 1e-5, slow, start, rounding), 1, rtol=1e-9
    )
