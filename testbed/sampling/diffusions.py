"""The diffusions that infinitely deep residual networks of finite width follow.

Every law is an `SDE` for `euler_maruyama`.  Several inputs are driven by as many
Brownian motions of R^D, through a factor of their Gram matrix: exact in law, and O(D) a
step instead of the O(D^2) of weights.  Jacobians need the weights themselves.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from testbed.laws.diffusion import Branch
from testbed.sampling.cholesky import cholesky
from testbed.sampling.sde import SDE

Elementwise = Callable[[jax.Array], jax.Array]


def _identity(x: jax.Array) -> jax.Array:
    return x


def fixed_width(phi: Elementwise) -> SDE:
    """The limit of Y_l = Y_{l-1} + L^{-1/2} W_l phi(Y_{l-1}), W_l ~ N(0, 1/n).

        dX = n^{-1/2} |phi(X)| dB,     d[X^i, X^j] = n^{-1} <phi(X^i), phi(X^j)> I dt

    With alpha = 1 and lam = c/sqrt(d), the testbed's ResNet reaches time 2 c^2.

    Args:
      phi: elementwise, Lipschitz, e.g. `jax.nn.relu`.

    Returns:
      An `SDE` of states (paths, inputs, n).

    Source: Hayou 2022, "On the infinite-depth limit of finite-width neural networks",
    arXiv:2210.00688; the cross-variation is derived here from the model.
    """

    def drift(t, x):
        return jnp.zeros_like(x)

    def noise(t, x, dw):
        return cholesky(_gram(phi(x))) @ dw

    return SDE(drift, noise)


def smooth_branch(branch: Branch, psi: Elementwise = _identity) -> SDE:
    """The limit of x + phi(DW psi(x) + Db) with independent weights.

        s_ij = sigma_b^2 + sigma_w^2 <psi(x^i), psi(x^j)>/D,
        dx^i = phi''(0)/2 s_ii 1 dt + phi'(0) s_ii^{1/2} dB^i,
        d[x^i, x^j] = phi'(0)^2 s_ij I dt

    Args:
      branch: phi's derivatives at 0, sigma_w, sigma_b.
      psi: what the branch applies before its weights, elementwise.

    Returns:
      An `SDE` of states (paths, inputs, D).

    Source: Peluchetti & Favaro 2020, arXiv:1905.11065, Corollaries 3-5 of its journal
    version (JMLR 20-706).
    """

    def covariance(x):
        return branch.sigma_b**2 + branch.sigma_w**2 * _gram(psi(x))

    def drift(t, x):
        own = jnp.diagonal(covariance(x), axis1=-2, axis2=-1)
        return branch.phi.curvature / 2 * own[..., None] * jnp.ones_like(x)

    def noise(t, x, dw):
        return branch.phi.slope * cholesky(covariance(x)) @ dw

    return SDE(drift, noise)


def jacobian(branch: Branch, psi: Elementwise = _identity) -> SDE:
    """A state x and g = dx_t/dx_0, driven by the same weights.

        dx = phi''(0)/2 s 1 dt + phi'(0) (sigma_w D^{-1/2} dB^W psi(x) + sigma_b dB^b),
        dg = [phi'(0) sigma_w D^{-1/2} dB^W
              + phi''(0) (sigma_w^2/D) 1 psi(x)^T dt] diag(psi'(x)) g

    Args:
      branch: phi's derivatives at 0, sigma_w, sigma_b.
      psi: what the branch applies before its weights, elementwise, differentiable.

    Returns:
      An `SDE` of states (paths, D, 1 + D), [x, g]; start it at `with_identity(x0)`.

    Source: Peluchetti & Favaro 2020, arXiv:1905.11065, Theorem 14 and Corollary 15 of
    its journal version (JMLR 20-706); the iid case is made explicit here.
    """

    def drift(t, state):
        x, g = state[..., 0], state[..., 1:]
        return _join(_x_drift(branch, psi, x), _bracket_drift(branch, psi, x) @ g)

    def noise(t, state, dw):
        x, g = state[..., 0], state[..., 1:]
        return _join(
            _x_noise(branch, psi, x, dw), _bracket_noise(branch, psi, x, dw) @ g
        )

    return SDE(drift, noise)


def inverse_jacobian(branch: Branch, psi: Elementwise = _identity) -> SDE:
    """A state x and g^{-1} = dx_0/dx_t, driven by the same weights.

        dg = dM g   =>   dg^{-1} = g^{-1} (-dM + d[M]),
        d[M] = phi'(0)^2 (sigma_w^2/D) diag(psi'(x))^2 dt

    With the same key and steps it follows the same path as `jacobian`.

    Args:
      branch: phi's derivatives at 0, sigma_w, sigma_b.
      psi: what the branch applies before its weights, elementwise, differentiable.

    Returns:
      An `SDE` of states (paths, D, 1 + D), [x, g^{-1}]; start at `with_identity(x0)`.

    Source: as `jacobian`.
    """

    def drift(t, state):
        x, g = state[..., 0], state[..., 1:]
        _, slope = _derivative(psi, x)
        scale = branch.phi.slope**2 * branch.sigma_w**2 / x.shape[-1]
        correction = scale * slope[..., None, :] ** 2 * g
        return _join(
            _x_drift(branch, psi, x), correction - g @ _bracket_drift(branch, psi, x)
        )

    def noise(t, state, dw):
        x, g = state[..., 0], state[..., 1:]
        dm = _bracket_noise(branch, psi, x, dw)
        return _join(_x_noise(branch, psi, x, dw), -g @ dm)

    return SDE(drift, noise)


def with_identity(x0: jax.Array) -> jax.Array:
    """[x0, I], (paths, D, 1 + D), from x0, (paths, D)."""
    eye = jnp.eye(x0.shape[-1], dtype=x0.dtype)
    return _join(x0, jnp.broadcast_to(eye, (*x0.shape, x0.shape[-1])))


def _join(x, g):
    return jnp.concatenate([x[..., None], g], axis=-1)


def _derivative(psi, x):
    """psi(x) and psi'(x)."""
    return jax.jvp(psi, (x,), (jnp.ones_like(x),))


def _x_drift(branch, psi, x):
    square = jnp.mean(psi(x) ** 2, axis=-1, keepdims=True)
    s = branch.sigma_b**2 + branch.sigma_w**2 * square
    return branch.phi.curvature / 2 * s * jnp.ones_like(x)


def _x_noise(branch, psi, x, dw):
    weights = branch.sigma_w * x.shape[-1] ** -0.5 * dw[..., 1:]
    image = jnp.einsum("...ij,...j->...i", weights, psi(x))
    return branch.phi.slope * (image + branch.sigma_b * dw[..., 0])


def _bracket_drift(branch, psi, x):
    """phi''(0) (sigma_w^2/D) 1 (psi psi')^T, (paths, D, D)."""
    f, slope = _derivative(psi, x)
    row = branch.phi.curvature * branch.sigma_w**2 / x.shape[-1] * f * slope
    return jnp.broadcast_to(row[..., None, :], (*x.shape, x.shape[-1]))


def _bracket_noise(branch, psi, x, dw):
    """dM = phi'(0) sigma_w D^{-1/2} dB^W diag(psi'), (paths, D, D)."""
    _, slope = _derivative(psi, x)
    scale = branch.phi.slope * branch.sigma_w * x.shape[-1] ** -0.5
    return scale * dw[..., 1:] * slope[..., None, :]


def _gram(f):
    """<f^i, f^j>/D, (paths, inputs, inputs)."""
    return jnp.einsum("...id,...jd->...ij", f, f) / f.shape[-1]
