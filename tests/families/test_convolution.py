"""Convolutional families: sizes with strides, data by name, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import ConvResNet
from testbed.cli import parse
from testbed.errors import UserError
from testbed.families import Counts, NoLaw, family
from testbed.kinds import KINDS
from testbed.runs.experiment import prepare
from testbed.runs.memory import check_training_memory, training_bytes
from testbed.validation import validate

pytestmark = pytest.mark.float64

CONV = ("conv_resnet", "balanced_conv_resnet")
each = pytest.mark.parametrize("kind", CONV)


@each
@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("bias_std", [0.0, 0.1])
@pytest.mark.parametrize("strides", [(1,), (1, 2), (2, 2, 3)])
@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 9, 3)])
def test_counts(kind, pooling, bias_std, strides, shape):
    """Parameters as Flax makes them; activations as they are sown, block by block."""
    settings = dict(pooling=pooling, bias_std=bias_std, strides=strides)
    m = KINDS[kind](kind=kind, width=6, depth=7, **settings)
    net = family(kind).network(m, 3)
    x = jnp.ones((1, *shape))
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    height, width, made = *shape[:2], 0
    for stride, blocks in zip(strides, _split(7, len(strides)), strict=True):
        for block in range(blocks):
            made += height * width
            if block == 0:
                height, width = -(-height // stride), -(-width // stride)
    assert family(kind).counts(m, shape, 3) == Counts(parameters, 6 * made)


def _split(depth, stages):
    return [len(part) for part in np.array_split(np.arange(depth), stages)]


@pytest.mark.parametrize(
    ("name", "pixels", "channels"),
    [("digits", 64, 1), ("mnist", 784, 1), ("cifar10", 1024, 3), ("cifar100", 1024, 3)],
)
def test_memory_of_data_by_name(name, pixels, channels):
    """Of images as they are published: a run too large is refused before any data."""
    words = [f"--data.name={name}", "--model.kind=conv_resnet", "--model.depth=4"]
    config = validate(parse([*words, "--model.width=16"]))
    check_training_memory(config)
    counts = family("conv_resnet").counts(config.model, _shape(pixels, channels), 10)
    assert counts.activations == 16 * 4 * pixels
    filters = 9 * 16 * (channels + 4 * 16)
    assert counts.parameters == filters + 10 * 16 * pixels
    assert training_bytes(config, _shape(pixels, channels), 10) > 4 * counts.parameters
    large = validate(parse([*words, "--model.width=100000"]))
    with pytest.raises(UserError, match="training takes"):
        check_training_memory(large)


def _shape(pixels, channels):
    side = round(pixels**0.5)
    return side, side, channels


@each
def test_the_settings_reach_the_network(kind):
    """From the command line to the Flax module, and its images to the predictors."""
    words = f"--model.kind={kind} --model.filter_size=5 --model.padding=CIRCULAR"
    words += " --model.strides=1,2 --model.pooling --model.width=4 --model.depth=2"
    words += " --model.branch=fixed --model.alpha=0.6 --model.lam=0.8 --train.seeds=1"
    words += " --data.train_size=10 --data.test_size=10 --kernel.probes=2"
    config = validate(parse(words.split()))
    problem = prepare(config, lambda text: None).predictors["finite"].problem
    net = family(kind).network(config.model, 10)
    filters = problem.networks()[0]["blocks"]
    assert any(leaf.shape[-4:-2] == (5, 5) for leaf in jax.tree.leaves(filters))
    assert isinstance(net, ConvResNet)
    assert (net.filter_size, net.padding, net.strides) == (5, "CIRCULAR", (1, 2))
    assert (
        net.pooling
        and net.branch.at_depth(2, jnp.float32)[0].tolist() == [pytest.approx(0.6)] * 2
    )
    assert problem.x_train.shape == (10, 8, 8, 1)
    norms = np.sum(np.asarray(problem.x_train) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(norms, 64, rtol=1e-5)  # |x|^2 = n_in, as of vectors


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--model.filter_size=4", "model.filter_size=4: must be odd"),
        ("--model.strides=0", r"model.strides=\(0,\): must be one number a stage"),
        ("--model.strides=1,1,1 --model.depth=2", "has 3 stages"),
        ("--model.padding=VALID", "model.padding=VALID: must be one of SAME, CIRCULAR"),
        ("--data.name=gp", "data.name=gp: gives vectors, and model.kind=conv_resnet"),
        ("--model.alpha=0 --model.lam=0 --model.branch=fixed", "is constant"),
    ],
)
def test_what_makes_no_network_is_one_line(words, told):
    """Before any data is loaded."""
    with pytest.raises(UserError, match=told):
        validate(parse(["--model.kind=conv_resnet", *words.split()]))


def test_what_needs_filters_and_what_needs_vectors():
    """Settings of filters are refused elsewhere, and images as a teacher's input."""
    with pytest.raises(UserError, match="model.filter_size=5: is no setting of model"):
        parse(["--model.filter_size=5"])
    with pytest.raises(UserError, match="data.teacher=conv_resnet: must be one of mlp"):
        validate(parse(["--data.name=gp", "--data.teacher=conv_resnet"]))
    with pytest.raises(UserError, match="use a set of images"):
        family("conv_resnet").arrange(np.ones((3, 64)))


@each
def test_signs_are_told_in_the_formula(kind):
    """And filters, and that there is no law."""
    m = KINDS[kind](kind=kind, depth=4, filter_size=5)
    text = family(kind).formula(m)
    assert "5 × 5" in text and ("signs" in text) == kind.startswith("balanced")
    assert family(kind).layer_law(m, 4) == NoLaw(
        "convolutional networks have no law here yet, and no sampler"
    )


def test_statistics_of_every_block_with_strides(tmp_path):
    """Gradient norms are those of the blocks' own weights, also where one strides."""
    words = "--model.kind=conv_resnet --model.strides=2,1,2 --model.width=4"
    words += " --model.depth=5 --train.seeds=1 --data.train_size=10"
    words += " --data.test_size=10 --kernel.probes=2"
    finite = prepare(validate(parse(words.split())), print).predictors["finite"]
    problem = finite.problem
    seen = finite.observe(finite.start(), 0, False)
    assert seen["layers/squared_norm"].shape == (1, 6, 4)
    params, constant = jax.tree.map(
        lambda leaf: leaf[0], (finite.initial, finite.constant)
    )
    x, y = jnp.asarray(problem.x_train), jnp.asarray(problem.y_train)
    f_0 = problem.apply(params, constant, x)

    def loss(p):
        centred = problem.apply(p, constant, x) - f_0
        return jnp.mean(jnp.sum((centred - y) ** 2, 1)) / 2

    blocks = jax.grad(loss)(params)["blocks"]
    norm = lambda tree: sum(float(jnp.sum(v**2)) for v in jax.tree.leaves(tree)) ** 0.5
    one = lambda name, i: jax.tree.map(lambda leaf: leaf[i], blocks[name])
    expected = [
        norm(blocks["down_0"]),
        norm(one("stage_0", 0)),
        norm(one("stage_1", 0)),
        norm(one("stage_1", 1)),
        norm(blocks["down_2"]),
    ]
    np.testing.assert_allclose(seen["layers/gradient_norm"][0], expected, rtol=1e-4)
