"""Kernels as matrices: eigensystem, ridge, solves, critical learning rate."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from testbed.errors import RunError, UserError
from testbed.numerics import in_float64, lapack

# An eigenvalue below -PSD_TOLERANCE * (largest) is no round-off: kernels of float32
# networks err by 1e-6 of their largest entry, which is at most the largest eigenvalue.
PSD_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Eigensystem:
    """Theta + ridge I = V diag(w) V^T, w ascending.

    Attributes:
      values: w, ridge included, (N,) float64, of NumPy.
      vectors: V, eigenvectors in columns, (N, N).
      ridge: what has been added to the diagonal.
      condition: largest over smallest of w; inf if the smallest is not positive.
    """

    values: np.ndarray
    vectors: np.ndarray
    ridge: float
    condition: float

    def apply(self, function: Callable[[Any], Any], rhs: ArrayLike) -> Any:
        """V f(w) V^T rhs, for rhs of shape (N,) or (N, C); NumPy, unless traced."""
        return _apply(function, self.values, self.vectors, rhs)

    def solve(self, rhs: ArrayLike) -> Any:
        """(Theta + ridge I)^-1 rhs, for rhs of shape (N,) or (N, C).

        Raises:
          RunError: a matrix that is singular to working precision.
        """
        if not self.condition < 1 / np.finfo(np.float64).eps:
            raise RunError(
                f"kernel is singular (condition {self.condition:.3g}): add a ridge, or "
                "remove duplicate inputs"
            )
        return self.apply(lambda w: 1 / w, rhs)


def eigensystem(
    kernel, ridge: float = 0.0, *, name: str = "kernel", tolerance=PSD_TOLERANCE
) -> Eigensystem:
    """Eigensystem of a kernel matrix, in float64.

    The matrix is symmetrized; eigenvalues within round-off below zero are set to zero
    before the ridge is added.

    Args:
      kernel: (N, N), symmetric up to round-off.
      ridge: non-negative number added to the diagonal.
      name: of the kernel, for messages.
      tolerance: how far below zero, relative to the largest eigenvalue, an eigenvalue
        may lie, and how far from symmetric, relative to the largest entry, the matrix
        may be.

    Raises:
      UserError: a negative ridge, or a matrix that is not square.
      RunError: a kernel that is not finite, not symmetric, or not positive
        semi-definite.
    """
    if not ridge >= 0:
        raise UserError("ridge", ridge, "must be at least 0", "set it to 0 or more")
    matrix = np.asarray(kernel, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UserError(
            name, f"array of shape {matrix.shape}", "must be square", "pass K(X, X)"
        )
    if not np.isfinite(matrix).all():
        raise RunError(f"{name} is not finite")
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > tolerance * np.abs(matrix).max():
        raise RunError(f"{name} is not symmetric: K - K^T reaches {asymmetry:.3g}")
    with lapack(len(matrix)):
        values, vectors = _decompose((matrix + matrix.T) / 2)
    smallest, largest = float(values[0]), float(values[-1])
    if smallest < -tolerance * max(largest, 0.0):
        raise RunError(
            f"{name} is not positive semi-definite: eigenvalues from {smallest:.6g} to "
            f"{largest:.6g}; compute it in higher precision"
        )
    values = np.maximum(values, 0.0) + ridge
    smallest, largest = float(values[0]), float(values[-1])
    condition = largest / smallest if smallest > 0 else float("inf")
    return Eigensystem(values, vectors, float(ridge), condition)


@in_float64
def _decompose(matrix: np.ndarray):
    return jnp.linalg.eigh(jnp.asarray(matrix))


@in_float64
def _apply(function, values, vectors, rhs):
    weights = function(jnp.asarray(values))
    coefficients = jnp.asarray(vectors).T @ rhs
    if coefficients.ndim == 2:
        weights = weights[:, None]
    return jnp.asarray(vectors) @ (weights * coefficients)


def critical_learning_rate(values) -> float:
    """eta = 2 / (w_min + w_max), for the loss 1/2 |f - y|^2 summed over examples.

    Gradient descent on a linear model contracts both ends of the spectrum equally fast
    there; it is stable below 2 / w_max.  For the mean over N examples, w is that of
    Theta / N.

    Args:
      values: eigenvalues of Theta, in any order.

    Raises:
      RunError: eigenvalues that sum to nothing.

    Source: Lee et al. 2019, arXiv:1902.06720, Theorem 2.1.
    """
    values = np.asarray(values)
    ends = float(values.min()) + float(values.max())
    if not 0 < ends < np.inf:
        raise RunError(f"critical learning rate needs w_min + w_max > 0, not {ends:g}")
    return 2 / ends
