import jax
import numpy as np
import pytest

from testbed.dynamics.clock import (
    Clock,
    batch_schedule,
    critical_rate,
    log_spaced_steps,
    stability_bound,
)
from testbed.dynamics.modes import response

RATE = 0.1
# Frozen, slow, fast, critical, overshooting, and just inside the stability bound.
EIGENVALUES = np.array([0.0, 1e-9, 0.3, 7.0, 10.0, 17.0, 19.9])


def explicit(w, steps, rate, momentum):
    residual = previous = np.ones_like(w)
    for _ in range(steps):
        new = residual - rate * w * residual + momentum * (residual - previous)
        residual, previous = new, residual
    return residual


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [0, 1, 2, 7, 300])
def test_residual_of_a_mode_follows_the_recursion(steps, momentum):
    """1 - w a_k is the residual after k heavy-ball steps, for every kind of mode."""
    a = response(EIGENVALUES, steps, RATE, momentum)
    want = explicit(EIGENVALUES, steps, RATE, momentum)
    # 300 steps of a recursion with factors of size 1, each rounding to 1e-16.
    np.testing.assert_allclose(1 - EIGENVALUES * a, want, atol=1e-12)


def test_response_is_finite_and_exact_for_a_null_mode():
    """a_k(0) = k rate for gradient descent: no inverse is taken."""
    np.testing.assert_allclose(response(np.zeros(1), 12345, RATE), 1234.5, rtol=1e-12)


def test_small_steps_reach_gradient_flow_and_large_ones_do_not():
    """(1 - eta w)^k -> exp(-w t) as eta -> 0 at fixed t = eta k, with error O(eta)."""
    w, t = np.array([0.5, 2.0, 5.0]), 1.0
    errors = []
    for steps in (10, 1000, 100_000):
        residual = 1 - w * response(w, steps, t / steps)
        errors.append(np.abs(residual - np.exp(-w * t)).max())
    assert errors[0] > 1e-2  # at rate 0.1 continuous time is the wrong law
    np.testing.assert_allclose(errors[1] / errors[2], 100, rtol=0.02)
    leading = (t * w**2 * np.exp(-w * t)).max() / 2  # of the error over eta
    np.testing.assert_allclose(errors[2], leading * t / 100_000, rtol=1e-3)


def test_momentum_outside_its_stability_bound_diverges_and_inside_does_not():
    """Heavy ball is stable iff eta w < 2 (1 + beta)."""
    w, beta = np.array([1.0]), 0.9
    bound = stability_bound(w, n_train=1, momentum=beta)
    inside = 1 - response(w, 3000, 0.99 * bound, beta)
    outside = 1 - response(w, 3000, 1.01 * bound, beta)
    assert abs(inside[0]) < 1e-3 and abs(outside[0]) > 1e3


def test_critical_rate_contracts_both_spectral_ends_alike():
    """|1 - eta w| is equal at the smallest and the largest eigenvalue."""
    values, n = np.array([0.2, 1.0, 5.0]), 8
    eta = critical_rate(values, n) / n
    np.testing.assert_allclose(abs(1 - eta * 0.2), abs(1 - eta * 5.0), rtol=1e-14)
    assert critical_rate(values, n) < stability_bound(values, n)


def test_recorded_steps_are_log_spaced_with_both_ends():
    """0 and the last step are there; ratios of late steps are constant."""
    steps = log_spaced_steps(10_000, 41)
    assert steps[0] == 0 and steps[1] == 1 and steps[-1] == 10_000
    assert list(steps) == sorted(set(steps))
    late = np.log(np.array(steps[-10:]))
    np.testing.assert_allclose(np.diff(late), np.log(10_000) / 40, rtol=0.01)
    assert log_spaced_steps(1, 25) == (0, 1)
    assert log_spaced_steps(7, 1) == (0, 7)


def test_a_longer_run_keeps_its_recorded_steps_and_their_spacing():
    """Each end's steps begin with those of the end before; log-spacing goes on."""
    ends = (1000, 1500, 9999, 40_000)
    schedules = [log_spaced_steps(end, 25, ends[:i]) for i, end in enumerate(ends)]
    assert schedules[0] == log_spaced_steps(1000, 25)
    for end, short, long in zip(ends, schedules, schedules[1:], strict=False):
        assert long[: len(short)] == short and short[-1] == end
    late = np.array([k for k in schedules[-1] if k not in ends[1:]])
    gaps = np.diff(np.log(late[late >= 1000]))
    np.testing.assert_allclose(gaps, np.log(1000) / 24, rtol=2e-3)
    assert log_spaced_steps(9, 1, (4,)) == (0, 4, 9)
    assert log_spaced_steps(9, 25, (1,)) == (0, 1, 9)


def test_a_longer_run_sees_the_same_batches():
    """The schedule of more steps begins with that of fewer."""
    key = jax.random.key(3)
    long, short = (batch_schedule(key, steps, 10, 4) for steps in (31, 7))
    np.testing.assert_array_equal(long[:7], short)
    assert not np.array_equal(long[7:14], short)


def test_time_is_rate_times_step():
    """t = lr step, and the mean loss divides the rate by N."""
    clock = Clock(lr=0.5, n_train=10, recorded=(0, 3, 8))
    np.testing.assert_allclose(clock.times, [0, 1.5, 4.0])
    assert clock.rate == 0.05 and clock.steps == 8


def test_every_epoch_visits_every_example_once():
    """Batches of an epoch are a permutation, and epochs differ."""
    schedule = batch_schedule(jax.random.key(3), steps=8, n_train=12, batch_size=3)
    assert schedule is not None and schedule.shape == (8, 3)
    first, second = schedule[:4].ravel(), schedule[4:].ravel()
    assert sorted(first) == sorted(second) == list(range(12))
    assert (first != second).any()
    longer = batch_schedule(jax.random.key(3), steps=20, n_train=12, batch_size=3)
    assert longer is not None
    np.testing.assert_array_equal(longer[:8], schedule)
    assert batch_schedule(jax.random.key(3), 8, 12, 0) is None
