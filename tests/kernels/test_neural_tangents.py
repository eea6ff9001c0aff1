"""The adapter: fails when neural-tangents or jax moves."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from testbed.kernels import neural_tangents as adapter
from testbed.kernels.neural_tangents import lenient, nt

EXPLICIT = ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS", "STRUCTURED_DERIVATIVES")
IMPLEMENTATIONS = ("AUTO", *EXPLICIT)  # AUTO compiles the other three

pytestmark = [pytest.mark.float64, pytest.mark.usefixtures("quick_compile")]


def test_version_is_the_one_that_was_studied():
    """The adapter replaces private functions: it knows one release."""
    assert nt.__version__ == "0.6.5"


def test_jax_is_left_as_it_was_found():
    """Importing neural-tangents changes no name of jax and brings no TensorFlow."""
    program = """
import sys, warnings
import jax, jax.core, jax.numpy
from jax.interpreters import ad
warnings.simplefilter("ignore")
try:
    import jax.util
except ImportError:
    pass
names = lambda: (set(dir(jax)), set(dir(jax.core)), set(dir(ad)), "jax.util" in sys.modules)
before = names()
from testbed.kernels.neural_tangents import nt
after = names()
# Sub-modules of jax that an import loads appear in its namespace: they are no loan.
assert after[1:] == before[1:], [a ^ b for a, b in zip(after[1:3], before[1:3])]
assert all(f"jax.{name}" in sys.modules for name in after[0] - before[0])
assert not {"tensorflow", "tf2jax"} & set(sys.modules)
assert not hasattr(sys.modules["neural_tangents.experimental"], "empirical_ntk_fn_tf")
"""  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_replaced_function_is_in_place():
    """What neural-tangents calls at run time is what the adapter wrote."""
    for module, names in adapter.REPLACED.items():
        found = sys.modules[f"neural_tangents._src.{module}"]
        for name in names:
            function = getattr(found, name)
            assert function.__globals__["__name__"] == adapter.__name__ or hasattr(
                function, "__wrapped__"
            ), name


def test_an_earlier_import_is_refused(monkeypatch):
    """Loading a second time, past an import that was not ours, is an error."""
    with pytest.raises(ImportError, match="import this module first"):
        adapter._load()
    monkeypatch.delattr("neural_tangents._src.predict._get_cho_solve")
    monkeypatch.delitem(sys.modules, "neural_tangents")
    with pytest.raises(ImportError, match="has no _get_cho_solve"):
        adapter._load()


def _network():
    """f = W2 relu(W1 x + b), with fixed numbers, and its Jacobian by hand."""
    x = jnp.asarray([[1.0, -2.0, 0.5], [0.3, 0.8, -1.0], [2.0, 1.0, 1.0], [0, 0.1, 0]])
    w1 = jnp.sin(jnp.arange(12.0)).reshape(3, 4)
    b = jnp.cos(jnp.arange(4.0))
    w2 = jnp.sin(jnp.arange(8.0) + 0.5).reshape(4, 2)

    def f(params, x):
        w1, b, w2 = params
        return jax.nn.relu(jnp.dot(x, w1) + b[None]) @ w2

    z = x @ w1 + b[None]
    active = (z > 0).astype(x.dtype)
    h = jnp.maximum(z, 0)
    delta = active[:, :, None] * w2[None]  # (N, n, C)
    gram = jnp.einsum("inc,jnd->ijcd", delta, delta) * (1 + x @ x.T)[:, :, None, None]
    gram += (h @ h.T)[:, :, None, None] * jnp.eye(2)[None, None]
    return f, (w1, b, w2), x, gram


@pytest.mark.parametrize(
    ("name", "trace_axes"),
    [*((name, (-1,)) for name in IMPLEMENTATIONS), *((name, ()) for name in EXPLICIT)],
)
def test_implementations_agree_with_the_jacobian_by_hand(name, trace_axes):
    """All four NTK implementations equal the written-out Jacobian product."""
    f, params, x, gram = _network()
    implementation = nt.NtkImplementation[name]
    with lenient():
        ntk_fn = nt.empirical_ntk_fn(
            f, trace_axes=trace_axes, vmap_axes=0, implementation=implementation
        )
        kernel = ntk_fn(x, None if trace_axes else x[:3], params)
    gram = jnp.trace(gram, axis1=2, axis2=3) / 2 if trace_axes else gram[:, :3]
    # A few dozen products in float64.
    np.testing.assert_allclose(kernel, gram, rtol=1e-13, atol=1e-13)
    # Golden, to renew: print(float(gram.sum())).
    golden = 94.9236684516 if trace_axes else 209.0096500686
    assert float(jnp.sum(kernel)) == pytest.approx(golden, abs=1e-9)


def test_structured_derivatives_in_a_deep_network():
    """STRUCTURED_DERIVATIVES equals JACOBIAN_CONTRACTION on stax layers."""
    stax = nt.stax
    with lenient():
        block = stax.serial(stax.FanOut(2), stax.parallel(stax.Identity(),
                            stax.serial(stax.Relu(), stax.Dense(8))),
                            stax.FanInSum())  # fmt: skip
        init, f, _ = stax.serial(stax.Dense(8), block, stax.LayerNorm(), stax.Dense(3))
        _, params = init(jax.random.key(0), (5, 4))
        x = jax.random.normal(jax.random.key(1), (5, 4))
        one, three = (
            jax.jit(nt.empirical_ntk_fn(f, vmap_axes=0, implementation=i))(
                x, None, params
            )
            for i in (1, 3)
        )
    np.testing.assert_allclose(one, three, rtol=1e-12, atol=1e-12)


def test_predictions_from_traced_kernels():
    """`predict` gives under vmap and jit what it gives for one concrete kernel."""
    root = jax.random.normal(jax.random.key(0), (3, 6, 6))
    kernels = root @ root.swapaxes(1, 2) + jnp.eye(6)[None]
    y = jax.random.normal(jax.random.key(1), (6, 1))
    start = jnp.zeros((6, 1))

    def at(kernel, t):
        predict = nt.predict.gradient_descent_mse(kernel, y)
        return predict(t, start, start, kernel)[0]

    with lenient():
        for t in (0.7, None):
            alone = jnp.stack([at(k, t) for k in kernels])
            together = jax.jit(jax.vmap(lambda k, t=t: at(k, t)))(kernels)
            np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-10)
        # A concrete kernel used first inside jit must not leave a tracer behind.
        predict = nt.predict.gradient_descent_mse(kernels[0], y)
        inside = jax.jit(lambda t: predict(t, start, start, kernels[0])[0])(0.7)
        np.testing.assert_allclose(predict(0.7, start, start, kernels[0])[0], inside)


def test_max_learning_rate():
    """2 N / lambda_max, in spite of the keyword that SciPy has removed."""
    kernel = np.diag([1.0, 2.0, 5.0])
    assert nt.predict.max_learning_rate(kernel) == pytest.approx(6 / 5)


def test_lenient_is_confined():
    """Rank promotion is allowed inside `lenient` and refused outside."""
    with lenient():
        jnp.ones((2, 3)) + jnp.ones(3)
    with pytest.raises(ValueError, match="rank"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_stax_kernel_golden():
    """A one-hidden-layer ReLU kernel has its arc-cosine value."""
    x = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    with lenient():
        layers = nt.stax.serial(nt.stax.Dense(1), nt.stax.Relu(), nt.stax.Dense(1))
        k = layers[2](x, None, ("nngp", "ntk"))
    # Orthogonal inputs with variance 1/2 each: q / (2 pi), and nothing from layer one.
    assert float(k.nngp[0, 1]) == pytest.approx(0.5 / (2 * np.pi), rel=1e-14)
    assert float(k.ntk[0, 1]) == pytest.approx(0.5 / (2 * np.pi), rel=1e-14)
