"""What samplers take and refuse, the same for all: the table of docs/theory.md."""

import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import testbed.sampling
from models import BranchScaling, ResNet
from testbed.errors import UserError
from testbed.sampling import (
    LayerSampler,
    sample_gradients,
    sample_gram,
    sample_log_norm,
)
from testbed.sampling.diffusions import fixed_width
from testbed.sampling.sde import euler_maruyama
from testbed.sampling.weights import layers_with_weights, ntk_with_weights

KEY = jax.random.key(0)
NET = ResNet(width=4, depth=3, out_features=2, branch=BranchScaling.fixed(0.8, 0.6))
SAMPLERS = {
    "sample_log_norm": lambda samples, net: sample_log_norm(
        KEY,
        samples,
        width=net.width,
        depth=net.depth,
        alpha=net.branch.alpha,
        lam=net.branch.lam,
    ),
    "LayerSampler": lambda samples, net: next(LayerSampler(net).chunks(KEY, samples))[
        2
    ],
    "sample_gradients": lambda samples, net: sample_gradients(KEY, samples, net),
    "sample_gram": lambda samples, net: sample_gram(KEY, samples, net, np.eye(2)),
    "layers_with_weights": lambda samples, net: layers_with_weights(KEY, samples, net),
    "ntk_with_weights": lambda samples, net: ntk_with_weights(KEY, samples, net),
}


def test_all_samplers_are_here():
    """Whatever takes a number of samples from the package is held to these rules."""
    found = set()
    for info in pkgutil.iter_modules(testbed.sampling.__path__):
        module = importlib.import_module(f"testbed.sampling.{info.name}")
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") != module.__name__ or name[0] == "_":
                continue
            methods = vars(value).values() if inspect.isclass(value) else [value]
            for method in filter(inspect.isfunction, methods):
                if {"key", "samples"} <= set(inspect.signature(method).parameters):
                    found.add(name)
    assert found - {"stream"} == set(SAMPLERS)  # `stream` is what they share


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_number_of_samples_has_many_spellings(name):
    """Three networks by 3, 3.0, NumPy integers and arrays of one: the same ones."""
    expected = jax.tree.leaves(SAMPLERS[name](3, NET))
    for samples in (3.0, np.int64(3), np.int32(3), np.float32(3), np.array([3])):
        seen = jax.tree.leaves(SAMPLERS[name](samples, NET))
        assert all(len(a) == 3 for a in seen)
        for a, b in zip(seen, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    sized = NET.clone(width=np.int64(4), depth=3.0, out_features=2.0)
    for a, b in zip(jax.tree.leaves(SAMPLERS[name](3, sized)), expected, strict=True):
        np.testing.assert_array_equal(a, b)


BROKEN = {
    "width": [0, -1, 4.5, True, np.nan, (4, 4), "4"],
    "depth": [0, -3, 2.5, True, np.inf, None],
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_no_number_of_samples_or_units_is_refused_in_a_line(name):
    """2.5, True, nan, 0, text; a width or depth of 0; skip and branch both 0."""
    for samples in (2.5, True, np.nan, np.inf, 0, -1, "3", None, [3, 3], 10**400):
        with pytest.raises(UserError, match="^samples=.*") as caught:
            SAMPLERS[name](samples, NET)
        assert "\n" not in str(caught.value)
    for field, values in BROKEN.items():
        for value in values:
            with pytest.raises(UserError, match=f"^{field}=") as caught:
                SAMPLERS[name](3, NET.clone(**{field: value}))
            assert "\n" not in str(caught.value)
    for alpha, lam in ((0.0, 0.0), ((1.0, 0.0, 1.0), (1.0, 0.0, 1.0)), (1.0, np.nan)):
        net = NET.clone(branch=BranchScaling.fixed(alpha, lam))
        with pytest.raises(UserError, match="^(branch|lam)=") as caught:
            SAMPLERS[name](3, net)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "net",
    [
        NET.clone(branch=BranchScaling.fixed(0.8, 0.0)),
        NET.clone(branch=BranchScaling.fixed(-0.8, -0.6)),
        NET.clone(width=1, depth=1, branch=BranchScaling.fixed(0.0, 0.6)),
    ],
    ids=["lam=0", "negative", "smallest, dying"],
)
def test_edges_are_drawn_without_nan(name, net):
    """No branch, no skip, one unit, dead networks: numbers, or -inf for log 0."""
    for leaf in jax.tree.leaves(SAMPLERS[name](64, net)):
        assert len(leaf) == 64 and not np.isnan(leaf).any()


def test_a_path_of_no_time_stays():
    """time = 0 keeps x0, as the laws of the diffusions have their point there."""
    x0 = jnp.ones((5, 1, 3))
    for steps in (4, 4.0, np.int64(4)):
        x = euler_maruyama(KEY, *fixed_width(jax.nn.relu), x0, time=0, steps=steps)
        np.testing.assert_array_equal(x[0], x0)
    for change in (dict(steps=2.5), dict(steps=True), dict(time=-1), dict(refine=1.5)):
        settings = dict(time=1.0, steps=4) | change
        with pytest.raises(UserError, match=f"^{next(iter(change))}="):
            euler_maruyama(KEY, *fixed_width(jax.nn.relu), x0, **settings)
    with pytest.raises(UserError, match="^save=0.5"):
        euler_maruyama(
            KEY, *fixed_width(jax.nn.relu), x0, time=1.0, steps=4, save=(0.5,)
        )
