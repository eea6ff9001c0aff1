"""A training loop written by hand, and what it says of departure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def _mse(f, y):
    return 0.5 * jnp.mean(jnp.sum((f - y) ** 2, -1))


def _cross_entropy(f, y):
    return -jnp.mean(jnp.sum(jnp.where(y > 0, jax.nn.log_softmax(f), 0), -1))


class Loop:
    """f(params, x) and its linearization, by a plain loop over steps.

    theta <- theta - lr v, v <- gradient + momentum v; likewise the displacement of
    f_lin = f_0 + jvp(f)(theta_0)(displacement).  `center`: f_0 is subtracted from both.
    """

    def __init__(self, f, x, y, x_test, loss="mse", center=True):
        value = {"mse": _mse, "cross_entropy": _cross_entropy}[loss]
        self.x, self.y, self.x_test = map(jnp.asarray, (x, y, x_test))
        self.loss = value

        def linear(d, at, x):
            start, moved = jax.jvp(lambda p: f(p, x), (at,), (d,))
            return moved if center else start + moved

        finite = lambda theta, at, x: f(theta, x) - (f(at, x) if center else 0)

        def step(carry, at, rows, lr, momentum):
            theta, v, d, u = carry
            x, y = self.x[rows], self.y[rows]
            g = jax.grad(lambda p: value(finite(p, at, x), y))(theta)
            h = jax.grad(lambda d: value(linear(d, at, x), y))(d)
            push = lambda g, v: jax.tree.map(lambda a, b: a + momentum * b, g, v)
            move = lambda p, v: jax.tree.map(lambda a, b: a - lr * b, p, v)
            v, u = push(g, v), push(h, u)
            return move(theta, v), v, move(d, u), u

        def see(carry, at):
            theta, _, d, _ = carry
            of = lambda x: (finite(theta, at, x), linear(d, at, x))
            return of(self.x), of(self.x_test)

        self._step, self._see = jax.jit(step), jax.jit(see)

    def run(self, params, lr, recorded, *, momentum=0.0, batches=None, at=None):
        """{name: (T, examples, C)} at the recorded steps.

        `at`: where the network is linearized, if not at `params`.
        """
        at, zeros = params if at is None else at, jax.tree.map(jnp.zeros_like, params)
        carry, seen = (params, zeros, zeros, zeros), []
        for step in range(recorded[-1] + 1):
            if step in recorded:
                train, test = self._see(carry, at)
                seen.append([*train, *test])
            rows = np.arange(len(self.x)) if batches is None else batches[min(
                step, len(batches) - 1)]  # fmt: skip
            carry = self._step(carry, at, rows, lr, momentum)
        self.last = carry[0]
        names = [f"{who}/outputs/{split}" for split in ("train", "test")
                 for who in ("finite", "linearized")]  # fmt: skip
        stacked = [np.stack(values) for values in zip(*seen, strict=True)]
        return dict(zip(names, stacked, strict=True))

    def losses(self, outputs):
        """The loss of outputs (T, N, C) on the training set."""
        return np.array([self.loss(f, self.y) for f in outputs], np.float64)


def _departure(seen, times, tolerance):
    """First time at which RMS(f - f_lin) / RMS(f_lin - f_0) passes the tolerance."""
    f, g = (np.asarray(seen[f"{w}/outputs/test"], np.float64)
            for w in ("finite", "linearized"))  # fmt: skip
    rms = lambda a: np.sqrt((a**2).mean((1, 2)))
    relative = rms(f - g)[1:] / rms(g - g[:1])[1:]
    passed = np.flatnonzero(relative > tolerance)
    return times[1:][passed[0]] if passed.size else np.inf


@pytest.fixture
def loop():
    """loop(f, x, y, x_test): see `Loop`."""
    return Loop


@pytest.fixture
def agrees():
    """agrees(result, seed, seen): whether a comparison has a loop's outputs.

    Both round every step in their own order of operations, by some units of round-off
    of the largest output: 30 a step, as was seen between equal programs.
    """

    def check(result, seed, seen):
        for name, want in seen.items():
            got = np.stack([arrays[name][seed] for arrays in result.observed])
            unit = np.finfo(got.dtype).eps * result.settings["train.steps"]
            if np.abs(got - want).max() > 30 * unit * np.abs(want).max():
                return False
        return True

    return check


@pytest.fixture
def departure():
    """departure(seen, times, tolerance), by the definition."""
    return _departure
