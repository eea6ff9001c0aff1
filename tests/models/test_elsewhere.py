import ast
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import models
from models import MLP, BalancedResNet, BranchScaling, ResNet, layer_statistics

FOLDER = pathlib.Path(models.__file__).parent
X = jax.random.normal(jax.random.key(0), (16, 5), jnp.float32)
Y = jnp.sin(X[:, :1]) * X[:, 1:2]


@pytest.mark.parametrize("model", [MLP, ResNet, BalancedResNet])
def test_optax_loop_learns(model, fill):
    """A plain Flax and optax loop: the loss falls tenfold, signs stay."""
    net = model(width=32, depth=3, out_features=1, bias_std=0.1)
    variables = fill(net, X)
    params = variables["params"]
    rest = {k: v for k, v in variables.items() if k != "params"}
    optimizer = optax.adam(0.03)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        def loss(params):
            return jnp.mean((net.apply({"params": params, **rest}, X) - Y) ** 2)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    losses = []
    for _ in range(150):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.1 * losses[0]


def linen_variables(model):
    """Parameters and signs of a network that nnx holds, as Linen has them."""
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    s = nnx.to_pure_dict(nnx.state(model))["blocks"]["activation"]["s"]
    return jax.tree.map(
        np.array, {"params": params, "signs": {"blocks": {"activation": {"s": s}}}}
    )


def test_nnx_bridge_learns():
    """Through flax.nnx.bridge: same outputs as Linen, an nnx optimizer, fixed signs."""
    # One scale a layer: nnx compares and hashes the network that it wraps.
    branch = BranchScaling.fixed(np.ones(3), jnp.array([0.5, 0.6, 0.7]))
    net = BalancedResNet(width=32, depth=3, out_features=1, branch=branch)
    model = nnx.bridge.ToNNX(net, rngs=nnx.Rngs(params=0, signs=1))
    model = nnx.bridge.lazy_init(model, X)
    variables = linen_variables(model)
    np.testing.assert_allclose(model(X), net.apply(variables, X), rtol=1e-6)

    optimizer = nnx.Optimizer(model, optax.adam(0.03), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return jnp.mean((model(X) - Y) ** 2)

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    losses = [float(step(model, optimizer)) for _ in range(150)]
    assert losses[-1] < 0.1 * losses[0]
    after = linen_variables(model)
    jax.tree.map(np.testing.assert_array_equal, after["signs"], variables["signs"])
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), after["params"], variables["params"]
    )
    assert all(jax.tree.leaves(moved))


def test_models_import_only_jax_numpy_flax():
    """Every import in models/ is of jax, numpy, flax, models, or comes with Python."""
    allowed = {"jax", "numpy", "flax", "models"} | sys.stdlib_module_names
    files = list(FOLDER.rglob("*.py"))
    assert len(files) >= 7
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name}: relative import"
                names = [node.module or ""]
            else:
                continue
            for name in names:
                assert name.split(".")[0] in allowed, f"{file.name}: {name}"


def test_import_of_models_is_light_and_silent():
    """It loads none of the testbed's dependencies, prints nothing, sets nothing."""
    code = (
        "import json, sys, jax; before = dict(jax.config.values); import models;"
        "assert jax.config.values == before; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error:::models", "-c", code],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and done.stdout.count("\n") == 1
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert {"models", "jax", "flax", "numpy"} <= loaded
    heavy = {
        "testbed",
        "wandb",
        "tensorflow",
        "tensorflow_datasets",
        "neural_tangents",
        "matplotlib",
        "pandas",
        "sklearn",
    }
    assert not loaded & heavy


@pytest.mark.parametrize("model", [MLP, ResNet, BalancedResNet])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "softmax"}, "head='softmax'.*linear, relu"),
        ({"activation": "gelu"}, "activation='gelu'.*relu, identity, tanh"),
        ({"parameterization": "mup"}, "parameterization='mup'.*ntk, standard"),
        ({"width": 0}, "width=0.*at least 1"),
        ({"depth": 0}, "depth=0.*at least 1"),
        ({"depth": -3}, "depth=-3.*at least 1"),
        ({"out_features": 0}, "out_features=0.*at least 1"),
    ],
)
def test_impossible_networks_are_refused(model, settings, message):
    """The error names the field, its value and what it may be, before computation."""
    net = model(**{"width": 4, "depth": 2, "out_features": 1, **settings})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(net.init, jax.random.key(0), X)


IMAGES = np.zeros((2, 28, 28, 1), np.float32)


@pytest.mark.parametrize("model", [MLP, ResNet, BalancedResNet])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (IMAGES, r"shape \(2, 28, 28, 1\): must be .*; flatten the"),
        (np.zeros(0), r"shape \(0,\)"),
        (np.float32(1.0), r"shape \(\)"),
        (np.zeros((2, 0)), r"shape \(2, 0\)"),
        (np.ones((2, 5), np.complex64), "dtype complex64: must be real"),
        ([[1j, 2.0]], "complex.*must be real"),
        (jax.random.split(jax.random.key(0), (2, 5)), "must be real"),
    ],
)
def test_inputs_that_are_no_rows_are_refused(model, x, message, fill):
    """Images, numbers alone, and complex rows: one line, with the remedy."""
    net = model(width=4, depth=2)
    variables = fill(net, X)
    calls = [lambda: net.init(jax.random.key(0), x), lambda: net.apply(variables, x)]
    for call in [*calls, lambda: layer_statistics(net, variables, x)]:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_rows_of_other_types_are_cast(fill):
    """Integers, booleans, lists and float64 rows give what float32 rows give."""
    net = ResNet(width=4, depth=2)
    x = np.arange(12).reshape(4, 3) % 5
    variables = fill(net, x)
    want = net.apply(variables, jnp.asarray(x, jnp.float32))
    for same in (x, x.tolist(), x.astype(np.uint8), x.astype(np.float64)):
        np.testing.assert_array_equal(net.apply(variables, same), want)
    np.testing.assert_array_equal(
        net.apply(variables, x > 2), net.apply(variables, (x > 2).astype(np.float32))
    )
