import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import BalancedResNet, BranchScaling, ResNet, layer_statistics

pytestmark = pytest.mark.float64

X = np.array([[1.0, -0.5, 2.0, 0.3, -1.2]])
# Not constant and not normalized, so that a wrong power of any scale shows.
ALPHA = np.array([1.0, 0.6, 0.8, 0.9, 0.7, 1.1])
LAM = np.array([0.5, 0.8, 0.7, 0.4, 1.0, 0.6])


def one_vector(signs):
    """All layers, and the head if it has signs, get the signs of layer 0."""
    first = signs["blocks"]["activation"]["s"][0]
    return jax.tree.map(lambda a: jnp.broadcast_to(first, a.shape), signs)


@pytest.fixture(scope="module")
def sample():
    """{law: (|z_d|^2/|z_0|^2, mean of f^2)} of 24000 real networks of width 8 each."""
    settings = (8, len(ALPHA), 32, BranchScaling.fixed(ALPHA, LAM), "relu")
    balanced = BalancedResNet(*settings, dtype=jnp.float64)
    vanilla = ResNet(*settings, dtype=jnp.float64)

    def measure(net, variables):
        squares = layer_statistics(net, variables, X)["squared_norm"][:, 0]
        return squares[-1] / squares[0], jnp.mean(net.apply(variables, X) ** 2)

    def one(key):
        # Three networks that share nothing, so that the samples are independent.
        draw = jax.vmap(lambda key: balanced.init(key, X))(jax.random.split(key, 3))
        fresh, shared, plain = (
            jax.tree.map(lambda a, i=i: a[i], draw) for i in range(3)
        )
        shared = {"params": shared["params"], "signs": one_vector(shared["signs"])}
        return {
            "fresh": measure(balanced, fresh),
            "shared": measure(balanced, shared),
            "vanilla": measure(vanilla, {"params": plain["params"]}),
        }

    keys = jax.random.split(jax.random.key(0), 24000)
    draw = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=1000))
    return jax.tree.map(np.asarray, draw(keys))


def off(values, expected):
    """(mean - expected) in standard errors."""
    return (values.mean() - expected) / (values.std() / len(values) ** 0.5)


GROWTH = np.prod(ALPHA**2 + LAM**2)


def test_fresh_signs_keep_the_mean_square_exactly(sample):
    """E|z_d|^2 = prod(alpha_l^2 + lam_l^2) |z_0|^2 at width 8, and E f^2 with it."""
    ratio, f_squared = sample["fresh"]
    # The law has no 1/n correction; only sampling error is allowed, 1 % of one here.
    assert ratio.std() / len(ratio) ** 0.5 < 0.015 * GROWTH
    assert abs(off(ratio, GROWTH)) < 4
    # A ReLU head sees half of the mean square of z_d, whose law is symmetric.
    assert abs(off(f_squared, GROWTH * jnp.mean(X**2))) < 4


def test_vanilla_network_fails_that_law(sample):
    """Power: without signs E|z_d|^2 and E f^2 grow beyond it by order d/n."""
    ratio, f_squared = sample["vanilla"]
    assert off(ratio, GROWTH) > 8
    assert off(f_squared, GROWTH * jnp.mean(X**2)) > 8


def test_signs_shared_by_layers_fail_that_law(sample):
    """Power: one sign vector for all layers grows like the vanilla network."""
    ratio, f_squared = sample["shared"]
    assert off(ratio, GROWTH) > 8
    assert off(f_squared, GROWTH * jnp.mean(X**2)) > 8


def log_moments(values):
    """(mean, variance) of log, with their standard errors."""
    log = np.log(values)
    centred = log - log.mean()
    variance = centred.var()
    errors = np.sqrt(np.array([variance, (centred**4).mean() - variance**2]) / len(log))
    return np.array([log.mean(), variance]), errors


def z_scores(one, other):
    (a, a_error), (b, b_error) = log_moments(one), log_moments(other)
    return np.abs(a - b) / np.hypot(a_error, b_error)


def test_signs_shared_by_layers_give_the_vanilla_law(sample):
    """Shared signs: mean and variance of log|z_d|^2 are vanilla's; fresh: are not."""
    vanilla, _ = sample["vanilla"]
    shared, _ = sample["shared"]
    fresh, _ = sample["fresh"]
    assert z_scores(shared, vanilla).max() < 4
    # Hypoactivation moves the mean, correlations between layers the variance.
    assert z_scores(fresh, vanilla).min() > 8


def test_signs_shared_by_layers_are_a_change_of_coordinates(fill):
    """With one s everywhere, s * z obeys the vanilla recursion with weights W s."""
    settings = (6, len(ALPHA), 3, BranchScaling.fixed(ALPHA, LAM), "relu")
    balanced = BalancedResNet(*settings, dtype=jnp.float64)
    vanilla = ResNet(*settings, dtype=jnp.float64)
    variables = fill(balanced, X)
    signs = one_vector(variables["signs"])
    s = signs["head_activation"]["s"]
    params = dict(variables["params"])
    on_outputs = lambda w: w * jnp.broadcast_to(s, w.shape)  # noqa: E731
    turned = {
        "input": jax.tree.map(on_outputs, params["input"]),
        "blocks": jax.tree.map(on_outputs, params["blocks"]),
        "head": params["head"],
    }
    apply = jax.jit(balanced.apply)
    expected = jax.jit(vanilla.apply)({"params": turned}, X)
    got = apply({"params": params, "signs": signs}, X)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    assert np.abs(apply(variables, X) - expected).max() > 1e-2


@pytest.fixture(scope="module")
def large():
    net = BalancedResNet(width=200, depth=60, head="relu")
    init = jax.jit(net.init)
    rngs = {"params": jax.random.key(0), "signs": jax.random.key(1)}
    return net, init, init(rngs, X)


def test_signs_are_signs(large):
    """Every unit of every layer has +1 or -1, in the network's dtype."""
    _, _, variables = large
    blocks = variables["signs"]["blocks"]["activation"]["s"]
    head = variables["signs"]["head_activation"]["s"]
    assert blocks.shape == (60, 200) and head.shape == (200,)
    for s in (blocks, head):
        assert s.dtype == jnp.float32
        np.testing.assert_array_equal(np.abs(s), 1)


def independence(s):
    """z of the mean square of the sqrt(n) correlations between rows, expected 1."""
    rows, n = s.shape
    correlations = (s @ s.T)[np.triu_indices(rows, 1)] / n**0.5
    # Fair independent signs: pairwise uncorrelated squares of variance < 2.
    return ((correlations**2).mean() - 1) / (2 / len(correlations)) ** 0.5


def test_signs_are_fair_and_independent(large):
    """Mean 0, and no correlation between layers (head included) or between units."""
    _, _, variables = large
    signs = variables["signs"]
    blocks, head = signs["blocks"]["activation"]["s"], signs["head_activation"]["s"]
    s = np.concatenate([blocks, np.asarray(head)[None]]).astype(np.float64)
    assert abs(s.mean()) < 4 / s.size**0.5
    assert abs(independence(s)) < 4 and abs(independence(s.T)) < 4
    shared = np.broadcast_to(s[:1], s.shape)
    assert independence(shared) > 100  # power


def test_signs_come_from_their_own_key(large):
    """Key `signs` fixes the signs and nothing else; `params` fixes the parameters."""
    _, init, variables = large
    one, two = jax.random.key(0), jax.random.key(1)
    other_signs = init({"params": one, "signs": jax.random.key(9)}, X)
    other_params = init({"params": jax.random.key(9), "signs": two}, X)
    same = lambda a, b: all(  # noqa: E731
        np.array_equal(u, v)
        for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    assert same(other_signs["params"], variables["params"])
    assert not same(other_signs["signs"], variables["signs"])
    assert same(other_params["signs"], variables["signs"])
    assert not same(other_params["params"], variables["params"])


def test_without_a_key_of_their_own_signs_come_from_params(large):
    """A single key initializes everything, and another key draws other signs."""
    _, init, _ = large
    first = [
        init(jax.random.key(k), X)["signs"]["head_activation"]["s"] for k in (0, 1)
    ]
    assert 60 < np.sum(first[0] != first[1]) < 140  # 200 fair coins, 5.6 sd
    layers = init(jax.random.key(0), X)["signs"]["blocks"]["activation"]["s"]
    assert abs(independence(np.asarray(layers, np.float64))) < 4


def test_signs_are_not_parameters(large):
    """Signs are a collection of their own: no gradient, and apply leaves them alone."""
    net, _, variables = large
    assert set(variables) == {"params", "signs"}
    params = variables["params"]
    assert "signs" not in str(jax.tree.structure(params))
    assert set(params["blocks"]) == {"dense"}
    _, left = net.apply(variables, X, mutable=["signs"])
    jax.tree.map(np.testing.assert_array_equal, left["signs"], variables["signs"])


def test_lost_signs_are_an_error(large):
    """A network restored without its signs does not draw new ones in silence."""
    net, _, variables = large
    rngs = {"signs": jax.random.key(1)}
    with pytest.raises(flax.errors.FlaxError, match="signs"):
        net.apply({"params": variables["params"]}, X, rngs=rngs)
    with pytest.raises(flax.errors.FlaxError, match="signs"):
        net.apply({"params": variables["params"]}, X)
