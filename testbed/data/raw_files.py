"""The files that the image sets were published in, read with numpy.

TFDS's own readers of these files need TensorFlow; these do not.
"""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from testbed.data.dataset import check_same_size
from testbed.sources import N_CLASSES

Splits = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]

_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

FILES = {
    "mnist": _IDX,
    "fashion_mnist": _IDX,
    "cifar10": ("cifar-10-binary.tar.gz",),
    "cifar100": ("cifar-100-binary.tar.gz",),
    "svhn_cropped": ("train_32x32.mat", "test_32x32.mat"),
}
"""The files of each set, under the names they are published and TFDS registers."""


def find(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`; a .gz of it or none, and MNIST's other spelling."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for candidate in (spelling, spelling.removesuffix(".gz")):
            if (folder / candidate).is_file():
                return folder / candidate
    return None


def read(name: str, paths: list[Path]) -> Splits:
    """Images and labels from the files of a set.

    Args:
      name: a key of `FILES`.
      paths: where `FILES[name]` lie, in that order.

    Returns:
      x_train (N, height, width, channels) uint8, y_train (N,), x_test, y_test, and the
      names of the classes, () where the files have none.  N is whatever the files hold.

    Raises:
      FileError: a file that is not what its name says.
    """
    if name in ("mnist", "fashion_mnist"):
        arrays = [_in_file(path, _idx, path) for path in paths]
        for images, path in zip(arrays[::2], paths[::2], strict=True):
            if images.ndim != 3:
                raise FileError(path, f"{images.ndim}-dimensional, images have 3")
        parts = [a[..., None] if a.ndim == 3 else a for a in arrays]
        names = ()
    elif name in ("cifar10", "cifar100"):
        *parts, names = _in_file(paths[0], _cifar, paths[0], name == "cifar100")
    else:
        parts = [a for path in paths for a in _in_file(path, _svhn, path)]
        names = ()
    for images, labels in (parts[:2], parts[2:]):
        where = paths[-1] if len(paths) == 1 or images is parts[2] else paths[0]
        if labels.shape != (len(images),):
            raise FileError(where, f"{len(images)} images but {labels.size} labels")
        if labels.size and labels.max() >= N_CLASSES[name]:
            raise FileError(where, f"label {labels.max()} of {N_CLASSES[name]} classes")
    # Of four files, two or one, where the test images are.
    _in_file(paths[len(paths) // 2], check_same_size, parts[0], parts[2])
    return (*parts, names)


class FileError(ValueError):
    """A file that cannot be read as what its name says.

    Args:
      path: the file.
      reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: str):
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


def _in_file(path: Path, read_it: Callable, *args):
    try:
        return read_it(*args)
    except Exception as error:  # gzip, tarfile and scipy fail in a dozen ways
        raise FileError(path, " ".join(str(error).split()) or repr(error)) from error


def _idx(path: Path) -> np.ndarray:
    """IDX: 0, 0, type (8: uint8), ndim, then ndim big-endian int32 sizes, then data."""
    blob = path.read_bytes()
    if blob[:2] == b"\x1f\x8b":
        blob = gzip.decompress(blob)
    if blob[:3] != b"\0\0\x08" or len(blob) < 4 + 4 * blob[3]:
        raise ValueError("not an IDX file of bytes")
    start = 4 + 4 * blob[3]
    shape = tuple(int(size) for size in np.frombuffer(blob[4:start], ">u4"))
    if len(blob) - start != np.prod(shape, dtype=object):
        raise ValueError(f"announces shape {shape} but holds {len(blob) - start} bytes")
    return np.frombuffer(blob, np.uint8, offset=start).reshape(shape)


def _cifar(path: Path, fine_and_coarse: bool) -> tuple:
    """Records of 1 label (CIFAR-100: coarse, fine) and 3 x 32 x 32 bytes, in a tar."""
    n_labels = 2 if fine_and_coarse else 1
    train = [f"data_batch_{i}.bin" for i in range(1, 6)]
    test, names = "test_batch.bin", "batches.meta.txt"
    if fine_and_coarse:
        train, test, names = ["train.bin"], "test.bin", "fine_label_names.txt"
    wanted = {*train, test, names}
    blob = {}
    with tarfile.open(path) as tar:
        for member in tar:  # one pass: going back would unzip it from the start
            name = Path(member.name).name
            if name in wanted and (file := tar.extractfile(member)):
                blob[name] = file.read()
    if missing := wanted - blob.keys():
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    known = blob[names].decode().split()
    classes = N_CLASSES["cifar100" if fine_and_coarse else "cifar10"]
    if len(known) != classes:
        raise ValueError(f"{names} has {len(known)} names for {classes} classes")
    splits, record = [], n_labels + 3072
    for files in (train, [test]):
        for file in files:
            if len(blob[file]) % record:
                size = len(blob[file])
                raise ValueError(f"{file} has {size} bytes, no multiple of {record}")
        records = np.frombuffer(b"".join(blob[f] for f in files), np.uint8)
        records = records.reshape(-1, record)
        images = records[:, n_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits += [images, records[:, n_labels - 1]]
    return *splits, tuple(known)


def _svhn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """MATLAB file with X (32, 32, 3, N) and y (N, 1) in 1..10, where 10 means 0."""
    from scipy.io import loadmat

    content = loadmat(path)
    if missing := {"X", "y"} - content.keys():
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    images, labels = content["X"], content["y"].reshape(-1)
    if images.dtype != np.uint8 or images.shape[:3] != (32, 32, 3) or images.ndim != 4:
        what = f"{images.dtype} of shape {images.shape}"
        raise ValueError(f"X is {what}, must be uint8 of (32, 32, 3, N)")
    if not np.isin(labels, np.arange(1, 11)).all():
        wrong = labels[~np.isin(labels, np.arange(1, 11))][0]
        raise ValueError(f"label {wrong} in y, must be a whole number from 1 to 10")
    return np.moveaxis(images, -1, 0), labels.astype(np.uint8) % 10
