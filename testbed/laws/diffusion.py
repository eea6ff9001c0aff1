"""Residual networks with smooth branches, infinitely deep at finite width: diffusions.

    x_{t+Dt} = x_t + phi(DW_t psi(x_t) + Db_t),     Dt = T/L,  x in R^D,  phi(0) = 0,

with Gaussian DW, Db of mean of order Dt and variance of order Dt, independent over
layers.  As L -> infinity at fixed D, x becomes a diffusion in which phi survives only
through phi'(0) and phi''(0).  In the fully iid case DW = sigma_w sqrt(Dt/D) eps^W and
Db = sigma_b sqrt(Dt) eps^b with independent N(0, 1) entries.

Notation: C = phi'(0)^2 sigma_w^2 T, E = e^C, r = sigma_b^2 / sigma_w^2.

Source: Peluchetti & Favaro 2020, "Infinitely deep neural networks as diffusion
processes", arXiv:1905.11065; equation numbers are those of the extended journal version
(JMLR 20-706), "Doubly infinite residual neural networks: a diffusion process approach".
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from testbed.arguments import number, numbers
from testbed.errors import UserError
from testbed.laws.law import Law, with_points

Elementwise = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Nonlinearity:
    """phi'(0), phi''(0), phi'''(0) of a smooth phi with phi(0) = 0.

    Args:
      slope: phi'(0).
      curvature: phi''(0).
      third: phi'''(0); absent from the limit, it sets how fast depth approaches it.
    """

    slope: float
    curvature: float = 0.0
    third: float = 0.0

    def __post_init__(self):
        for field, value in dataclasses.asdict(self).items():
            number(field, value, remedy="phi must be smooth")
        if self.slope == 0:
            rule = "must not be 0: the limit has no noise"
            raise UserError("slope", self.slope, rule, "take a phi with phi'(0) != 0")


IDENTITY = Nonlinearity(1.0)
TANH = Nonlinearity(1.0, 0.0, -2.0)
SIN = Nonlinearity(1.0, 0.0, -1.0)
SWISH = Nonlinearity(0.5, 0.5)  # x / (1 + e^-x) = x/2 + x^2/4 - x^4/48 + ...


@dataclasses.dataclass(frozen=True)
class Branch:
    """A residual branch with independent weights: phi at 0, sigma_w, sigma_b.

    Args:
      phi: what is applied outside the weights.
      sigma_w: standard deviation of the weights, over sqrt(Dt/D).
      sigma_b: standard deviation of the biases, over sqrt(Dt).

    Raises:
      UserError: sigma_w <= 0 or sigma_b < 0.

    Example:
      >>> branch = Branch(TANH, sigma_w=1.0, sigma_b=1.0)
      >>> print(f"{branch.growth(time=1.0):.4f}")
      2.7183
    """

    phi: Nonlinearity
    sigma_w: float = 1.0
    sigma_b: float = 1.0

    def __post_init__(self):
        number("sigma_w", self.sigma_w, above=0, remedy="e.g. 1.0")
        number("sigma_b", self.sigma_b, 0, remedy="e.g. 0.0")

    @property
    def ratio(self) -> float:
        """r = sigma_b^2 / sigma_w^2."""
        return self.sigma_b**2 / self.sigma_w**2

    def strength(self, time: ArrayLike = 1.0) -> np.ndarray:
        """C = phi'(0)^2 sigma_w^2 T."""
        time = numbers("time", time, 0, remedy="e.g. time=1")
        return self.phi.slope**2 * self.sigma_w**2 * time

    def growth(self, time: ArrayLike = 1.0) -> np.ndarray:
        """E = e^C, the growth of second moments."""
        return np.exp(self.strength(time))

    def require_symmetric(self) -> None:
        """Raises a `UserError` unless phi''(0) = 0."""
        if self.phi.curvature != 0:
            rule = "must be 0: this law has no curvature term"
            remedy = "take an odd phi, such as tanh"
            raise UserError("curvature", self.phi.curvature, rule, remedy)


class Coefficients(NamedTuple):
    """dx = drift dt + noise: the drift, and rate = d[x]/dt."""

    drift: np.ndarray
    rate: np.ndarray


def _identity(x: np.ndarray) -> np.ndarray:
    return x


def general_coefficients(
    phi: Nonlinearity,
    x: ArrayLike,
    *,
    weight_mean: ArrayLike,
    weight_cov: ArrayLike,
    bias_mean: ArrayLike,
    bias_cov: ArrayLike,
    psi: Elementwise = _identity,
) -> Coefficients:
    """The SDE of weights and biases with any joint Gaussian law.

        drift = phi'(0) (mu_b + mu_W psi(x)) + phi''(0)/2 diag V(x),
        rate  = phi'(0)^2 V(x),     V(x) = Cov[eps^W psi(x) + eps^b].

    Args:
      phi: its derivatives at 0.
      x: state, (D,).
      weight_mean: mu_W, (D, D).
      weight_cov: Cov(eps^W_oi, eps^W_pj) at [o, i, p, j], (D, D, D, D).
      bias_mean: mu_b, (D,).
      bias_cov: Sigma_b, (D, D).
      psi: what the branch applies before its weights, elementwise.

    Returns:
      Drift (D,) and rate (D, D).

    Raises:
      UserError: a shape that does not fit x's.

    Source: Theorem 2.
    """
    f = psi(_shaped("x", x, (None,)))
    d = len(f)
    mu_w = _shaped("weight_mean", weight_mean, (d, d))
    mu_b = _shaped("bias_mean", bias_mean, (d,))
    sigma_w = _shaped("weight_cov", weight_cov, (d, d, d, d))
    v = np.einsum("oipj,i,j->op", sigma_w, f, f)
    v = v + _shaped("bias_cov", bias_cov, (d, d))
    drift = phi.slope * (mu_b + mu_w @ f) + phi.curvature / 2 * np.diag(v)
    return Coefficients(drift, phi.slope**2 * v)


def matrix_gaussian_coefficients(
    phi: Nonlinearity,
    x: ArrayLike,
    *,
    output_cov: ArrayLike,
    input_cov: ArrayLike,
    bias_cov: ArrayLike,
    psi: Elementwise = _identity,
) -> Coefficients:
    """The SDE of several inputs with centred weights of covariance S_WO x S_WI.

        V_ij  = Sigma_b + S_WO (psi(x^i)^T S_WI psi(x^j)),
        drift = phi''(0)/2 diag V_ii,     rate_ij = phi'(0)^2 V_ij.

    Args:
      phi: its derivatives at 0.
      x: states, (inputs, D).
      output_cov: S_WO, (D, D).
      input_cov: S_WI, (D, D).
      bias_cov: Sigma_b, (D, D).
      psi: what the branch applies before its weights, elementwise.

    Returns:
      Drift (inputs, D) and rate (inputs, inputs, D, D).

    Raises:
      UserError: a shape that does not fit x's.

    Source: Corollaries 3-5, Assumption 6.
    """
    f = psi(_shaped("x", x, (None, None)))
    d = f.shape[1]
    inner = f @ _shaped("input_cov", input_cov, (d, d)) @ f.T
    v = inner[..., None, None] * _shaped("output_cov", output_cov, (d, d))
    v = v + _shaped("bias_cov", bias_cov, (d, d))
    drift = phi.curvature / 2 * np.einsum("iioo->io", v)
    return Coefficients(drift, phi.slope**2 * v)


def iid_coefficients(
    branch: Branch, x: ArrayLike, psi: Elementwise = _identity
) -> Coefficients:
    """The SDE of several inputs with independent weights; units share its noise's law.

        s_ij  = sigma_b^2 + sigma_w^2 <psi(x^i), psi(x^j)>/D,
        drift = phi''(0)/2 s_ii 1,     d[x^i, x^j] = phi'(0)^2 s_ij I dt.

    Args:
      branch: phi, sigma_w, sigma_b.
      x: states, (inputs, D).
      psi: what the branch applies before its weights, elementwise.

    Returns:
      Drift (inputs, D) and rate (inputs, inputs), the multiple of I_D.

    Raises:
      UserError: x is not a matrix.

    Source: Corollaries 3-5, Assumption 7.
    """
    f = psi(_shaped("x", x, (None, None)))
    s = branch.sigma_b**2 + branch.sigma_w**2 * f @ f.T / f.shape[1]
    drift = branch.phi.curvature / 2 * np.diag(s)[:, None] * np.ones_like(f)
    return Coefficients(drift, branch.phi.slope**2 * s)


def jacobian_second_moment(branch: Branch, time: ArrayLike = 1.0) -> np.ndarray:
    """E tr(g g^T)/D = e^C of the Jacobian g = dx_T/dx_0; phi''(0) = 0, psi = identity.

        dg = phi'(0) sigma_w D^{-1/2} dB^W g,   exact at every D.

    Args:
      branch: phi, sigma_w, sigma_b; sigma_b plays no part.
      time: T, any shape.

    Returns:
      The same shape as time.

    Raises:
      UserError: phi''(0) != 0 or time < 0.

    Source: derived here from Theorem 14's SDE, Corollary 15.
    """
    branch.require_symmetric()
    return branch.growth(time)


def log_determinant_law(branch: Branch, time: ArrayLike = 1.0) -> Law:
    """log |det dx_T/dx_0| ~ N(-C/2, C), whatever D; phi''(0) = 0, psi = identity.

    Args:
      branch: phi, sigma_w, sigma_b; sigma_b plays no part.
      time: T, any shape.

    Returns:
      A frozen `scipy.stats.norm`; at T = 0 the `Point` 0.

    Raises:
      UserError: phi''(0) != 0 or time < 0.

    Source: derived here from Theorem 14's SDE: d log|det g| = tr dM - tr d[M]/2 for
    dg = dM g, and both traces are free of D.
    """
    branch.require_symmetric()
    strength = branch.strength(time)

    def law(certain: np.ndarray) -> Law:
        std = np.sqrt(np.where(certain, 1.0, strength))
        return cast(Law, stats.norm(-strength / 2, std))

    return with_points(law, strength == 0, 0.0)


def never_explodes(phi: Nonlinearity, growth: float) -> bool:
    """Whether |psi(x)| = O(|x|^growth) is known to keep the diffusion finite for ever.

    growth <= 1/2 suffices for any phi, growth <= 1 (identity, ReLU) if phi''(0) = 0.

    Args:
      phi: its derivatives at 0.
      growth: exponent, 0 for a bounded psi.

    Returns:
      True if one of the two conditions holds; False says nothing.

    Raises:
      UserError: growth < 0.

    Source: Remark 8.
    """
    growth = number("growth", growth, 0, remedy="0 if psi is bounded")
    return growth <= (1.0 if phi.curvature == 0 else 0.5)


def _shaped(field: str, value: ArrayLike, shape: tuple[int | None, ...]) -> np.ndarray:
    array = numbers(field, value)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if size is None else size for size in shape)
        raise UserError(field, array.shape, f"must have shape {wanted}", "reshape it")
    return array
