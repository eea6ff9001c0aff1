"""The forward pass on one input, exact in law, without weight matrices.

Given z, the vector W phi(z) with independent N(0, 1) weights is |phi(z)| g in law, with
g ~ N(0, I_n).  A layer thus costs n numbers instead of n^2:

    z_0     = sqrt(1 + sigma_b^2) g_0                  (|x|^2 = n_in)
    z_{l+1} = alpha_l z_l + lam_l sqrt(sigma_w^2 |phi(s_l z_l)|^2 / n + sigma_b^2) g_l

jointly over layers.  Norms are kept as logarithms and z as a direction wherever the
activation is homogeneous, so that no depth over- or underflows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from testbed.sampling.architecture import Architecture, Scales
from testbed.sampling.normals import normal_and_sign

Tree = Any


class Layer(NamedTuple):
    """One layer of many networks; every array is (copies, batch).

    Attributes:
      log_norm: log(|z_l|^2 / |z_0|^2), float64; -inf once a network is dead.
      activation_ratio: |phi(s_l z_l)|^2 / |z_l|^2; 0 once a network is dead.
      active_fraction: share of units with phi > 0.
      alive: z_l != 0.
    """

    log_norm: jax.Array
    activation_ratio: jax.Array
    active_fraction: jax.Array
    alive: jax.Array


class Forward(NamedTuple):
    """What `forward` returns.

    Attributes:
      each: what `each` made of layers l = 0, ..., d - 1, with a leading axis (d,).
      last: layer d.
      log_input: log(|z_0|^2 / n), (copies, batch).
      log_output: log|f|^2, (copies, batch).
    """

    each: Tree
    last: Layer
    log_input: jax.Array
    log_output: jax.Array


class _State(NamedTuple):
    z: jax.Array  # (copies, batch, n)
    square: jax.Array  # |z|^2
    square_phi: jax.Array  # |phi(s z)|^2
    active: jax.Array
    log_norm: jax.Array


def forward(
    key: jax.Array,
    shape: Architecture,
    scales: Scales,
    batch: int,
    *,
    antithetic: bool = False,
    each: Callable[[Layer], Tree] = lambda layer: None,
) -> Forward:
    """Draws `batch` networks and follows one input through them.

    Args:
      key: layer l uses fold_in(key, l).
      shape: what of the network is compiled.
      scales: its branch weights.
      batch: networks (pairs of them, if antithetic).
      antithetic: also a copy of each network with every g negated.  The two share the
        leading noise of what is odd in z, such as the imbalance of active units.
      each: makes of every layer what is to be kept; nothing by default.

    Returns:
      A `Forward`; copies = 2 if antithetic, else 1.
    """
    n, phi = shape.width, shape.phi
    bias = shape.bias_std**2
    reflect = jnp.asarray([1.0, -1.0] if antithetic else [1.0], jnp.float32)
    reflect = reflect[:, None, None]

    def draw(layer):
        g, s = normal_and_sign(jax.random.fold_in(key, layer), (batch, n))
        return reflect * g[None], (s[None] if shape.signed else 1.0)

    def state(z, s, log_norm_of):
        h = phi.phi(s * z)
        square = jnp.sum(z**2, -1)
        active = jnp.mean(h > 0, -1, dtype=jnp.float32)
        return _State(z, square, jnp.sum(h**2, -1), active, log_norm_of(square))

    def view(at: _State) -> Layer:
        alive = at.square > 0
        ratio = jnp.where(alive, at.square_phi / jnp.where(alive, at.square, 1), 0)
        return Layer(at.log_norm, ratio, at.active, alive)

    def step(at: _State, inputs):
        layer, alpha, lam = inputs
        g, s = draw(layer)
        alive = at.square > 0
        square = jnp.where(alive, at.square, 1)
        # A direction of mean square 1, where the scale may be kept apart.
        unit = jnp.sqrt(n / square) if shape.homogeneous else jnp.ones_like(square)
        drive = jnp.sqrt(phi.weight_variance / n * at.square_phi + bias)
        z = (alpha * unit)[..., None] * at.z + (lam * unit * drive)[..., None] * g

        def log_norm(new_square):
            ratio = (new_square / (square * unit**2)).astype(jnp.float64)
            return jnp.where(alive, at.log_norm + jnp.log(ratio), -jnp.inf)

        return state(z, s, log_norm), each(view(at))

    g, s = draw(shape.depth)
    z0 = (1 + bias) ** 0.5 * g
    start = state(z0, s, lambda square: jnp.zeros(square.shape, jnp.float64))
    layers = jnp.arange(shape.depth)
    end, kept = jax.lax.scan(step, start, (layers, scales.alpha, scales.lam))

    log_input = jnp.log(start.square.astype(jnp.float64) / n)
    final = end.square
    if shape.head == "relu":
        final = phi.weight_variance * end.square_phi
    safe = jnp.where(end.square > 0, end.square, 1)
    scale = log_input + end.log_norm + jnp.log((final / safe).astype(jnp.float64))
    if bias:
        scale = jnp.logaddexp(scale, jnp.log(bias))
    g, _ = normal_and_sign(
        jax.random.fold_in(key, shape.depth + 1), (batch, shape.out_features)
    )
    chi2 = jnp.sum(g.astype(jnp.float64) ** 2, -1)
    return Forward(kept, view(end), log_input, scale + jnp.log(chi2)[None])
