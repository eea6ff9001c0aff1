"""Forward and backward pass on one input, jointly exact in law: NTKs and gradients.

Forward as in `testbed.sampling.forward`, keeping y_l = W_l h_l with h_l = phi(s z_l).
Backward, given y = W h, the transpose acts as

    W^T delta = h (y . delta) / |h|^2 + |delta| (I - h h^T / |h|^2) g,    g ~ N(0, I),

jointly with the forward pass, because W is Gaussian and only W h is known of it.

With f = sqrt(sigma_out^2 / n) w_out . h_d the tangent kernel on the diagonal is a sum
over layers of squared norms: for the weights of layer l, (scale_l)^2 |h_l|^2
|delta_{l+1}|^2, with delta_{l+1} = df/dz_{l+1} and scale_l what multiplies W_l.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models import MLP, ResNet
from testbed.sampling.architecture import Architecture, Scales, describe
from testbed.sampling.normals import normal_and_sign
from testbed.sampling.stream import batch_size, check_samples, stream


class Gradients(NamedTuple):
    """Logarithms of squared norms, for one output and |x|^2 = n_in, float64.

    Arrays lead with (samples,); -inf where a network is dead.

    Attributes:
      log_h: log |h_l|^2 / n of what enters weight layer l = 0, ..., d + 1: the input
        (n_in in place of n), phi(s z_0), ..., phi(s z_{d-1}), and what the head sees.
      log_delta: log |df/dy_l|^2 for the outputs y_l = z_0, z_1 - alpha z_0, ..., f of
        these layers, before the branch weight lam_l enters; 0 for f itself.
      log_ntk: log of the tangent kernel's parts, the squared norm of the gradient in
        each layer's unit-variance weights, (samples, d + 2).
      log_ntk_bias: likewise for a bias of unit scale in every layer.
    """

    log_h: np.ndarray
    log_delta: np.ndarray
    log_ntk: np.ndarray
    log_ntk_bias: np.ndarray


def sample_gradients(key: jax.Array, samples: int, net: MLP | ResNet) -> Gradients:
    """Samples what gradients and the diagonal NTK of one output are made of.

    Theta(x, x) = sum_l exp(log_ntk_l), for |x|^2 = n_in, in the NTK parameterization.

    Args:
      key: PRNG key.
      samples: how many networks.
      net: of `models`.

    Raises:
      UserError: too few samples, or a network that `describe` refuses.
    """
    samples = check_samples(samples, 1)
    shape, scales = describe(net)
    # Every layer of a batch is kept for the way back.
    batch = min(
        batch_size(shape.width), max(1, 8 * batch_size(shape.width * shape.depth))
    )
    parts = [o for _, o in stream(_draw, key, shape, scales, samples, batch=batch)]
    join = lambda *a: np.concatenate([b.reshape(-1, b.shape[-1]) for b in a])[:samples]
    return jax.tree.map(join, *parts)


def _draw(key, shape, scales, batch, counted, shared):
    return gradients(key, shape, scales, batch)


def gradients(
    key: jax.Array, shape: Architecture, scales: Scales, batch: int
) -> Gradients:
    """Draws `batch` networks; arrays are (batch, d + 2)."""
    n, d, phi = shape.width, shape.depth, shape.phi
    relu_head = shape.head == "relu"
    keys = [jax.random.fold_in(key, i) for i in range(4)]

    def draw(purpose, layer):
        return normal_and_sign(jax.random.fold_in(keys[purpose], layer), (batch, n))

    def slope(z, s):
        return jax.vjp(phi.phi, s * z)[1](jnp.ones_like(z))[0]

    def direction(z, log_scale):
        """z apart from its size, where the activation lets the size be kept apart."""
        if not shape.homogeneous:
            return z, log_scale
        size = jnp.mean(z**2, -1)
        alive = size > 0
        change = jnp.where(alive, jnp.log(size.astype(jnp.float64)), -jnp.inf)
        unit = z / jnp.sqrt(jnp.where(alive, size, 1))[:, None]
        return unit, log_scale + change

    def forward(carry, inputs):
        u, s, log_scale = carry  # z = exp(log_scale / 2) u
        layer, alpha, lam = inputs
        h = phi.phi(s * u)
        g, fresh = draw(0, layer)
        y = jnp.linalg.norm(h, axis=-1, keepdims=True) * g
        branch = (phi.weight_variance / n) ** 0.5 * y
        if shape.bias_std:
            branch = branch + shape.bias_std * draw(3, layer)[0]
        new, log_new = direction(alpha * u + lam * branch, log_scale)
        keep = (h, y, slope(u, s) * s, log_scale)
        return (new, fresh if shape.signed else s, log_new), keep

    g, s = draw(0, d)
    if not shape.signed:
        s = jnp.ones_like(s)
    z0 = (1 + shape.bias_std**2) ** 0.5 * g
    u, log_start = direction(z0, jnp.zeros(batch, jnp.float64))
    layers = jnp.arange(d)
    inputs = (layers, scales.alpha, scales.lam)
    (u, s, log_end), (h, y, slopes, log_scale) = jax.lax.scan(
        forward, (u, s, log_start), inputs
    )

    # The head, f = sqrt(v / n) w . h_d.
    head = phi.phi(s * u) if relu_head else u
    variance = phi.weight_variance if relu_head else 1.0
    w, _ = draw(1, d)
    delta = (variance / n) ** 0.5 * w * (slope(u, s) * s if relu_head else 1.0)

    def backward(carry, inputs):
        delta, log_delta = carry  # df/dz_{l+1} = exp(log_delta / 2) delta
        layer, alpha, lam, h, y, slopes = inputs
        g, _ = draw(2, layer)
        square = jnp.sum(h**2, -1, keepdims=True)
        inverse = jnp.where(square > 0, 1 / jnp.where(square > 0, square, 1), 0)
        known = h * inverse * jnp.sum(y * delta, -1, keepdims=True)
        size = jnp.sum(delta**2, -1, keepdims=True)
        fresh = g - h * inverse * jnp.sum(h * g, -1, keepdims=True)
        pulled = known + jnp.sqrt(size) * fresh
        back = alpha * delta
        back = back + lam * (phi.weight_variance / n) ** 0.5 * slopes * pulled
        norm = jnp.sum(back**2, -1)
        alive = norm > 0
        change = jnp.where(alive, jnp.log(norm.astype(jnp.float64)), -jnp.inf)
        new = back / jnp.sqrt(jnp.where(alive, norm, 1))[:, None]
        out = jnp.log(size[:, 0].astype(jnp.float64)) + log_delta
        return (new, log_delta + change), out

    inputs = (layers, scales.alpha, scales.lam, h, y, slopes)
    zero = jnp.zeros(batch, jnp.float64)
    (delta, log_first), log_deltas = jax.lax.scan(
        backward, (delta, zero), inputs, reverse=True
    )
    log_first = log_first + jnp.log(jnp.sum(delta**2, -1).astype(jnp.float64))

    log = lambda a: jnp.log(jnp.mean(a.astype(jnp.float64) ** 2, -1))
    log_h = jnp.concatenate(
        [zero[None], log(h) + log_scale, (log(head) + log_end)[None]]
    )
    log_delta = jnp.concatenate([log_first[None], log_deltas, zero[None]])
    # What multiplies the weights' product: 1, lam_l sigma_w, and the head's.
    one, square = jnp.ones(1, jnp.float64), scales.lam**2
    inner = (square * phi.weight_variance).astype(jnp.float64)
    scale = jnp.concatenate([one, inner, jnp.asarray([variance], jnp.float64)])
    bias = jnp.concatenate([one, square.astype(jnp.float64), one])
    log_ntk = jnp.log(scale)[:, None] + log_h + log_delta
    log_bias = jnp.log(bias)[:, None] + log_delta
    out = (log_h, log_delta, log_ntk, log_bias)
    return Gradients(*(a.T for a in out))  # pyright: ignore[reportArgumentType]
