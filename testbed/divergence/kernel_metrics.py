"""How far a kernel has moved, and how well it fits the targets.

A kernel is a matrix on a fixed set of examples, (..., M, M'), of one output or averaged
over outputs; leading axes broadcast, results are float64.  Where the unit of a measure
is 0, as the kernel of a network all of whose units have died, it is nan; inf if only
its unit is.
"""

import numpy as np
from numpy.typing import ArrayLike

from testbed.errors import UserError
from testbed.numerics import lapack


def kernel_drift(k_t: ArrayLike, k_0: ArrayLike) -> np.ndarray:
    """|k_t - k_0|_F / |k_0|_F: change since t = 0, in units of the kernel there.

    Args:
      k_t: kernel at t, (..., M, M').
      k_0: kernel at 0, (..., M, M').

    Returns:
      (...).

    Source: Lee et al. 2019, arXiv:1902.06720.
    """
    return _relative_change(k_t, k_0)


def kernel_error(k: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """|k - K|_F / |K|_F: an empirical kernel k against its limit K.

    Args:
      k: (..., M, M').
      reference: K, (..., M, M').

    Returns:
      (...).
    """
    return _relative_change(k, reference)


def kernel_distance(k: ArrayLike, other: ArrayLike) -> np.ndarray:
    """1 - Tr(k k'^T) / sqrt(Tr(k k^T) Tr(k' k'^T)): blind to the kernels' scales.

    It lies in [0, 1] for positive semi-definite kernels.  A small relative change e
    across k gives e^2 / 2, which subtraction from 1 would lose; this computes the equal
    1/2 |k/|k| - k'/|k'||_F^2.

    Args:
      k: (..., M, M').
      other: k', (..., M, M').

    Returns:
      (...).

    Source: Fort et al. 2020, arXiv:2010.15110.
    """
    k, other = _wide(k), _wide(other)
    with np.errstate(invalid="ignore"):
        return 0.5 * _norm(k / _norm(k, True) - other / _norm(other, True)) ** 2


def kernel_velocity(k_t: ArrayLike, k_prev: ArrayLike, dt: ArrayLike) -> np.ndarray:
    """kernel_distance(k_t, k_prev) / dt.

    The distance is quadratic in a small change, so at small dt the velocity is itself
    of order dt: compare velocities of equal dt only.

    Args:
      k_t: kernel at t, (..., M, M').
      k_prev: kernel at t - dt, (..., M, M').
      dt: time between the two, > 0; scalar or (...).

    Returns:
      (...).

    Source: Fort et al. 2020, arXiv:2010.15110.
    """
    return kernel_distance(k_t, k_prev) / _wide(dt)


def alignment(kernel: ArrayLike, y: ArrayLike) -> np.ndarray:
    """<K, y y^T>_F / (|K|_F |y y^T|_F), the plain kernel-target alignment.

    Plain: neither K nor y is centred here.  With centred targets (-1, +1 in equal
    parts, or one-hot minus 1/C) a constant in K does not count in the numerator; with
    bare one-hot targets it would.

    Args:
      kernel: (..., N, N).
      y: targets (..., N, C).

    Returns:
      (...), in [0, 1] for a positive semi-definite kernel.

    Source: Cristianini et al. 2001, "On kernel-target alignment", NeurIPS 14.
    """
    kernel, y = _wide(kernel), _wide(y)
    fit = np.sum(y * (kernel @ y), (-2, -1))
    with np.errstate(invalid="ignore"):
        return fit / (_norm(kernel) * _norm(np.swapaxes(y, -1, -2) @ y))


def top_eigenvalues(k: ArrayLike, count: int) -> np.ndarray:
    """The `count` largest eigenvalues of the symmetric part of k, descending.

    Args:
      k: (..., M, M).
      count: between 1 and M.

    Returns:
      (..., count).

    Raises:
      UserError: `count` out of range.
    """
    k = _wide(k)
    if not 1 <= count <= k.shape[-1]:
        rule = f"must lie between 1 and the kernel's size, {k.shape[-1]}"
        raise UserError("count", count, rule, "ask for fewer eigenvalues")
    with lapack(k.shape[-1]):
        values = np.linalg.eigvalsh((k + np.swapaxes(k, -1, -2)) / 2)
    return values[..., ::-1][..., :count]


def _relative_change(k: ArrayLike, reference: ArrayLike) -> np.ndarray:
    k, reference = _wide(k), _wide(reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _norm(k - reference) / _norm(reference)


def _norm(k: np.ndarray, keepdims: bool = False) -> np.ndarray:
    return np.linalg.norm(k, axis=(-2, -1), keepdims=keepdims)


def _wide(a: ArrayLike) -> np.ndarray:
    return np.asarray(a, np.float64)
