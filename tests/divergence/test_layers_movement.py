import ast
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import testbed.divergence
from models import ResNet, layer_statistics
from testbed.divergence import log_norm, movement

pytestmark = pytest.mark.float64


@pytest.fixture(scope="module")
def trained():
    """A small network, its parameters, a gradient and an input."""
    net = ResNet(width=6, depth=4, out_features=2, bias_std=0.1, dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(0), (3, 5))
    params = jax.jit(net.init)(jax.random.key(1), x)["params"]
    loss = lambda p: jnp.sum(net.apply({"params": p}, x) ** 2)  # noqa: E731
    grads = jax.jit(jax.grad(loss))(params)
    return net, params, grads, x


def test_movement_is_relative_to_the_start_of_each_group(trained):
    """|c theta - theta| / |theta| = |c - 1| group by group; 0 for what did not move."""
    _, params, _, _ = trained
    factors = {"input": 1.5, "blocks": 0.9, "head": 1.0}
    moved = {k: jax.tree.map(lambda a, k=k: factors[k] * a, params[k]) for k in params}
    got = jax.jit(movement)(moved, params)
    assert set(got) == set(factors)
    for name, factor in factors.items():
        np.testing.assert_allclose(got[name], abs(factor - 1), rtol=1e-12, atol=0)


def test_movement_is_the_norm_over_all_arrays_of_a_group(trained):
    """Kernels and biases of a group are one long vector."""
    _, params, grads, _ = trained
    moved = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)
    flat = lambda t: np.concatenate([np.ravel(a) for a in jax.tree.leaves(t)])  # noqa: E731
    for name, got in movement(moved, params).items():
        change = np.linalg.norm(flat(moved[name]) - flat(params[name]))
        expected = change / np.linalg.norm(flat(params[name]))
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_movement_of_float32_parameters_keeps_small_changes():
    """A change of one unit in the last place of one of 10^6 float32 weights is seen."""
    start = {"blocks": jnp.ones(10**6, jnp.float32)}
    end = {"blocks": start["blocks"].at[7].set(1 + 2.0**-23)}
    got = movement(end, start)["blocks"]
    np.testing.assert_allclose(got, 2.0**-23 / 1e3, rtol=1e-12)


def test_movement_over_seeds_is_a_vmap(trained):
    """With a seed axis in front, vmap gives what each seed gives alone."""
    _, params, grads, _ = trained
    moved = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)
    stack = lambda *trees: jax.tree.map(lambda *a: jnp.stack(a), *trees)  # noqa: E731
    got = jax.vmap(movement)(stack(moved, params), stack(params, params))
    for name, value in movement(moved, params).items():
        np.testing.assert_allclose(got[name], [value, 0], rtol=1e-12, atol=0)


def test_movement_refuses_another_tree(trained):
    """Parameters of another structure cannot be compared."""
    _, params, _, _ = trained
    with pytest.raises(ValueError):
        movement({**params, "extra": params["head"]}, params)


def test_log_norm_starts_at_zero_and_adds_up(trained):
    """log(|z_l|^2/|z_0|^2): 0 at l = 0, a sum of log-ratios, blind to scale."""
    net, params, _, x = trained
    squares = layer_statistics(net, {"params": params}, x)["squared_norm"]
    got = log_norm(squares)
    assert got.shape == (net.depth + 1, 3)
    np.testing.assert_array_equal(got[0], 0)
    steps = np.diff(np.log(np.asarray(squares)), axis=0)
    np.testing.assert_allclose(got[1:], np.cumsum(steps, 0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(log_norm(100 * squares), got, rtol=1e-12, atol=1e-13)
    stacked = log_norm(jnp.stack([squares, 3 * squares]))
    np.testing.assert_allclose(stacked[1], got, rtol=1e-12, atol=1e-13)


def test_metrics_know_no_training():
    """Metrics import nothing of the testbed but its errors, numerics and each other."""
    allowed = ("testbed.divergence", "testbed.errors", "testbed.numerics")
    folder = pathlib.Path(testbed.divergence.__file__).parent
    for name in ("distances", "kernel_metrics", "ensemble", "departure", "layers"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            imported = []
            if isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            elif isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            for module in imported:
                ours = module.split(".")[0] in ("testbed", "models")
                assert not ours or module.startswith(allowed), f"{name}: {module}"
