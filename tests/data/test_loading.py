"""The choice of source, and requests that no source can meet."""

import pytest

from testbed.data import load
from testbed.data.loading import data_folder
from testbed.errors import UserError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(name="digit"), "data.name=digit: .*did you mean 'digits'"),
        (dict(name="digits", noise=0.1), "data.noise=0.1: only synthetic"),
        (dict(name="linear", classes=(0, 1)), "data.classes=.0, 1.: only real"),
        (dict(name="network", teacher="mpl"), "data.teacher=mpl: .*'mlp'"),
        (dict(name="mixture", n_out=1), "data.n_out=1: .*two classes"),
    ],
)
def test_misfits_are_explained(config, fields, message):
    """A setting that does not fit the source names field, value, rule and remedy."""
    with pytest.raises(UserError, match=message) as caught:
        load(config(**fields))
    assert "\n" not in str(caught.value)


def test_data_folder_order(monkeypatch, tmp_path):
    """data.data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert data_folder("") == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "/elsewhere")
    assert str(data_folder("")) == "/elsewhere"
    assert data_folder("~/here") == tmp_path / "here"
