"""Cached sets: whole, detected when damaged, never half-written."""

import threading
import warnings

import numpy as np
import pytest

from testbed.data import cache
from testbed.data.dataset import RawImages


@pytest.fixture(scope="module")
def raw(tiny_mnist):
    return RawImages.from_splits(tiny_mnist[:2], tiny_mnist[2:], "0123456789", 16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "set.npz"


def test_round_trip(raw, path):
    """What is written is read back, in every field."""
    assert cache.read(path) is None
    cache.write(path, raw)
    back = cache.read(path)
    assert back is not None and back.checksum == raw.checksum
    assert back.classes == raw.classes and back.white == 16
    np.testing.assert_array_equal(back.x_train, raw.x_train)
    assert [p.name for p in path.parent.iterdir()] == ["set.npz"]


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncation_is_detected(raw, path, kept):
    """A file cut anywhere is reported in one line and treated as absent."""
    cache.write(path, raw)
    blob = path.read_bytes()
    path.write_bytes(blob[: int(kept * len(blob))])
    with pytest.warns(UserWarning, match="set.npz is damaged and will be") as warned:
        assert cache.read(path) is None
    assert len(warned) == 1 and "\n" not in str(warned[0].message)


def test_flipped_bits_never_pass(raw, path):
    """One flipped bit anywhere: either detected, or the data is unharmed."""
    cache.write(path, raw)
    blob = path.read_bytes()
    detected = 0
    for position in np.linspace(0, len(blob) - 1, 200).astype(int):
        broken = bytearray(blob)
        broken[position] ^= 1 << (position % 8)
        path.write_bytes(broken)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            back = cache.read(path)
        assert len(warned) == (back is None)
        detected += back is None
        assert back is None or back.checksum == raw.checksum
    assert detected > 150  # nearly all of the file is pixels


def test_wrong_checksum_is_detected(raw, path):
    """A well-formed file whose numbers are not those that were stored is refused."""
    cache.write(path, raw)
    with np.load(path) as stored:
        fields = dict(stored)
    fields["y_train"] = fields["y_train"][::-1]
    np.savez(path, **fields)
    with pytest.warns(UserWarning, match="checksum does not match"):
        assert cache.read(path) is None


def test_unwritable_folder_is_no_obstacle(raw, tmp_path):
    """Where no file can be made, writing warns and reading finds nothing."""
    blocked = tmp_path / "a file, not a folder"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="cannot be cached in .* going on without"):
        cache.write(blocked / "set.npz", raw)
    assert cache.read(blocked / "set.npz") is None


def test_concurrent_writers_leave_a_whole_file(raw, path):
    """While eight writers replace a file, a reader never meets a damaged one."""
    cache.write(path, raw)
    writers = [threading.Thread(target=cache.write, args=(path, raw)) for _ in range(8)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        back = cache.read(path)  # a warning would be an error here
        assert back is not None and back.checksum == raw.checksum
    for writer in writers:
        writer.join()
    assert [p.name for p in path.parent.iterdir()] == ["set.npz"]
