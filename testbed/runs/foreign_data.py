"""The examples of a comparison: inputs as they are given, targets as losses take them.

Targets are coded as everywhere in this project (`testbed.dynamics.losses`): labels
become one-hot minus 1/C for C outputs, and -1, +1 for one.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from testbed.errors import UserError


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs and targets; make them with `Examples.of`.

    Attributes:
      x_train: (N, ...).
      y_train: (N, C), or labels (N,) before `coded`.
      x_test: (M, ...), or None.
      y_test: likewise.
      labels: {"train": (N,), "test": (M,)}, or None.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    labels: dict[str, np.ndarray] | None = None

    @classmethod
    def of(cls, x_train: Any, y_train: Any, x_test: Any, y_test: Any) -> "Examples":
        """Checks inputs and takes targets as they are.

        Raises:
          UserError: what is no array of numbers, is not finite, or does not fit.
        """
        if (x_test is None) != (y_test is None):
            one, other = ("x_test", "y_test")[:: 1 if y_test is None else -1]
            raise UserError(other, None, f"{one} is given", "give both, or neither")
        x, y = _array("x_train", x_train), _array("y_train", y_train)
        _check_lengths("train", x, y)
        if x_test is None:
            return cls(x, y)
        x_test, y_test = _array("x_test", x_test), _array("y_test", y_test)
        _check_lengths("test", x_test, y_test)
        for name, one, other in (("x", x, x_test), ("y", y, y_test)):
            if one.shape[1:] != other.shape[1:] or _dtype(one) != _dtype(other):
                value = f"{_dtype(other)} of shape {other.shape}"
                rule = f"must be like {name}_train, {_dtype(one)} of shape {one.shape}"
                raise UserError(f"{name}_test", value, rule, "convert one of the two")
        return cls(x, y, x_test, y_test)

    @property
    def inputs(self) -> list[np.ndarray]:
        """Of each split that there is."""
        return [x for x in (self.x_train, self.x_test) if x is not None]

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """By split."""
        both = {"train": self.y_train, "test": self.y_test}
        return {split: y for split, y in both.items() if y is not None}

    def probe_rows(self, probes: int) -> np.ndarray:
        """Rows of the first so many of each split, among all examples."""
        n = len(self.x_train)
        train, test = np.arange(probes), np.arange(n, n + probes)
        return train if self.x_test is None else np.r_[train, test]

    def coded(self, n_out: int, dtype: Any, loss: str) -> "Examples":
        """With targets (N, C) of the outputs' dtype, as the loss takes them.

        Raises:
          UserError: targets of another shape, or that are no classes where the loss
            needs them.
        """
        labels = None
        if self.y_train.ndim == 1 and self.y_train.dtype.kind in "iub":
            labels = {k: y.astype(np.int64) for k, y in self.targets.items()}
            classes = max(n_out, 2)
            for split, y in labels.items():
                if y.min() < 0 or y.max() >= classes:
                    wrong = y[(y < 0) | (y >= classes)][0]
                    rule = f"labels must be 0 to {classes - 1} for {n_out} outputs"
                    remedy = "count classes from 0, with an output for each"
                    raise UserError(f"y_{split}", wrong, rule, remedy)
            coded = {k: _of_labels(y, n_out) for k, y in labels.items()}
        else:
            coded = {k: y.astype(np.float64) for k, y in self.targets.items()}
            for split, y in coded.items():
                _check_targets(f"y_{split}", y, n_out, loss)
        coded = {k: y.astype(dtype) for k, y in coded.items()}
        return dataclasses.replace(
            self, y_train=coded["train"], y_test=coded.get("test"), labels=labels
        )

    def recorded(self) -> dict[str, np.ndarray]:
        """Targets and labels by the names that limits.npz has for them."""
        kept = {f"y/{split}": y for split, y in self.targets.items()}
        return kept | {f"labels/{k}": v for k, v in (self.labels or {}).items()}


def _of_labels(y: np.ndarray, n_out: int) -> np.ndarray:
    return 2.0 * y[:, None] - 1 if n_out == 1 else np.eye(n_out)[y] - 1 / n_out


def _check_targets(name: str, y: np.ndarray, n_out: int, loss: str) -> None:
    if y.ndim != 2 or y.shape[1] != n_out:
        rule = f"must be (N, {n_out}) like the outputs, or whole numbers (N,) as labels"
        remedy = "reshape it, e.g. y[:, None]" if y.ndim == 1 else "reshape it"
        raise UserError(f"{name}.shape", y.shape, rule, remedy)
    if loss != "cross_entropy":
        return
    near = 1e-3  # half precision, which targets may come from
    if n_out == 1:
        fits = (abs(abs(y) - 1) < near).all()
        rule = "cross_entropy of one output takes -1 and +1"
    else:
        shares = y + 1 / n_out
        fits = (shares > -near).all() and (abs(shares.sum(1) - 1) < near).all()
        rule = "cross_entropy takes probabilities minus 1/C"
    if not fits:
        remedy = "give labels, whole numbers (N,), or subtract 1/C from one-hot rows"
        raise UserError(name, "an array", rule, remedy)


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "iufb" and array.dtype.name not in ("bfloat16",):
        rule = "must be an array of real numbers, examples first"
        raise UserError(name, type(value).__name__, rule, "convert it to numbers")
    if array.ndim < 1 or not len(array) or (name[0] == "x" and array.ndim < 2):
        rule = "must hold examples along its first axis" + (
            ", (N, ...)" if name[0] == "x" else ""
        )
        raise UserError(
            f"{name}.shape", array.shape, rule, "reshape it, e.g. x[:, None]"
        )
    if not np.isfinite(array).all():
        rule = "must be finite"
        raise UserError(name, "an array", rule, "remove NaN and infinity")
    return array


def _check_lengths(split: str, x: np.ndarray, y: np.ndarray) -> None:
    if len(x) != len(y):
        rule = f"must have the {len(x)} examples of x_{split}"
        raise UserError(f"y_{split}.shape", y.shape, rule, "give a target an example")


def _dtype(array: np.ndarray) -> Any:
    """The dtype it has in jax."""
    return jnp.asarray(array[:1]).dtype
