from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import ResNet
from testbed.dynamics import Clock, Infinite, trace
from testbed.dynamics.clock import batch_schedule, critical_rate
from testbed.dynamics.infinite import LimitKernels, gp_posterior
from testbed.kernels import infinite_kernel
from testbed.kernels.neural_tangents import lenient, nt

pytestmark = pytest.mark.float64

N, M, C = 10, 4, 3


NET = ResNet(width=8, depth=3, out_features=C)


def inputs():
    x = np.asarray(jax.random.normal(jax.random.key(11), (N + M, 6), jnp.float64))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * 6**0.5


def limit_kernels(readout=False):
    kernel = infinite_kernel(NET)(inputs())
    ntk = kernel.nngp if readout else kernel.ntk
    return LimitKernels.of(kernel.nngp, ntk, N)


def targets():
    key = jax.random.key(12)
    return np.asarray(jax.random.normal(key, (N, C), jnp.float64))


def clock_for(kernels, steps, fraction=0.5, **options):
    lr = fraction * critical_rate(kernels.system.values, N)
    return Clock(lr, N, steps, **options)


def whole_permutations(steps):
    return np.asarray(batch_schedule(jax.random.key(1), steps, N, N))


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_eigenbasis_and_function_space_agree_on_full_batches(momentum):
    """The closed form is the batch recursion when every batch is the whole set."""
    kernels, y, recorded = limit_kernels(), targets(), (0, 1, 5, 60)
    clock = clock_for(kernels, recorded, momentum=momentum)
    closed = trace(Infinite(kernels, y, clock), clock)
    carried = trace(Infinite(kernels, y, clock, schedule=whole_permutations(60)), clock)
    for name in ("outputs/train", "outputs/test", "variance/train", "variance/test"):
        # 60 steps of float64 arithmetic on numbers of order 1 to 10.
        np.testing.assert_allclose(closed[name], carried[name], atol=1e-11)


def test_minibatch_law_is_that_of_functions_taking_the_same_steps():
    """Mean and variance under SGD are those of explicit functions drawn from GP(0, K).

    Dropping the cross terms of the covariance is the wrong law and is rejected.
    """
    kernels, y = limit_kernels(), targets()
    schedule = np.asarray(batch_schedule(jax.random.key(2), 30, N, 3))
    clock = clock_for(kernels, (0, 30), fraction=0.2, batch_size=3)
    seen = trace(Infinite(kernels, y, clock, schedule=schedule), clock)
    draws = 4000
    normal = jax.random.normal(jax.random.key(5), (N + M, draws * C), jnp.float64)
    root = np.linalg.cholesky(kernels.nngp + 1e-10 * np.eye(N + M))
    f = (root @ np.asarray(normal)).reshape(N + M, draws, C)
    for batch in schedule:
        residual = np.tensordot(kernels.ntk[:, batch], f[batch] - y[batch, None], 1)
        f = f - clock.lr / 3 * residual
    mean, var = f.mean(1), f.var(1, ddof=1).mean(-1)
    law_mean = np.concatenate([seen["outputs/train"][-1], seen["outputs/test"][-1]])
    law_var = np.concatenate([seen["variance/train"][-1], seen["variance/test"][-1]])
    mean_se = np.sqrt(law_var / draws)[:, None]
    assert np.abs((mean - law_mean) / mean_se).max() < 4  # 42 values at 4 sigma
    z = (var / law_var - 1) / np.sqrt(2 / (draws * C))
    assert np.abs(z).max() < 4
    without_cross = np.diag(kernels.nngp)
    assert np.abs((var / without_cross - 1) / np.sqrt(2 / (draws * C))).max() > 20


def test_gradient_flow_limit_is_that_of_neural_tangents():
    """At small steps, mean and variance equal neural-tangents' ensemble prediction."""
    kernels, y = limit_kernels(), targets()
    steps, flow_time = 2_000_000, 3.0
    clock = Clock(flow_time / steps, N, (0, steps))
    seen = trace(Infinite(kernels, y, clock), clock)
    x = inputs()

    def kernel_fn(x1, x2, get, **_):
        pair = infinite_kernel(NET)(x1, x2)
        if isinstance(get, str):
            return getattr(pair, get)
        return namedtuple("Kernel", get)(*(getattr(pair, name) for name in get))

    with lenient():
        predict = nt.predict.gradient_descent_mse_ensemble(
            kernel_fn, x[:N], jnp.asarray(y), diag_reg=0.0
        )
        # Its loss is |f - y|^2 / (2 N C): time runs C times slower than here.
        want = predict(t=flow_time * C, x_test=x[N:], get="ntk", compute_cov=True)
    # The step is 1.5e-6: discrete and continuous time differ by t w^2 eta / 2 < 1e-5.
    np.testing.assert_allclose(seen["outputs/test"][-1], want.mean, atol=2e-5)
    np.testing.assert_allclose(
        seen["variance/test"][-1], np.diag(want.covariance), atol=2e-5
    )


def test_readout_training_ends_at_the_nngp_posterior():
    """With Theta = K and t -> infinity, mean and variance are exact inference."""
    kernels, y = limit_kernels(readout=True), targets()
    clock = clock_for(kernels, (0, 10**7), fraction=1.0)
    seen = trace(Infinite(kernels, y, clock), clock)
    mean, variance = gp_posterior(kernels.nngp, y, ridge=0.0)
    np.testing.assert_allclose(seen["outputs/test"][-1], mean, atol=1e-8)
    np.testing.assert_allclose(seen["variance/test"][-1], variance, atol=1e-8)
    full = limit_kernels()
    other = trace(Infinite(full, y, clock_for(full, (0, 10**7), 1.0)), clock)
    assert np.abs(other["outputs/test"][-1] - mean).max() > 1e-2  # the NTK's limit


def test_centred_networks_have_the_mean_and_no_variance():
    """f - f_0 starts at 0 and follows the mean exactly."""
    kernels, y = limit_kernels(), targets()
    clock = clock_for(kernels, (0, 9))
    plain = trace(Infinite(kernels, y, clock), clock)
    centred = trace(Infinite(kernels, y, clock, center=True), clock)
    np.testing.assert_array_equal(centred["outputs/test"], plain["outputs/test"])
    assert not centred["variance/test"].any() and plain["variance/test"].all()


def test_cross_entropy_follows_its_own_recursion():
    """Every drawn function takes f <- f - eta Theta residual(f)."""
    kernels = limit_kernels()
    labels = np.arange(N) % C
    y = np.eye(C)[labels] - 1 / C
    clock = clock_for(kernels, (0, 25), fraction=0.9, momentum=0.3)
    law = Infinite(kernels, y, clock, loss="cross_entropy", center=True, draws=2)
    seen = trace(law, clock)
    f = v = np.zeros((N + M, C))
    for _ in range(25):
        p = np.exp(f[:N]) / np.exp(f[:N]).sum(-1, keepdims=True)
        v = 0.3 * v + kernels.ntk[:, :N] @ (p - np.eye(C)[labels])
        f = f - clock.rate * v
    got = np.concatenate([seen["outputs/train"][-1], seen["outputs/test"][-1]])
    np.testing.assert_allclose(got, f, atol=1e-12)
    assert np.abs(f).max() > 0.1


def test_cross_entropy_draws_start_at_the_gaussian_process():
    """At t = 0 the variance over draws is K's diagonal, within its standard error."""
    kernels, y = limit_kernels(), np.eye(C)[np.arange(N) % C] - 1 / C
    clock = clock_for(kernels, (0, 1))
    law = Infinite(
        kernels, y, clock, loss="cross_entropy", draws=2000, key=jax.random.key(4)
    )
    variance = law.observe(law.start(), 0)["variance/train"]
    z = (variance / np.diag(kernels.nngp)[:N] - 1) / np.sqrt(2 / (2000 * C))
    assert np.abs(z).max() < 4
    wrong = (variance / np.diag(kernels.ntk)[:N] - 1) / np.sqrt(2 / (2000 * C))
    assert np.abs(wrong).min() > 20
