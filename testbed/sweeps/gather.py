"""From run folders to tables: one long one, one row a network, and labelled arrays.

Reads any mix of folders of scripts/train.py and scripts/simulate.py; what is damaged,
unfinished or failed is reported with its reason and left out, never silently.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from testbed.errors import UserError
from testbed.files import Together
from testbed.kinds import lacks
from testbed.runs.digests import RECORDED_WITHOUT
from testbed.sweeps.read_run import LeftOut, Training, is_setting, read_run

if TYPE_CHECKING:
    import xarray

MEASURES = {
    "departure_time": "departure time t*",
    "relative_distance": "final relative distance",
    "kernel_drift": "final kernel drift",
    "ensemble_spread": "final spread over networks",
    "variance_ratio": "final ensemble / GP variance",
}
"""What a map is drawn of, by column of `Gathered.networks`.

The last two are numbers of a whole ensemble; the ratio is known where the Gaussian
process has a variance, the outputs not being centred.
"""
OF_ENSEMBLES = ("ensemble_spread", "variance_ratio")
# A pandas.DataFrame or Series, whose own annotations do not tell one from the other.
Table: TypeAlias = Any
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")  # how a cell begins that is run
_MOST_EMPTY = 4  # cells of a labelled array for each run that fills one


@dataclasses.dataclass(frozen=True, eq=False)
class Gathered:
    """What a set of runs holds.

    Attributes:
      rows: one row a training run, seed and recorded time: "run", settings, "seed",
        "step", "t", and every metric (a number of the whole ensemble is repeated for
        each seed).
      networks: one row a training run and seed: settings, "seed", `MEASURES` and final
        losses; departure_time is inf where the network never departed.
      laws: one row a simulation, quantity and law: settings, what was measured, what
        the law has, the distance between them.
      runs: one row a run of either kind: settings, "run" (its path below `base`),
        "seconds", "reading", "metric".
      problems: (name, reason) of runs that were left out.
      notes: (name, remark) on runs that were read, as networks of them left out.
      folders: {name: folder} of the runs.
      base: the folder that names are relative to.
    """

    rows: Table
    networks: Table
    laws: Table
    runs: Table
    problems: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    folders: dict[str, Path]
    base: Path

    @property
    def varied(self) -> list[str]:
        """Settings that take more than one value over the runs."""
        return varied_in(self.runs)


def varied_in(table: Table) -> list[str]:
    """Settings that take more than one value in a table of runs or networks.

    Runs of a kind that lacks a setting do not count for it.
    """
    columns = [c for c in table.columns if is_setting(str(c))]
    return [c for c in columns if len({text(v) for v in _of_those_with(table, c)}) > 1]


def _of_those_with(table: Table, column: str) -> Table:
    """The column's values in the runs whose kind of model has that setting."""
    if "model.kind" not in table:
        return table[column]
    without = [kind for kind in table["model.kind"].unique() if lacks(kind, column)]
    return table.loc[~table["model.kind"].isin(without), column]


def text(value: Any) -> str:
    """A setting's value for people: no more digits than they would write.

    A run of an older version may lack a setting: that is no value, as null is.
    """
    if value is None or value != value:
        return "not set"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def gather(paths: Iterable[Path | str], metric: str | None = None) -> Gathered:
    """Reads every run folder at or below `paths`.

    Args:
      paths: folders of runs, or of sweeps.
      metric: dotted key of the summaries that becomes the column "metric".

    Raises:
      UserError: a path that does not exist, or no finished run below any of them.
    """
    given = [Path(p) for p in paths]
    folders = _run_folders(given)
    base = Path(os.path.commonpath([p.resolve() for p in given]))
    problems: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    kept: dict[str, Path] = {}
    rows, networks, laws, runs = [], [], [], []
    unchecked = 0
    names: dict[tuple, str] = {}  # by what decides a run's numbers
    for folder in folders:
        name = str(folder.relative_to(base)) if folder != base else folder.name
        try:
            read = read_run(folder, name, metric)
        except LeftOut as reason:
            problems.append((name, str(reason)))
            continue
        settings = tuple((k, str(v)) for k, v in read.run.items() if is_setting(k))
        if settings in names:  # to the bit; its networks are no further ones
            problems.append((name, f"the same run as {names[settings]}"))
            continue
        names[settings] = name
        kept[name] = folder
        unchecked += not read.checked
        runs.append(read.run)
        if read.note:
            notes.append((name, read.note))
        if isinstance(read, Training):
            rows.append(read.rows)
            networks.append(read.networks)
        else:
            laws.append(read.laws)
    if not runs:
        listed = "; ".join(f"{p}: {why}" for p, why in problems[:3])
        where = ", ".join(map(str, given))
        rule = "holds no finished run" + (f" ({listed})" if listed else "")
        raise UserError("dir", where, rule, "finish a run there first")
    if unchecked:
        which = f"{unchecked} of {len(runs)} runs"
        notes.append((which, RECORDED_WITHOUT))
    joined = lambda tables: (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    )
    return Gathered(
        joined(rows),
        joined(networks),
        joined(laws),
        pd.DataFrame(runs),
        problems,
        notes,
        kept,
        base,
    )


def _run_folders(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            rule = "is no folder" if path.exists() else "does not exist"
            raise UserError("dir", path, rule, "give folders of runs")
        for config in sorted(path.rglob("config.json")):
            below = config.relative_to(path).parts
            if "wandb" not in below and "checkpoints" not in below:
                found[config.parent.resolve()] = None
    return list(found)


def arrays(gathered: Gathered) -> "xarray.Dataset":
    """Labelled arrays over (every varied setting, seed, time) of all metrics.

    "time" numbers the recorded times; the variable ``t`` holds them.  Combinations that
    were not run are nan.  Where these would be most of the array, as after a random
    search, the dimensions are (run, seed, time), and settings are coordinates of "run".
    """
    import xarray

    table = gathered.rows.copy()
    varied = varied_in(table)
    for name in varied:
        if any(v is None or v != v for v in table[name]):
            table[name] = table[name].map(text)  # a coordinate may not be null
    cells = math.prod(table[name].nunique() for name in varied)
    dims = varied or ["model.width"]
    if cells > _MOST_EMPTY * table["run"].nunique():
        dims = ["run"]
    table["time"] = table.groupby(["run", "seed"]).cumcount()
    metrics = [c for c in table.columns if "/" in c or c in ("t", "step")]
    index = [*dims, "seed", "time"]
    indexed = pd.DataFrame(table.set_index(index)[metrics]).astype(float)
    found = xarray.Dataset.from_dataframe(indexed)
    if dims == ["run"]:
        settings = table.drop_duplicates("run").set_index("run")
        of_runs = {
            name: ("run", [settings.at[run, name] for run in found["run"].to_numpy()])
            for name in varied
        }
        found = found.assign_coords(of_runs)
    return found


def write_tables(gathered: Gathered, path: Path, files: Together) -> list[Path]:
    """Adds the tables that are not empty to `files`; returns their places in `path`.

    ``divergence.parquet`` and ``divergence.csv`` hold the networks, ``laws.parquet``
    and ``laws.csv`` the simulations, ``rows.parquet`` every recorded time.  The CSV
    files have five digits, leave out settings that all runs share, and hold no text
    that a spreadsheet would take for a formula.

    Raises:
      OSError: they cannot be written.
    """
    written: list[Path] = []

    def place(name: str) -> Path:
        written.append(path / name)
        return files.partial(path / name)

    tables = {"divergence": gathered.networks, "laws": gathered.laws}
    for name, table in tables.items():
        if len(table):
            _plain(table).to_parquet(place(f"{name}.parquet"), index=False)
            varied = varied_in(table)
            shared = [c for c in table if is_setting(str(c)) and c not in varied]
            short = table.drop(columns=shared).dropna(axis=1, how="all")
            file = place(f"{name}.csv")
            inert = _plain(short).map(inert_cell)
            inert.to_csv(file, index=False, float_format="%.5g")
    if len(gathered.rows):
        _plain(gathered.rows).to_parquet(place("rows.parquet"), index=False)
    return written


def inert_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: such texts get a quote in front.

    Numbers stay numbers, and so do texts that are numbers, as -1e-5.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULAS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _plain(table: Table) -> Table:
    """Texts for what a column file cannot hold."""
    texts = table.select_dtypes(exclude=["number", "bool"]).columns
    return table.assign(**{c: _column(table[c]) for c in texts})


def _column(values: Table) -> Table:
    known = [v for v in values if v is not None and v == v]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        return values.astype(float)
    return values.map(lambda v: None if v is None or v != v else str(v))
