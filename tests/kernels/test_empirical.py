"""The guarded empirical NTK: tiles, memory, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import ResNet
from testbed.errors import RunError, UserError
from testbed.kernels import check_memory, empirical_ntk
from testbed.kernels.empirical import _check_memory, _contraction, factors
from testbed.kernels.memory import USABLE, available_bytes, readable

pytestmark = pytest.mark.float64

NET = ResNet(width=16, depth=3, out_features=2)
X = jax.random.normal(jax.random.key(1), (7, 5), jnp.float32)
Y = jax.random.normal(jax.random.key(2), (4, 5), jnp.float32)


def apply_fn(params, x):
    return NET.apply({"params": params}, x)


@pytest.fixture(scope="module")
def params():
    return jax.jit(NET.init)(jax.random.key(0), X)["params"]


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(("other", "trace"), [(None, False), (Y, True)])
def test_tiles_change_nothing(params, other, trace):
    """Any block_rows gives the kernel of the whole; symmetric halves are mirrored."""
    options = {"trace_outputs": trace}
    whole = empirical_ntk(apply_fn, params, X, other, **options)
    n2 = len(X if other is None else other)
    assert whole.shape == ((7, n2) if trace else (7, n2, 2, 2))
    for rows in (3, 100) if trace else (3,):
        tiled = empirical_ntk(apply_fn, params, X, other, block_rows=rows, **options)
        assert isinstance(tiled, np.ndarray) and tiled.dtype == np.float64
        # float32 products in another order
        np.testing.assert_allclose(tiled, whole, rtol=1e-6, atol=1e-6)
        if other is None:
            swapped = tiled.transpose(*((1, 0) if trace else (1, 0, 3, 2)))
            np.testing.assert_array_equal(tiled, swapped)


@pytest.mark.usefixtures("quick_compile")
def test_outputs_keep_their_order(params):
    """Theta[i, j, c, d] pairs output c of x_i with output d of x_j."""
    whole = np.asarray(empirical_ntk(apply_fn, params, X, Y, trace_outputs=False))
    transposed = empirical_ntk(apply_fn, params, Y, X, trace_outputs=False)
    np.testing.assert_allclose(whole, transposed.transpose(1, 0, 3, 2), rtol=1e-5)
    assert not np.allclose(whole, whole.transpose(0, 1, 3, 2), rtol=1e-2)


@pytest.mark.usefixtures("quick_compile")
def test_traced_arguments_pass_through(params):
    """Inside jit it is `structured_ntk`, with no check and no symmetrization."""
    inside = jax.jit(lambda p: empirical_ntk(apply_fn, p, X))(params)
    outside = empirical_ntk(apply_fn, params, X)
    np.testing.assert_allclose(inside, outside, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="needs concrete arrays"):
        jax.jit(lambda p: empirical_ntk(apply_fn, p, X, block_rows=2))(params)


def test_a_function_compiles_once(params):
    """The same function and shapes again: no new compilation."""
    empirical_ntk(apply_fn, params, X)
    compiled = factors._cache_size(), _contraction._cache_size()
    empirical_ntk(apply_fn, params, X + 1)
    assert (factors._cache_size(), _contraction._cache_size()) == compiled


def test_what_cannot_fit_is_refused_before_it_is_allocated(params):
    """A kernel of 300 GB is refused with its size, what there is, and the remedy."""
    many = np.broadcast_to(np.zeros((1, 5), np.float32), (200_000, 5))
    with pytest.raises(UserError) as error:
        empirical_ntk(apply_fn, params, many, memory_limit=2**33)
    message = str(error.value)
    assert "200000 x 200000" in message and "8 GiB are available" in message
    # 3 x 298 GiB: the sum, one layer's term, and the result.
    assert "needs 895 GiB" in message and "take fewer examples" in message
    with pytest.raises(UserError, match="or trace_outputs=True"):
        empirical_ntk(apply_fn, params, many, trace_outputs=False, memory_limit=2**33)


@pytest.mark.usefixtures("quick_compile")
def test_remedy_that_is_offered_works(params):
    """Where tiles would fit, the error names a block_rows that does."""
    rows = np.zeros((300, 5), np.float32)
    limit = 1_200_000  # the kernel alone has 720 000 bytes
    with pytest.raises(UserError, match="set block_rows=") as error:
        empirical_ntk(apply_fn, params, rows, memory_limit=limit)
    block = int(str(error.value).rsplit("=", 1)[1])
    kernel = empirical_ntk(apply_fn, params, rows, memory_limit=limit, block_rows=block)
    assert kernel.shape == (300, 300)


@pytest.mark.parametrize("width, depth, n", [(64, 16, 64), (256, 4, 24)])
def test_estimate_covers_what_the_program_takes(width, depth, n):
    """The estimate is at least what XLA allocates, and at most six times that.

    Factors are there while the kernel is made of them.
    """
    net = ResNet(width=width, depth=depth)
    x = jnp.zeros((n, 32), jnp.float32)
    params = jax.jit(net.init)(jax.random.key(0), x)["params"]
    f = lambda p, x: net.apply({"params": p}, x)
    first = factors.lower(f, params, x)
    made = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), first.out_info
    )
    second = _contraction.lower(True, made, None)
    kept, *taken = (
        size
        for program in (first, second)
        for asked in [program.compile().memory_analysis()]
        for size in (asked.output_size_in_bytes, asked.temp_size_in_bytes)
    )
    taken = kept + max(taken[0], taken[1] + taken[2])
    with pytest.raises(UserError):
        empirical_ntk(f, params, x, memory_limit=int(taken / USABLE))
    _check_memory(f, params, x, None, True, None, int(6 * taken / USABLE))


def test_available_memory_is_sensible():
    """Some, and less than the machine has."""
    import os

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**20 < available_bytes() <= total
    assert readable(1536) == "1.5 KiB"
    assert readable(5 * 2**40) == "5 TiB"
    check_memory("data.train_size", 10, 5, available=100)
    with pytest.raises(UserError, match="data.train_size=5: needs 95 B, and 100 B are"):
        check_memory("data.train_size", 95, 5, available=100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: empirical_ntk(apply_fn, p, X, Y[:, :3]),
            r"x2=array of shape \(4, 3",
        ),
        (lambda p: empirical_ntk(apply_fn, p, X[:0]), "not empty"),
        (lambda p: empirical_ntk(apply_fn, p, X, block_rows=0), "block_rows=0"),
        (
            lambda p: empirical_ntk(lambda p, x: apply_fn(p, x)[:, 0], p, X),
            r"apply_fn=returns \(7,\)",
        ),
    ],
)
def test_mistakes_are_named(params, call, message):
    """A mistake raises a UserError that names the argument."""
    with pytest.raises(UserError, match=message):
        call(params)


def test_overflow_stops(params):
    """Parameters that are not finite give an error, not a kernel of NaN."""
    broken = jax.tree.map(lambda p: p * jnp.float32(np.inf), params)
    with pytest.raises(RunError, match="not finite"):
        empirical_ntk(apply_fn, broken, X)


@pytest.mark.usefixtures("quick_compile")
def test_float64_sum_over_layers():
    """Deep float32 networks: 1e-6 from the float64 kernel at depth 512."""
    shared = {"width": 16, "depth": 512, "out_features": 1}
    x = jax.random.normal(jax.random.key(3), (6, 8), jnp.float64)
    params = ResNet(**shared, dtype=jnp.float64)
    params = jax.jit(params.init)(jax.random.key(0), x)["params"]
    kernels = []
    for dtype in (jnp.float64, jnp.float32):
        cast = jax.tree.map(lambda p, d=dtype: p.astype(jnp.float32).astype(d), params)
        f = lambda p, x, d=dtype: ResNet(**shared, dtype=d).apply({"params": p}, x)
        x_cast = x.astype(jnp.float32).astype(dtype)
        kernels.append(np.asarray(empirical_ntk(f, cast, x_cast)))
    error = np.abs(kernels[0] - kernels[1]).max() / np.abs(kernels[0]).max()
    assert 1e-9 < error < 2e-6
