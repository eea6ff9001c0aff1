"""The forward pass on several inputs, exact in law: paths of their Gram matrices.

Given z^1, ..., z^k, the rows of [W phi(z^1), ..., W phi(z^k)] are independent N(0, G)
with G_ij = <phi(s z^i), phi(s z^j)>; a Cholesky factor of G, k x k, draws them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models import MLP, ResNet
from testbed.errors import UserError
from testbed.numerics import in_float64
from testbed.sampling.architecture import Architecture, Scales, describe
from testbed.sampling.cholesky import cholesky
from testbed.sampling.normals import normal_and_sign
from testbed.sampling.stream import batch_size, check_samples, stream

Tree = Any


class GramLayer(NamedTuple):
    """Inner products of k inputs at one layer of a batch of networks.

    Attributes:
      gram: <z^i, z^j> / n divided by exp(log_scale), (batch, k, k), float32.
      log_scale: log of the common scale, (batch,), float64; 0 where the activation is
        not homogeneous.
    """

    gram: jax.Array
    log_scale: jax.Array

    @property
    def covariance(self) -> jax.Array:
        """<z^i, z^j> / n, (..., k, k), float64; over- or underflows where it must."""
        return _scaled(self.gram, self.log_scale)

    @property
    def correlation(self) -> jax.Array:
        """Cosines of the angles between inputs, (..., k, k); nan where z^i = 0."""
        return _cosines(self.gram)


@in_float64
def _scaled(gram, log_scale):
    return gram * jnp.exp(log_scale)[..., None, None]


@in_float64
def _cosines(gram):
    norm = jnp.sqrt(jnp.diagonal(gram, axis1=-2, axis2=-1))
    return gram / (norm[..., :, None] * norm[..., None, :])


def sample_gram(
    key: jax.Array, samples: int, net: MLP | ResNet, gram: np.ndarray
) -> GramLayer:
    """Samples the Gram matrices of k inputs at every layer of `net`.

    Args:
      key: PRNG key.
      samples: how many networks.
      net: of `models`.
      gram: <x^i, x^j> / n_in, (k, k), positive semi-definite.

    Returns:
      A `GramLayer` whose arrays are NumPy and lead with (samples, d + 1).

    Raises:
      UserError: a Gram matrix that is none, fewer than one sample, a bad network.
    """
    samples = check_samples(samples, 1)
    gram = np.asarray(gram, np.float64)
    _check_gram(gram)
    shape, scales = describe(net)
    batch = batch_size(shape.width * len(gram))
    parts = [
        out
        for _, out in stream(
            _draw, key, shape, scales, samples, batch=batch, shared=gram
        )
    ]
    join = lambda *a: np.concatenate(
        [np.moveaxis(b, 1, 2).reshape(-1, *b.shape[1:2], *b.shape[3:]) for b in a]
    )[:samples]
    return jax.tree.map(join, *parts)


def _check_gram(gram: np.ndarray) -> None:
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not len(gram):
        rule = f"has shape {gram.shape}, must be (k, k)"
        raise UserError("gram", "...", rule, "give <x_i, x_j> / n_in")
    scale = np.trace(gram)
    ok = np.isfinite(gram).all() and np.allclose(gram, gram.T) and scale > 0
    if not ok or np.linalg.eigvalsh(gram)[0] < -1e-10 * scale:
        rule = "must be finite, symmetric and positive semi-definite"
        raise UserError("gram", gram.tolist(), rule, "give <x_i, x_j> / n_in")


def _draw(key, shape, scales, batch, counted, shared):
    return gram_path(key, shape, scales, batch, shared)


def gram_path(
    key: jax.Array,
    shape: Architecture,
    scales: Scales,
    batch: int,
    gram: jax.Array,
    *,
    each: Callable[[GramLayer], Tree] = lambda layer: layer,
) -> Tree:
    """Draws `batch` networks; what `each` makes of layers 0, ..., d, stacked first.

    Args:
      key: layer l uses fold_in(key, l).
      shape: what of the network is compiled.
      scales: its branch weights.
      batch: networks.
      gram: of the inputs, (k, k).
      each: makes of every layer what is to be kept.
    """
    n, phi = shape.width, shape.phi
    bias, k = shape.bias_std**2, gram.shape[-1]

    def draw(layer):
        key_layer = jax.random.fold_in(key, layer)
        g, s = normal_and_sign(key_layer, (batch, k, n))
        return g, (s[:, :1] if shape.signed else 1.0)

    def mix(factor, g):  # rows of N(0, L L^T), for all units
        return jnp.einsum("bij,bjn->bin", factor, g)

    def inner(z):
        return jnp.einsum("bin,bjn->bij", z, z)

    def step(carry, inputs):
        z, s, log_scale = carry
        layer, alpha, lam = inputs
        products = inner(z) / n
        kept = each(GramLayer(products, log_scale))
        drive = phi.weight_variance / n * inner(phi.phi(s * z)) + bias
        g, fresh = draw(layer)
        new = alpha * z + lam * mix(cholesky(drive), g)
        if shape.homogeneous:
            size = jnp.trace(inner(new) / n, axis1=-2, axis2=-1) / k
            alive = size > 0
            new = new / jnp.sqrt(jnp.where(alive, size, 1))[:, None, None]
            change = jnp.log(size.astype(jnp.float64))
            log_scale = log_scale + jnp.where(alive, change, -jnp.inf)
        return (new, fresh, log_scale), kept

    g, s = draw(shape.depth)
    factor = cholesky(gram + bias).astype(jnp.float32)
    z = mix(jnp.broadcast_to(factor, (batch, k, k)), g)
    carry = (z, s, jnp.zeros(batch, jnp.float64))
    layers = jnp.arange(shape.depth)
    end, kept = jax.lax.scan(step, carry, (layers, scales.alpha, scales.lam))
    last = each(GramLayer(inner(end[0]) / n, end[2]))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), kept, last)
