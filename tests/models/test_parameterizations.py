import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLP, BalancedResNet, BranchScaling, ResNet

pytestmark = pytest.mark.float64

X = np.array([[1.0, -0.5, 2.0, 0.3], [0.2, 1.5, -1.0, 1.0]])
WIDTH, BIAS_STD = 6, 0.4


def build(parameterization, model=BalancedResNet, bias_std=BIAS_STD, **settings):
    branch = {} if model is MLP else {"branch": BranchScaling.fixed(0.8, 0.6)}
    return model(
        width=WIDTH,
        depth=2,
        out_features=2,
        parameterization=parameterization,
        bias_std=bias_std,
        dtype=jnp.float64,
        **branch,
        **settings,
    )


def scales(net):
    """Standard deviation of every group's kernel in the standard parameterization."""
    head = 2.0 if net.head == "relu" else 1.0
    return {
        "input": (1 / X.shape[-1]) ** 0.5,
        "blocks": (2 / WIDTH) ** 0.5,
        "head": (head / WIDTH) ** 0.5,
    }


def rescaled(params, net):
    """NTK parameters as the standard parameters of the same function."""

    def scale(path, a):
        group, leaf = path[0].key, path[-1].key
        return a * (BIAS_STD if leaf == "bias" else scales(net)[group])

    return jax.tree_util.tree_map_with_path(scale, params)


@functools.cache
def draws(parameterization):
    """Parameters and outputs of 16000 networks; and outputs at a larger bias.

    The latter are from other parameters, and the two parameterizations' from other
    keys, so that the three samples of outputs are independent.
    """
    net = build(parameterization, head="relu")

    def one(key):
        draw = jax.vmap(lambda key: net.init(key, X))(jax.random.split(key))
        first, second = (jax.tree.map(lambda a, i=i: a[i], draw) for i in range(2))
        larger = net.clone(bias_std=0.5).apply(second, X)
        return first["params"], net.apply(first, X), larger

    seed = jax.random.key(1 if parameterization == "ntk" else 2)
    draw = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=1000))
    return jax.tree.map(np.asarray, draw(jax.random.split(seed, 16000)))


def moments(f):
    """Means and standard errors of moments of the outputs (count, 2, 2)."""
    log = np.log(np.sum(f[:, 0] ** 2, -1))
    values = np.stack(
        [
            f[:, 0, 0],
            np.abs(f[:, 0, 0]),
            f[:, 0, 0] ** 2,
            f[:, 0, 0] * f[:, 1, 0],
            f[:, 0, 0] * f[:, 0, 1],
            log,
            log**2,
        ]
    )
    return values.mean(-1), values.std(-1) / len(f) ** 0.5


def z_scores(one, other):
    return np.abs(one[0] - other[0]) / np.hypot(one[1], other[1])


def test_both_parameterizations_have_one_law():
    """Moments of outputs at initialization agree within four standard errors."""
    ntk, standard = (moments(draws(p)[1]) for p in ("ntk", "standard"))
    assert z_scores(ntk, standard).max() < 4


def test_another_law_is_told_apart():
    """Power: the same moments tell a bias of 0.5 from one of 0.4."""
    standard, other = moments(draws("standard")[1]), moments(draws("ntk")[2])
    assert z_scores(standard, other).max() > 6


@pytest.mark.parametrize("model", [MLP, ResNet, BalancedResNet])
@pytest.mark.parametrize("head", ["linear", "relu"])
def test_standard_network_is_the_ntk_network_with_scaled_parameters(model, head, fill):
    """Moving the scales into the parameters leaves the function, to rounding."""
    ntk, standard = build("ntk", model, head=head), build("standard", model, head=head)
    variables = fill(ntk, X)
    scaled = {**variables, "params": rescaled(variables["params"], ntk)}
    expected = jax.jit(ntk.apply)(variables, X)
    got = jax.jit(standard.apply)(scaled, X)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def test_gradients_differ_by_the_scales(fill):
    """d f / d theta_ntk = scale * d f / d theta_standard: one law, two NTKs."""
    ntk, standard = build("ntk"), build("standard")
    variables = fill(ntk, X)
    params, signs = variables["params"], variables["signs"]

    def gradient(net, params):
        total = lambda p: jnp.sum(net.apply({"params": p, "signs": signs}, X))  # noqa: E731
        return jax.jit(jax.grad(total))(params)

    of_ntk = gradient(ntk, params)
    of_standard = gradient(standard, rescaled(params, ntk))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
        of_ntk,
        rescaled(of_standard, ntk),
    )
    a, b = of_ntk["blocks"]["dense"]["kernel"], of_standard["blocks"]["dense"]["kernel"]
    assert np.abs(a - b).max() > 0.1


def standardized_moments(values, std):
    """z-scores of mean, variance and fourth moment against N(0, std^2)."""
    u = np.ravel(values) / std
    errors = np.array([1.0, 2.0, 96.0]) ** 0.5 / u.size**0.5
    return (np.array([u.mean(), (u**2).mean() - 1, (u**4).mean() - 3])) / errors


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_initial_parameters_are_gaussian(parameterization):
    """NTK: all N(0, 1).  Standard: kernels N(0, sw^2/n_in) and biases N(0, sb^2)."""
    net = build(parameterization, head="relu")
    params, *_ = draws(parameterization)
    ntk = parameterization == "ntk"
    for group, std in scales(net).items():
        tree = params[group]["dense"] if group == "blocks" else params[group]
        kernel = standardized_moments(tree["kernel"], 1.0 if ntk else std)
        bias = standardized_moments(tree["bias"], 1.0 if ntk else BIAS_STD)
        assert np.abs(kernel).max() < 4, group
        assert np.abs(bias).max() < 4, group
        # Power: the other parameterization's scale is far off.
        wrong = standardized_moments(tree["kernel"], std if ntk else 1.0)
        assert np.abs(wrong).max() > 20, group


def test_blocks_are_drawn_independently():
    """Weights of different blocks, or of a block and the head, are uncorrelated."""
    params, *_ = draws("ntk")
    kernel = params["blocks"]["dense"]["kernel"]
    first, second = kernel[:, 0], kernel[:, 1]
    head = params["head"]["kernel"]

    def z_of_correlation(a, b):
        return np.mean(a * b) * a.size**0.5  # both have variance 1

    assert abs(z_of_correlation(first, second)) < 4
    assert abs(z_of_correlation(first[..., :2], head)) < 4
    assert abs(z_of_correlation(second[..., :2], head)) < 4
    assert z_of_correlation(first, first) > 100  # power: one draw for all blocks
