"""NNGP and NTK of the models, against goldens, each other, and wide networks."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLP, BalancedResNet, BranchScaling, ResNet
from testbed.errors import RunError, UserError
from testbed.kernels import infinite_kernel
from testbed.kernels.infinite import _Architecture, _evaluate
from testbed.kernels.neural_tangents import lenient, nt
from testbed.kernels.readout import readout_ntk
from testbed.kernels.structured import structured_ntk

pytestmark = pytest.mark.float64

TENTH = 0.1**0.5
# rho_0, d, alpha, lam, head, K12, Theta12, K11, Theta11 at |x|^2 = |x'|^2 = n_in, from
# the recursions of S and T with arccos, in float64, checked against stax kernels.
GOLDEN = [
    (0.5, 1, 1, 1, "linear", 1.10899778, 2.55132890, 2, 5),
    (0.5, 1, 1, 1, "relu", 1.29176641, 2.28277775, 2, 5),
    (0.5, 10, 1, TENTH, "linear", 1.52249342, 3.81698773, 2.59374246, 7.54543261),
    (0.5, 10, 1, TENTH, "relu", 1.73368137, 3.33910711, 2.59374246, 7.54543261),
    (0.5, 10, 0.9**0.5, TENTH, "linear", 0.59450742, 1.51597235, 1, 3),
    (0.5, 10, 0.9**0.5, TENTH, "relu", 0.67368221, 1.32115223, 1, 3),
    (0.5, 50, 1, 50**-0.5, "linear", 1.59317407, 4.04692133, 2.69158803, 8.02198785),
    (-0.3, 10, 1, TENTH, "linear", 0.13275889, 0.17159953, 2.59374246, 7.54543261),
    (-0.3, 10, 1, TENTH, "relu", 0.89307503, 0.91312844, 2.59374246, 7.54543261),
    (-0.3, 50, 1, 50**-0.5, "linear", 0.17944710, 0.27918346, 2.69158803, 8.02198785),
]


def pair(rho, n_in=10):
    """Two inputs of squared norm n_in and correlation rho."""
    x = np.zeros((2, n_in))
    x[0, 0] = 1
    x[1, :2] = rho, (1 - rho**2) ** 0.5
    return x * n_in**0.5


def some_inputs(n=7, n_in=6, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, n_in))
    x[1] = -2 * x[0]
    x[2] = x[0] + 1e-3 * x[3]
    return x


def worst(a, b):
    """Largest difference relative to the largest entry, over all leaves."""
    scaled = lambda u, v: np.abs(np.asarray(u) - np.asarray(v)).max() / np.abs(v).max()
    return max(jax.tree.leaves(jax.tree.map(scaled, a, b)))


@pytest.mark.parametrize("model", [ResNet, BalancedResNet])
@pytest.mark.parametrize("route", ["auto", "neural_tangents"])
def test_golden_values(route, model):
    """Published recursion, eight decimals; random signs change nothing."""
    for rho, depth, alpha, lam, head, *golden in GOLDEN:
        branch = BranchScaling.fixed(alpha, lam)
        net = model(width=3, depth=depth, branch=branch, head=head)
        kernel = infinite_kernel(net, route=route)(pair(rho))
        got = [k[i, j] for i, j in ((0, 1), (0, 0)) for k in (kernel.nngp, kernel.ntk)]
        # The eighth decimal is rounded; nt's diagonal errs by the root of round-off.
        np.testing.assert_allclose(got[:2], golden[:2], rtol=0, atol=6e-9)
        slack = 6e-9 if route == "auto" else 5e-7
        np.testing.assert_allclose(got[2:], golden[2:], rtol=0, atol=slack)


def test_diagonal_in_closed_form():
    """K(x, x) = s^d q_0 and Theta(x, x) = s^d q_0 (2 + d lam^2 / s), at depth 1000."""
    for alpha, lam, depth in ((1.0, 1000**-0.5, 1000), (0.8, 0.6, 100), (0.0, 1.0, 40)):
        net = ResNet(depth=depth, branch=BranchScaling.fixed(alpha, lam))
        x = some_inputs()
        kernel = infinite_kernel(net)(x)
        s, q0 = alpha**2 + lam**2, (x**2).mean(1)
        # depth roundings of 1e-16
        np.testing.assert_allclose(np.diag(kernel.nngp), s**depth * q0, rtol=1e-12)
        theta = s**depth * q0 * (2 + depth * lam**2 / s)
        np.testing.assert_allclose(np.diag(kernel.ntk), theta, rtol=1e-12)


NETS = {
    "mlp": MLP(width=8, depth=4, head="relu"),
    "resnet, c 2, bias": ResNet(
        width=8, depth=5, branch=BranchScaling.depth_scaled(2.0), bias_std=0.3
    ),
    "per layer": BalancedResNet(
        width=8,
        depth=4,
        branch=BranchScaling.fixed((1.0, 0.5, 0.9, 0.1), (0.1, 0.2, 0.3, 1.0)),
        bias_std=0.2,
    ),
    "standard": ResNet(width=8, depth=3, parameterization="standard", head="relu"),
    "standard, bias": BalancedResNet(
        width=8, depth=3, parameterization="standard", bias_std=0.3
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_two_routes_agree(name):
    """Half-angle recursion and stax layers give one kernel, layer by layer."""
    x, y = some_inputs(), some_inputs(5, seed=1)
    kernels = [
        infinite_kernel(NETS[name], route=route)(x, y, layers=True)
        for route in ("recursion", "neural_tangents")
    ]
    assert worst(*kernels) < 1e-14
    depth = NETS[name].depth
    assert kernels[0].layers.ntk.shape == (depth + 1, 7, 5)


def _unrolled(depth, lam, activation):
    stax = nt.stax
    phi, variance = {
        "relu": (stax.Relu(), 2.0),
        "identity": (stax.Identity(), 1.0),
        "tanh": (stax.ElementwiseNumerical(jnp.tanh, deg=60), 1.0),
    }[activation]
    block = stax.serial(
        stax.FanOut(2),
        stax.parallel(
            stax.Identity(), stax.serial(phi, stax.Dense(1, W_std=lam * variance**0.5))
        ),
        stax.FanInSum(),
    )
    return stax.serial(
        stax.Dense(1), *[block] * depth, phi, stax.Dense(1, variance**0.5)
    )


@pytest.mark.parametrize("activation", ["relu", "identity", "tanh"])
def test_scan_equals_unrolled_stax(activation):
    """The scan over depth equals `stax.serial` written out, for each activation."""
    depth, lam = 3, 0.6
    branch = BranchScaling.fixed(1.0, lam)
    net = ResNet(depth=depth, branch=branch, activation=activation, head="relu")
    x, y = some_inputs(4) / 2, some_inputs(5, seed=1) / 2
    kernel = infinite_kernel(net)(x, y)
    with lenient():
        layers = _unrolled(depth, lam, activation)
        want = jax.jit(lambda x, y: layers[2](x, y, ("nngp", "ntk")))(x, y)
    # The product quadrature errs like exp(-pi sqrt(60 / q)), q = 2 at most.
    slack = 1e-7 if activation == "tanh" else 1e-14
    assert worst((kernel.nngp, kernel.ntk), (want.nngp, want.ntk)) < slack


def _finite_kernels(net, x, seeds):
    """K and Theta averaged over outputs, for each of `seeds` networks (seeds, N, N)."""

    def one(key):
        variables = net.init(key, x)
        rest = {k: v for k, v in variables.items() if k != "params"}
        apply = lambda p, x: net.apply({**rest, "params": p}, x)
        f = apply(variables["params"], x)
        return f @ f.T / net.out_features, structured_ntk(apply)(variables["params"], x)

    keys = jax.random.split(jax.random.key(7), seeds)
    return jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=8))(keys)


def _largest_score(drawn, law, x):
    """Largest difference of the means to `law`'s kernels, in standard errors."""
    kernel = infinite_kernel(law)(x)
    scores = []
    for values, want in zip(drawn, kernel[:2], strict=True):
        values = np.asarray(values, np.float64)
        error = values.std(0, ddof=1) / len(values) ** 0.5
        scores.append((values.mean(0) - np.asarray(want)) / error)
    return np.abs(np.stack(scores)).max()


UNEVEN = BranchScaling.fixed((1.0, 0.7), (0.4, 0.9))
SQUARED = BranchScaling.fixed((1.0, 0.7), (0.4**2, 0.9**2))
STANDARD = {"parameterization": "standard", "bias_std": 0.5}
WIDE = {"width": 128, "depth": 2, "out_features": 8}
FINITE = {
    "mlp": (MLP(**WIDE), MLP(**{**WIDE, "depth": 4})),
    "resnet": (
        ResNet(**WIDE, branch=UNEVEN, bias_std=0.5),
        ResNet(**WIDE, branch=SQUARED, bias_std=0.5),
    ),
    "balanced, standard": (
        BalancedResNet(**WIDE, **STANDARD, branch=UNEVEN, head="relu"),
        BalancedResNet(**WIDE, **STANDARD, branch=UNEVEN, head="linear"),
    ),
    "balanced, tanh": (
        BalancedResNet(**WIDE, branch=UNEVEN, activation="tanh", head="relu"),
        BalancedResNet(**WIDE, branch=UNEVEN, activation="identity", head="relu"),
    ),
}


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("name", FINITE)
def test_wide_networks_have_these_kernels(name):
    """Means over 64 networks of width 128 lie at K and Theta; a wrong law is far off.

    The wrong laws are another depth, lam^2 for lam, another head, another activation.
    """
    net, wrong = FINITE[name]
    x = jnp.asarray(pair(-0.6)[:, :8], jnp.float32)
    drawn = _finite_kernels(net, x, seeds=64)
    # 6 numbers: 4 standard errors happen once in 3000 keys.  The correction of order
    # 1/128 is a third of a standard error.
    assert _largest_score(drawn, net, x) < 4
    assert _largest_score(drawn, wrong, x) > 8


@pytest.mark.usefixtures("quick_compile")
def test_readout_ntk_is_that_of_the_head():
    """Theta of the head alone: K, or (n / sigma_w^2) (K - sigma_b^2) + 1."""
    x = jnp.asarray(pair(0.3)[:, :8], jnp.float32)
    net = ResNet(**WIDE, **STANDARD, branch=UNEVEN, head="relu")
    nngp = np.asarray(infinite_kernel(net)(x).nngp)
    assert readout_ntk(net.clone(parameterization="ntk"), nngp) is nngp

    def one(key):
        params = net.init(key, x)["params"]
        body = {k: v for k, v in params.items() if k != "head"}
        apply = lambda head, x: net.apply({"params": {**body, "head": head}}, x)
        return structured_ntk(apply)(params["head"], x)

    keys = jax.random.split(jax.random.key(3), 64)
    drawn = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(keys))
    want = readout_ntk(net, nngp)
    error = drawn.std(0, ddof=1) / 64**0.5
    assert (np.abs(drawn.mean(0) - want) / error).max() < 4
    assert (np.abs(drawn.mean(0) - 1.5 * want) / error).max() > 8


def test_compile_time_does_not_grow_with_depth():
    """Depth 1000 compiles like depth 10: one program, in less than twice the time."""
    x = jnp.asarray(some_inputs())
    architecture = _Architecture("relu", "linear", 0.0, None)

    def build(depth, **route):
        scales = jnp.ones(depth), jnp.full(depth, depth**-0.5)
        start = time.perf_counter()
        lowered = _evaluate.lower(
            x, None, *scales, architecture=architecture, layers=False, **route
        )
        lowered.compile()
        return time.perf_counter() - start, len(lowered.as_text().splitlines())

    for recursion in (True, False):
        build(5, recursion=recursion)  # imports
        # New depths each time, as a depth is traced once; other programs share the
        # machine, so up to three tries.
        for more in range(3):
            shallow, size = build(10 + more, recursion=recursion)
            deep, deep_size = build(1000 + more, recursion=recursion)
            if deep < 2 * shallow:
                break
        assert size == deep_size
        assert deep < 2 * shallow


@pytest.mark.usefixtures("quick_compile")
def test_tiles_change_nothing():
    """Blocks of rows give the same kernels, for layers too; the symmetric half once."""
    net, x, y = NETS["per layer"], some_inputs(7), some_inputs(5, seed=1)
    kernel_fn = infinite_kernel(net)
    for other in (None, y):
        whole = kernel_fn(x, other, layers=True)
        tiled = kernel_fn(x, other, layers=True, block_rows=3)
        assert isinstance(tiled.ntk, np.ndarray) and tiled.ntk.dtype == np.float64
        assert worst(tiled, whole) < 1e-15
        if other is None:
            np.testing.assert_array_equal(tiled.ntk, tiled.ntk.T)
    # One tile, larger than the inputs: rows beyond the last are cut off.
    np.testing.assert_array_equal(kernel_fn(x, block_rows=50).ntk, kernel_fn(x).ntk)


@pytest.mark.usefixtures("quick_compile")
def test_symmetric_and_positive():
    """K(X, X) and Theta(X, X) equal their transpose and have no negative eigenvalue."""
    x = np.concatenate([some_inputs(20), some_inputs(20)])  # every input twice
    for activation in ("relu", "tanh"):
        kernel = infinite_kernel(ResNet(depth=6, activation=activation))(x)
        again = infinite_kernel(ResNet(depth=6, activation=activation))(x, x)
        for k, other in zip(kernel[:2], again[:2], strict=True):
            assert k.dtype == jnp.float64
            np.testing.assert_array_equal(k, k.T)
            assert worst(k, other) < 1e-14
            values = np.linalg.eigvalsh(k)
            assert values[0] > -1e-13 * values[-1]


@pytest.mark.usefixtures("quick_compile")
def test_inputs_of_any_dtype():
    """float32, integer and list inputs are cast to float64."""
    x = np.arange(12).reshape(4, 3) - 5
    kernel_fn = infinite_kernel(ResNet(depth=2))
    want = kernel_fn(x.astype(np.float64))
    for same in (x, x.tolist(), x.astype(np.float32), jnp.asarray(x, jnp.float32)):
        np.testing.assert_array_equal(kernel_fn(same).ntk, want.ntk)
        assert kernel_fn(same).ntk.dtype == np.float64


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_under_jit_and_vmap(activation):
    """Traced inputs, and a traced branch scale, give what concrete ones give."""
    x = some_inputs()

    def ntk(c, x):
        branch = BranchScaling.depth_scaled(c)
        net = ResNet(depth=4, branch=branch, activation=activation)
        return infinite_kernel(net)(x).ntk

    scales = jnp.asarray([0.5, 1.5])
    together = jax.jit(jax.vmap(ntk, (0, None)))(scales, jnp.asarray(x))
    for c, k in zip(scales, together, strict=True):
        assert worst(k, ntk(float(c), x)) < 1e-14


def test_scales_compile_nothing():
    """A new branch scale or another width reuses the compiled program."""
    x = some_inputs()
    infinite_kernel(ResNet(depth=4, width=8))(x)
    compiled = _evaluate._cache_size()
    infinite_kernel(ResNet(depth=4, width=9, branch=UNEVEN_4))(x)
    assert _evaluate._cache_size() == compiled
    infinite_kernel(ResNet(depth=4, width=9, head="relu"))(x)
    assert _evaluate._cache_size() == compiled + 1


UNEVEN_4 = BranchScaling.fixed(0.5, (0.1, 0.2, 0.3, 0.4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: infinite_kernel(object()), "model=object"),
        (lambda: infinite_kernel(ResNet(), route="fast"), "route=fast"),
        (
            lambda: infinite_kernel(ResNet(activation="tanh"), route="recursion"),
            "serves ReLU only",
        ),
        (lambda: infinite_kernel(ResNet(head="relo")), "did you mean 'relu'"),
        (lambda: infinite_kernel(ResNet())(np.ones(3)), r"x1=array of shape \(3,\)"),
        (
            lambda: infinite_kernel(ResNet())(np.ones((2, 3)), np.ones((2, 4))),
            r"x2=array of shape \(2, 4\)",
        ),
        (lambda: infinite_kernel(ResNet())(np.full((2, 3), np.nan)), "must be finite"),
        (
            lambda: infinite_kernel(ResNet())(np.ones((2, 3)) + 0j),
            "x1=array of complex",
        ),
        (
            lambda: infinite_kernel(ResNet())(np.ones((2, 3)), [[1j, 2, 3]]),
            "x2=array of complex128: must be an array of real numbers",
        ),
        (
            lambda: jax.jit(infinite_kernel(ResNet()))(jnp.ones((2, 3), jnp.complex64)),
            "real and imaginary parts as features",
        ),
        (lambda: infinite_kernel(ResNet())([["a", "b"]]), "x1=list: must be an array"),
        (lambda: infinite_kernel(ResNet())([[1.0], [1.0, 2.0]]), "x1=list: must be"),
        (
            lambda: infinite_kernel(ResNet())(np.ones((2, 3)), block_rows=0),
            "block_rows",
        ),
        (
            lambda: jax.jit(lambda x: infinite_kernel(ResNet())(x, block_rows=2))(
                jnp.ones((2, 3))
            ),
            "needs concrete arrays",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    """A mistake raises a UserError that names the field and the remedy."""
    with pytest.raises(UserError, match=message):
        make()


def test_what_cannot_fit_is_refused():
    """A million inputs: 16 TB of kernels are refused before anything is computed."""
    x = np.broadcast_to(np.ones((1, 3)), (1_000_000, 3))
    with pytest.raises(UserError, match="1000000 x 1000000: needs 72.8 TiB"):
        infinite_kernel(ResNet())(x)


def test_overflow_stops():
    """alpha = lam = 1 at depth 2000 overflows: an error, no infinite kernel."""
    net = ResNet(depth=2000, branch=BranchScaling.fixed(1.0, 1.0))
    with pytest.raises(RunError, match="depth 2000, is not finite"):
        infinite_kernel(net)(some_inputs())
