"""Real data; the one module that imports tensorflow-datasets (TFDS).

`digits` is a TFDS builder of our own around the set bundled with scikit-learn.  It is
built in a temporary folder and read back through `tfds.data_source`, so processes that
start together cannot meet.  Where TFDS is not installed, the same arrays are taken
without it.

The sets of the TFDS catalogue are taken from
1. a folder that TFDS prepared, if the data folder has one, in either of its formats;
2. else the published files in `data.manual_dir`;
3. else the same files, downloaded and verified by TFDS.
In the cases 2 and 3 numpy reads the files (`raw_files`): the catalogue's own builders
need TensorFlow for that and nothing else here does.  Nor are they written back as a
prepared folder: it would save nothing, since the caller caches the arrays, and in a
data folder shared with other programs an array_record folder makes their `tfds.load`
fail.  All three ways give the same bits, see `RawImages`.
"""

import contextlib
import functools
import hashlib
import importlib.util
import io
import logging
import queue
import tempfile
import threading
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from testbed.data import raw_files
from testbed.data.dataset import RawImages, in_fixed_order
from testbed.errors import UserError, one_line

DIGITS_WHITE = 16  # the largest grey level of a digit
PROBE_SECONDS = 4.0  # that a server may take to answer before we call it unreachable

# `RawImages.checksum` of the files whose sha256 TFDS registers.  With these the same
# content is recognised in another wrapping: unzipped, or zipped by somebody else.
GENUINE = {
    "mnist": "29bc05cbaca04bfcdfe392c000beccb6cfe72ae93674a5b6ab2f0bb7a6f0320b",
    "fashion_mnist": (
        "cb3877edb86009b0ecb40a9b2b8c722bf5fad8072f41c78086b52c4cd3cc9d7e"
    ),
}


def fetch(name: str, data_dir: Path, manual_dir: str) -> tuple[RawImages, bool]:
    """A whole image set, and whether it is certain to be the published one.

    Args:
      name: one of `testbed.sources.TFDS_NAMES`.
      data_dir: the data folder of TFDS.
      manual_dir: folder with the published files, or "".

    Raises:
      UserError: the set is not here and cannot be fetched, or is damaged.
    """
    if name == "digits" and importlib.util.find_spec("tensorflow_datasets") is None:
        split, classes = bundled_digits(), [str(digit) for digit in range(10)]
        pair = split["train"], split["test"]
        return RawImages.from_splits(*pair, classes, DIGITS_WHITE), True
    with _quiet():
        import tensorflow_datasets as tfds

        if name == "digits":
            return _digits(), True
        builder: Any = tfds.builder(name, data_dir=str(data_dir))
        if builder.is_prepared():
            return _read_prepared(builder), True
    return _from_published_files(builder, data_dir, manual_dir)


def bundled_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images (N, 8, 8, 1) and labels (N,) of scikit-learn's digits, by split.

    1797 images with grey levels 0 to 16.  The split is fixed: by the sha256 of their
    pixels, the first 51 images of each class (52 of the classes 0 and 1) are the test
    set, 512 in all, and the other 1285 the training set.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI
    Machine Learning Repository, 1998, as bundled with scikit-learn (`load_digits`).
    """
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    images = x.astype(np.uint8).reshape(-1, 8, 8, 1)
    images, labels = in_fixed_order(images, labels)
    own = [np.flatnonzero(labels == c) for c in range(10)]
    test = np.concatenate([i[: 51 + (c < 2)] for c, i in enumerate(own)])
    train = np.setdiff1d(np.arange(len(labels)), test)
    return {
        "train": (images[train], labels[train]),
        "test": (images[test], labels[test]),
    }


def digits_builder(data_dir: str | Path):
    """A TFDS builder of `bundled_digits`; it never imports TensorFlow."""
    return _digits_class()(data_dir=str(data_dir), file_format="array_record")


@functools.cache  # TFDS registers a builder class by its name, once
def _digits_class():
    import tensorflow_datasets as tfds

    class Digits(tfds.core.GeneratorBasedBuilder):
        """Handwritten digits of 8x8 pixels with 17 grey levels."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            # A Tensor, not an Image: encoding an array as an Image needs TensorFlow.
            features = {
                "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            splits = bundled_digits().items()
            return {name: self._generate_examples(*pair) for name, pair in splits}

        def _generate_examples(self, images, labels):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield i, {"image": image, "label": int(label)}

    return Digits


def _digits() -> RawImages:
    with tempfile.TemporaryDirectory() as folder:
        builder = digits_builder(folder)
        builder.download_and_prepare()
        return _read_prepared(builder, white=DIGITS_WHITE)


def _from_published_files(builder, data_dir: Path, manual_dir: str):
    name = builder.name
    registered = {info.filename: url for url, info in builder.url_infos.items()}
    urls = [registered[file] for file in raw_files.FILES[name]]
    url_infos = {url: builder.url_infos[url] for url in urls}
    if manual_dir:
        paths = _from_folder(name, Path(manual_dir).expanduser())
    else:
        paths = _download(name, data_dir, url_infos)
    try:
        *splits, classes = raw_files.read(name, paths)
    except raw_files.FileError as error:
        raise UserError(
            "data.manual_dir" if manual_dir else "data.data_dir",
            error.path.parent,
            f"{error.path.name} there cannot be read ({error.reason})",
            "replace it by the published file, or delete it",
        ) from error
    classes = classes or builder.info.features["label"].names
    raw = RawImages.from_splits(splits[:2], splits[2:], classes)
    genuine = (
        not manual_dir
        or all(map(_is_registered, paths, url_infos.values()))
        or raw.checksum == GENUINE.get(name)
    )
    if not genuine:
        height, width, channels = raw.x_train.shape[1:]
        warnings.warn(
            f"the files in {manual_dir} are not those that TFDS registers for {name}; "
            f"read {len(raw.x_train)} training and {len(raw.x_test)} test images of "
            f"{height}x{width}x{channels} from them, which will not be cached",
            stacklevel=2,
        )
    return raw, genuine


def _read_prepared(builder, white: int = 255) -> RawImages:
    try:
        splits = [_read_split(builder, split) for split in ("train", "test")]
        names = builder.info.features["label"].names
        return RawImages.from_splits(splits[0], splits[1], names, white)
    except ImportError:  # nothing wrong with the files
        raise
    except Exception as error:  # whatever a damaged file may cause
        raise UserError(
            "data.data_dir",
            Path(builder.data_dir),
            f"the {builder.name} prepared there cannot be read ({_line(error)})",
            "delete that folder, then see that TFDS prepares it again or that "
            "data.manual_dir has the published files",
        ) from error


def _read_split(builder, split: str) -> tuple[np.ndarray, np.ndarray]:
    info = builder.info.splits[split]
    if builder.info.file_format.value == "tfrecord":  # TFDS reads it by TensorFlow only
        decode = builder.info.features.deserialize_example_np
        examples = (decode(r) for path in info.filepaths for r in _tfrecords(path))
    else:
        examples = builder.as_data_source(split)
    pairs = [(example["image"], example["label"]) for example in examples]
    if len(pairs) != info.num_examples:
        raise ValueError(f"{len(pairs)} {split} examples of {info.num_examples}")
    images, labels = zip(*pairs, strict=True)
    return np.stack(images), np.array(labels)


def _tfrecords(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file: uint64 size, crc32, the record, crc32."""
    blob, at = Path(path).read_bytes(), 0
    while at < len(blob):
        size = int.from_bytes(blob[at : at + 8], "little")
        yield blob[at + 12 : at + 12 + size]
        at += size + 16


def _from_folder(name: str, folder: Path) -> list[Path]:
    found = {file: raw_files.find(folder, file) for file in raw_files.FILES[name]}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        lacks = f"{name} is to be read from there, and {', '.join(missing)} is missing"
        remedy = "put the published files in that folder (a .gz may be unzipped)"
        raise UserError("data.manual_dir", folder, lacks, remedy)
    return [path for path in found.values() if path is not None]


def _download(name: str, data_dir: Path, url_infos: dict) -> list[Path]:
    """TFDS's own download, verified; it fails in seconds if there is no network."""
    import tensorflow_datasets as tfds

    try:
        # TFDS itself retries for 205 s before it says that there is no network.
        _probe(next(iter(url_infos)))
        manager = tfds.download.DownloadManager(
            download_dir=data_dir / "downloads",
            url_infos=url_infos,
            dataset_name=name,
        )
        paths: Any = manager.download(list(url_infos))
        return [Path(path) for path in paths]
    except Exception as error:  # requests, its retries, checksums, the disk
        files = ", ".join(raw_files.FILES[name])
        raise UserError(
            "data.name",
            name,
            f"not in the data folder {data_dir} and not downloaded ({_line(error)})",
            f"put {files} in a folder and set data.manual_dir=FOLDER, or run this on a "
            f"connected machine and copy its data folder (or only {name}/ as TFDS "
            "prepared it) here",
        ) from error


def _probe(url: str) -> None:
    """Raises OSError unless the server answers; in a thread: name look-ups can hang."""
    host = urllib.parse.urlsplit(url).netloc
    answers: queue.Queue[Exception | None] = queue.Queue()

    def ask():
        try:
            # A fresh opener: `urlopen` remembers the proxies of its first call.
            opener = urllib.request.build_opener()
            opener.open(url, timeout=PROBE_SECONDS).close()
            answers.put(None)
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        error = TimeoutError(f"no answer in {PROBE_SECONDS:g} s")
    if error is not None:
        raise OSError(f"{host}: {_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's prints, progress bars and remarks on missing folders."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        absl.setLevel(level)


def _is_registered(path: Path, url_info) -> bool:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == url_info.checksum


def _line(error: Exception) -> str:
    """Its first line: what TFDS says of a checksum goes on for five."""
    line = str(error).strip().partition("\n")[0].rstrip(":")
    return one_line(line, 300) or type(error).__name__
