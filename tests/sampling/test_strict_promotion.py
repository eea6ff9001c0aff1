import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLP, BalancedResNet, BranchScaling
from testbed.kernels import empirical_ntk, infinite_kernel, linearize
from testbed.sampling import sample_gradients, sample_gram, sample_log_norm

pytestmark = pytest.mark.float64

NETS = {
    "relu": BalancedResNet(
        width=8,
        depth=3,
        out_features=2,
        branch=BranchScaling.fixed(alpha=0.9, lam=0.4),
        head="relu",
    ),
    "tanh": MLP(width=8, depth=3, out_features=2, activation="tanh", bias_std=0.3),
}


def test_a_users_strict_promotion_is_respected():
    """Models, kernels and samplers work where jax converts no types by itself, as it
    does not for a sum of the two types that they use.
    """
    net, key = NETS["relu"], jax.random.key(0)
    x = jax.random.normal(key, (5, 4), jnp.float32)
    with jax.numpy_dtype_promotion("strict"):
        with pytest.raises(Exception, match="strict"):
            jnp.ones(1, jnp.float32) + jnp.ones(1, jnp.float64)
        variables = net.init(key, x)
        apply_fn = lambda p, x: net.apply({**variables, "params": p}, x)
        found = [
            empirical_ntk(apply_fn, variables["params"], x),
            linearize(apply_fn, variables["params"])(variables["params"], x),
            *(infinite_kernel(one)(x).ntk for one in NETS.values()),
            *jax.tree.leaves(sample_gradients(key, 20, net)),
            *jax.tree.leaves(sample_gram(key, 20, net, np.eye(2))),
            sample_log_norm(key, 20, width=8, depth=3, alpha=0.9, lam=0.4),
        ]
    # A dead network of these narrow ones has log 0.
    assert not any(np.isnan(np.asarray(a)).any() for a in found)
