"""From whole image sets to what a run asked for: classes, subset, scale, targets."""

from typing import TYPE_CHECKING

import numpy as np

from testbed.data.dataset import Dataset, RawImages
from testbed.errors import UserError

if TYPE_CHECKING:
    from testbed.config import DataConfig


def prepare(raw: RawImages, config: "DataConfig") -> Dataset:
    """Selects classes, draws a balanced subset, normalises, encodes the targets.

    The subset of m examples drawn at a seed is the head of every larger one.

    Raises:
      UserError: a class that the set does not have, or has no example of, a size
        beyond the set, or an image that cannot be normalised.
    """
    classes = config.classes or tuple(range(len(raw.classes)))
    _check_classes(classes, config.name, raw.classes)
    subset = {}
    for split, x, labels in (
        ("train", raw.x_train, raw.y_train),
        ("test", raw.x_test, raw.y_test),
    ):
        size = getattr(config, f"{split}_size")
        own = np.flatnonzero(np.isin(labels, classes))
        if size > len(own):
            of_classes = f" of classes {config.classes}" if config.classes else ""
            raise UserError(
                f"data.{split}_size",
                size,
                f"{config.name} has {len(own)} {split} examples{of_classes}",
                f"choose at most {len(own)}",
            )
        if empty := sorted(set(classes) - set(labels[own].tolist())):
            rule = f"{config.name} has no {split} example of class {empty[0]}"
            others = [c for c in classes if c not in empty]
            remedy = f"e.g. data.classes={','.join(map(str, others))}"
            raise UserError("data.classes", classes, rule, remedy)
        index_of = {label: i for i, label in enumerate(classes)}
        relabelled = np.array([index_of[label] for label in labels[own]], np.int32)
        chosen = balanced_order(relabelled, (config.seed, split == "test"))[:size]
        subset[split] = x[own[chosen]].astype(np.float64), relabelled[chosen]
    (x_train, labels_train), (x_test, labels_test) = subset["train"], subset["test"]
    x_train, x_test = normalize(x_train, x_test, config.normalize, raw.white)
    if config.flatten:
        x_train, x_test = (x.reshape(len(x), -1) for x in (x_train, x_test))
    return Dataset(
        name=config.name,
        classes=tuple(raw.classes[i] for i in classes),
        input_shape=x_train.shape[1:],
        x_train=x_train,
        y_train=encode(labels_train, len(classes)),
        x_test=x_test,
        y_test=encode(labels_test, len(classes)),
        labels_train=labels_train,
        labels_test=labels_test,
    )


def balanced_order(labels: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """An order of the examples, every prefix of which is as balanced as it can be.

    Each class is shuffled on its own; then the classes take turns, and one that has
    run out is passed over.  Hence in every prefix the counts of two classes differ by
    at most one, unless the smaller one is exhausted.

    Args:
      labels: (N,) integers.
      seed: non-negative integers.

    Returns:
      (N,) indices, a permutation.
    """
    # RandomState: the one NumPy generator whose stream is promised never to change.
    shuffled = np.random.RandomState([int(s) for s in seed]).permutation(len(labels))
    labels = labels[shuffled]
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = labels == label
        turn[own] = np.arange(own.sum())
    return shuffled[np.lexsort((labels, turn))]


def encode(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Targets of squared loss: -1 and +1 for two classes, else one-hot minus 1/k.

    Returns:
      float32, (N, 1) for two classes, else (N, k); a row of k > 2 columns sums to 0.
    """
    if n_classes == 2:
        return (2 * labels - 1).astype(np.float32)[:, None]
    return (np.eye(n_classes)[labels] - 1 / n_classes).astype(np.float32)


def normalize(
    x_train: np.ndarray, x_test: np.ndarray, how: str, white: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scales inputs; n_in is the number of coordinates of one input.

    - ``image``: x -> sqrt(n_in) x / |x|, so |x|^2 = n_in for every input.  No mean is
      removed: the limits of this testbed depend on inputs through |x|^2 / n_in and
      angles about the origin, and this fixes the first and keeps the second.
    - ``feature``: each coordinate is centred and divided by its standard deviation over
      the training set; a coordinate constant there becomes 0 in both splits; then one
      factor makes the training mean of |x|^2 equal n_in.  The test set is mapped by the
      same numbers.
    - ``none``: x / white, so grey levels lie in [0, 1].

    Args:
      x_train: (N, ...) float64.
      x_test: (M, ...) float64.
      how: "image", "feature" or "none".
      white: the value that ``none`` maps to 1.

    Returns:
      Both as float32.

    Raises:
      UserError: ``image`` with an input that is all zero, ``feature`` with a training
        set that does not vary.
    """
    axes = tuple(range(1, x_train.ndim))
    n_in = np.prod(x_train.shape[1:])
    if how == "image":
        scaled = []
        for x in (x_train, x_test):
            # Sums of squared integers are exact: the same bits on every machine.
            norm2 = np.sum(x**2, axes, keepdims=True)
            if not norm2.all():
                _refuse_scale(how, "an input is all zero", "feature")
            scaled.append(x * np.sqrt(n_in / norm2))
    elif how == "feature":
        std = x_train.std(0) if len(x_train) else np.zeros(x_train.shape[1:])
        varies = std > 0
        if not varies.any():
            _refuse_scale(how, "no coordinate varies over the training set", "image")
        gain = np.where(varies, np.sqrt(n_in / varies.sum()), 0)
        gain = gain / np.where(varies, std, 1)
        scaled = [(x - x_train.mean(0)) * gain for x in (x_train, x_test)]
    else:
        scaled = [x / white for x in (x_train, x_test)]
    return scaled[0].astype(np.float32), scaled[1].astype(np.float32)


def _check_classes(classes, name, names):
    wrong = [c for c in classes if not 0 <= c < len(names)]
    if wrong or len(set(classes)) != len(classes) or len(classes) < 2:
        raise UserError(
            "data.classes",
            tuple(classes),
            f"must be at least two different labels from 0 to {len(names) - 1}",
            f"{name} has {', '.join(f'{i} ({c})' for i, c in enumerate(names))}",
        )


def _refuse_scale(how, why, instead):
    raise UserError("data.normalize", how, why, f"use data.normalize={instead} or none")
