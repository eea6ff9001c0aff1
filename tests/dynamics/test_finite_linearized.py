from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models import MLP, BalancedResNet, ResNet, layer_statistics
from testbed.divergence import departure_time, relative_distance
from testbed.dynamics import Clock, Finite, Infinite, Linearized, trace
from testbed.dynamics.clock import batch_schedule, critical_rate
from testbed.dynamics.infinite import LimitKernels
from testbed.dynamics.linearized import LinearizedClosedForm
from testbed.dynamics.linen import linen_network
from testbed.dynamics.problem import Problem
from testbed.dynamics.stiffness import stiffness
from testbed.kernels import empirical_ntk, infinite_kernel

pytestmark = pytest.mark.float64

N, M, N_IN, C = 12, 5, 8, 3


def inputs(dtype):
    x = jax.random.normal(jax.random.key(21), (N + M, N_IN), jnp.float64)
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True) * N_IN**0.5
    return np.asarray(x, dtype)


NET = BalancedResNet(width=16, depth=3, out_features=C, dtype=jnp.float64)


def problem(net=NET, *, fraction=0.4, steps=(0, 1, 4, 20), momentum=0.0, **options):
    x = inputs(net.dtype)
    labels = np.arange(N) % C
    y = np.asarray(np.eye(C)[labels] - 1 / C, net.dtype)
    kernel = infinite_kernel(net)(x)
    limit = LimitKernels.of(kernel.nngp, kernel.ntk, N)
    lr = options.pop("lr", fraction * critical_rate(limit.system.values, N))
    clock = Clock(lr, N, steps, momentum=momentum)
    key = jax.random.key(7)
    init, apply, layers = linen_network(net, x, options.pop("trained", "all"))
    options = {"seeds": 2, **options}
    made = Problem(init, apply, x[:N], y, x[N:], clock, key, layers, **options)
    return made, limit


@pytest.mark.parametrize(
    "loss, optimizer",
    [
        ("mse", "gd"),
        ("mse", "momentum"),
        ("mse", "adam"),
        ("cross_entropy", "sgd"),
    ],
)
def test_ensemble_takes_the_steps_of_a_plain_optax_loop(loss, optimizer):
    """Each seed's outputs are those of an ordinary training loop."""
    options: dict = {"lr": 0.01} if optimizer == "adam" else {}
    if optimizer == "sgd":
        options["schedule"] = batch_schedule(jax.random.key(3), 6, N, 4)
    momentum = 0.9 if optimizer == "momentum" else 0.0
    steps = (0, 6)
    made, _ = problem(
        steps=steps, loss=loss, optimizer=optimizer, momentum=momentum, **options
    )
    finite = Finite(made)
    seen = trace(finite, made.clock)
    lr = made.clock.lr
    sgd = optax.sgd(lr, momentum or None)
    transform = optax.adam(lr) if optimizer == "adam" else sgd

    @jax.jit
    def step(params, state, constant, x, y):
        def value(p):
            f = NET.apply({**constant, "params": p}, x)
            if loss == "mse":
                return jnp.sum((f - y) ** 2) / (2 * len(x))
            labels = jnp.argmax(y, -1)
            return optax.softmax_cross_entropy_with_integer_labels(f, labels).mean()

        updates, state = transform.update(jax.grad(value)(params), state, params)
        return optax.apply_updates(params, updates), state

    for seed in range(2):
        pick = lambda a, s=seed: a[s]
        params = jax.tree.map(pick, finite.initial)
        constant = jax.tree.map(pick, finite.constant)
        state = transform.init(params)
        for i in range(6):
            rows = np.arange(N) if made.schedule is None else made.schedule[i]
            x, y = made.x_train[rows], made.y_train[rows]
            params, state = step(params, state, constant, x, y)
        f = jax.jit(NET.apply)({**constant, "params": params}, made.x_test)
        # float64; adam divides by square roots of small gradients.
        np.testing.assert_allclose(seen["outputs/test"][-1, seed], f, atol=1e-9)


@pytest.mark.parametrize("momentum, center", [(0.0, False), (0.8, True)])
def test_parameter_space_and_closed_form_linearization_agree(momentum, center):
    """Steps in parameter space equal the eigenbasis formula, to rounding."""
    optimizer = "momentum" if momentum else "gd"
    made, _ = problem(
        steps=(0, 1, 7, 50), optimizer=optimizer, momentum=momentum, center=center
    )
    finite = Finite(made)
    stepped = trace(Linearized(finite), made.clock)
    closed = trace(LinearizedClosedForm(finite), made.clock)
    for name in ("outputs/train", "outputs/test"):
        # 50 float64 steps on outputs of order 1.
        np.testing.assert_allclose(stepped[name], closed[name], atol=1e-11)
    assert np.abs(trace(finite, made.clock)["outputs/test"] - closed[name]).max() > 1e-3


def test_stiffness_bounds_the_stable_rate():
    """J J^T's largest eigenvalue is found, outputs coupled; twice N over it divides
    linearizations that converge from those that diverge.
    """
    made, _ = problem()
    finite = Finite(made)
    found = stiffness(made, finite.initial, finite.constant, iterations=200)
    for seed in range(2):
        params = jax.tree.map(lambda a, s=seed: a[s], finite.initial)
        constant = jax.tree.map(lambda a, s=seed: a[s], finite.constant)
        apply = lambda p, x, k=constant: NET.apply({**k, "params": p}, x)
        kernel = empirical_ntk(apply, params, made.x_train, trace_outputs=False)
        full = np.asarray(kernel).transpose(0, 2, 1, 3).reshape(N * C, N * C)
        np.testing.assert_allclose(found[seed], np.linalg.eigvalsh(full)[-1], rtol=1e-6)
        averaged = np.linalg.eigvalsh(np.trace(kernel, axis1=2, axis2=3) / C)[-1]
        assert found[seed] > 1.05 * averaged
    for factor, stable in ((0.95, True), (1.05, False)):
        clock = Clock(factor * 2 * N / found.max(), N, (0, 300))
        moved = trace(LinearizedClosedForm(Finite(replace(made, clock=clock))), clock)
        largest = np.abs(moved["outputs/train"][-1]).max()
        assert (largest < 10) == stable


def test_a_trained_readout_is_its_own_linearization():
    """A network linear in what is trained never departs; trained whole, it does."""
    made, _ = problem(steps=(0, 5, 40), trained="readout", fraction=0.3)
    finite = Finite(made)
    f, g = trace(finite, made.clock), trace(Linearized(finite), made.clock)
    np.testing.assert_allclose(f["outputs/test"], g["outputs/test"], atol=1e-12)
    whole, _ = problem(steps=(0, 5, 40), fraction=0.3)
    other = Finite(whole)
    h = trace(Linearized(other), whole.clock)["outputs/test"]
    assert np.abs(trace(other, whole.clock)["outputs/test"] - h).max() > 1e-3


@pytest.mark.parametrize("net", ["resnet", "balanced", "mlp"])
def test_all_three_leave_the_start_with_one_derivative(net):
    """As lr -> 0, one step moves finite and linearized alike, with error O(lr^2).

    The infinite network's derivative is the limit of these at large width.
    """
    build = {"resnet": ResNet, "balanced": BalancedResNet, "mlp": MLP}[net]
    gaps = []
    for fraction in (0.02, 0.01):
        network = build(width=16, depth=2, out_features=C, dtype=jnp.float64)
        made, _ = problem(network, fraction=fraction, steps=(0, 1))
        finite = Finite(made)
        f, g = trace(finite, made.clock), trace(Linearized(finite), made.clock)
        moved = np.abs(g["outputs/test"][1] - g["outputs/test"][0]).max()
        gaps.append(np.abs(f["outputs/test"][1] - g["outputs/test"][1]).max() / moved)
    assert gaps[0] < 0.05
    np.testing.assert_allclose(gaps[0] / gaps[1], 2, rtol=0.1)  # gap/moved is O(lr)


def test_width_4096_depth_1_is_near_its_kernel():
    """Finite, linearized and infinite agree to O(1/sqrt(n)) for centred outputs.

    The bound is 10 / sqrt(4096) of the infinite network's movement; at width 16 the
    same distances are several times larger and the networks depart.
    """

    def distances(width):
        net = ResNet(width=width, depth=1, out_features=C)
        made, limit = problem(net, steps=(0, 1, 30), center=True, seeds=1)
        finite = Finite(made)
        runs = [trace(p, made.clock)["outputs/test"] for p in (
            finite, Linearized(finite),
            Infinite(limit, made.y_train, made.clock, center=True),
        )]  # fmt: skip
        f, g, limit_f = runs[0], runs[1], runs[2][:, None]
        near = relative_distance(f, g, g[:1])[1:]
        far = relative_distance(f, limit_f, limit_f[:1])[1:]
        return np.asarray(near).max(), np.asarray(far).max()

    wide, narrow = distances(4096), distances(16)
    assert max(wide) < 10 / 4096**0.5
    assert narrow[0] > 5 * wide[0] and narrow[1] > 5 * wide[1]


def test_a_seed_is_the_same_network_in_every_ensemble():
    """Seed i depends on i alone, not on how many there are or how they are mapped."""
    few, _ = problem(seeds=2, seed_axis="map")
    many, _ = problem(seeds=3, seed_axis="vmap")
    a, b = trace(Finite(few), few.clock), trace(Finite(many), many.clock)
    np.testing.assert_allclose(a["outputs/test"], b["outputs/test"][:, :2], atol=1e-12)
    assert np.abs(b["outputs/test"][:, 2] - b["outputs/test"][:, 1]).max() > 0.1


def test_how_a_run_is_cut_into_stretches_changes_no_bit():
    """20 steps at once equal 1 + 2 + 17 steps, to the last bit, in float32."""
    net = BalancedResNet(width=16, depth=3, out_features=C)
    made, _ = problem(net)
    for predictor in (Finite(made), Linearized(Finite(made))):
        once = predictor.advance(predictor.start(), 0, 20)
        cut = predictor.start()
        for start, stop in ((0, 1), (1, 3), (3, 20)):
            cut = predictor.advance(cut, start, stop)
        same = jax.tree.map(lambda a, b: bool((a == b).all()), once, cut)
        assert all(jax.tree.leaves(same))


def test_the_first_step_that_fails_is_known():
    """Far above the stability bound the loss overflows at a step that is kept."""
    net = BalancedResNet(width=16, depth=3, out_features=C)
    made, _ = problem(net, fraction=200.0, steps=(0, 400))
    finite = Finite(made)
    state = finite.advance(finite.start(), 0, 400)
    failed = np.asarray(state["failed_at"])
    assert (failed > 0).all() and (failed < 400).all()
    before = finite.advance(finite.start(), 0, int(failed.min()))
    assert (np.asarray(before["failed_at"]) == -1).all()


def test_kernel_and_layers_are_those_of_the_network():
    """What is observed at t = 0 equals direct computation on the first probes."""
    made, _ = problem(seeds=2)
    finite = Finite(made, probes=4)
    seen = finite.observe(finite.start(), 0)
    x = np.concatenate([made.x_train[:4], made.x_test[:4]])
    for seed in range(2):
        params = jax.tree.map(lambda a, s=seed: a[s], finite.initial)
        constant = jax.tree.map(lambda a, s=seed: a[s], finite.constant)
        apply = lambda p, x, k=constant: NET.apply({**k, "params": p}, x)
        kernel = empirical_ntk(apply, params, x)
        np.testing.assert_allclose(seen["kernel"][seed], kernel, rtol=1e-10)
        layers = layer_statistics(NET, {**constant, "params": params}, x)
        np.testing.assert_allclose(
            seen["layers/squared_norm"][seed], layers["squared_norm"], rtol=1e-12
        )
    assert "kernel" not in finite.observe(finite.start(), 0, kernels=False)


def test_departure_needs_a_finite_width():
    """A narrow deep network passes the tolerance; a readout-only one never does."""
    for trained, departs in (("all", True), ("readout", False)):
        made, _ = problem(steps=(0, 1, 3, 10, 30, 100), fraction=1.0, trained=trained)
        finite = Finite(made)
        f, g = trace(finite, made.clock), trace(Linearized(finite), made.clock)
        relative = relative_distance(
            f["outputs/test"], g["outputs/test"], g["outputs/test"][:1]
        )
        times = departure_time(made.clock.times, relative, 0.05)
        assert np.isfinite(times).all() == departs
