"""From run folders to tables: one long one, one row a network, and labelled arrays.

Reads any mix of folders of scripts/train.py; what is damaged, unfinished or failed is
reported with its reason and left out, never silently.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from testbed.divergence import departure_time
from testbed.errors import RunError, UserError
from testbed.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray

SETTINGS = ("model.", "data.", "train.", "kernel.", "measure.")
"""Groups of settings that become columns."""

MEASURES = {
    "departure_time": "departure time t*",
    "relative_distance": "final relative distance",
    "kernel_drift": "final kernel drift",
    "variance_ratio": "final ensemble / GP variance",
}
"""What a map is drawn of, by column of `Gathered.networks`."""

_FINAL = {
    "relative_distance": "distance/finite_linearized/test/relative",
    "kernel_drift": "kernel/drift",
    "variance_ratio": "ensemble/variance_ratio/test",
    "infinite_distance": "distance/finite_infinite/test/relative",
    "test_accuracy": "finite/accuracy/test",
    "test_loss": "finite/loss/test",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Gathered:
    """What a set of runs holds.

    Attributes:
      rows: one row a run, seed and recorded time: "run", settings, "seed", "step", "t",
        and every metric (a number of the whole ensemble is repeated for each seed).
      networks: one row a run and seed: settings, "seed", `MEASURES` and final losses;
        departure_time is inf where the network never departed.
      runs: one row a run: settings, "run" (its path), "seconds", "reading".
      problems: (path, reason) of what was left out.
    """

    rows: pd.DataFrame
    networks: pd.DataFrame
    runs: pd.DataFrame
    problems: list[tuple[str, str]]

    @property
    def varied(self) -> list[str]:
        """Settings that take more than one value over the runs."""
        columns = [c for c in self.runs.columns if c.startswith(SETTINGS)]
        return [c for c in columns if len({str(v) for v in self.runs[c]}) > 1]


def gather(paths: Iterable[Path | str]) -> Gathered:
    """Reads every run folder at or below `paths`.

    Raises:
      UserError: a path that does not exist, or no finished run below any of them.
    """
    folders, problems = _run_folders([Path(p) for p in paths]), []
    rows, networks, runs = [], [], []
    for folder in folders:
        try:
            read = _read_run(folder)
        except (LookupError, ValueError, TypeError, OSError, AttributeError) as error:
            reason = f"damaged: {type(error).__name__}: {error}"
            problems.append((str(folder), reason[:200]))
            continue
        if isinstance(read, str):
            problems.append((str(folder), read))
            continue
        rows.append(read[0])
        networks.append(read[1])
        runs.append(read[2])
    if not runs:
        listed = "; ".join(f"{p}: {why}" for p, why in problems[:3])
        where = ", ".join(map(str, paths))
        rule = "holds no finished run" + (f" ({listed})" if listed else "")
        raise UserError("dir", where, rule, "finish a run there first")
    return Gathered(
        pd.concat(rows, ignore_index=True),
        pd.concat(networks, ignore_index=True),
        pd.DataFrame(runs),
        problems,
    )


def _run_folders(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise UserError("dir", path, "does not exist", "give folders of runs")
        for config in sorted(path.rglob("config.json")):
            if "wandb" not in config.parts and "checkpoints" not in config.parts:
                found[config.parent.resolve()] = None
    return list(found)


def _read_run(path: Path):
    """(rows, networks, run) of one folder, or the reason to leave it out."""
    folder = RunFolder(path)
    config, summary = folder.read_json("config.json"), folder.read_json("summary.json")
    if config is None:
        return "damaged: config.json cannot be read"
    if "train.seeds" not in config:
        return "a simulation, not a training run"
    if summary is None:
        return "not finished: there is no summary.json"
    if summary.get("status") != "done":
        return f"{summary.get('status')}: {summary.get('error') or 'not finished'}"
    rows = folder.rows()
    if not rows or rows[-1]["step"] != config["train.steps"]:
        return "damaged: metrics.jsonl does not reach the last step"
    settings = {k: _hashable(v) for k, v in config.items() if k.startswith(SETTINGS)}
    seeds = int(config["train.seeds"])
    table = pd.DataFrame(
        [
            {"seed": seed, **{k: _of_seed(v, seed, seeds) for k, v in row.items()}}
            for row in rows
            for seed in range(seeds)
        ]
    )
    head = {"run": str(path), **settings}
    table = pd.concat(
        [pd.DataFrame([head] * len(table), index=table.index), table], axis=1
    )
    relative = np.array([row[_FINAL["relative_distance"]] for row in rows], float)
    times = departure_time(
        [row["t"] for row in rows], relative, config["measure.tolerance"]
    )
    last = rows[-1]
    networks = pd.DataFrame(
        [
            {
                **head,
                "seed": seed,
                "departure_time": times[seed],
                **{
                    name: _of_seed(last.get(metric), seed, seeds)
                    for name, metric in _FINAL.items()
                },
            }
            for seed in range(seeds)
        ]
    )
    run = head | {
        "seconds": summary.get("seconds", {}).get("total"),
        "reading": summary.get("reading"),
    }
    return table, networks, run


def _of_seed(value: Any, seed: int, seeds: int) -> Any:
    if isinstance(value, list) and len(value) == seeds:
        value = value[seed]
    if isinstance(value, list):
        return np.nan
    return np.nan if value is None else value


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def arrays(gathered: Gathered) -> "xarray.Dataset":
    """Labelled arrays over (every varied setting, seed, time) of all metrics.

    "time" numbers the recorded times; the variable ``t`` holds them.  Combinations that
    were not run are nan.
    """
    import xarray

    table = gathered.rows.copy()
    dims = gathered.varied or ["model.width"]
    table["time"] = table.groupby(["run", "seed"]).cumcount()
    metrics = [c for c in table.columns if "/" in c or c in ("t", "step")]
    index = [*dims, "seed", "time"]
    doubled = table.duplicated(index)
    if doubled.any():
        table = table[~doubled]  # the same settings run twice agree to the bit
    indexed = pd.DataFrame(table.set_index(index)[metrics]).astype(float)
    return xarray.Dataset.from_dataframe(indexed)


def write_tables(gathered: Gathered, path: Path) -> list[Path]:
    """Writes divergence.parquet, divergence.csv and rows.parquet; returns them.

    The first two hold the networks; the CSV leaves out settings that all runs share.

    Raises:
      RunError: they cannot be written.
    """
    networks = _plain(gathered.networks)
    files = [path / f"divergence.{kind}" for kind in ("parquet", "csv")]
    files.append(path / "rows.parquet")
    try:
        networks.to_parquet(files[0], index=False)
        shared = [c for c in networks.columns if c.startswith(SETTINGS)]
        shared = [c for c in shared if c not in gathered.varied]
        networks.drop(columns=shared).to_csv(files[1], index=False)
        _plain(gathered.rows).to_parquet(files[2], index=False)
    except OSError as error:
        raise RunError(f"{path}: tables cannot be written ({error.strerror})") from None
    return files


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Texts for what a column file cannot hold."""
    texts = table.select_dtypes(exclude=["number", "bool"]).columns
    changed = {c: table[c].map(lambda v: v if v is None else str(v)) for c in texts}
    return table.assign(**changed)
