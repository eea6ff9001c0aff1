"""Covariance of a residual network whose width and depth are both infinite.

    Y_{l+1} = Y_l + a_l n^{-1/2} W_l phi(Y_l),   W_l with independent N(0, 1) entries;

phi = ReLU unless said.  q(a, b) = <Y(a), Y(b)> / n is deterministic at infinite width:

    q_{l+1}(a, b) = q_l(a, b) + (a_l^2 / 2) sqrt(q_l(a, a) q_l(b, b)) f(c_l)

with c the correlation of a and b, and for a_l^2 = T/L, L -> infinity, t = l T/L,

    dq_t(a, b)/dt = (1/2) sqrt(q_t(a, a) q_t(b, b)) f(c_t).

Width and depth may go to infinity in either order or together.  This project's network
with alpha = 1, lam = c / sqrt(d) has a_l^2 = 2 c^2 / d: it ends at time 2 c^2.

Source: Hayou & Yang 2023, "Width and depth limits commute in residual networks",
arXiv:2302.00453, Theorem 2, for the flow (there (f(c)/c) q instead of sqrt(q q) f(c),
which also serves c = 0); Hayou 2024 (JMLR), Theorems 1 and 2, for general a_l.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, stats

from testbed.arguments import number, numbers
from testbed.errors import UserError
from testbed.laws.law import Law


def relu_correlation(c: ArrayLike) -> np.ndarray:
    """f(c) = 2 E[phi(u) phi(v)] for standard Gaussians u, v of correlation c.

        f(c) = (c arcsin c + sqrt(1 - c^2)) / pi + c/2

    Args:
      c: correlation in [-1, 1], any shape.

    Returns:
      The same shape; f(-1) = 0, f(1) = 1.

    Source: arXiv:2302.00453; equally kappa_1 of Cho & Saul 2009.
    """
    c = numbers("c", c, -1, 1, remedy="divide by both norms")
    return (c * np.arcsin(c) + np.sqrt(1 - c**2)) / np.pi + c / 2


def covariance_flow(
    q_aa: ArrayLike, q_ab: ArrayLike, q_bb: ArrayLike, times: ArrayLike
) -> np.ndarray:
    """q_t(a, b) of pairs of inputs, from the covariance equation.

        dq_t(a, b)/dt = (1/2) sqrt(q_t(a, a) q_t(b, b)) f(c_t)
        q_t(a, a) = q_0(a, a) e^{t/2}

    Args:
      q_aa: q_0(a, a) = |a|^2 / d_in > 0, any shape.
      q_ab: q_0(a, b) = <a, b> / d_in; pass q_aa for q_t(a, a) itself.
      q_bb: q_0(b, b) > 0; the three broadcast.
      times: increasing, >= 0, (m,).

    Returns:
      (m,) + the pairs' common shape.

    Raises:
      UserError: bad times, a variance <= 0, or |q_ab| > sqrt(q_aa q_bb).

    Source: Hayou & Yang 2023, arXiv:2302.00453, Theorem 2.

    Example:
      >>> print(covariance_flow(1.0, 0.0, 1.0, times=[0.0, 1.0]).round(8))
      [0.         0.23304292]
    """
    product, start = _checked_pairs(q_aa, q_ab, q_bb)

    def rate(t, q):
        diagonal = product.ravel() * np.exp(t / 2)
        return diagonal * relu_correlation(np.clip(q / diagonal, -1, 1)) / 2

    flow = _solve(rate, start.ravel(), times, scale=product.ravel())
    return flow.reshape(-1, *product.shape)


def angle_flow(angle: ArrayLike, times: ArrayLike) -> np.ndarray:
    """theta_t = arccos c_t: the same flow, accurate for nearly parallel inputs too.

        theta' = -(1 - theta cot theta) / (2 pi),   ~ -theta^2 / (6 pi) at small theta
        q_t(a, b) = sqrt(q_0(a, a) q_0(b, b)) e^{t/2} cos theta_t

    Args:
      angle: theta_0 in [0, pi), any shape; opposite inputs need `covariance_flow`.
      times: increasing, >= 0, (m,).

    Returns:
      (m,) + the shape of angle.

    Source: derived here, from c' = (f(c) - c)/2.
    """
    angle = numbers("angle", angle, remedy="give theta_0")
    if not ((angle >= 0) & (angle < np.pi)).all():
        rule, remedy = (
            "must lie in [0, pi)",
            "theta' is infinite at pi: use covariances",
        )
        raise UserError("angle", float(angle.max()), rule, remedy)

    def rate(_, theta):
        safe = np.where(theta < 0.01, 1.0, theta)
        # 1 - theta cot(theta) cancels; the next term of the series is 2 theta^6/945.
        series = theta**2 / 3 + theta**4 / 45
        rate = np.where(theta < 0.01, series, 1 - safe / np.tan(safe))
        return -rate / (2 * np.pi)

    flow = _solve(rate, angle.ravel(), times, scale=angle.ravel())
    return flow.reshape(-1, *angle.shape)


def covariance_recursion(
    q_aa: ArrayLike, q_ab: ArrayLike, q_bb: ArrayLike, squares: ArrayLike
) -> np.ndarray:
    """q_l(a, b) layer by layer at finite depth and infinite width.

        q_{l+1}(a, b) = q_l(a, b) + (a_l^2 / 2) sqrt(q_l(a, a) q_l(b, b)) f(c_l)
        q_{l+1}(a, a) = (1 + a_l^2 / 2) q_l(a, a)

    What `squares` = a_l^2 makes of large depth:

        sum a_l^2 = T, max a_l^2 -> 0:  the flow at times `elapsed_time(squares)`; the
                                        error is O(max a_l^2), O(1/L) if uniform
        a_l^2 -> zeta_l^2, summable:    this recursion itself, with zeta_l^2
        a_l^2 = L^{-2 gamma}:           nothing moves if gamma > 1/2, all explodes below

    Args:
      q_aa: q_0(a, a) > 0, any shape.
      q_ab: q_0(a, b).
      q_bb: q_0(b, b) > 0; the three broadcast.
      squares: a_l^2 >= 0, l = 0, ..., L - 1, (L,).

    Returns:
      l = 0, ..., L: (L + 1,) + the pairs' common shape.

    Raises:
      UserError: as `covariance_flow`, or squares is no vector of numbers >= 0.

    Source: Hayou 2024 (JMLR), Theorems 1 and 2.
    """
    product, start = _checked_pairs(q_aa, q_ab, q_bb)
    layers = [start]
    for square in _checked_squares(squares):
        step = square / 2 * product
        correlation = np.clip(layers[-1] / product, -1, 1)
        layers.append(layers[-1] + step * relu_correlation(correlation))
        product = product + step
    return np.stack(layers)


def elapsed_time(squares: ArrayLike) -> np.ndarray:
    """t_l = sum_{k<l} a_k^2, the flow's time after l layers, l = 0, ..., L.

    Args:
      squares: a_l^2 >= 0, (L,).

    Returns:
      (L + 1,).

    Source: Hayou 2024 (JMLR), Theorem 2.
    """
    return np.concatenate([[0.0], np.cumsum(_checked_squares(squares))])


def gaussian_limit(variance: float, time: float = 1.0) -> Law:
    """Law of one unit, and so of the whole layer's entries: N(0, q_0 e^{t/2}).

    At infinite width the diffusion of `infinite_depth` is dX = sqrt(E phi(X)^2) dB; the
    log-norm log(R_t / R_0) becomes t/4.

    Args:
      variance: q_0 = |x|^2 / d_in > 0.
      time: t >= 0.

    Returns:
      A frozen `scipy.stats.norm`.

    Source: derived here; the variance is that of arXiv:2302.00453, Theorem 2.
    """
    std = number("variance", variance, above=0) ** 0.5
    return cast(Law, stats.norm(0, std * np.exp(number("time", time, 0) / 4)))


def variance_flow(
    phi: Callable[[np.ndarray], np.ndarray], variance: float, times: ArrayLike
) -> np.ndarray:
    """Variance V(t) of the Gaussian limit for any activation.

        V' = E[phi(sqrt(V) g)^2],   V(0) = q_0,   g ~ N(0, 1)

    by 128-point Gauss-Hermite quadrature: meant for a smooth phi^2, exact for ReLU.

    Args:
      phi: elementwise activation, in NumPy.
      variance: q_0 > 0.
      times: increasing, >= 0, (m,).

    Returns:
      V at these times, (m,).

    Raises:
      UserError: bad arguments, or V cannot be followed to the last time.

    Source: derived here, the mean-field limit of dX = n^{-1/2} |phi(X)| dB.

    Example:
      >>> print(variance_flow(lambda x: x, 1.0, [0.0, 1.0]).round(6))
      [1.       2.718282]
    """
    start = np.array([number("variance", variance, above=0)])
    nodes, weights = np.polynomial.hermite_e.hermegauss(128)
    rate = lambda _, v: weights @ phi(np.sqrt(v) * nodes) ** 2 / weights.sum()
    return _solve(lambda t, v: np.array([rate(t, v)]), start, times, scale=start)[:, 0]


def _solve(rate: Callable, start: np.ndarray, times: ArrayLike, scale: np.ndarray):
    """y at the times, (m,) + shape of start (a vector), to about 11 digits of scale."""
    times = _checked_times(times)
    span = (0.0, max(times[-1], 1e-9))  # solve_ivp needs an interval
    least = 1e-14 * scale + 1e-300
    # Long steps would be accurate, but not the interpolation between them.
    flow = integrate.solve_ivp(
        rate, span, start, "DOP853", times, rtol=1e-12, atol=least, max_step=0.1
    )
    if not flow.success:
        rule = f"the flow cannot be followed: {flow.message}"
        raise UserError("times", times[-1], rule, "stop earlier")
    return flow.y.T


def _checked_times(times: ArrayLike) -> np.ndarray:
    array = np.atleast_1d(numbers("times", times, 0))
    if array.ndim != 1 or not array.size or (np.diff(array) < 0).any():
        raise UserError("times", array.tolist(), "must be increasing", "sort them")
    return array


def _checked_squares(squares: ArrayLike) -> np.ndarray:
    array = numbers("squares", squares, 0, remedy="give a_l^2 of every layer")
    if array.ndim != 1:
        rule = f"must be a vector, but has shape {array.shape}"
        raise UserError("squares", "[...]", rule, "give a_l^2 of every layer")
    return array


def _checked_pairs(q_aa, q_ab, q_bb) -> tuple[np.ndarray, np.ndarray]:
    """sqrt(q_aa q_bb) and q_ab in their common shape."""
    remedy = "leave out inputs that are 0"
    q_aa = numbers("q_aa", q_aa, above=0, remedy=remedy)
    q_bb = numbers("q_bb", q_bb, above=0, remedy=remedy)
    q_aa, q_ab, q_bb = np.broadcast_arrays(q_aa, numbers("q_ab", q_ab), q_bb)
    product = np.sqrt(q_aa * q_bb)
    # Rounding may put parallel inputs slightly outside.
    if not (np.abs(q_ab) <= product * (1 + 1e-12)).all():
        rule = "must not exceed sqrt(q_aa q_bb)"
        wrong = float(q_ab[np.abs(q_ab) > product * (1 + 1e-12)][0])
        raise UserError("q_ab", wrong, rule, "use <a, b> / d_in as for |a|^2 / d_in")
    return product, q_ab
