"""From the data part of a config to a `Dataset`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.data import cache
from testbed.data.dataset import Dataset, RawImages
from testbed.data.prepare import prepare
from testbed.errors import UserError, check_name
from testbed.sources import SOURCES, TFDS_NAMES

if TYPE_CHECKING:
    from testbed.config import DataConfig

CACHE_VERSION = 1  # raise it when `RawImages` or the split of `digits` changes


def load(config: "DataConfig") -> Dataset:
    """The data set that `config` describes; equal configs give equal checksums.

    Real sets are kept whole, as arrays with a checksum, in ``depthwidth_cache`` under
    the data folder (`data.data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets);
    a second start reads nothing else.  `data.manual_dir` is looked into only while a
    set is neither there nor prepared by TFDS.  Synthetic sets are drawn anew.

    Returns:
      The training and test sets, see `Dataset`.

    Raises:
      UserError: an unknown name, a setting that does not fit the source, a size beyond
        the set, or a set that is neither here nor can be fetched.
    """
    check_name("data.name", config.name, SOURCES)
    if config.name in TFDS_NAMES:
        if config.noise:
            raise UserError(
                "data.noise",
                config.noise,
                f"only synthetic data takes noise, and {config.name} is real",
                "set data.noise=0",
            )
        return prepare(_raw_images(config), config)
    if config.classes:
        raise UserError(
            "data.classes",
            config.classes,
            f"only real data has classes to choose from, and {config.name} is drawn",
            "leave it empty",
        )
    from testbed.data.teachers import teach

    return teach(config)


def data_folder(data_dir: str) -> Path:
    """The folder of all TFDS data on this machine."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(folder).expanduser()


def _raw_images(config: "DataConfig") -> RawImages:
    folder = data_folder(config.data_dir)
    path = folder / "depthwidth_cache" / f"{config.name}-v{CACHE_VERSION}.npz"
    raw = cache.read(path)
    if raw is None:
        from testbed.data.tfds_source import fetch

        raw, genuine = fetch(config.name, folder, config.manual_dir)
        if genuine:
            cache.write(path, raw)
    return raw
