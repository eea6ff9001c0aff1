import jax
import jax.numpy as jnp
import numpy as np
import pytest

PHI = {
    "relu": (lambda z: np.maximum(z, 0), 2.0),
    "identity": (lambda z: z, 1.0),
    "tanh": (np.tanh, 1.0),
}


@pytest.fixture(scope="session")
def fill():
    """Variables with parameters N(0, 1) and fair signs.

    This is the law of `init` in the NTK parameterization, and variables of the right
    shapes in the standard one; compiling `init` itself takes seconds a network.
    """

    def variables(net, x, seed=0):
        rng = np.random.default_rng(seed)

        def draw(path, leaf):
            if path[0].key == "signs":
                return rng.choice([-1.0, 1.0], leaf.shape).astype(leaf.dtype)
            return rng.standard_normal(leaf.shape).astype(leaf.dtype)

        shapes = jax.eval_shape(net.init, jax.random.key(0), x)
        return jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(draw, shapes))

    return variables


@pytest.fixture(scope="session")
def explicit_forward():
    """The recursion of the docstrings in NumPy, one block after another."""

    def forward(net, variables, x, alpha, lam):
        params = jax.tree.map(np.asarray, variables["params"])
        signs = jax.tree.map(np.asarray, variables.get("signs", {}))
        phi, variance = PHI[net.activation]
        ntk = net.parameterization == "ntk"

        def dense(group, h, variance):
            y = h @ group["kernel"] * (np.sqrt(variance / h.shape[-1]) if ntk else 1.0)
            if "bias" in group:
                y = y + group["bias"] * (net.bias_std if ntk else 1.0)
            return y

        z = [dense(params["input"], np.asarray(x), 1.0)]
        h = []
        for layer in range(net.depth):
            block = {k: v[layer] for k, v in params["blocks"]["dense"].items()}
            s = signs["blocks"]["activation"]["s"][layer] if signs else 1.0
            h.append(phi(s * z[-1]))
            z.append(alpha[layer] * z[-1] + lam[layer] * dense(block, h[-1], variance))
        if net.head == "linear":
            return dense(params["head"], z[-1], 1.0), z, h
        s = signs["head_activation"]["s"] if signs else 1.0
        return dense(params["head"], phi(s * z[-1]), variance), z, h

    return forward
