"""The infinitely wide network: a Gaussian process at every step of training."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from testbed.dynamics.clock import Clock
from testbed.dynamics.losses import RESIDUALS
from testbed.dynamics.modes import response
from testbed.dynamics.trajectory import Observation
from testbed.kernels import Eigensystem, eigensystem
from testbed.numerics import in_float64, lapack


@dataclasses.dataclass(frozen=True)
class LimitKernels:
    """The infinite-width kernels on training and test inputs, float64.

    Theta moves the outputs in training, K is their covariance at initialization; both
    are the same for every output, and outputs are independent.  For training of the
    readout alone Theta is K.

    Attributes:
      nngp, ntk: K and Theta on [train; test] x [train; test], (N + M, N + M).
      n_train: N.
      system: eigensystem of Theta on the training inputs.
    """

    nngp: np.ndarray
    ntk: np.ndarray
    n_train: int
    system: Eigensystem

    @classmethod
    def of(cls, nngp, ntk, n_train: int) -> "LimitKernels":
        """Diagonalizes Theta on the training inputs (checked to be PSD)."""
        nngp, ntk = np.asarray(nngp, np.float64), np.asarray(ntk, np.float64)
        return cls(nngp, ntk, n_train, eigensystem(ntk[:n_train, :n_train], name="ntk"))


class Infinite:
    """Mean and variance of the infinite network's outputs in discrete time.

    For MSE outputs stay linear in the initial function, f_k = f_0 - A_k (f_0(X) - y),
    so they are Gaussian with

        mean  A_k y
        cov   K + A_k K_XX A_k^T - A_k K_X. - K_.X A_k^T.

    A_k = Theta_.X V a_k(w) V^T in the eigenbasis of Theta for full-batch descent, with
    or without momentum (`testbed.dynamics.modes`); for minibatches A_k is carried along
    the same batches that the finite networks see:

        V_{k+1} = beta V_k + Theta_.b (S_b - A_k[b]),       S_b the rows b of identity
        A_{k+1} = A_k + (lr / B) V_{k+1}.

    For cross-entropy the law has no closed form: functions are drawn from GP(0, K),
    each follows the same recursion with -residual(f_b) for S_b - A_k[b], and mean and
    variance are taken over the draws.

    Source: Lee et al. 2019, arXiv:1902.06720, eqs. 13-16, in discrete time.

    Args:
      kernels: the limit kernels.
      y_train: centred targets (N, C).
      clock: steps and learning rate.
      loss: "mse" or "cross_entropy".
      schedule: batches of `clock.batch_schedule`, or None for full batches.
      center: f - f_0 is learned: the initial function is 0.
      draws, key: functions drawn for cross-entropy.

    Observations: ``outputs/train`` (N, C) and ``outputs/test`` (M, C), the mean;
    ``variance/train`` (N,) and ``variance/test`` (M,), the same for every output (the
    average over outputs for cross-entropy).
    """

    name = "infinite"

    def __init__(
        self,
        kernels: LimitKernels,
        y_train: np.ndarray,
        clock: Clock,
        *,
        loss: str = "mse",
        schedule: np.ndarray | None = None,
        center: bool = False,
        draws: int = 32,
        key: jax.Array | None = None,
    ):
        self._kernels, self._clock, self._loss = kernels, clock, loss
        self._y = np.asarray(y_train, np.float64)
        self._center, self._schedule = center, schedule
        self._draws, self._key = draws, key
        n = kernels.n_train
        if loss == "mse" and schedule is None:
            vectors = np.asarray(kernels.system.vectors)
            self._values = np.asarray(kernels.system.values)
            self._cross = kernels.ntk[:, :n] @ vectors  # Theta_.X V
            self._mode_covariance = vectors.T @ kernels.nngp[:n, :n] @ vectors
            self._mode_cross = kernels.nngp[:, :n] @ vectors
            self._target_modes = vectors.T @ self._y

    @in_float64
    def start(self):
        """The state at step 0: nothing, or (value, velocity) of what is carried."""
        k, (n, outputs) = self._kernels, self._y.shape
        if self._loss == "cross_entropy":
            draws = 1 if self._center else self._draws
            value = jnp.zeros((len(k.nngp), draws, outputs))
            if not self._center:
                with lapack(len(k.nngp)):
                    values, vectors = np.linalg.eigh(k.nngp)
                root = vectors * np.sqrt(np.maximum(values, 0))[None]
                key = jax.random.key(0) if self._key is None else self._key
                normal = jax.random.normal(key, value.shape, jnp.float64)
                value = jnp.tensordot(root, normal, 1)
        elif self._schedule is not None:
            value = jnp.zeros((len(k.ntk), n))
        else:
            return None
        return value, jnp.zeros_like(value)

    @in_float64
    def advance(self, state, start: int, stop: int):
        """Carries the state from step `start` to step `stop`."""
        if state is None:
            return None
        n, rows = self._kernels.n_train, self._schedule
        if rows is None:
            rows = np.arange(n, dtype=np.int32)[None]
        arrays = {
            "ntk": jnp.asarray(self._kernels.ntk[:, :n]),
            "y": jnp.asarray(self._y),
            "rows": jnp.asarray(rows),
            "rate": self._clock.lr / rows.shape[1],
            "momentum": self._clock.momentum,
        }
        return _carry(self._loss, state, start, stop, arrays)

    def observe(self, state, step: int, kernels: bool = True) -> Observation:
        """Mean and variance after `step` steps."""
        n = self._kernels.n_train
        if self._loss == "cross_entropy":
            drawn = np.asarray(state[0])
            mean, variance = drawn.mean(1), np.zeros(len(drawn))
            if not self._center:
                variance = drawn.var(1, ddof=1).mean(-1)
        elif state is None:
            clock = self._clock
            a = response(self._values, step, clock.rate, clock.momentum)
            moved = self._cross * a[None]
            mean = moved @ self._target_modes
            variance = self._variance(moved, self._mode_covariance, self._mode_cross)
        else:
            moved = np.asarray(state[0])
            mean = moved @ self._y
            nngp = self._kernels.nngp
            variance = self._variance(moved, nngp[:n, :n], nngp[:, :n])
        return {
            "outputs/train": mean[:n],
            "outputs/test": mean[n:],
            "variance/train": variance[:n],
            "variance/test": variance[n:],
        }

    def _variance(self, moved, inner, cross) -> np.ndarray:
        """Diagonal of K + A K_XX A^T - A K_X. - K_.X A^T, in any basis of A."""
        if self._center:
            return np.zeros(len(moved))
        spread = np.einsum("ij,ij->i", moved @ inner, moved)
        return (
            np.diag(self._kernels.nngp)
            + spread
            - 2 * np.einsum("ij,ij->i", moved, cross)
        )


@partial(jax.jit, static_argnums=0)
def _carry(loss, state, start, stop, arrays):
    """Heavy ball in function space, for A (MSE) or for drawn functions."""
    ntk, y, rows = arrays["ntk"], arrays["y"], arrays["rows"]

    def push(value, b):
        if loss == "mse":
            return (-value[b]).at[jnp.arange(len(b)), b].add(1.0)
        target = jnp.broadcast_to(y[b][:, None], value[b].shape)
        return -RESIDUALS[loss](value[b], target)

    def step(i, state):
        value, velocity = state
        b = rows[jnp.where(len(rows) == 1, 0, i)]
        pushed = jnp.tensordot(ntk[:, b], push(value, b), 1)
        velocity = arrays["momentum"] * velocity + pushed
        return value + arrays["rate"] * velocity, velocity

    return jax.lax.fori_loop(start, stop, step, state)


def gp_posterior(
    kernel: np.ndarray, y_train: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of a GP at the test inputs.

        mean K_*X (K_XX + r I)^-1 y,   var K_** - K_*X (K_XX + r I)^-1 K_X*

    With K = NNGP this is what the infinite network gives when only its readout is
    trained to convergence (r -> 0), and exact Bayesian inference.

    Args:
      kernel: on [train; test] x [train; test], (N + M, N + M).
      y_train: (N, C).
      ridge: r, relative to the mean diagonal of the kernel.

    Returns:
      mean (M, C) and variance (M,).

    Source: Lee et al. 2018, arXiv:1711.00165, eqs. 8-9.
    """
    n = len(y_train)
    absolute = ridge * float(np.mean(np.diag(kernel)))
    system = eigensystem(kernel[:n, :n], ridge=absolute, name="nngp")
    cross = kernel[n:, :n]
    mean = cross @ np.asarray(system.solve(jnp.asarray(y_train, jnp.float64)))
    reduced = np.einsum(
        "ij,ji->i", cross, np.asarray(system.solve(jnp.asarray(cross.T)))
    )
    return mean, np.diag(kernel)[n:] - reduced
