"""What `testbed.comparison.compare` returns: a run that is kept in memory."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from testbed.bounds import check_path
from testbed.dynamics.trajectory import Observation
from testbed.errors import UserError
from testbed.reports.departures import departures
from testbed.reports.record import Record, in_columns
from testbed.reports.write import write_report
from testbed.runs.digests import ROWS, Records, of_json, plain
from testbed.runs.environment import machine
from testbed.runs.folder import RunFolder, arrays_name
from testbed.runs.follow import flat
from testbed.runs.foreign import Options, Prepared
from testbed.runs.summary import outcome

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

# Axes of what is observed, after that of time and, of trained networks, of seeds.
_AXES = {
    "outputs/train": ("train", "output"),
    "outputs/test": ("test", "output"),
    "variance/train": ("train",),
    "variance/test": ("test",),
    "kernel": ("probe", "other_probe"),
    "outputs/rounding": (),
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """A network beside its linearization; see `testbed.comparison.compare`.

    Attributes:
      summary: departure times, final numbers (medians over seeds), the learning rate
        and its bound, as summary.json of a run.
      settings: what was compared, and how, as config.json of a run.
      rows: of the divergence table, one a recorded time (docs/notation.md).
      observed: {"finite/outputs/test": array, ...} at each recorded time.
      limits: targets, labels, and kernels of the infinite network on the probes.
    """

    summary: dict[str, Any]
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    observed: list[dict[str, np.ndarray]]
    limits: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        name: str,
        prepared: Prepared,
        options: Options,
        seen: Sequence[tuple[dict[str, Any], Mapping[str, Observation]]],
        seconds: float,
        failure: Exception | None = None,
    ) -> "Comparison":
        """From what was followed.

        Args:
          name: of the network.
          prepared: what was followed.
          options: how.
          seen: a row and the observations of each recorded time.
          seconds: that it took.
          failure: what ended it before its last step.
        """
        rows, clock, o = [row for row, _ in seen], prepared.course.clock, options
        y = prepared.course.targets.y
        sizes = {split: len(y.get(split, ())) for split in ("train", "test")}
        settings = {
            "network.name": name,
            "network.parameters": prepared.parameters,
            "network.fixed": prepared.fixed,
            "data.name": "data of the user's own",
            "data.train_size": sizes["train"],
            "data.test_size": sizes["test"],
            "train.lr": clock.lr,
            "train.steps": o.steps,
            "train.seeds": o.seeds,
            "train.optimizer": o.optimizer,
            "train.batch_size": o.batch_size,
            "train.momentum": o.momentum,
            "train.loss": o.loss,
            "train.center": o.center,
            "measure.times": o.times,
            "measure.tolerance": o.tolerance,
            "kernel.probes": prepared.course.finite.probes,
        }
        who = f"{name}, {prepared.parameters} parameters"
        summary = outcome(rows, who, o.seeds, o.tolerance, failure) | {
            "train_size": sizes["train"],
            "test_size": sizes["test"],
            "lr": clock.lr,
            "own_stability_bound": prepared.bound,
            "fixed": prepared.fixed,
            "seconds": {"total": seconds},
        }
        observed = [flat(observations) for _, observations in seen]
        return cls(plain(summary), settings, rows, observed, prepared.limits)

    @property
    def departure_time(self) -> np.ndarray:
        """Departure time of each network, (E,), on the test set if there is one.

        inf where a network never departed; nan where nothing can be said.
        """
        *_, split = self.summary["departure"]
        return departures(self._record(), split)

    @property
    def fixed(self) -> str:
        """What was held fixed through training, in words; "" if nothing was."""
        return self.settings["network.fixed"]

    def __repr__(self) -> str:
        fixed = f" Held fixed: {self.fixed}." if self.fixed else ""
        return f"{self.summary['reading']}{fixed}"

    def table(self) -> "pd.DataFrame":
        """The columns of metrics.jsonl, one row a network and recorded time.

        The index is the network's number, ``seed``.  A number that is one for all
        networks (of the ensemble, the infinite network) is repeated.
        """
        import pandas as pd  # heavy

        record, times = self._record(), range(len(self.rows))
        seeds = np.repeat(np.arange(record.seeds), len(times))
        columns: dict[str, np.ndarray] = {
            "step": np.tile(record.steps, record.seeds),
            "t": np.tile(record.times, record.seeds),
        }
        for metric, values in record.metrics.items():
            wide = np.broadcast_to(values, (len(times), record.seeds))
            columns[metric] = wide.T.ravel()
        return pd.DataFrame(columns, index=pd.Index(seeds, name="seed"))

    def to_xarray(self) -> "xr.Dataset":
        """Everything that was recorded, over ``time`` and ``seed``.

        Metrics have the names of metrics.jsonl; outputs, kernels and variances are
        ``finite/outputs/test`` (time, seed, test, output) and so on.
        """
        import xarray as xr  # heavy

        record = self._record()
        found: dict[str, Any] = {}
        for metric, values in record.metrics.items():
            per_seed = np.ndim(self.rows[0].get(metric, [0])) > 0
            one = values if per_seed else values[:, 0]
            found[metric] = (("time", "seed")[: one.ndim], one)
        for name in self.observed[0]:
            who, what = name.split("/", 1)
            seeds = () if who == "infinite" else ("seed",)
            values = np.stack([arrays[name] for arrays in self.observed])
            found[name] = (("time", *seeds, *_AXES[what]), values)
        axes = {"time": record.times, "step": ("time", record.steps)}
        axes["seed"] = np.arange(record.seeds)
        return xr.Dataset(found, axes, attrs={"reading": self.summary["reading"]})

    def figures(self) -> dict[str, "Figure"]:
        """The figures of a run's report, by name, those for which there are numbers."""
        from testbed.reports.toolkit.style import in_style, load_matplotlib

        load_matplotlib()
        from testbed.reports.figures import draw

        with in_style():
            drawings = draw(self._record())
        return {d.name: d.figure for d in drawings if d.figure is not None}

    def save(self, folder: str | Path) -> Path:
        """Writes a run's folder: metrics.jsonl, arrays, summary.json, and the rest.

        Raises:
          UserError: the folder holds a run, or cannot be written.
        """
        check_path("folder", folder)
        path = Path(folder)
        if any((path / name).exists() for name in ("config.json", ROWS)):
            rule, remedy = "already holds a run", "choose another folder"
            raise UserError("folder", path, rule, remedy)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            rule = f"cannot be made ({error.strerror})"
            raise UserError("folder", path, rule, "choose a writable one") from None
        run = RunFolder(path, records=Records(of_json(self.settings))).claim()
        try:
            run.write_json("config.json", self.settings)
            run.write_json("environment.json", machine())
            run.write_arrays("limits.npz", self.limits)
            for row, arrays in zip(self.rows, self.observed, strict=True):
                run.write_arrays(arrays_name(row["step"]), arrays)
            run.write_rows(self.rows)
            run.conclude(self.summary)
        finally:
            run.close()
        return path

    def report(self, folder: str | Path) -> Path:
        """Saves into the folder, unless it is there, and draws report.html and figures.

        Returns:
          The page.

        Raises:
          UserError: the folder holds another run, or cannot be written.
        """
        path = Path(folder)
        if not self._is_in(path):
            self.save(path)
        write_report(path)
        return path / "report.html"

    def _is_in(self, path: Path) -> bool:
        stored = RunFolder(path)
        return (
            (path / "summary.json").exists()
            and stored.read_json("config.json") == plain(self.settings)
            and stored.rows() == plain(self.rows)
        )

    def _record(self) -> Record:
        return _Kept(
            path=Path(),
            config=self.settings,
            steps=np.array([row["step"] for row in self.rows], np.int64),
            times=np.array([row["t"] for row in self.rows], np.float64),
            metrics=in_columns([plain(row) for row in self.rows]),
            limits=self.limits,
            summary=self.summary,
            environment={},
            kept=self.observed,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Kept(Record):
    """A record in memory; `kept` holds the arrays of each recorded time."""

    kept: Sequence[dict[str, np.ndarray]] = ()

    @contextlib.contextmanager
    def _arrays(self, index: int) -> Iterator[Any]:
        yield self.kept[index]
