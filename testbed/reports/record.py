"""What a run's folder holds, read back."""

import contextlib
import dataclasses
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import UserError
from testbed.runs.digests import ROWS
from testbed.runs.folder import RunFolder, arrays_name
from testbed.runs.parsing import Damaged
from testbed.runs.stored import check_sizes

_MEND = "continue it with --run.resume, which records again what is damaged"


SPLITS = {"train": "training set", "test": "test set"}


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """A run as it was recorded; make one with `load_record`.

    With T recorded times and E networks:

    Attributes:
      path: the run's folder.
      config: {dotted name: value}.
      steps: recorded steps, (T,) int.
      times: t = learning rate * step, (T,).
      metrics: {name: (T, E)}, (T, 1) for a metric that is one number; nan where it is
        undefined or was not measured.
      limits: kernels of the infinite network, targets, labels; see limits.npz.
      summary: of a run that has ended; {} before.
      environment: versions, commit, device.
      checked: whether digests were recorded, so that what is damaged would be known.
    """

    path: Path
    config: dict[str, Any]
    steps: np.ndarray
    times: np.ndarray
    metrics: dict[str, np.ndarray]
    limits: dict[str, np.ndarray]
    summary: dict[str, Any]
    environment: dict[str, Any]
    checked: bool = True

    @property
    def seeds(self) -> int:
        """E, the number of networks."""
        return self.config["train.seeds"]

    @property
    def has_infinite(self) -> bool:
        """Whether the infinite network was followed."""
        return "infinite/loss/train" in self.metrics

    @property
    def foreign(self) -> bool:
        """Whether the network is the user's own: nothing is known but what it does."""
        return "network.name" in self.config

    @property
    def why_no_infinite(self) -> str:
        """Why the infinite network was not followed, or ""."""
        if self.has_infinite:
            return ""
        if self.foreign and self.config["train.optimizer"] != "adam":
            return "no kernel_fn was given"
        return "no kernel describes adam's steps"

    @property
    def splits(self) -> dict[str, str]:
        """The splits that there are, by what they are called."""
        there = lambda split: f"finite/loss/{split}" in self.metrics
        return {split: name for split, name in SPLITS.items() if there(split)}

    @property
    def has_labels(self) -> bool:
        """Whether the examples have classes."""
        return "labels/train" in self.limits

    @property
    def in_one_line(self) -> str:
        """The run in one line."""
        c = self.config
        trained = f"{c['train.optimizer']}, {c['train.loss']}"
        networks = f"{self.seeds} networks" if self.seeds > 1 else "1 network"
        if self.foreign:
            return (
                f"{c['network.name']}, {c['network.parameters']} parameters, "
                f"{networks}; {c['data.train_size']} training examples; {trained}"
            )
        ratio = c["model.depth"] / c["model.width"]
        return (
            f"{c['model.kind']}, width {c['model.width']}, depth {c['model.depth']} "
            f"(d/n = {ratio:.3g}), {networks}; {c['data.name']}, "
            f"{c['data.train_size']} training examples; {trained}"
        )

    def at(self, index: int, key: str, rows: Any = ...) -> np.ndarray | None:
        """The array `key` at the `index`-th recorded time, or None.

        `rows` picks from its axes, e.g. ``np.s_[:, 3]``, before more is kept.
        """
        with self._arrays(index) as stored:
            return stored[key][rows] if key in stored else None

    def known(self, index: int, key: str) -> np.ndarray | None:
        """`at`, (E, ...), without networks that had diverged."""
        found = self.at(index, key)
        if found is None:
            return None
        return found[np.isfinite(found.reshape(len(found), -1)).all(1)]

    def over_time(self, key: str, rows: Any = ...) -> np.ndarray | None:
        """The array `key` at all recorded times, (T, ...), or None."""
        found = [self.at(i, key, rows) for i in range(len(self.steps))]
        return None if any(a is None for a in found) else np.stack(found)  # pyright: ignore

    def measured(self, key: str) -> list[int]:
        """Indices of the recorded times at which the array `key` exists."""
        return [i for i in range(len(self.steps)) if self._has(i, key)]

    def _has(self, index: int, key: str) -> bool:
        with self._arrays(index) as stored:
            return key in stored

    @contextlib.contextmanager
    def _arrays(self, index: int) -> Iterator[Any]:
        """The arrays of a recorded time, each read when it is asked for."""
        path = self.path / arrays_name(int(self.steps[index]))
        if not path.exists():
            yield {}
            return
        try:
            with np.load(path) as stored:
                yield stored
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise Damaged(path, str(error).split("\n")[0][:80]) from None


def load_record(path: Path | str) -> Record:
    """Reads the run in the folder `path`, finished or not, and checks all of it.

    A damaged environment.json alone is no reason not to draw the numbers: what is left
    of it is the reason.

    Raises:
      UserError: `path` is not a run's folder, holds no recorded time yet, or is
        damaged.
    """
    path = Path(path)
    if not (path / "config.json").exists():
        rule = "is not a run's folder (it has no config.json)"
        raise UserError("path", path, rule, "give a folder that scripts/train.py made")
    try:
        return _load(RunFolder(path))
    except Damaged as damage:
        rule = f"{damage.path.name} is damaged ({damage.reason})"
        raise UserError("path", path, rule, _MEND) from None


def _load(folder: RunFolder) -> Record:
    path = folder.path
    config = folder.read_json("config.json") or {}
    check_sizes(path, config)
    checked = folder.remember()
    summary = folder.read_json("summary.json") or {}
    rows = folder.rows(whole=bool(summary))
    if not rows:
        rule = "holds no recorded time yet"
        raise UserError("path", path, rule, "wait, or continue it with --run.resume")
    limits: dict[str, np.ndarray] = {}
    known = folder.records.names()
    for name in known:
        if name.startswith("arrays/"):
            _check(folder, name)
    if "limits.npz" in known or (path / "limits.npz").exists():
        _check(folder, "limits.npz")
        limits = folder.read_arrays("limits.npz")
    metrics = in_columns(rows)
    try:
        steps = np.array([row["step"] for row in rows], np.int64)
        times = np.array([row["t"] for row in rows], np.float64)
    except (KeyError, OverflowError):
        raise Damaged(path / ROWS, "a line has no step or no t") from None
    where = environment(folder)
    return Record(path, config, steps, times, metrics, limits, summary, where, checked)


def environment(folder: RunFolder) -> dict[str, Any]:
    """Where a run or simulation ran, or {"damaged": why}."""
    try:
        return folder.read_json("environment.json") or {}
    except Damaged as damage:
        return {"damaged": damage.reason}


def _check(folder: RunFolder, name: str) -> None:
    try:
        folder.records.check(folder.path, name)
    except FileNotFoundError:
        raise Damaged(folder.path / name, "it is missing") from None


def in_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """{metric: (T, E)} of rows of metrics.jsonl; (T, 1) of one number, nan of null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        name: _column([row.get(name) for row in rows])
        for name in names
        if name not in ("step", "t")
    }


def extent(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest, median and highest over networks, (T, E) -> three (T,); nan is left out.

    A time at which all are nan gives nan.
    """
    known = [row[~np.isnan(row)] for row in np.asarray(values, np.float64)]
    pick = lambda f: np.array([f(row) if row.size else np.nan for row in known])
    return pick(np.min), pick(np.median), pick(np.max)


def _column(cells: list[Any]) -> np.ndarray:
    """One metric's values as (T, E); a missing or null value is nan."""
    rows = [np.atleast_1d(np.array(cell, np.float64)) for cell in cells]
    width = max(len(row) for row in rows)
    fill = lambda row: row if len(row) == width else np.full(width, np.nan)
    return np.stack([fill(row) for row in rows])
