"""Sets through TFDS: built, prepared elsewhere, downloaded, or absent."""

import functools
import gzip
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from testbed.data import cache, load, raw_files, tfds_source
from testbed.data.dataset import RawImages
from testbed.errors import UserError

IDX_FILES = [file.removesuffix(".gz") for file in raw_files.FILES["mnist"]]
ROOT = Path(__file__).parents[2]
DIGITS = "84922dc7"  # of the whole set; renew only if its content was meant to change


def _python(script, folder, **environment):
    """Starts Python with a TensorFlow that can be found but not be imported."""
    trap = folder / "trap" / "tensorflow"
    trap.mkdir(parents=True, exist_ok=True)
    (trap / "__init__.py").write_text("raise RuntimeError('TensorFlow was imported')")
    path = os.pathsep.join([str(ROOT), str(trap.parent)])
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


LOAD = """
import sys, time
from testbed.config import DataConfig
from testbed.data import load
start = time.process_time()
data = load(DataConfig(data_dir={!r}))
print(data.checksum, time.process_time() - start, *sys.modules)
"""


@pytest.fixture(scope="module")
def fresh_starts(tmp_path_factory):
    """Three processes that load digits at the same time on a fresh machine."""
    folder = tmp_path_factory.mktemp("machine")
    started = [_python(LOAD.format(str(folder / "tfds")), folder) for _ in range(3)]
    ended = [(*process.communicate(), process.returncode) for process in started]
    return folder, ended


def test_concurrent_starts_agree(fresh_starts):
    """Three first starts at once: all succeed, silently, with the same data."""
    folder, ended = fresh_starts
    assert [(err, code) for _, err, code in ended] == [("", 0)] * 3
    assert len({out.split()[0] for out, _, _ in ended}) == 1
    cached = folder / "tfds" / "depthwidth_cache"
    assert [path.name for path in cached.iterdir()] == ["digits-v1.npz"]


def test_digits_never_touches_tensorflow(fresh_starts):
    """Building digits imports TFDS and scikit-learn, and no TensorFlow."""
    _, ended = fresh_starts
    for out, _, _ in ended:
        modules = out.split()[2:]
        assert "tensorflow_datasets" in modules and "sklearn" in modules
        assert "tensorflow" not in modules


def test_second_start_is_quick(fresh_starts):
    """A warm start loads digits in < 0.2 s of CPU, and imports neither TFDS nor jax."""
    folder, ended = fresh_starts
    out, err, code = _finish(_python(LOAD.format(str(folder / "tfds")), folder))
    assert (err, code) == ("", 0)
    checksum, seconds, *modules = out.split()
    assert checksum == ended[0][0].split()[0]
    assert float(seconds) < 0.2  # 0.01 s, and the machine may be busy
    assert not {"tensorflow_datasets", "sklearn", "jax", "scipy"} & set(modules)


def _finish(process):
    return *process.communicate(), process.returncode


def test_digits_are_scikit_learns(fresh_starts):
    """1285 + 512 images are exactly those of load_digits; test classes are balanced."""
    from sklearn.datasets import load_digits

    raw = cache.read(fresh_starts[0] / "tfds" / "depthwidth_cache" / "digits-v1.npz")
    assert raw is not None and raw.white == 16
    assert raw.x_train.shape == (1285, 8, 8, 1) and raw.x_test.shape == (512, 8, 8, 1)
    assert list(np.bincount(raw.y_test)) == [52, 52] + 8 * [51]
    x, y = load_digits(return_X_y=True)
    theirs = np.column_stack([x, y])
    ours = np.column_stack(
        [
            np.concatenate([raw.x_train, raw.x_test]).reshape(-1, 64),
            np.concatenate([raw.y_train, raw.y_test]),
        ]
    )
    np.testing.assert_array_equal(
        ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)]
    )
    assert raw.checksum.startswith(DIGITS), f"digits changed: now {raw.checksum[:8]}"


def test_digits_need_no_tfds(fresh_starts, tmp_path):
    """Where TFDS is not installed digits load all the same, to the bit."""
    hidden = "import sys; sys.modules['tensorflow_datasets'] = None\n"
    program = hidden + LOAD.format(str(tmp_path / "tfds"))
    out, err, code = _finish(_python(program, tmp_path))
    assert (err, code) == ("", 0)
    assert out.split()[0] == fresh_starts[1][0][0].split()[0]


def test_digits_is_an_ordinary_tfds_set(tmp_path):
    """The builder prepares a folder that `tfds.data_source` reads by name."""
    tfds_source.digits_builder(tmp_path).download_and_prepare()
    source = tfds.data_source("digits", data_dir=tmp_path, split="train[:10%]")
    assert len(source) in (128, 129)
    assert source[0]["image"].shape == (8, 8, 1) and 0 <= source[0]["label"] < 10


def test_damaged_cache_is_rebuilt(fresh_starts, config, tmp_path):
    """Digits with a broken cache: one warning, the same data, and a whole cache."""
    whole = fresh_starts[0] / "tfds" / "depthwidth_cache" / "digits-v1.npz"
    broken = tmp_path / "tfds" / "depthwidth_cache" / "digits-v1.npz"
    broken.parent.mkdir(parents=True)
    blob = bytearray(whole.read_bytes())
    blob[len(blob) // 2] ^= 1
    broken.write_bytes(blob)
    with pytest.warns(UserWarning, match="damaged and will be rebuilt") as warned:
        data = load(config())
    assert len(warned) == 1
    assert data.checksum == fresh_starts[1][0][0].split()[0]
    assert load(config()).checksum == data.checksum  # silently


def _prepare_mnist(folder, tiny_mnist):
    """A prepared folder as TFDS makes it: array_record, PNG images."""

    class Mnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """MNIST with few images."""

        VERSION = tfds.core.Version("3.0.1")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(*tiny_mnist[:2]),
                "test": self._generate_examples(*tiny_mnist[2:]),
            }

        def _generate_examples(self, images, labels):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                picture = Image.fromarray(image[..., 0])
                yield i, {"image": picture, "label": int(label)}

    builder = Mnist(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return builder


def _as_tfrecord(builder):
    """Rewrites a prepared folder in the other format that TFDS writes by default."""
    folder = Path(builder.data_dir)
    for split in ("train", "test"):
        info = builder.info.splits[split]
        records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        path = Path(str(info.filepaths[0]).replace("array_record", "tfrecord"))
        with open(path, "wb") as file:
            for record in records:
                file.write(len(record).to_bytes(8, "little") + b"crc1")
                file.write(record + b"crc2")
        Path(info.filepaths[0]).unlink()
    description = json.loads((folder / "dataset_info.json").read_text())
    description["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(description))


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_prepared_folder_is_read(config, tmp_path, tiny_mnist, file_format):
    """What TFDS prepared, in either of its formats, is the set itself, bit for bit."""
    builder = _prepare_mnist(tmp_path / "tfds", tiny_mnist)
    if file_format == "tfrecord":
        _as_tfrecord(builder)
    raw, genuine = tfds_source.fetch("mnist", tmp_path / "tfds", "")
    expected = RawImages.from_splits(tiny_mnist[:2], tiny_mnist[2:], "0123456789")
    assert genuine and raw.checksum == expected.checksum
    data = load(config(name="mnist", train_size=40, test_size=20))
    assert data.classes == tuple("0123456789")
    cached = tmp_path / "tfds" / "depthwidth_cache" / "mnist-v1.npz"
    assert cache.read(cached).checksum == expected.checksum
    # Cut the folder: it is refused by name, not read in part.
    for path in Path(builder.data_dir).glob("mnist-train*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"data.data_dir={builder.data_dir}.*delete"):
        tfds_source.fetch("mnist", tmp_path / "tfds", "")


@pytest.fixture
def published(idx_folder, monkeypatch):
    """A server of tiny MNIST files, and a builder that registers them."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = idx_folder("published")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever).start()
    url_infos = {}
    for file in sorted(f"{name}.gz" for name in IDX_FILES):
        blob = (folder / file).read_bytes()
        url = f"http://127.0.0.1:{server.server_port}/{file}"
        url_infos[url] = tfds.core.download.checksums.UrlInfo(
            size=tfds.core.utils.Size(len(blob)),
            checksum=hashlib.sha256(blob).hexdigest(),
            filename=file,
        )
    catalogue = tfds.builder("mnist", data_dir=str(folder))
    builder = types.SimpleNamespace(
        name="mnist", url_infos=url_infos, info=catalogue.info
    )
    yield folder, builder
    server.shutdown()
    server.server_close()


def test_download_is_the_published_set(published, tmp_path, tiny_mnist):
    """With a network, the registered files are downloaded, verified and read."""
    _, builder = published
    fetch = tfds_source._from_published_files
    raw, genuine = fetch(builder, tmp_path / "tfds", "")
    expected = RawImages.from_splits(tiny_mnist[:2], tiny_mnist[2:], "0123456789")
    assert genuine and raw.checksum == expected.checksum


def test_wrong_download_is_refused(published, tmp_path):
    """A downloaded file that is not the registered one is not used."""
    folder, builder = published
    path = folder / f"{IDX_FILES[1]}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"\0"))
    with pytest.raises(UserError, match="wrong checksum") as caught:
        tfds_source._from_published_files(builder, tmp_path / "tfds", "")
    assert "\n" not in str(caught.value)


def test_registered_manual_files_are_genuine(published, tmp_path):
    """Files in data.manual_dir with the registered sha256 count as the published."""
    folder, builder = published
    raw, genuine = tfds_source._from_published_files(builder, tmp_path, str(folder))
    assert genuine and len(raw.x_train) == 40


OFFLINE = """
import time
from testbed.config import DataConfig
from testbed.data import load
from testbed.errors import UserError
start = time.perf_counter()
try:
    load(DataConfig(name="mnist", data_dir={!r}))
except UserError as error:
    print(error)
    print(time.perf_counter() - start)
"""


def test_offline_failure_is_quick_and_complete(tmp_path):
    """Without a network: < 5 s, and one line with folder, files and both remedies."""
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    proxies = dict(http_proxy=nowhere, https_proxy=nowhere, no_proxy="")
    proxies |= {key.upper(): value for key, value in proxies.items()}
    script = OFFLINE.format(str(tmp_path / "tfds"))
    out, err, code = _finish(_python(script, tmp_path, **proxies))
    assert (err, code) == ("", 0)
    message, seconds = out.splitlines()
    for part in (
        "data.name=mnist: ",
        str(tmp_path / "tfds"),
        "storage.googleapis.com",
        *(f"{file}.gz" for file in IDX_FILES),
        "data.manual_dir=",
        "connected machine",
    ):
        assert part in message
    assert float(seconds) < 5


def test_silent_network_fails_in_time(monkeypatch):
    """A server that never answers is given up on after the stated seconds."""
    monkeypatch.setattr(tfds_source, "PROBE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        start = time.perf_counter()
        with pytest.raises(OSError, match="127.0.0.1.*(no answer|timed out)"):
            tfds_source._probe(f"http://127.0.0.1:{silent.getsockname()[1]}/file")
        assert time.perf_counter() - start < 2


def test_package_is_light(tmp_path):
    """Importing `testbed.data` loads no jax, TFDS, scikit-learn or scipy."""
    script = "import testbed.data, sys; print(*sys.modules)"
    out, err, code = _finish(_python(script, tmp_path))
    assert (err, code) == ("", 0)
    heavy = {"jax", "flax", "tensorflow_datasets", "sklearn", "scipy", "tensorflow"}
    assert not heavy & set(out.split())
