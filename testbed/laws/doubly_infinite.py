"""Residual networks with smooth branches, infinitely deep and then infinitely wide.

The diffusion of `diffusion.py`, independent weights, psi = identity, as D -> infinity.
Averages over units become deterministic; with m = mean_d x_d, q = |x|^2/D,
lam_ij = <x^i, x^j>/D and s = sigma_b^2 + sigma_w^2 q,

    m'      = phi''(0)/2 s,
    q'      = (phi''(0) m + phi'(0)^2) s,
    lam_ij' = phi''(0)/2 (s_i m_j + s_j m_i) + phi'(0)^2 (sigma_b^2 + sigma_w^2 lam_ij),

and units become independent and Gaussian.

Notation: C = phi'(0)^2 sigma_w^2 T, E = e^C, r = sigma_b^2 / sigma_w^2.

Source: Peluchetti & Favaro 2020, arXiv:1905.11065; equation numbers are those of the
extended journal version (JMLR 20-706), where these limits are heuristic.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, stats

from testbed.arguments import number, numbers, whole
from testbed.errors import UserError
from testbed.laws.diffusion import Branch


class Moments(NamedTuple):
    """m = mean_d x_d and q = |x|^2/D of one input, arrays of one shape."""

    mean: np.ndarray
    square: np.ndarray


def moments(
    branch: Branch, mean: ArrayLike, square: ArrayLike, time: ArrayLike = 1.0
) -> Moments:
    """Mean and mean square over units, in closed form.

        phi''(0) = 0:   m_T = m_0,   q_T = q_0 + (q_0 + r)(E - 1)
        else:  u = phi''(0) m + phi'(0)^2 solves u' = (sigma_w^2 u^2 + K)/2 with
               K = phi''(0)^2 s - sigma_w^2 u^2 conserved:
               u_t = (u_0 + K w/sigma_w) / (1 - sigma_w u_0 w),
               w   = tan(sqrt(K) sigma_w t/2) / sqrt(K),
               m_t = (u_t - phi'(0)^2)/phi''(0),  s_t = (sigma_w^2 u_t^2 + K)/phi''(0)^2

    with tanh and |K| for tan and K if K < 0, and w = sigma_w t/2 if K = 0.

    Args:
      branch: phi, sigma_w, sigma_b.
      mean: m_0, any shape.
      square: q_0 >= m_0^2.
      time: T, before the explosion.

    Returns:
      m_T and q_T, of the broadcast shape.

    Raises:
      UserError: square < mean^2, time < 0 or past the explosion.

    Source: Proposition 18; its two constants, left open there, are derived here.

    Example:
      >>> from testbed.laws.diffusion import SWISH
      >>> m, q = moments(Branch(SWISH), mean=1.0, square=1.0)
      >>> print(f"{m:.5f} {q:.5f}")
      1.79340 4.00966
    """
    growth, time = branch.growth(time), np.asarray(time, np.float64)
    _, mean, square = np.broadcast_arrays(growth, *_checked_moments(mean, square))
    curvature, slope2 = branch.phi.curvature, branch.phi.slope**2
    if curvature == 0:
        return Moments(mean, square + (square + branch.ratio) * (growth - 1))
    explosion = explosion_time(branch, mean, square)
    if not np.all(time < explosion):
        rule = f"must be before the explosion at {np.min(explosion):.4g}"
        raise UserError("time", time, rule, "stop earlier, or use a smaller input")
    u, k = _conserved(branch, mean, square)
    sigma_w, root = branch.sigma_w, np.sqrt(np.abs(k))
    w = sigma_w * time / 2
    angle = root * w
    moving = angle > 1e-8  # below, tan(angle) is the angle
    turn = np.where(k > 0, np.tan(angle), np.tanh(angle))
    w = np.where(moving, turn / np.where(moving, root, 1.0), w)
    u = (u + k * w / sigma_w) / (1 - sigma_w * u * w)
    s = (sigma_w**2 * u**2 + k) / curvature**2
    return Moments((u - slope2) / curvature, (s - branch.sigma_b**2) / sigma_w**2)


def explosion_time(branch: Branch, mean: ArrayLike, square: ArrayLike) -> np.ndarray:
    """When m and q become infinite; never if phi''(0) = 0.

        K > 0:  t* = (2/(sigma_w k)) (pi/2 - arctan(sigma_w u_0/k)),    k = sqrt|K|
        K < 0:  t* = (2/(sigma_w k)) artanh(k/(sigma_w u_0))
        K = 0:  t* = 2/(sigma_w^2 u_0)

    u_0 > 0 where K <= 0, because q >= m^2.  So if phi''(0) != 0 every start explodes,
    save x = 0 without biases.

    Args:
      branch: phi, sigma_w, sigma_b.
      mean: m_0, any shape.
      square: q_0 >= m_0^2.

    Returns:
      t*, of the broadcast shape; infinity where there is no explosion.

    Raises:
      UserError: square < mean^2.

    Source: derived here from Proposition 18's system, in the notation of `moments`.
    """
    mean, square = np.broadcast_arrays(*_checked_moments(mean, square))
    if branch.phi.curvature == 0:
        return np.full(mean.shape, np.inf)
    u, conserved = _conserved(branch, mean, square)
    u, k = branch.sigma_w * u, np.sqrt(np.abs(conserved))
    with np.errstate(divide="ignore", invalid="ignore"):  # in the cases not taken
        turning = np.arctan2(k, u) / k
        growing = np.arctanh(np.minimum(k / u, 1)) / k
        parabolic = 1 / u
    half = np.where(conserved > 0, turning, growing)
    half = np.where(k < 1e-8 * u, parabolic, half)
    return 2 / branch.sigma_w * half


def overlaps(
    branch: Branch, mean: ArrayLike, overlap: ArrayLike, time: float = 1.0
) -> np.ndarray:
    """lam_ij = <x^i, x^j>/D of several inputs at time T.

        phi''(0) = 0:   lam_T = lam_0 + (lam_0 + r)(E - 1)
        else:  c = lam_ij - m_i m_j solves
               c' = phi'(0)^2 (sigma_b^2 + sigma_w^2 (c + m_i m_j)),

    a linear equation driven by the closed m_t; its integral is done numerically.

    Args:
      branch: phi, sigma_w, sigma_b.
      mean: m_0 of every input, (inputs,).
      overlap: lam_0, (inputs, inputs), q_0 on its diagonal.
      time: T, before the first explosion.

    Returns:
      lam_T, (inputs, inputs).

    Raises:
      UserError: shapes that disagree, or as `moments`.

    Source: Proposition 18, solved here.
    """
    mean, overlap = numbers("mean", mean), numbers("overlap", overlap)
    time = number("time", time, 0)
    if mean.ndim != 1 or overlap.shape != mean.shape * 2:
        rule = f"must be square, of the size of mean, which is {mean.shape}"
        raise UserError("overlap", overlap.shape, rule, "give lam_0 of all pairs")
    square = np.diag(overlap)
    end = moments(branch, mean, square, time)
    growth, r = branch.growth(time), branch.ratio
    if branch.phi.curvature == 0:
        return overlap + (overlap + r) * (growth - 1)

    def source(t):
        m = moments(branch, mean, square, t).mean
        rate = branch.sigma_b**2 + branch.sigma_w**2 * np.outer(m, m)
        return branch.phi.slope**2 * branch.growth(time - t) * rate

    integral, _ = integrate.quad_vec(source, 0.0, time, epsrel=1e-11, epsabs=0.0)
    centred = growth * (overlap - np.outer(mean, mean)) + integral
    lam = centred + np.outer(end.mean, end.mean)
    np.fill_diagonal(lam, end.square)
    return lam


def unit_law(branch: Branch, x0: ArrayLike, unit: int = 0, time: float = 1.0) -> Any:
    """The joint Gaussian law of one unit's values at several inputs.

        (x^i_T)_d ~ N(x^i_0 + m_T - m_0,  [c_T - c_0]_ij),   c_ij = lam_ij - m_i m_j

    Args:
      branch: phi, sigma_w, sigma_b.
      x0: (inputs, D), or (inputs,): a number copied to every unit.
      unit: d.
      time: T, before the first explosion.

    Returns:
      A frozen `scipy.stats.multivariate_normal` with `mean` (inputs,) and `cov`
      (inputs, inputs).

    Raises:
      UserError: x0 of another shape, no such unit, or as `moments`.

    Source: Proposition 19, eq. (40).

    Example:
      >>> from testbed.laws.diffusion import TANH
      >>> law = unit_law(Branch(TANH), [0.0, 1.0])
      >>> print(law.mean, law.cov.round(4).tolist())
      [0. 1.] [[1.7183, 1.7183], [1.7183, 3.4366]]
    """
    x0, unit = numbers("x0", x0), whole("unit", unit, 0)
    if x0.ndim not in (1, 2) or x0.size == 0:
        raise UserError("x0", x0.shape, "must be (inputs, D) or (inputs,)", "reshape")
    x0 = x0.reshape(len(x0), -1)
    if unit >= x0.shape[1]:
        rule = f"must be below D = {x0.shape[1]}"
        raise UserError("unit", unit, rule, "units count from 0")
    mean, overlap = x0.mean(axis=1), x0 @ x0.T / x0.shape[1]
    end = moments(branch, mean, np.diag(overlap), time).mean
    grown = overlaps(branch, mean, overlap, time) - overlap
    cov: Any = grown - np.outer(end, end) + np.outer(mean, mean)
    return stats.multivariate_normal(x0[:, unit] + end - mean, cov, allow_singular=True)


def output_correlation(branch: Branch, z: ArrayLike, z_other: ArrayLike) -> np.ndarray:
    """Correlation of one unit at two scalar inputs copied to every unit; T drops out.

        (z z' + r) / sqrt((z^2 + r)(z'^2 + r)),     phi''(0) = 0

    Args:
      branch: phi, sigma_w, sigma_b.
      z: first input, any shape.
      z_other: second input.

    Returns:
      The broadcast shape.

    Raises:
      UserError: phi''(0) != 0, or a unit that is always 0.

    Source: derived here from eq. (40).
    """
    branch.require_symmetric()
    z, z_other = numbers("z", z), numbers("z_other", z_other)
    r = branch.ratio
    if r == 0 and not (np.all(z) and np.all(z_other)):
        rule = "must not be 0 without biases: the unit stays 0"
        raise UserError("z", z, rule, "give another input, or sigma_b > 0")
    return (z * z_other + r) / np.sqrt((z**2 + r) * (z_other**2 + r))


def depth_bias(
    branch: Branch,
    lam: ArrayLike,
    q: ArrayLike,
    q_other: ArrayLike | None = None,
    *,
    depth: int,
    time: ArrayLike = 1.0,
) -> np.ndarray:
    """What finite depth L adds to <x_T, x'_T>/D as D -> infinity, to order 1/L.

        Dt (phi'''(0)/phi'(0)) sigma_w^2 (lam + r) ((q + q')/2 + r) E (E - 1)
        - (Dt/2) sigma_w^4 phi'(0)^4 T (lam + r) E,     Dt = T/L,

    for odd phi and psi = identity: the branch's own fourth moment, and (1 + C/L)^L < E.

    Args:
      branch: phi, sigma_w, sigma_b.
      lam: <x, x'>/D at time 0, any shape.
      q: |x|^2/D at time 0.
      q_other: |x'|^2/D at time 0; left out, it is q.
      depth: L.
      time: T.

    Returns:
      The broadcast shape.

    Raises:
      UserError: phi''(0) != 0, depth < 1 or time < 0.

    Source: derived here from the model.

    Example:
      >>> from testbed.laws.diffusion import TANH
      >>> bias = depth_bias(Branch(TANH), 0.0, 0.0, depth=1)
      >>> print(f"{bias:.2f}")
      -10.70
    """
    branch.require_symmetric()
    depth = whole("depth", depth, remedy="count residual blocks")
    lam, q = numbers("lam", lam), numbers("q", q, 0)
    q_other = q if q_other is None else numbers("q_other", q_other, 0)
    phi, r, s2 = branch.phi, branch.ratio, branch.sigma_w**2
    growth, step = branch.growth(time), np.asarray(time) / depth
    fourth = (
        (phi.third / phi.slope) * s2 * ((q + q_other) / 2 + r) * growth * (growth - 1)
    )
    euler = s2 * phi.slope**2 * branch.strength(time) * growth / 2
    return step * (lam + r) * (fourth - euler)


def _checked_moments(
    mean: ArrayLike, square: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    mean, square = numbers("mean", mean), numbers("square", square)
    if not np.all(square >= mean**2 * (1 - 1e-12)):
        raise UserError("square", square, "must be at least mean^2", "it is |x|^2/D")
    return mean, square


def _conserved(
    branch: Branch, mean: np.ndarray, square: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """u = phi''(0) m + phi'(0)^2, and K = phi''(0)^2 s - sigma_w^2 u^2."""
    u = branch.phi.curvature * mean + branch.phi.slope**2
    s = branch.sigma_b**2 + branch.sigma_w**2 * square
    return u, branch.phi.curvature**2 * s - branch.sigma_w**2 * u**2
