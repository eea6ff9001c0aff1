"""The one type that everything downstream learns from."""

import dataclasses
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and targets, prepared once; the arrays are read-only.

    With N examples, k outputs and n_in = prod(input_shape):

    Attributes:
      name: the source, one of `testbed.data.names.SOURCES`.
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
    """Images and labels as uint8, sorted by the sha256 of both."""
    images = np.ascontiguousarray(images, np.uint8)
    labels = np.ascontiguousarray(labels, np.uint8)
    keys = [
        hashlib.sha256(image.tobytes() + bytes([label])).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return images[order], labels[order]
