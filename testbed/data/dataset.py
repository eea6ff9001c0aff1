"""The one type that everything downstream learns from."""

import dataclasses
import hashlib

import numpy as np

from testbed.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and targets, prepared once and checked; the arrays are read-only.

    With N examples, k outputs and n_in = prod(input_shape):

    Attributes:
      name: the source, one of `testbed.sources.SOURCES`.
      classes: names of the classes in the order of the labels; () for regression.
      input_shape: (n_in,) if flattened, else (height, width, channels).
      x_train: (N, *input_shape) float32.
      y_train: (N, k) float32.  Two classes: k = 1, values -1 and +1.  k > 2 classes:
        one-hot minus 1/k.
      x_test: as x_train.
      y_test: as y_train.
      labels_train: (N,) int32, or None for regression.
      labels_test: as labels_train.
      checksum: sha256 of all arrays; equal data has equal checksums.

    Raises:
      UserError: arrays whose shapes do not go together, a number that is not finite, or
        labels that are no indices into `classes`.
    """

    name: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    labels_train: np.ndarray | None = None
    labels_test: np.ndarray | None = None
    checksum: str = dataclasses.field(init=False)

    def __post_init__(self):
        for split in ("train", "test"):
            x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            for name, array, shape in (
                (f"x_{split}", x, (len(x), *self.input_shape)),
                (f"y_{split}", y, (len(x), *self.y_train.shape[1:2])),
            ):
                _check_array(name, array, shape)
            labels = getattr(self, f"labels_{split}")
            if labels is not None:
                _check_labels(f"labels_{split}", labels, len(x), len(self.classes))
        arrays = [self.x_train, self.y_train, self.x_test, self.y_test]
        arrays += [a for a in (self.labels_train, self.labels_test) if a is not None]
        for array in arrays:
            array.setflags(write=False)
        object.__setattr__(self, "checksum", digest(*arrays))

    @property
    def n_in(self) -> int:
        """Number of input coordinates."""
        return int(np.prod(self.input_shape))

    @property
    def n_out(self) -> int:
        """Number of columns of y."""
        return self.y_train.shape[1]


@dataclasses.dataclass(frozen=True, eq=False)
class RawImages:
    """A whole image set as its source holds it, before any choice of the user.

    The examples of each split stand in the order of their sha256, which is one fixed
    shuffle: TFDS shuffles by its own hash, raw files have yet another order, and the
    same setting must mean the same numbers wherever they came from.

    Raises ValueError, in a line, for arrays that are no such set.

    Attributes:
      x_train: (N, height, width, channels) uint8 grey levels.
      y_train: (N,) uint8 labels, indices into `classes`.
      x_test: as x_train.
      y_test: as y_train.
      classes: their names.
      white: the largest grey level a pixel can have.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    white: int = 255

    def __post_init__(self):
        check_same_size(self.x_train, self.x_test)
        shape = self.x_train.shape[1:]
        if len(shape) != 3 or 0 in shape:
            raise ValueError(
                f"images of shape {shape}, must be height, width, channels"
            )
        for x, y in ((self.x_train, self.y_train), (self.x_test, self.y_test)):
            if y.shape != (len(x),):
                raise ValueError(f"{len(x)} images but {y.size} labels")
            if y.size and y.max() >= len(self.classes):
                raise ValueError(f"label {y.max()} of {len(self.classes)} classes")

    @classmethod
    def from_splits(cls, train, test, classes, white: int = 255) -> "RawImages":
        """Of (images, labels) pairs in any order."""
        train, test = in_fixed_order(*train), in_fixed_order(*test)
        return cls(*train, *test, tuple(classes), white)

    @property
    def checksum(self) -> str:
        """sha256 of everything in it."""
        fields = (getattr(self, f.name) for f in dataclasses.fields(self))
        return digest(*map(np.asarray, fields))


def digest(*arrays: np.ndarray) -> str:
    """sha256 over the dtypes, shapes and bytes of the arrays, in hexadecimal."""
    h = hashlib.sha256()
    for array in arrays:
        h.update(f"{array.dtype.str}{array.shape}".encode())
        h.update(np.ascontiguousarray(array).data)
    return h.hexdigest()


def in_fixed_order(images, labels) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as uint8, sorted by the sha256 of both.

    Raises:
      ValueError: one that is not a whole number from 0 to 255, or unequal numbers.
    """
    images, labels = _bytes("images", images), _bytes("labels", labels)
    if labels.shape != (len(images),):
        raise ValueError(f"{len(images)} images but {labels.size} labels")
    keys = [
        hashlib.sha256(image.tobytes() + bytes([label])).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return images[order], labels[order]


def check_same_size(train: np.ndarray, test: np.ndarray) -> None:
    """Raises ValueError unless training and test images have one shape."""
    if train.shape[1:] != test.shape[1:]:
        sizes = ("x".join(map(str, a.shape[1:])) for a in (train, test))
        raise ValueError("training images are {}, test images {}".format(*sizes))


def _bytes(what: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{what} of type {values.dtype}, must be whole numbers")
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise ValueError(f"{what} from {values.min()} to {values.max()}, beyond 0..255")
    return np.ascontiguousarray(values, np.uint8)


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        rule = f"must be {shape}, as input_shape and the other arrays have it"
        raise UserError(f"{name}.shape", array.shape, rule, "give one row an example")
    if array.ndim < 2:
        rule = "must have an axis of examples and one of numbers"
        raise UserError(f"{name}.shape", array.shape, rule, "reshape it to (N, k)")
    if not np.isfinite(array).all():
        lost = int((~np.isfinite(array)).any(tuple(range(1, array.ndim))).sum())
        rule = f"{lost} of {len(array)} examples are not finite"
        raise UserError(name, "nan or inf", rule, "leave these examples out")


def _check_labels(name: str, labels: np.ndarray, count: int, classes: int) -> None:
    if labels.shape != (count,):
        rule = f"must be ({count},), one label an example"
        raise UserError(f"{name}.shape", labels.shape, rule, "give one label each")
    if labels.dtype.kind not in "iu":
        rule = "must be whole numbers"
        raise UserError(f"{name}.dtype", labels.dtype, rule, "e.g. labels.astype(int)")
    if count and not 0 <= labels.min() <= labels.max() < classes:
        wrong = labels.max() if labels.max() >= classes else labels.min()
        rule = f"must lie from 0 to {classes - 1}, indices into the classes"
        raise UserError(name, int(wrong), rule, "count classes from 0")
