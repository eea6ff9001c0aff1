"""Published file formats, read with numpy."""

import gzip
import io
import os
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from testbed.data import load, raw_files, tfds_source
from testbed.data.dataset import RawImages
from testbed.errors import UserError

IDX_FILES = [file.removesuffix(".gz") for file in raw_files.FILES["mnist"]]


def _paths(folder, name="mnist"):
    return [raw_files.find(folder, file) for file in raw_files.FILES[name]]


def _assert_equal(splits, expected):
    for array, wanted in zip(splits, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
def test_idx_files(idx_folder, tiny_mnist, zipped, spelling):
    """IDX files give their arrays back: zipped or not, under either spelling."""
    files = [file.replace("-idx", spelling) for file in IDX_FILES]
    folder = idx_folder(zipped=zipped, files=files)
    *splits, names = raw_files.read("mnist", _paths(folder))
    assert names == ()
    _assert_equal(splits, tiny_mnist)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda blob: blob[:-1], "announces shape"),
        (lambda blob: blob + b"\0", "announces shape"),
        (lambda blob: b"<!DOCTYPE html>" + blob, "not an IDX file"),
        (lambda blob: b"", "not an IDX file"),
        (lambda blob: gzip.compress(blob)[:-20], "end-of-stream|ended before"),
        (lambda blob: gzip.compress(b"hello"), "not an IDX file"),
    ],
)
def test_damaged_idx_is_refused(idx_folder, damage, reason):
    """A cut, padded or foreign file is refused under its own name."""
    folder = idx_folder(zipped=False)
    path = folder / IDX_FILES[2]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(raw_files.FileError, match=reason) as caught:
        raw_files.read("mnist", _paths(folder))
    assert caught.value.path == path


def test_mismatched_idx_is_refused(idx_folder):
    """As many labels as images, of the set's classes, and images that are images."""
    folder = idx_folder(zipped=False)
    train_images, train_labels, *_ = _paths(folder)
    labels = train_labels.read_bytes()
    shutil.copy(folder / IDX_FILES[3], train_labels)
    with pytest.raises(raw_files.FileError, match="40 images but 20 labels"):
        raw_files.read("mnist", _paths(folder))
    train_labels.write_bytes(labels[:-1] + bytes([10]))
    with pytest.raises(raw_files.FileError, match="label 10 of 10 classes"):
        raw_files.read("mnist", _paths(folder))
    train_images.write_bytes(labels)
    with pytest.raises(raw_files.FileError, match="1-dimensional, images have 3"):
        raw_files.read("mnist", _paths(folder))


def test_training_and_test_images_are_of_one_size(config, idx_folder, tiny_mnist):
    """28x28 and 14x14 are refused with both, in the library and at the command line."""
    folder = idx_folder(zipped=False)
    small = tiny_mnist[2][:, ::2, ::2, 0]
    test_images = folder / IDX_FILES[2]
    header = struct.pack(">4I", 0x803, *small.shape)
    test_images.write_bytes(header + small.tobytes())
    reason = "training images are 28x28x1, test images 14x14x1"
    with pytest.raises(raw_files.FileError, match=reason) as caught:
        raw_files.read("mnist", _paths(folder))
    assert caught.value.path == test_images
    with pytest.raises(UserError, match=f"data.manual_dir=.*{reason}") as refused:
        load(config(name="mnist", manual_dir=str(folder)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ({"images": np.zeros((4, 3, 3))}, {}, "images of type float64"),
        ({"images": np.full((4, 2, 2, 1), 256)}, {}, "images from 256 to 256"),
        ({"labels": [0, 1, -1, 0]}, {}, "labels from -1 to 1"),
        ({"labels": [0.0, 1.0, 1.0, 0.0]}, {}, "labels of type float64"),
        ({"labels": [0, 1, 2, 0]}, {}, "label 2 of 2 classes"),
        ({"labels": [0, 1, 1]}, {}, "4 images but 3 labels"),
        ({}, {"images": np.zeros((4, 2, 3, 1), int)}, "2x2x1, test images 2x3x1"),
        ({"images": np.zeros((4, 2, 2), int)}, {}, "2x2, test images 2x2x1"),
    ],
)
def test_arrays_that_are_no_image_set_are_refused(train, test, reason):
    """Grey levels and labels are bytes, as many of both, all of one size."""
    good = {"images": np.zeros((4, 2, 2, 1), int), "labels": [0, 1, 1, 0]}
    splits = [tuple((good | change).values()) for change in (train, test)]
    with pytest.raises(ValueError, match=reason) as caught:
        RawImages.from_splits(*splits, "ab")
    assert "\n" not in str(caught.value)


def _cifar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"some-folder/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_archives(tmp_path, name):
    """Records are labels (the fine one counts), then red, green and blue planes."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (12, 32, 32, 3), np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    records = [
        (b"" if name == "cifar10" else b"\x07")
        + bytes([label])
        + np.moveaxis(image, -1, 0).tobytes()
        for image, label in zip(images, labels, strict=True)
    ]
    test = b"".join(records[10:])
    if name == "cifar10":
        pairs = [b"".join(records[i : i + 2]) for i in range(0, 10, 2)]
        files = {f"data_batch_{i}.bin": pair for i, pair in enumerate(pairs, 1)}
        files |= {"test_batch.bin": test}
    else:
        files = {"train.bin": b"".join(records[:10]), "test.bin": test}
    classes = raw_files.N_CLASSES[name]
    names_file = "batches.meta.txt" if name == "cifar10" else "fine_label_names.txt"
    known = tuple(f"class_{i}" for i in range(classes))
    files[names_file] = "\n".join([*known, "", ""]).encode()
    path = tmp_path / raw_files.FILES[name][0]
    _cifar(path, dict(reversed(files.items())))
    *splits, names = raw_files.read(name, [path])
    _assert_equal(splits, (images[:10], labels[:10], images[10:], labels[10:]))
    assert names == known
    test_file = "test_batch.bin" if name == "cifar10" else "test.bin"
    for file, content, reason in (
        (names_file, b"airplane\nauto\n", f"has 2 names for {classes} classes"),
        (test_file, test[:-1], f"{test_file} has .* bytes, no multiple of"),
        (test_file, None, f"lacks {test_file}"),
    ):
        changed = files | {file: content}
        _cifar(path, {k: v for k, v in changed.items() if v is not None})
        with pytest.raises(raw_files.FileError, match=reason):
            raw_files.read(name, [path])


def test_svhn_files(tmp_path):
    """MATLAB files hold images along the last axis and call the digit 0 a 10."""
    rng = np.random.default_rng(4)
    splits = []
    for file, n in (("train_32x32.mat", 10), ("test_32x32.mat", 4)):
        images = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
        digits = np.arange(n) % 10
        y = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        savemat(tmp_path / file, {"X": np.moveaxis(images, 0, -1), "y": y})
        splits += [images, digits]
    *read, _ = raw_files.read("svhn_cropped", _paths(tmp_path, "svhn_cropped"))
    _assert_equal(read, splits)
    images, test = np.zeros((32, 32, 3, 4), np.uint8), tmp_path / "test_32x32.mat"
    digits = np.array([[1], [10], [3], [9]], np.uint8)
    for content, reason in (
        ({"X": images}, "lacks y"),
        ({"X": images / 255, "y": digits}, "X is float64 of shape"),
        ({"X": images[:16], "y": digits}, r"X is uint8 of shape \(16, 32, 3, 4\)"),
        ({"X": images, "y": digits + 1}, "label 11 in y"),
        ({"X": images, "y": digits * np.nan}, "label nan in y"),
        ({"X": images, "y": digits[:3]}, "4 images but 3 labels"),
    ):
        savemat(test, content)
        with pytest.raises(raw_files.FileError, match=reason) as caught:
            raw_files.read("svhn_cropped", _paths(tmp_path, "svhn_cropped"))
        assert caught.value.path == test and "\n" not in str(caught.value)
    (tmp_path / "test_32x32.mat").write_text("404 Not Found")
    with pytest.raises(raw_files.FileError, match="test_32x32.mat"):
        raw_files.read("svhn_cropped", _paths(tmp_path, "svhn_cropped"))


def test_manual_folder_is_used_and_not_mistaken(config, idx_folder, tiny_mnist):
    """Files in data.manual_dir are read, said to be unregistered, and not cached."""
    wanted = config(
        name="mnist", train_size=40, test_size=20, manual_dir=str(idx_folder())
    )
    with pytest.warns(UserWarning, match="not those.*read 40 training and 20 test"):
        data = load(wanted)
    raw = RawImages.from_splits(tiny_mnist[:2], tiny_mnist[2:], "0123456789")
    assert data.classes == raw.classes and data.input_shape == (784,)
    assert sorted(data.labels_train) == sorted(raw.y_train)
    assert not Path(wanted.data_dir).exists()


def test_incomplete_manual_folder_is_explained(config, idx_folder):
    """A missing file is named; so is one that cannot be read."""
    folder = idx_folder()
    path = folder / f"{IDX_FILES[3]}.gz"
    path.write_text("<html>")
    with pytest.raises(UserError, match=f"data.manual_dir={folder}: {path.name} there"):
        load(config(name="mnist", manual_dir=str(folder)))
    path.unlink()
    with pytest.raises(UserError, match=f"data.manual_dir.*{path.name} is missing"):
        load(config(name="mnist", manual_dir=str(folder)))


@pytest.mark.skipif(
    "DEPTHWIDTH_MNIST_DIR" not in os.environ,
    reason="DEPTHWIDTH_MNIST_DIR names no folder with the four files of MNIST",
)
@pytest.mark.parametrize("zipped", [True, False])
def test_real_mnist(config, tmp_path, zipped):
    """MNIST's own files are recognised, unzipped or zipped anew, and cached."""
    for file in IDX_FILES:
        path = raw_files.find(Path(os.environ["DEPTHWIDTH_MNIST_DIR"]), f"{file}.gz")
        assert path is not None
        blob = path.read_bytes()
        blob = gzip.decompress(blob) if path.suffix == ".gz" else blob
        blob = gzip.compress(blob, 1) if zipped else blob
        (tmp_path / (f"{file}.gz" if zipped else file)).write_bytes(blob)
    raw, genuine = tfds_source.fetch("mnist", tmp_path / "tfds", str(tmp_path))
    assert genuine and raw.checksum == tfds_source.GENUINE["mnist"]
    assert raw.x_train.shape == (60000, 28, 28, 1)
    assert raw.x_test.shape == (10000, 28, 28, 1)
    first = load(config(name="mnist", manual_dir=str(tmp_path)))
    assert load(config(name="mnist")).checksum == first.checksum
