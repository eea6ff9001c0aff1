"""Compiled programs, kept in the user's cache folder: no number depends on it."""

import os
import stat
import subprocess
import sys
import warnings

import jax
import pytest

from testbed import compiled
from testbed.compiled import cache_base, keep_compiled, prune
from testbed.config import preset
from testbed.programs import train
from testbed.runs.console import Console
from testbed.settings import override
from testbed.validation import validate

TINY = {
    "data.name": "mixture",
    "data.train_size": 12,
    "data.test_size": 8,
    "data.n_in": 6,
    "data.n_out": 3,
    "model.width": 8,
    "model.depth": 2,
    "train.steps": 10,
    "train.seeds": 1,
    "kernel.probes": 0,
    "measure.times": 3,
    "wandb.mode": "disabled",
    "run.report": False,
}
PLACE = "jax_compilation_cache_dir"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user with an empty cache folder; afterwards all is as before."""
    before = getattr(jax.config, PLACE)
    given = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert str(before) == given  # the session's, never anybody's own
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_TOLD", [])
    with warnings.catch_warnings():
        yield tmp_path / "cache"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", given)
    keep_compiled()
    assert getattr(jax.config, PLACE) == before


def programs(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_numbers_are_the_same_with_it_without_it_and_read_from_it(home, tmp_path):
    """metrics.jsonl of three runs, to the byte; the last compiles nothing new."""
    rows, kept = [], []
    for i, wanted in enumerate((True, False, True)):
        jax.clear_caches()
        keep_compiled(wanted)
        values = {**TINY, "run.dir": str(tmp_path / f"{i}")}
        train(validate(override(preset("smoke"), values)), Console())
        rows.append((tmp_path / f"{i}" / "metrics.jsonl").read_bytes())
        kept.append(len(programs(home)))
    assert rows[0] == rows[1] == rows[2]
    assert kept[0] > 10 and kept[1] == kept[0] == kept[2]


def test_a_torn_program_is_compiled_again(home):
    """As after a kill or a full disk: the same number, and not a word."""
    keep_compiled()
    program = lambda: float(jax.jit(lambda x: 3 * x + 0.25)(1.0))
    want = program()
    assert programs(home)
    for file in programs(home):
        file.write_bytes(file.read_bytes()[:20])
    jax.clear_caches()
    assert program() == want


def test_the_folder_is_the_users_own(home):
    """Readable by nobody else, one for these versions and this processor."""
    keep_compiled()
    (place,) = (cache_base() / "compiled").iterdir()
    assert getattr(jax.config, PLACE) == str(place)
    assert jax.__version__ in place.name
    program = "from testbed.compiled import keep_compiled; keep_compiled()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert list((cache_base() / "compiled").iterdir()) == [place]  # of every process
    for folder in (place, place.parent, place.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    keep_compiled(False)
    assert getattr(jax.config, PLACE) is None


@pytest.mark.parametrize("how", ["written by others", "a link to such", "foreign"])
def test_a_folder_that_others_can_write_is_not_used(home, tmp_path, monkeypatch, how):
    """What is read there is run: one warning, once, and nothing is kept."""
    home.mkdir()
    ours = home / "depthwidth"
    if how == "a link to such":
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o777)
        ours.symlink_to(tmp_path / "shared")
    else:
        ours.mkdir()
        ours.chmod(0o770 if how == "written by others" else 0o700)
    if how == "foreign":
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.warns(
        UserWarning, match="depthwidth (can be|belongs) .* not kept there"
    ):
        keep_compiled()
    keep_compiled()
    assert getattr(jax.config, PLACE) is None and not programs(home)


def test_without_a_home_nothing_is_kept(home, monkeypatch):
    """A home that is a file, or none at all: no effect, and no word."""
    home.write_text("in the way")
    keep_compiled()
    assert getattr(jax.config, PLACE) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, by its standard
    monkeypatch.setenv("HOME", "/dev/null")
    keep_compiled()
    assert getattr(jax.config, PLACE) is None


def test_a_folder_that_the_user_chose_is_used(home, tmp_path, monkeypatch):
    """JAX_COMPILATION_CACHE_DIR decides, but for the switch."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    keep_compiled()
    assert getattr(jax.config, PLACE) == str(tmp_path / "mine") and not home.exists()
    keep_compiled(False)
    assert getattr(jax.config, PLACE) is None


def test_the_longest_unused_go_first(tmp_path):
    """Until what is left fits; also those of other versions."""
    for i, kind in enumerate(("old", "new", "old", "new")):
        path = tmp_path / kind / f"{i}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (i, i))
    prune(tmp_path, 1000)
    assert len(programs(tmp_path)) == 4
    prune(tmp_path, 250)
    assert sorted(p.name for p in programs(tmp_path)) == ["2", "3"]
