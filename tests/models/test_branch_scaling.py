import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BalancedResNet, BranchScaling, ResNet

pytestmark = pytest.mark.float64

DEPTH = 5
X = np.random.default_rng(0).standard_normal((3, 4))


def scales(branch, depth=DEPTH):
    return tuple(np.asarray(a) for a in branch.at_depth(depth, jnp.float64))


@pytest.fixture(scope="module")
def network(fill):
    """output(branch): outputs of one fixed network under another branch scaling."""
    net = BalancedResNet(6, DEPTH, 2, dtype=jnp.float64)
    variables = fill(net, X)
    return lambda branch: net.clone(branch=branch).apply(variables, X)


def test_fixed_scales_are_the_same_in_every_layer():
    """fixed(alpha, lam) at any depth: these two numbers."""
    for depth in (1, 7):
        alpha, lam = scales(BranchScaling.fixed(0.8, 0.6), depth)
        np.testing.assert_array_equal(alpha, np.full(depth, 0.8))
        np.testing.assert_array_equal(lam, np.full(depth, 0.6))


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_depth_scaled_branch(exponent):
    """lam = c d^-exponent, alpha = 1."""
    for depth in (1, 4, 100):
        alpha, lam = scales(BranchScaling.depth_scaled(0.7, exponent), depth)
        np.testing.assert_array_equal(alpha, np.ones(depth))
        np.testing.assert_allclose(
            lam, np.full(depth, 0.7 / depth**exponent), rtol=1e-15
        )


@pytest.mark.parametrize("depth", [1, 4, 1000])
def test_normalized_scales_have_unit_squares(depth):
    """alpha^2 + lam^2 = 1 at every depth, and c = 1 at depth 1 has no skip."""
    alpha, lam = scales(BranchScaling.depth_scaled(1.0, normalized=True), depth)
    np.testing.assert_allclose(alpha**2 + lam**2, 1.0, rtol=1e-15)
    np.testing.assert_allclose(lam, depth**-0.5, rtol=1e-15)
    plain, _ = scales(BranchScaling.depth_scaled(1.0), depth)
    assert np.abs(plain**2 + lam**2 - 1).min() > 0.9 / depth  # the other convention


def test_scales_are_rounded_once():
    """float32 scales are the float64 ones rounded; 1 - lam^2 is formed in float64."""
    branch = BranchScaling.depth_scaled(0.3, normalized=True)
    alpha, lam = branch.at_depth(1000)
    exact_alpha, exact_lam = scales(branch, 1000)
    assert alpha.dtype == lam.dtype == jnp.float32
    np.testing.assert_array_equal(alpha, exact_alpha.astype(np.float32))
    np.testing.assert_array_equal(lam, exact_lam.astype(np.float32))


@pytest.mark.parametrize("array", [np.array, jnp.array, tuple, list])
def test_scales_of_each_layer(array):
    """Arrays give one value a layer, with and without depth scaling."""
    values = np.linspace(0.1, 0.9, DEPTH)
    alpha, lam = scales(BranchScaling.fixed(array(1 - values), array(values)))
    np.testing.assert_array_equal(alpha, 1 - values)
    np.testing.assert_array_equal(lam, values)
    alpha, lam = scales(BranchScaling.depth_scaled(array(values), normalized=True))
    np.testing.assert_allclose(lam, values / DEPTH**0.5, rtol=1e-15)
    np.testing.assert_allclose(alpha, np.sqrt(1 - lam**2), rtol=1e-15)


LAMS = np.array([0.2, 0.5, 0.9])
TRACED = {
    "fixed": lambda lam: BranchScaling.fixed(0.8, lam),
    "skip": lambda lam: BranchScaling.fixed(lam, 0.3),
    "depth_scaled": BranchScaling.depth_scaled,
    "normalized": lambda lam: BranchScaling.depth_scaled(lam, normalized=True),
    "layers": lambda lam: BranchScaling.fixed(1.0, jnp.arange(1.0, DEPTH + 1) * lam),
}


@pytest.mark.parametrize("make", TRACED.values(), ids=TRACED)
def test_scales_may_be_traced(make, network):
    """vmap over lam, and jit with lam as an argument, give what each number gives."""
    expected = np.stack([network(make(float(lam))) for lam in LAMS])
    traces = []

    @jax.jit
    def output(lam):
        traces.append(lam)
        return network(make(lam))

    got = np.stack([output(lam) for lam in LAMS])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert len(traces) == 1  # one program for all lam
    got = jax.vmap(lambda lam: network(make(lam)))(LAMS)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("make", TRACED.values(), ids=TRACED)
def test_outputs_are_differentiable_in_the_scales(make, network):
    """Derivative in lam = central difference."""
    total = jax.jit(lambda lam: jnp.sum(network(make(lam)) ** 2))
    # Error: h^2 f'''/6 by truncation, 1e-16/h by rounding; both below 1e-8 here.
    h = 1e-5
    expected = (total(0.5 + h) - total(0.5 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(total)(0.5), expected, rtol=1e-6)


def test_gradient_in_each_layers_scale(network):
    """Each layer's lam has a derivative; together they are that of the common lam."""
    layers = jax.jit(
        jax.grad(lambda lam: jnp.sum(network(BranchScaling.fixed(1.0, lam))))
    )
    common = jax.grad(lambda lam: jnp.sum(network(BranchScaling.fixed(1.0, lam))))
    each = layers(jnp.full(DEPTH, 0.4))
    assert each.shape == (DEPTH,) and (each != 0).all()
    np.testing.assert_allclose(each.sum(), common(0.4), rtol=1e-10)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_networks_with_layered_scales_hash_and_compare(array, fill):
    """A network is a static argument of jit, also with one scale a layer."""
    build = lambda last: ResNet(  # noqa: E731
        4, 3, 2, BranchScaling.fixed(array([1.0, 0.9, 0.8]), array([0.1, 0.2, last]))
    )
    assert build(0.3) == build(0.3) and hash(build(0.3)) == hash(build(0.3))
    assert build(0.3) != build(0.4)
    variables = fill(build(0.3), X)
    traces = []

    def output(net, variables, x):
        traces.append(net)
        return net.apply(variables, x)

    jitted = jax.jit(output, static_argnums=0)
    first, again = jitted(build(0.3), variables, X), jitted(build(0.3), variables, X)
    np.testing.assert_array_equal(first, again)
    assert len(traces) == 1
    assert np.abs(jitted(build(2.0), variables, X) - first).max() > 1e-3


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        (BranchScaling.fixed(1.0, np.ones(4)), r"lam has shape \(4,\).*\(5,\)"),
        (BranchScaling.fixed(np.ones(6), 1.0), r"alpha has shape \(6,\).*\(5,\)"),
        (BranchScaling.fixed(1.0, np.ones((5, 1))), r"lam has shape \(5, 1\)"),
        (BranchScaling.depth_scaled(3.0, normalized=True), "lam=1.34.*at most 1"),
        (BranchScaling.depth_scaled(-3.0, normalized=True), "at most 1"),
    ],
)
def test_impossible_scales_are_refused(branch, message):
    """Arrays of another length than the depth, and lam > 1 without room for alpha."""
    with pytest.raises(ValueError, match=message):
        branch.at_depth(DEPTH)
    with pytest.raises(ValueError, match=message):
        ResNet(4, DEPTH, 2, branch).init(jax.random.key(0), X)


def test_traced_scales_of_another_length_are_refused():
    """Shapes are known under jit, and so is this error."""
    with pytest.raises(ValueError, match=r"lam has shape \(4,\)"):
        jax.jit(lambda lam: BranchScaling.fixed(1.0, lam).at_depth(DEPTH))(jnp.ones(4))


@pytest.mark.parametrize("depth", [0, -2])
def test_scales_need_a_depth(depth):
    """Depth below 1 has no d^-1/2."""
    with pytest.raises(ValueError, match=f"depth={depth}"):
        BranchScaling.depth_scaled(1.0).at_depth(depth)
