"""A data config for tests, and the hand-made files they read."""

import gzip
import struct

import numpy as np
import pytest

from testbed.config import DataConfig

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture
def config(tmp_path):
    """Makes a `DataConfig` that keeps its files in the test's own folder."""

    def make(**fields):
        fields.setdefault("data_dir", str(tmp_path / "tfds"))
        return DataConfig(**fields)

    return make


@pytest.fixture(scope="session")
def tiny_mnist():
    """40 training and 20 test images of random bytes, labels in turn."""
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, (40, 28, 28, 1), np.uint8),
        np.arange(40, dtype=np.uint8) % 10,
        rng.integers(0, 256, (20, 28, 28, 1), np.uint8),
        np.arange(20, dtype=np.uint8) % 10,
    )


@pytest.fixture
def idx_folder(tmp_path, tiny_mnist):
    """Writes `tiny_mnist` in MNIST's file format; returns the folder."""

    def write(name="manual", zipped=True, files=IDX_FILES):
        folder = tmp_path / name
        folder.mkdir()
        for file, array in zip(files, tiny_mnist, strict=True):
            array = array[..., 0] if array.ndim == 4 else array
            blob = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            blob += array.tobytes()
            path = folder / (f"{file}.gz" if zipped else file)
            path.write_bytes(gzip.compress(blob) if zipped else blob)
        return folder

    return write
