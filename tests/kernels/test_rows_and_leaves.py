"""What an empirical NTK is the kernel of: parameters, inputs, independent rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from testbed.errors import UserError
from testbed.kernels import empirical_ntk, linearize, structured_ntk
from testbed.kernels.rows import check_independent_rows

pytestmark = [
    pytest.mark.float64,
    pytest.mark.usefixtures("quick_compile", "any_ranks"),
]
X = jax.random.normal(jax.random.key(1), (7, 5), jnp.float32)
Y = jax.random.normal(jax.random.key(2), (4, 5), jnp.float32)


@pytest.fixture
def any_ranks():
    """Permits rank promotion: functions of users do it."""
    with jax.numpy_rank_promotion("allow"):
        yield


# ------------------------------------------------------------ what it is the kernel of
def complex_case():
    """A network of a complex and a real parameter, and the same in real ones."""
    k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(k1, (3, 6), jnp.float64)
    w = jax.random.normal(k2, (6, 4), jnp.complex128)
    b = jax.random.normal(k3, (4,), jnp.float64)
    f = lambda p, x: jnp.abs(x @ p["w"]) + p["b"]
    g = lambda p, x: f({"w": p["re"] + 1j * p["im"], "b": p["b"]}, x)
    return f, {"w": w, "b": b}, g, {"re": w.real, "im": w.imag, "b": b}, x


@pytest.mark.parametrize("block_rows", [None, 2])
def test_complex_parameters_count_as_two(block_rows):
    """The kernel is that of the real and imaginary parts, guarded, traced, in tiles."""
    f, params, g, real, x = complex_case()
    want = empirical_ntk(g, real, x)
    np.testing.assert_allclose(
        empirical_ntk(f, params, x, block_rows=block_rows), want, rtol=1e-13
    )
    traced = jax.jit(structured_ntk(f))(params, x)
    np.testing.assert_allclose(traced, want, rtol=1e-13)
    f_lin = linearize(f, params)
    np.testing.assert_allclose(empirical_ntk(f_lin, params, x), want, rtol=1e-13)
    # Not that of the real parameter alone, which is 1.
    assert np.diag(want).min() > 1.5


def test_complex_inputs_keep_their_imaginary_part():
    """Real weights on complex rows: the kernel of |x w| from its explicit Jacobian."""
    _, _, _, real, x = complex_case()
    z, w = x[:, :3] + 1j * x[:, 3:], {"w": real["re"][:3]}
    f = lambda p, z: jnp.abs(z @ p["w"] * 2.0 + p["w"][0]) ** 2
    jacobian = jax.jacfwd(lambda p: f(p, z))(w)["w"].reshape(3, 4, -1)
    want = jnp.einsum("icp,jcp->ij", jacobian, jacobian) / 4
    np.testing.assert_allclose(empirical_ntk(f, w, z), want, rtol=1e-13)
    g = lambda p, z: jnp.abs(z @ p["w"])
    jacobian = jax.jacfwd(lambda p: g(p, z))(w)["w"].reshape(3, 4, -1)
    want = jnp.einsum("icp,jcp->ij", jacobian, jacobian) / 4
    np.testing.assert_allclose(empirical_ntk(g, w, z), want, rtol=1e-13)


def test_fixed_leaves_are_listed_once():
    """Integers, booleans and keys are named in one warning; the rest is the kernel."""
    x = jax.random.normal(jax.random.key(1), (3, 4), jnp.float64)
    w = jax.random.normal(jax.random.key(2), (4, 2), jnp.float64)
    key = jax.random.key(3)
    params = {"w": w, "step": 3, "mask": np.ones(2, bool), "rng": [key], "gain": 2.0}

    def f(p, x):
        noise = jax.random.normal(p["rng"][0], (2,), jnp.float64)
        return p["gain"] * (x @ p["w"]) * p["mask"] + p["step"] * noise

    outputs = x @ w
    want = 4 * x @ x.T + outputs @ outputs.T / 2
    for call in (
        lambda: empirical_ntk(f, params, x),
        lambda: structured_ntk(f)(params, x, None),
        lambda: empirical_ntk(f, params, x, block_rows=2),
    ):
        with pytest.warns(UserWarning) as caught:
            got = call()
        (warning,) = caught
        message = str(warning.message)
        assert "params['mask'] (bool), params['rng'][0] (key<fry>)" in message
        assert "params['step'] (int64)" in message and "'w'" not in message
        assert warning.filename == __file__
        np.testing.assert_allclose(got, want, rtol=1e-13)
    with pytest.warns(UserWarning, match="held fixed"):
        f_lin = linearize(f, params)
    moved = {**params, "w": w + 1, "step": 5}
    want = f(params, x) + 2 * x @ np.ones((4, 2))
    np.testing.assert_allclose(f_lin(moved, x), want, rtol=1e-13)


@pytest.mark.parametrize("x", [np.arange(6) % 4, np.array([True, False, True])])
def test_integer_rows(x):
    """Rows of integers and booleans index a table; equal rows have the kernel 1."""
    table = {"table": jax.random.normal(jax.random.key(0), (4, 2))}
    got = empirical_ntk(lambda p, x: p["table"][x.astype(int)], table, x)
    np.testing.assert_allclose(got, x[:, None] == x[None], atol=1e-7)


# ------------------------------------------------------------------- rows that interact
W = {"w": jax.random.normal(jax.random.key(4), (5, 3), jnp.float32)}


def normalized(p, x):
    z = x @ p["w"]
    return (z - z.mean(0)) / jnp.sqrt(z.var(0) + 1e-3)


def dropout(p, x):
    z = x @ p["w"]
    return jnp.where(jax.random.bernoulli(jax.random.key(1), 0.5, z.shape), z, 0)


def zero_head(p, x):
    return normalized(p, x) @ p["head"] + 1


INTERACTING = {
    "mean": lambda p, x: jnp.tanh(x @ p["w"]) - jnp.tanh(x @ p["w"]).mean(0),
    "batch norm": normalized,
    "dropout": dropout,
    "softmax": lambda p, x: jax.nn.softmax(x @ p["w"], 0),
    "zero head": zero_head,
    "not finite": lambda p, x: x @ p["w"] / jnp.where(len(x) > 1, 1.0, 0.0),
    "half": lambda p, x: normalized(p, x.astype(jnp.bfloat16)).astype(jnp.float32),
}


@pytest.mark.parametrize("name", INTERACTING)
def test_rows_that_interact_are_refused(name):
    """A batch is compared with its single rows; the check can be switched off."""
    f, params = INTERACTING[name], {**W, "head": jnp.zeros((3, 2), jnp.float32)}
    for other in (None, Y):
        with pytest.raises(
            UserError, match="with the other rows of the batch"
        ) as error:
            empirical_ntk(f, params, X, other)
        assert "\n" not in str(error.value)
    # One row of x1 and one of x2 are enough.
    with pytest.raises(UserError, match="check_rows=False"):
        empirical_ntk(f, params, X[:1], Y[:1], block_rows=2)
    if name != "not finite":
        single = empirical_ntk(f, params, X, check_rows=False)
        assert single.shape == (7, 7)


def test_round_off_is_no_interaction():
    """Deep networks in every precision pass, though products differ in round-off."""
    wide = {k: np.random.default_rng(0).standard_normal((64, 64)) / 8 for k in range(8)}

    def f(p, x):
        for w in p.values():
            x = jnp.tanh(1.5 * x @ w)
        return x.astype(jnp.float32)

    x = np.random.default_rng(1).standard_normal((7, 64))
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16):
        cast = lambda v, dtype=dtype: jnp.asarray(v, dtype)
        check_independent_rows(f, jax.tree.map(cast, wide), cast(x))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda p, x: jnp.squeeze(x @ p["w"]), r"returns \(3,\) for one row"),
        (lambda p, x: (x @ p["w"]).reshape(7, 3), "fails for one row"),
        (lambda p, x: (x @ p["w"]) * 1j, "returns complex64.*real and imaginary"),
        (lambda p, x: jnp.sign(x @ p["w"]).astype(int), "returns int64"),
        (lambda p, x: x, "uses no parameter"),
    ],
)
def test_functions_without_a_kernel_are_refused(f, message):
    """Outputs of one row that are not real (1, C): one line that says so."""
    with pytest.raises(UserError, match=message) as error:
        empirical_ntk(f, W, X)
    assert "\n" not in str(error.value)


def test_parameters_that_are_none_are_refused():
    """An empty tree has no tangent kernel, a string is no parameter."""
    f = lambda p, x: x
    for call in (empirical_ntk, structured_ntk(f)):
        arguments = (f,) if call is empirical_ntk else ()
        with pytest.raises(UserError, match="uses no parameter"):
            call(*arguments, {}, X)
        with pytest.raises(UserError, match=r"params\['name'\]=str: must be an array"):
            call(*arguments, {**W, "name": "relu"}, X)
    with pytest.raises(UserError, match="returns complex64"):
        structured_ntk(lambda p, x: 1j * (x @ p["w"]))(W, X)
