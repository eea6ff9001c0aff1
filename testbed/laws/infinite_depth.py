"""Residual networks of fixed width n whose depth goes to infinity: a diffusion.

    Y_{l+1} = Y_l + sqrt(t/(n L)) W_l phi(Y_l),   W_l with independent N(0, 1) entries.

Given Y_l the step is exactly N(0, t |phi(Y_l)|^2 / (n L) I), so the network is the
Euler-Maruyama scheme, at L steps in [0, t], of

    dX_t = n^{-1/2} |phi(X_t)| dB_t,   B an n-dimensional Brownian motion.

phi = ReLU unless said; R_t = |phi(X_t)|; A_t is the number of units with X_t > 0.
This project's network, z_{l+1} = z_l + c sqrt(2/(n d)) W_l phi(z_l), is the above at
time 2 c^2 (`hayou_time`).

Source: Hayou 2022, "On the infinite-depth limit of finite-width neural networks",
arXiv:2210.00688, for the network and its limit.  Formulas below were derived here from
the diffusion unless another source is named.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, special, stats

from testbed.arguments import number, numbers, whole, wholes
from testbed.errors import UserError
from testbed.laws.law import Law, Point
from testbed.laws.log_gaussian import sign_correlation


def hayou_time(branch: ArrayLike) -> np.ndarray:
    """Time 2 c^2 that a network with alpha = 1, lam = c / sqrt(d) reaches at its end.

    Args:
      branch: c, any shape.

    Returns:
      The same shape.
    """
    return 2 * numbers("branch", branch, remedy="give c") ** 2


def relu_log_law(time: float = 1.0) -> Law:
    """Law of log(X_t / X_0) of the ReLU network of width 1, given X_0 > 0.

        N(-t/2, t): geometric Brownian motion without drift.  X_0 <= 0 never moves.

    Args:
      time: t >= 0.

    Returns:
      A frozen `scipy.stats.norm`; at t = 0 the `Point` 0.

    Raises:
      UserError: a time below 0 or not finite.
    """
    time = number("time", time, 0)
    return cast(Law, stats.norm(-time / 2, time**0.5)) if time else Point(0.0)


def identity_log_law(width: int, time: float = 1.0) -> Law:
    """Law of log(|X_t| / |X_0|) of the linear network, phi(x) = x, at any width.

        N((1/2 - 1/n) t, t/n): geometric Brownian motion; typical norms fall at n = 1.

    Args:
      width: n.
      time: t >= 0.

    Returns:
      A frozen `scipy.stats.norm`; at t = 0 the `Point` 0.

    Raises:
      UserError: a width below 1 or not whole, a time below 0 or not finite.
    """
    width, time = whole("width", width), number("time", time, 0)
    law = stats.norm((1 / 2 - 1 / width) * time, (time / width) ** 0.5)
    return cast(Law, law) if time else Point(0.0)


def identity_layer_law(width: int, depth: int, time: float = 1.0) -> Law:
    """Law of |Y_{l+1}|^2 / |Y_l|^2 in a linear network of finite depth, exact.

        (1 + g sqrt(h))^2 + h chi^2_{n-1} = h chi'^2_n(1/h),   h = t/(n L)

    independent over layers; chi'^2 is the noncentral chi-square.

    Args:
      width: n.
      depth: L.
      time: t >= 0.

    Returns:
      A frozen `scipy.stats.ncx2`, of mean 1 + t/L and variance 4 h + 2 n h^2; at t = 0
      the `Point` 1.

    Raises:
      UserError: a size below 1 or not whole, a time below 0 or not finite.
    """
    width, depth, time = _network(width, depth, time)
    step = time / (width * depth)
    return cast(Law, stats.ncx2(width, 1 / step, scale=step)) if step else Point(1.0)


def identity_log_moments(
    width: int, depth: int, time: float = 1.0
) -> tuple[float, float]:
    """Mean and variance of log(|Y_L| / |Y_0|) of a linear network, exact in L and n.

        mean = (1/2 - 1/n) t - (n - 2)(n - 4) t^2 / (4 n^2 L) + O(L^-2)

    A noncentral chi-square is a chi-square of n + 2 J degrees, J ~ Poisson(1/(2h)); the
    log of a chi-square of 2 m degrees has mean log 2 + psi(m) and variance psi'(m).

    Args:
      width: n.
      depth: L.
      time: t >= 0; at t = 0 both are 0.

    Returns:
      (mean, variance).

    Raises:
      UserError: a size below 1 or not whole, a time below 0 or not finite.

    Example:
      >>> print(f"{identity_log_moments(width=8, depth=20)[0]:.4f}")
      0.3704
    """
    width, depth, time = _network(width, depth, time)
    if not time:
        return 0.0, 0.0
    step = time / (width * depth)
    count = 1 / (2 * step)
    reach = 12 * count**0.5 + 40  # what lies beyond weighs less than rounding
    j = np.arange(max(0, np.floor(count - reach)), count + reach)
    weight = stats.poisson.pmf(j, count)
    given = np.log(2 * step) + special.digamma(width / 2 + j)
    mean = weight @ given
    var = weight @ (special.polygamma(1, width / 2 + j) + (given - mean) ** 2)
    return float(depth * mean / 2), float(depth * var / 4)


def initial_log_drift(width: ArrayLike) -> np.ndarray:
    """d/dt E log R_t at t = 0 given R_0 > 0: negative up to n = 3, positive from n = 4.

        mubar_n = (1/4) / (1 - 2^-n) - 1/n

    E R_t and E R_t^2 never fall; the change between 3 and 4 is one of typical norms.

    Args:
      width: n >= 1, any shape; inf is allowed and gives 1/4.

    Returns:
      The same shape.

    Source: derived here from d log R = n^{-1/2} dB' + (A_t/2 - 1)/n dt and
    E[A_0 | R_0 > 0] = (n/2)/(1 - 2^-n); arXiv:2210.00688 announces a change of regime
    between widths 3 and 4, which this sign explains.
    """
    width = wholes("width", width, infinite=True)
    return 0.25 / (1 - 2.0**-width) - 1 / width


def log_norm_bounds(
    width: ArrayLike, time: ArrayLike, noise: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that log(R_t / R_0) keeps on every path with R_0 > 0 (1 <= A <= n).

        -t/(2n) + B'_t / sqrt(n)  <=  log(R_t/R_0)  <=  (1/2 - 1/n) t + B'_t / sqrt(n)

    Args:
      width: n.
      time: t >= 0.
      noise: B'_t, the Brownian motion dB' = phi(X) . dB / R.

    Returns:
      (lower, upper) in the arguments' common shape.
    """
    width, time = wholes("width", width, infinite=True), numbers("time", time, 0)
    common = numbers("noise", noise) / np.sqrt(width)
    return common - time / (2 * width), common + (1 / 2 - 1 / width) * time


def log_norm_from_active(width: int, times: ArrayLike, active: ArrayLike) -> np.ndarray:
    """E log(R_t / R_0) from the expected numbers of active units: an identity.

        (1/n) int_0^t (E[A_s | R_0 > 0] / 2 - 1) ds      (trapezoid rule)

    Args:
      width: n.
      times: increasing from 0, (m,).
      active: E[A_s | R_0 > 0] at these times, (..., m).

    Returns:
      (..., m), 0 first.
    """
    width, times = whole("width", width), numbers("times", times, 0)
    active = numbers("active", active, 0)
    if times.ndim != 1 or list(times[:1]) != [0] or (np.diff(times) <= 0).any():
        raise UserError("times", times.tolist(), "must increase from 0", "sort them")
    if active.shape[-1:] != times.shape:
        rule = f"must end in {times.shape}, one value a time"
        raise UserError("active", active.shape, rule, "average over networks only")
    drift = (active / 2 - 1) / width
    return integrate.cumulative_trapezoid(drift, times, axis=-1, initial=0)


def inactive_units(time: ArrayLike) -> np.ndarray:
    """k(t) of E A_t = n/2 - k(t) + O(1/n): units lost because active ones move faster.

        k(t) = (arccos v - v sqrt(1 - v^2)) / pi,   v = exp(-t/4);   k -> 1/2

    Args:
      time: t >= 0, any shape.

    Returns:
      The same shape.

    Source: derived here, the limit of `layer_law`'s active fraction as lam^2 = t/(2 d),
    d -> infinity: (1/pi) int_0^{t/2} e^{-u/2} sqrt(1 - e^{-u}) du.
    """
    time = numbers("time", time, 0)
    root = np.sqrt(-np.expm1(-time / 2))
    return (np.arcsin(root) - np.exp(-time / 4) * root) / np.pi


def log_norm_mean(width: ArrayLike, time: ArrayLike) -> np.ndarray:
    """E[log(R_t / R_0) | R_0 > 0], exact at small t, to first order in 1/n otherwise.

        mubar_n t - (1/(2n)) int_0^t k(s) ds;      t/4 at n = infinity

    Within 0.003 of the means measured at t = 1 for n = 2 to 64.  At small n it is too
    low at long times: at n = 4 the measured mean peaks near t = 3, at 0.026, and turns
    negative near t = 6, here near t = 4.

    Args:
      width: n, inf allowed; broadcast against time.
      time: t >= 0.

    Returns:
      The common shape.
    """
    lost = _integrated(lambda s, _: inactive_units(s), time)
    start = initial_log_drift(width) * np.asarray(time)
    return start - lost / (2 * np.asarray(width))


def second_moment_correction(time: ArrayLike) -> np.ndarray:
    """G2(t) of E|X_t|^2 / |X_0|^2 = e^{t/2} (1 + G2(t)/n + O(n^-2)); t^2/8 at small t.

        G2(t) = (1/4) int_0^t (t - s) Psi(e^{-s/4}) ds

    with Psi = `sign_correlation`.

    Args:
      time: t >= 0, any shape.

    Returns:
      The same shape.

    Source: derived here: mean + variance/2 of the log-Gaussian `layer_law` is
    (s^2/n) sum_{k<d} sum_{q<=k} Psi(c^q), whose limit at s = t/(2 d) is G2/n.
    """
    gained = lambda s, t: (t - s) * sign_correlation(np.exp(-s / 4)) / 4
    return _integrated(gained, time)


def second_moment(width: ArrayLike, time: ArrayLike) -> np.ndarray:
    """E|X_t|^2 / |X_0|^2 of the ReLU network.

        e^{t/2} (1 + G2(t)/n);      (1 + e^t)/2 exactly at n = 1

    Args:
      width: n, inf allowed; broadcast against time.
      time: t >= 0.

    Returns:
      The common shape.
    """
    width = wholes("width", width, infinite=True)
    correction, time = second_moment_correction(time), np.asarray(time)
    first_order = np.exp(time / 2) * (1 + correction / width)
    return np.where(width == 1, (1 + np.exp(time)) / 2, first_order)


def output_power(
    width: ArrayLike, depth: ArrayLike, branch: ArrayLike, balanced: bool = False
) -> np.ndarray:
    """E|z_d|^2 / |z_0|^2 of this project's networks: alpha = 1, lam = c / sqrt(d).

        Balanced:  s^d exactly, s = 1 + c^2/d: E|phi(signs z)|^2 = |z|^2 / 2 given z
        vanilla:   s^d (1 + G2(2 c^2)/n), up to O(n^-2) and O(1/(n d))

    At n = 1 the vanilla value is instead exact as d -> infinity (`second_moment`).

    Args:
      width: n.
      depth: d.
      branch: c.
      balanced: whether units carry fresh random signs in every layer.

    Returns:
      The arguments' common shape.
    """
    width, depth = wholes("width", width, infinite=True), wholes("depth", depth)
    time = hayou_time(branch)
    power = np.exp(depth * np.log1p(time / (2 * depth)))
    excess = second_moment(width, time) * np.exp(-time / 2)
    return power * (np.ones_like(excess) if balanced else excess)


def _integrated(f: Callable, time: ArrayLike) -> np.ndarray:
    """int_0^t f(s, t) ds for each t."""
    time = numbers("time", time, 0)
    one = lambda t: integrate.quad(f, 0, t, (t,), epsabs=1e-12)[0]
    return np.vectorize(one, otypes=[np.float64])(time)


def _network(width: int, depth: int, time: float) -> tuple[int, int, float]:
    return whole("width", width), whole("depth", depth), number("time", time, 0)
