"""The ReLU kernel recursion in half-angle form: no digits lost near the diagonal.

With p = sqrt(q(x) q(x')), S the covariance of two pre-activations and theta their
angle, S = p cos(theta), the ReLU gives

    2 E[phi(u) phi(v)]   = p kappa_1 = S + p g(theta),  g = (sin - theta cos) / pi,
    2 E[phi'(u) phi'(v)] = kappa_0   = 1 - theta / pi.

Recovering theta as arccos(S / p) loses half the digits when x and x' are nearly
collinear, and kappa_0 has a cusp just there.  Carried along are instead

    H = p - S = 2 p sin^2(theta/2)    and    G = p + S = 2 p cos^2(theta/2),

both sums of terms without cancellation, and theta = 2 atan2(sqrt H, sqrt G).  One layer
z -> alpha z + lam (sqrt(2/n) W phi(z) + sigma_b b), with s = alpha^2 + lam^2 and
b = lam^2 sigma_b^2, is

    q -> s q + b,                                e = s b (sqrt q - sqrt q')^2
    H -> s H - lam^2 p g(theta) + e / m,             / m,  m = p_new + s p + b
    G -> s G + lam^2 p g(theta) + e / m + 2 b
    T -> alpha^2 T + lam^2 (kappa_0 T + c_w (S + p g(theta)) + c_b),

e / m being p_new - s p - b.  T is the part of the tangent kernel that has been
collected so far; c_w = 1, c_b = sigma_b^2 in NTK parameterization, and c_w = n / 2,
c_b = 1 (0 without biases) in the standard one.

Derivatives, of any order by alpha and lam, are finite everywhere.  By an input moved
alone kappa_0 has a kink at collinear pairs, where theta grows like |direction|: the
derivative given is the symmetric one, the mean over both sides.  At x = 0 without
biases K and Theta have a kink too, like |x|; there each layer's symmetric derivative
is taken, which for the covariance is (alpha^2 + lam^2 / 2) dS.

Source: arc-cosine kernels: Cho & Saul 2009; NTK: Jacot et al. 2018, arXiv:1806.07572.
"""

import jax
import jax.numpy as jnp

# Squared ratio of H to G, or of G to H, below which the angle is round-off: 16 ulp.
_COLLINEAR = (16 * 2.0**-52) ** 2
_NUMBERS_AT_A_TIME = 2**26  # half a gibibyte, should a compiler not fuse them away


def relu_bend(h, g):
    """Returns (p g(theta), theta) of the pair described by (H, G).

    Where one input is zero theta is pi / 2, which prefers no direction.
    """
    # Where theta is 0 or pi up to round-off it is held fixed: as a function of the
    # inputs it grows there like |direction|, alike on both sides.
    smooth = (h > _COLLINEAR * g) & (g > _COLLINEAR * h)
    bent = jnp.where(smooth, h, 1), jnp.where(smooth, g, 1)
    hold = jax.lax.stop_gradient
    root_h, root_g = jnp.sqrt(bent[0]), jnp.sqrt(bent[1])
    held_h, held_g = jnp.sqrt(hold(h)), jnp.sqrt(hold(g))
    held = jnp.where(held_h + held_g > 0, jnp.arctan2(held_h, held_g), jnp.pi / 4)
    theta = 2 * jnp.where(smooth, jnp.arctan2(root_h, root_g), held)
    # p sin(theta) and p cos(theta) without a sine; at small angles the series of their
    # combination, whose first term left out is 1e-16 of it at theta = 0.05.
    p_sin = jnp.where(smooth, root_h * root_g, held_h * held_g)
    large = p_sin - theta * (g - h) / 2
    t2 = theta**2
    series = 1 - t2 / 10 * (1 - t2 / 28 * (1 - t2 / 54 * (1 - t2 / 88)))
    small = (g + h) / 6 * theta * t2 * series
    return jnp.where(theta < 0.05, small, large) / jnp.pi, theta


def relu_recursion(
    x1: jax.Array,
    x2: jax.Array,
    alpha: jax.Array,
    lam: jax.Array,
    *,
    head: str,
    bias_variance: float = 0.0,
    fan_in_scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    bias_scale: float = 1.0,
    layers: bool = False,
):
    """NNGP and NTK of a ReLU residual network, as a scan over its blocks.

    Args:
      x1: inputs, (N1, n_in) float64.
      x2: inputs, (N2, n_in) float64.
      alpha: weight of the skips, (depth,).
      lam: weight of the branches, (depth,).
      head: "linear", f = W_out z_d / sqrt(n), or "relu",
        f = sqrt(2/n) W_out phi(z_d).
      bias_variance: sigma_b^2 of every layer.
      fan_in_scale: c_w of the input layer, the blocks and the head.
      bias_scale: c_b / sigma_b^2 of every layer.
      layers: also return the kernels of every z_l.

    Returns:
      (K, Theta, layers), K and Theta (N1, N2); `layers` is None or the pair
      (S_l, T_l), l = 0..depth, each (depth + 1, N1, N2).
    """
    c_in, c_block, c_head = fan_in_scale
    n_in = x1.shape[1]
    b0, c_b = bias_variance, bias_variance * bias_scale

    def affine(carry, a2, l2, c_w):
        """One layer of ReLUs, of squared weights a2 (skip) and l2 (branch)."""
        q1, q2, h, g, t = carry
        p_bend, theta = relu_bend(h, g)
        kappa_0 = 1 - theta / jnp.pi
        t = a2 * t + l2 * (kappa_0 * t + c_w * ((g - h) / 2 + p_bend) + c_b)
        s = a2 + l2
        carry = s * q1, s * q2, s * h - l2 * p_bend, s * g + l2 * p_bend, t
        return _add_bias(*carry, l2 * b0) if b0 else carry

    # A bias is an input that all examples share.
    q1, norm1, u1 = _normalized(x1, b0)
    q2, norm2, u2 = _normalized(x2, b0)
    # Squares of differences, not 2 - 2 <u, v>; a few rows at once, not (N1, N2, n_in).
    squares = lambda u: (jnp.sum((u - u2) ** 2, 1), jnp.sum((u + u2) ** 2, 1))
    rows = _rows_at_a_time(u2.size)
    chord, co_chord = jax.lax.map(lambda u: squares(u[None]), u1, batch_size=rows)
    # Of a zero input p and S vanish, and only S = (G - H) / 2 has a derivative.
    zero = (q1 == 0)[:, None] | (q2 == 0)[None]
    odd = (co_chord - chord) / 2
    scale = norm1[:, None] * norm2[None] / (2 * n_in)
    h = scale * jnp.where(zero, -odd, chord)
    g = scale * jnp.where(zero, odd, co_chord)
    t = c_in * ((g - h) / 2 - b0) + c_b
    carry = (q1, q2, h, g, t)

    def block(carry, scales):
        new = affine(carry, scales[0] ** 2, scales[1] ** 2, c_block)
        return new, _covariances(carry) if layers else None

    carry, kept = jax.lax.scan(block, carry, (alpha, lam))
    if layers:
        append = lambda a, b: jnp.concatenate([a, b[None]])
        kept = jax.tree.map(append, kept, _covariances(carry))
    if head == "relu":
        nngp, ntk = _covariances(affine(carry, 0.0, 1.0, c_head))
    else:
        covariance, t = _covariances(carry)
        nngp, ntk = covariance + b0, t + c_head * covariance + c_b
    return nngp, ntk, kept


def _rows_at_a_time(others: int) -> int | None:
    """Rows met with `others` numbers at once: one on a CPU, as many as fill a card."""
    if jax.default_backend() == "cpu":
        return None
    return max(1, _NUMBERS_AT_A_TIME // others)


def _normalized(x, bias_variance: float):
    """Variances, norms and directions of inputs, and of the bias beside them.

    A zero input has the norm 1 and the direction 0.
    """
    n, n_in = x.shape
    if bias_variance:
        bias = jnp.full((n, 1), (n_in * bias_variance) ** 0.5)
        x = jnp.concatenate([x, bias], axis=1)
    square = jnp.sum(x**2, axis=1)
    norm = jnp.sqrt(jnp.where(square > 0, square, 1))
    return square / n_in, norm, x / norm[:, None]


def _product(q1, q2):
    root = lambda q: jnp.where(q > 0, jnp.sqrt(jnp.where(q > 0, q, 1)), 0)
    return root(q1)[:, None] * root(q2)[None]


def _covariances(carry):
    _, _, h, g, t = carry
    return (g - h) / 2, t


def _add_bias(q1, q2, h, g, t, b):
    """Adds b to both variances and to the covariance."""
    p = _product(q1, q2)
    total = q1[:, None] + q2[None] + 2 * p
    # (sqrt q - sqrt q')^2 without cancellation
    gap = (q1[:, None] - q2[None]) ** 2 / jnp.where(total > 0, total, 1)
    q1, q2 = q1 + b, q2 + b
    rise = _product(q1, q2) + p + b
    extra = b * gap / jnp.where(rise > 0, rise, 1)
    return q1, q2, h + extra, g + extra + 2 * b, t
