"""Convolutional residual networks against loops written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BalancedConvResNet, BranchScaling, ConvResNet, layer_statistics

BRANCH = BranchScaling.depth_scaled(0.8)


def conv(h, group, stride, padding, variance, bias_std):
    kernel = group["kernel"]
    k, n_in = kernel.shape[0], kernel.shape[2]
    sides = h.shape[1:3]
    out = [-(-side // stride) for side in sides]
    # Zeros as XLA puts them: the smaller half before.
    before = [
        k // 2 if padding == "CIRCULAR" else max((o - 1) * stride + k - side, 0) // 2
        for o, side in zip(out, sides, strict=True)
    ]
    y = np.zeros((len(h), *out, kernel.shape[3]))
    for i, j, a, b in np.ndindex(*out, k, k):
        p, q = stride * i + a - before[0], stride * j + b - before[1]
        if padding == "CIRCULAR":
            p, q = p % sides[0], q % sides[1]
        if 0 <= p < sides[0] and 0 <= q < sides[1]:
            y[:, i, j] += h[:, p, q] @ kernel[a, b]
    y *= np.sqrt(variance / (k**2 * n_in))
    return y + bias_std * group["bias"] if "bias" in group else y


def blocks(net, variables):
    """(stride, parameters, signs) of every block, in order."""
    params = variables["params"]["blocks"]
    signs = variables.get("signs", {}).get("blocks")
    depths = [net.depth // len(net.strides)] * len(net.strides)
    for i in range(net.depth % len(net.strides)):
        depths[i] += 1
    for i, (stride, length) in enumerate(zip(net.strides, depths, strict=True)):
        if stride > 1:
            s = signs[f"down_{i}"]["activation"]["s"] if signs else 1.0
            yield stride, params[f"down_{i}"], s
            length -= 1
        for layer in range(length):
            group = jax.tree.map(lambda v, at=layer: v[at], params[f"stage_{i}"])
            s = signs[f"stage_{i}"]["activation"]["s"][layer] if signs else 1.0
            yield 1, group, s


def written_out(net, variables, x):
    variables = jax.tree.map(np.asarray, variables)
    alpha, lam = (np.asarray(v) for v in net.branch.at_depth(net.depth))
    params, b = variables["params"], net.bias_std
    z, hidden = [conv(x, params["input"], 1, net.padding, 1.0, b)], []
    for layer, (stride, group, s) in enumerate(blocks(net, variables)):
        hidden.append(np.maximum(s * z[-1], 0))
        skip = z[-1]
        if stride > 1:
            skip = conv(skip, group["skip"], stride, net.padding, 1.0, 0.0)
        branch = conv(hidden[-1], group["conv"], stride, net.padding, 2.0, b)
        z.append(alpha[layer] * skip + lam[layer] * branch)
    last = z[-1].mean((1, 2)) if net.pooling else z[-1].reshape(len(x), -1)
    f = last @ params["head"]["kernel"] / np.sqrt(last.shape[1])
    return f + b * params["head"]["bias"] if b else f, z, hidden


@pytest.mark.parametrize("module", [ConvResNet, BalancedConvResNet])
@pytest.mark.parametrize(
    "padding, strides, pooling, bias_std",
    [("SAME", (1,), False, 0.0), ("CIRCULAR", (1, 2), True, 0.3),
     ("SAME", (2, 2), False, 0.3)],
)  # fmt: skip
def test_network_and_statistics_are_those_of_a_loop(
    fill, module, padding, strides, pooling, bias_std
):
    net = module(
        width=6, depth=5, out_features=2, branch=BRANCH, padding=padding,
        strides=strides, pooling=pooling, bias_std=bias_std,
    )  # fmt: skip
    x = np.random.default_rng(1).standard_normal((3, 4, 6, 2)).astype(np.float32)
    variables = fill(net, x)
    expected, z, hidden = written_out(net, variables, x)
    f = net.apply(variables, x)
    np.testing.assert_allclose(f, expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(net.apply(variables, x[0]), f[0], rtol=1e-4, atol=1e-5)
    found = layer_statistics(net, variables, x)
    axes = (1, 2, 3)
    ratio = [
        (h**2).sum(axes) / (v**2).sum(axes) for h, v in zip(hidden, z, strict=False)
    ]
    norms = [(v**2).mean(axes) for v in z]
    active = [(h > 0).mean(axes) for h in hidden]
    np.testing.assert_allclose(found["squared_norm"], norms, rtol=1e-4)
    np.testing.assert_allclose(found["active_fraction"], active, atol=1e-6)
    np.testing.assert_allclose(found["activation_ratio"], ratio, rtol=1e-4)
    loss = lambda p: jnp.sum(net.apply(variables | {"params": p}, x) ** 2)
    gradient = jax.tree.leaves(jax.grad(loss)(variables["params"]))
    assert all(np.isfinite(g).all() and np.any(g) for g in gradient)


def test_signs_are_fresh_in_every_layer_and_one_a_channel():
    net = BalancedConvResNet(width=32, depth=4, out_features=1)
    signs = net.init(jax.random.key(0), jnp.ones((1, 4, 4, 1)))["signs"]
    s = np.asarray(signs["blocks"]["stage_0"]["activation"]["s"])
    assert s.shape == (4, 32) and set(np.unique(s)) == {-1.0, 1.0}
    assert len(np.unique(s, axis=0)) == 4


def test_program_does_not_grow_with_depth():
    def size(depth):
        net = ConvResNet(width=4, depth=depth, out_features=1, strides=(1, 2))
        x = jnp.ones((1, 4, 4, 1))
        shapes = jax.eval_shape(net.init, jax.random.key(0), x)
        return len(jax.jit(net.apply).lower(shapes, x).as_text().splitlines())

    assert size(400) == size(8)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(filter_size=2), "filter_size=2: must be odd"),
        (dict(padding="same"), "padding='same': must be one of SAME, CIRCULAR"),
        (dict(strides=(1, 0)), "strides="),
        (dict(strides=()), "strides="),
        (dict(depth=1, strides=(1, 2)), "depth=1: must be at least 2"),
        (dict(width=0), "width=0"),
        (dict(head="mean"), "head='mean'"),
    ],
)
def test_settings_that_make_no_network_are_one_line(settings, message):
    net = ConvResNet(**(dict(width=4, depth=2, out_features=1) | settings))
    with pytest.raises(ValueError) as error:
        net.init(jax.random.key(0), jnp.ones((1, 4, 4, 1)))
    assert message in str(error.value).splitlines()[0]


@pytest.mark.parametrize("x", [np.ones((2, 16)), np.ones((1, 4, 4, 1), complex)])
def test_inputs_that_are_no_images_are_refused(x):
    with pytest.raises(ValueError, match="x has"):
        ConvResNet(width=4, depth=2, out_features=1).init(jax.random.key(0), x)
