"""Convolutional residual networks with smooth branches, infinitely deep: diffusions.

    x_{t+Dt,p} = x_{t,p} + phi(DW_t psi(x_{t,patch(p)}) + Db_t),     Dt = T/L,

with one filter for all positions p, so that positions share their noise.  Notation is
that of `diffusion.py`.

Source: Peluchetti & Favaro 2020, arXiv:1905.11065; equation numbers are those of the
extended journal version (JMLR 20-706).
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate

from testbed.arguments import number, numbers, whole
from testbed.errors import UserError, check_name
from testbed.laws.diffusion import Branch, Coefficients

Padding = Literal["zero", "circular"]


def conv_coefficients(
    branch: Branch, inner: ArrayLike, kernel: int, padding: Padding = "zero"
) -> Coefficients:
    """The SDE of a convolutional network: the same filter at all positions, iid taps.

        s_pp' = sigma_b^2 + sigma_w^2 sum_delta <psi(x_{p+delta}), psi(x_{p'+delta})>/D,
        drift_p = phi''(0)/2 s_pp 1,     d[x_p, x_p'] = phi'(0)^2 s_pp' I dt,

    delta over the K^2 taps (K in one dimension); variances are not divided by their
    number.  Positions outside the image count as 0, or wrap around.

    Args:
      branch: phi, sigma_w, sigma_b.
      inner: <psi(x_p), psi(x_p')>/D, (*image, *image).
      kernel: taps along a side, K, odd.
      padding: "zero" or "circular".

    Returns:
      Drift at a unit of each position (of p = p'), (*image), and rate (*image, *image).

    Raises:
      UserError: K even or below 1, or inner's two halves differ in shape.

    Source: eq. (23), Assumption 10, Theorem 10, Corollaries 11-13.
    """
    inner, kernel = _covariance_of_positions(inner, kernel, padding)
    s = branch.sigma_b**2 + branch.sigma_w**2 * _patch_sum(inner, kernel, padding)
    image = inner.shape[: inner.ndim // 2]
    diagonal = np.diag(s.reshape(np.prod(image), -1)).reshape(image)
    return Coefficients(branch.phi.curvature / 2 * diagonal, branch.phi.slope**2 * s)


def conv_second_moments(
    branch: Branch,
    initial: ArrayLike,
    kernel: int,
    padding: Padding = "zero",
    time: float = 1.0,
) -> np.ndarray:
    """E <x_p, x_p'>/D of a convolutional network with phi''(0) = 0, psi = identity.

        Q'_pp' = phi'(0)^2 (sigma_b^2 + sigma_w^2 sum_delta Q_{p+delta, p'+delta}),

    linear, so it holds at every D; as D -> infinity <x_p, x_p'>/D itself follows it.

    Args:
      branch: phi, sigma_w, sigma_b.
      initial: Q at time 0, of one input or of a pair of inputs, (*image, *image).
      kernel: taps along a side, K, odd.
      padding: "zero" or "circular".
      time: T.

    Returns:
      Q at time T, the same shape.

    Raises:
      UserError: phi''(0) != 0, time < 0, or as `conv_coefficients`.

    Source: derived here from Theorem 10's SDE.
    """
    branch.require_symmetric()
    time = number("time", time, 0)
    initial, kernel = _covariance_of_positions(initial, kernel, padding)
    if time == 0:
        return initial

    def rate(_, q):
        q = q.reshape(initial.shape)
        return conv_coefficients(branch, q, kernel, padding).rate.ravel()

    solution = integrate.solve_ivp(
        rate, (0.0, time), initial.ravel(), "DOP853", rtol=1e-10, atol=1e-12
    )
    return solution.y[:, -1].reshape(initial.shape)


def _covariance_of_positions(
    value: ArrayLike, kernel: int, padding: str
) -> tuple[np.ndarray, int]:
    array = numbers("covariance", value)
    half = array.ndim // 2
    if array.ndim == 0 or array.shape[:half] != array.shape[half:]:
        rule = "must have the image's shape twice"
        raise UserError("covariance", array.shape, rule, "give (*image, *image)")
    kernel = whole("kernel", kernel, remedy="e.g. 3")
    if kernel % 2 == 0:
        raise UserError("kernel", kernel, "must be odd", "e.g. 3")
    check_name("padding", padding, ("zero", "circular"))
    return array, kernel


def _patch_sum(q: np.ndarray, kernel: int, padding: Padding) -> np.ndarray:
    """sum_delta q_{p+delta, p'+delta}, delta over the taps of a filter around p."""
    image = q.shape[: q.ndim // 2]
    mode = "constant" if padding == "zero" else "wrap"
    padded = np.pad(q, kernel // 2, mode)
    total = np.zeros_like(q)
    for tap in np.ndindex((kernel,) * len(image)):
        window = [slice(d, d + size) for d, size in zip(tap, image, strict=True)]
        total += padded[tuple(window * 2)]
    return total
