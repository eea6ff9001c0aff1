"""Kernels of infinitely many channels: golden values, and networks of finite width."""

import jax
import numpy as np
import pytest

from models import BalancedConvResNet, BranchScaling, ConvResNet
from testbed.errors import UserError
from testbed.kernels import empirical_ntk, infinite_kernel
from testbed.kernels.convolutional import _evaluate, _Shape, tile_bytes
from testbed.kernels.neural_tangents import lenient, nt

pytestmark = pytest.mark.float64

HALF = 0.5**0.5


@pytest.fixture(scope="module")
def images():
    """Two images (4, 4, 2)."""
    m, h, w, c = np.ogrid[:2, :4, :4, :2]
    return np.cos((m + 1) * (h + 1) + 0.7 * (w + 1) * (c + 1) + 0.3 * m * c)


# NNGP and NTK at 00, 01, 11, of two independent programs (neural-tangents, NumPy).
GOLDEN = [
    (dict(depth=3, branch=BranchScaling.fixed(1.0, HALF), padding="CIRCULAR"), 0.0,
     [1.72798493781, .0712697057278, 1.69364470431],
     [5.18395481343, .0290406175079, 5.08093411293]),
    (dict(depth=2, branch=BranchScaling.fixed(HALF, HALF), pooling=True), 0.0,
     [.0647781554078, .0480660513013, .0523236964941],
     [.160934250125, .10738046141, .126579995547]),
    (dict(depth=2, branch=BranchScaling.fixed([1.0, 0.6], [0.5, 0.8]), strides=(1, 2),
          pooling=True, bias_std=0.1), 0.01,
     [.112404370243, .0789580464239, .108385381644],
     [.311305122471, .188579014811, .299470894704]),
]  # fmt: skip


@pytest.mark.parametrize("module", [ConvResNet, BalancedConvResNet])
@pytest.mark.parametrize("settings, head_bias, nngp, ntk", GOLDEN)
def test_golden_values(images, module, settings, head_bias, nngp, ntk):
    """The golden read-out has no bias, which here adds sigma_b^2 to both kernels."""
    kernel = infinite_kernel(module(width=8, out_features=1, **settings))(images)
    for found, expected in ((kernel.nngp, nngp), (kernel.ntk, ntk)):
        found = np.asarray(found)[[0, 0, 1], [0, 1, 1]] - head_bias
        np.testing.assert_allclose(found, expected, rtol=2e-10)


def by_stax(net, x):
    """The same by layers of neural-tangents, for alpha = 1."""
    stax, k, b = nt.stax, net.filter_size, net.bias_std
    _, lam = net.branch.at_depth(net.depth)
    conv = lambda size, stride, w, b: stax.Conv(
        1, (size, size), (stride, stride), net.padding, W_std=w, b_std=b or None
    )
    layers, left = [conv(k, 1, 1.0, b)], list(map(float, lam))
    for stride, length in zip(net.strides, LENGTHS, strict=True):
        for first in [stride > 1] + [False] * (length - 1):
            w, s = left.pop(0), stride if first else 1
            branch = stax.serial(stax.Relu(), conv(k, s, w * 2**0.5, w * b))
            skip = conv(1, s, 1.0, 0.0) if first else stax.Identity()
            layers += [stax.FanOut(2), stax.parallel(skip, branch), stax.FanInSum()]
    layers += [stax.GlobalAvgPool() if net.pooling else stax.Flatten()]
    return stax.serial(*layers, stax.Dense(1, b_std=b or None))[2](
        x, None, ("nngp", "ntk")
    )


LENGTHS = (2, 1)  # of the stages of 3 blocks


@pytest.mark.parametrize("bias_std", [0.0, 0.25])
@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_neural_tangents_has_the_same(images, padding, pooling, bias_std):
    """Layer by layer; the other padding is another kernel.

    Strided, with SAME; circular windows start elsewhere there than here and in Flax.
    """
    settings = dict(depth=3, branch=BranchScaling.fixed(1.0, [0.5, 0.75, 0.875]),
                    strides=(1, 2 if padding == "SAME" else 1), pooling=pooling,
                    bias_std=bias_std)  # fmt: skip
    net = ConvResNet(width=8, out_features=1, padding=padding, **settings)
    found = infinite_kernel(net)(images)
    with lenient():
        theirs = by_stax(net, images)
    np.testing.assert_allclose(found.nngp, theirs.nngp, rtol=1e-8)
    # Their NTK of an image with itself loses half of its digits.
    np.testing.assert_allclose(found.ntk, theirs.ntk, rtol=1e-6)
    other = {"SAME": "CIRCULAR", "CIRCULAR": "SAME"}[padding]
    wrong = ConvResNet(width=8, out_features=1, padding=other, **settings)
    assert np.all(abs(infinite_kernel(wrong)(images).ntk / theirs.ntk - 1) > 1e-3)


@pytest.mark.parametrize("pooling", [False, True])
def test_memory_is_what_the_compiler_says(pooling):
    """A tile takes at most what is told, and at least half of it."""
    x = np.zeros((24, 8, 8, 2))
    shape = _Shape(3, False, (1, 2), (2, 1), pooling, True, False, 0.0)
    program = _evaluate.lower(x, x, np.ones(3), np.ones(3), shape=shape).compile()
    taken = program.memory_analysis().temp_size_in_bytes
    assert taken < tile_bytes(24, 24, (8, 8)) < 2 * taken


@pytest.mark.parametrize("pooling", [False, True])
def test_tiles_are_the_whole(images, pooling):
    x = np.concatenate([images, images[:, ::-1], images[:1, :, ::-1]])
    net = ConvResNet(4, 3, 1, strides=(1, 2), pooling=pooling, bias_std=0.2)
    kernel_fn = infinite_kernel(net)
    for found, whole in zip(
        kernel_fn(x, block_rows=2)[:2], kernel_fn(x)[:2], strict=True
    ):
        np.testing.assert_allclose(found, whole, rtol=1e-12)
        assert np.linalg.eigvalsh(found).min() > 0


def test_circular_pooling_does_not_see_a_shift_of_one_image(images):
    shifted = np.roll(images[1:], (1, 2), (1, 2))

    def pair(padding, x):
        net = ConvResNet(4, 2, 1, padding=padding, pooling=True)
        return np.array(infinite_kernel(net)(images[:1], x)[:2])

    circular = pair("CIRCULAR", images[1:])
    np.testing.assert_allclose(circular, pair("CIRCULAR", shifted), rtol=1e-12)
    assert np.all(abs(pair("SAME", images[1:]) / pair("SAME", shifted) - 1) > 1e-4)


@pytest.mark.parametrize("module", [ConvResNet, BalancedConvResNet])
def test_mean_of_empirical_kernels(images, module):
    """At n = 64; the kernel of the other read-out is rejected."""
    settings = dict(depth=2, out_features=1, branch=BranchScaling.fixed(HALF, HALF))
    net = module(width=64, pooling=True, **settings)
    x = images.astype(np.float32)

    @jax.jit
    def one(key):
        variables = net.init(key, x)
        apply = lambda p: net.apply(variables | {"params": p}, x)[:, 0]
        jacobian = jax.tree.leaves(jax.jacobian(apply)(variables["params"]))
        flat = [j.reshape(2, -1) for j in jacobian]
        return sum(j @ j.T for j in flat)

    found = np.array(jax.lax.map(one, jax.random.split(jax.random.key(3), 200)))
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    law = np.asarray(infinite_kernel(net)(images).ntk)
    assert np.all(abs(found.mean(0) - law) < 4 * error)
    other = infinite_kernel(module(width=64, pooling=False, **settings))(images).ntk
    assert np.all(abs(found.mean(0) - np.asarray(other)) > 10 * error)


def test_empirical_ntk_is_that_of_explicit_jacobians(images):
    net = ConvResNet(width=4, depth=3, out_features=2, strides=(1, 2), bias_std=0.3)
    x = images.astype(np.float32)
    params = net.init(jax.random.key(0), x)["params"]
    f = lambda p, x: net.apply({"params": p}, x)
    jacobian = jax.tree.leaves(jax.jacobian(f)(params, x))
    flat = np.concatenate([np.asarray(j).reshape(2, 2, -1) for j in jacobian], -1)
    expected = np.einsum("ikp,jkp->ij", flat, flat, dtype=np.float64) / 2
    np.testing.assert_allclose(empirical_ntk(f, params, x), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(activation="tanh"), "model.activation=tanh"),
        (dict(filter_size=2), "model=ConvResNet: makes no network .*odd"),
        (dict(parameterization="standard"), "model.parameterization=standard"),
        (dict(padding="CIRCULAR", pooling=True, strides=(3,)), "strides="),
    ],
)
def test_what_has_no_kernel_says_so(images, settings, message):
    with pytest.raises(UserError, match=message):
        infinite_kernel(ConvResNet(width=4, depth=2, out_features=1, **settings))(
            images
        )
