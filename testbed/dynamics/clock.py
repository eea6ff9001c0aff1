"""Steps, times and batches: the one place where the time convention lives.

The loss is a mean over the N examples of a step, so one step of gradient descent at
rate lr moves the outputs by -(lr / N) Theta (f - y).  Time is t = lr * step.  `Clock`
divides by N once; everything else speaks of eigenvalues of Theta itself.
"""

import dataclasses

import jax
import numpy as np

from testbed.kernels import critical_learning_rate


@dataclasses.dataclass(frozen=True)
class Clock:
    """The time axis that all predictors share.

    Attributes:
      lr: learning rate.
      n_train: N, training examples.
      recorded: steps at which predictors are observed; increasing, from 0 to the end.
      batch_size: examples a step; 0 is the full set.
      momentum: heavy-ball coefficient beta; 0 is plain gradient descent.
    """

    lr: float
    n_train: int
    recorded: tuple[int, ...]
    batch_size: int = 0
    momentum: float = 0.0

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.recorded[-1]

    @property
    def rate(self) -> float:
        """lr / N: what multiplies Theta in one full-batch step."""
        return self.lr / self.n_train

    def time(self, step: int) -> float:
        """t = lr * step."""
        return self.lr * step

    @property
    def times(self) -> np.ndarray:
        """The recorded times, shape (T,)."""
        return self.lr * np.asarray(self.recorded, np.float64)


def log_spaced_steps(
    steps: int, points: int, earlier: tuple[int, ...] = ()
) -> tuple[int, ...]:
    """0, then at most `points` steps even in log(step), the last of them `steps`.

    Of a run that was made longer, `earlier` holds its former ends, rising: the first is
    reached in `points` steps, the same spacing goes on from it, and all ends are there.
    """
    first = (*earlier, steps)[0]
    spaced = np.geomspace(1, first, points) if points > 1 else np.array([])
    if earlier and points > 1 and first > 1:
        ratio = first ** (1 / (points - 1))
        more = int(np.log(steps / first) / np.log(ratio))
        spaced = np.concatenate([spaced, first * ratio ** np.arange(1, more + 1)])
    elif earlier:  # there is no spacing that could go on
        spaced = np.array([])
    even = np.round(spaced).astype(int)
    return tuple(int(k) for k in np.unique([0, *even, *earlier, steps]) if k <= steps)


def critical_rate(values: np.ndarray, n_train: int) -> float:
    """2 N / (lambda_min + lambda_max): the fastest stable rate at both spectral ends.

    `values` are the eigenvalues of Theta on the N training examples; the factor N comes
    from the mean in the loss.  Source: Lee et al. 2019, arXiv:1902.06720, Theorem 2.1.
    """
    return n_train * critical_learning_rate(values)


def stability_bound(values: np.ndarray, n_train: int, momentum: float = 0.0) -> float:
    """2 (1 + beta) N / lambda_max: above it linearized training with MSE diverges."""
    return 2.0 * (1.0 + momentum) * n_train / float(values.max())


def batch_schedule(
    key: jax.Array, steps: int, n_train: int, batch_size: int
) -> np.ndarray | None:
    """Which examples each step sees: (steps, batch_size), or None for the full set.

    Every epoch is a fresh permutation; what does not fill a batch is left for no one.
    The same schedule serves the finite networks, their linearizations and the infinite
    network.
    """
    if not batch_size:
        return None
    per_epoch = n_train // batch_size
    epochs = -(-steps // per_epoch)
    rows = [
        np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), n_train))
        for epoch in range(epochs)
    ]
    used = [row[: per_epoch * batch_size].reshape(per_epoch, -1) for row in rows]
    return np.concatenate(used)[:steps].astype(np.int32)
