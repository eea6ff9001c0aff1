"""One finished run folder as tables: of scripts/train.py, or of scripts/simulate.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from testbed.divergence import departure_time
from testbed.kinds import lacks
from testbed.runs.folder import RunFolder
from testbed.runs.parsing import Damaged
from testbed.runs.stored import check_sizes

GROUPS = ("model.", "data.", "train.", "kernel.", "measure.", "sampling.")
# Of a simulation; "seed" numbers the networks of a training run.
PLAIN = {
    "samples": "sampling.samples",
    "seed": "sampling.seed",
    "n_out": "sampling.n_out",
    "antithetic": "sampling.antithetic",
}
RATIO = "depth_over_width"
FINAL = {
    "relative_distance": "distance/finite_linearized/test/relative",
    "kernel_drift": "kernel/drift",
    "ensemble_spread": "ensemble/spread/test",
    "variance_ratio": "ensemble/variance_ratio/test",
    "infinite_distance": "distance/finite_infinite/test/relative",
    "test_accuracy": "finite/accuracy/test",
    "test_loss": "finite/loss/test",
}
"""What is kept of a run's last row, by column and name of the metric."""


_MEND = "resume it, or remove its folder and run it again"
_WRONG = (LookupError, ValueError, TypeError, OSError, AttributeError)


class LeftOut(Exception):
    """A run that is not read, with the reason."""


class Training(NamedTuple):
    """rows: one a seed and time; networks: one a seed; run: {column: value}."""

    rows: pd.DataFrame
    networks: pd.DataFrame
    run: dict[str, Any]
    note: str = ""  # on networks of it that are left out
    checked: bool = True  # whether its digests were there


class Simulation(NamedTuple):
    """laws: one row a quantity and law that it was put beside; run: {column: value}."""

    laws: pd.DataFrame
    run: dict[str, Any]
    note: str = ""
    checked: bool = True


def is_setting(name: str) -> bool:
    """Whether a column is a setting that decides numbers."""
    return name.startswith(GROUPS)


def read_run(path: Path, name: str, metric: str | None = None) -> Training | Simulation:
    """Reads a finished run.

    Args:
      path: of its folder.
      name: of the run in the tables.
      metric: dotted key of its summary that becomes the column "metric".

    Raises:
      LeftOut: an unfinished, failed or damaged run.
    """
    try:
        return _read_run(RunFolder(path), name, metric)
    except Damaged as damage:
        reason = f"{damage.path.name} is damaged: {damage.reason}"
        raise LeftOut(f"{reason}; {_MEND}") from None
    except (*_WRONG, ArithmeticError, RecursionError) as error:
        reason = f"damaged: {type(error).__name__}: {error}"[:200]
        raise LeftOut(f"{' '.join(reason.split())}; {_MEND}") from None


def value_at(summary: Mapping[str, Any] | None, key: str) -> float | None:
    """The finite number at a dotted key of a summary; None where there is none."""
    value: Any = summary
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and np.isfinite(value) else None


def _read_run(
    folder: RunFolder, name: str, metric: str | None
) -> Training | Simulation:
    config, summary = folder.read_json("config.json"), folder.read_json("summary.json")
    if config is None:
        raise LeftOut("config.json is missing")
    check_sizes(folder.path, config)
    if summary is None:
        raise LeftOut("not finished: there is no summary.json")
    if summary.get("status") != "done":
        why = f"{summary.get('status')}: {summary.get('error') or 'not finished'}"
        raise LeftOut(why)
    checked = folder.remember()
    named = {PLAIN.get(k, str(k)): _hashable(v) for k, v in config.items()}
    kind = config.get("model.kind")
    settings = {
        key: value
        for key, value in named.items()
        if is_setting(key) and not lacks(kind, key)
    }
    ratio = config["model.depth"] / config["model.width"]
    head = {"run": name, **settings, RATIO: ratio}
    run = head | {
        "seconds": summary.get("seconds", {}).get("total"),
        "reading": str(summary.get("reading") or ""),
        "metric": np.nan if metric is None else value_at(summary, metric),
    }
    if "train.seeds" not in config:
        laws = pd.DataFrame(_laws(head, summary))
        return Simulation(laws, run, checked=checked)
    read = _training(folder, config, head, run)._replace(checked=checked)
    if "diverged" not in summary:
        return read
    lost, of = len(summary["diverged"]["seeds"]), config["train.seeds"]
    when = f"from t = {summary['diverged']['t']:.4g} on"
    return read._replace(note=f"{lost} of {of} networks diverged, left out {when}")


def _training(folder: RunFolder, config: dict, head: dict, run: dict) -> Training:
    rows = folder.rows()
    if not rows or rows[-1]["step"] != config["train.steps"]:
        why = "metrics.jsonl is damaged: it does not reach the last step"
        raise LeftOut(f"{why}; {_MEND}")
    seeds = int(config["train.seeds"])
    table = pd.DataFrame(
        [
            {"seed": seed, **{k: _of_seed(v, seed, seeds) for k, v in row.items()}}
            for row in rows
            for seed in range(seeds)
        ]
    )
    heads = pd.DataFrame([head] * len(table), index=table.index)
    relative = np.array([row[FINAL["relative_distance"]] for row in rows], float)
    times = departure_time(
        [row["t"] for row in rows], relative, config["measure.tolerance"]
    )
    last = {name: rows[-1].get(metric) for name, metric in FINAL.items()}
    networks = [
        {
            **head,
            "seed": seed,
            "departure_time": times[seed],
            **{name: _of_seed(value, seed, seeds) for name, value in last.items()},
            "metric": run["metric"],
        }
        for seed in range(seeds)
    ]
    return Training(pd.concat([heads, table], axis=1), pd.DataFrame(networks), run)


def _laws(head: dict[str, Any], summary: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """What was measured of each quantity beside each law, one row a pair."""
    return [
        head
        | {"quantity": quantity}
        | {key: found[key] for key in ("count", "mean", "mean_se", "var", "var_se")}
        | {"law": law, "nearest": found["nearest"] == law, "decided": found["decided"]}
        | {"law_mean": of["mean"], "law_var": of["var"]}
        | {key: of[key] for key in ("mean_z", "var_z", "ks", "ks_noise")}
        for quantity, found in summary["quantities"].items()
        for law, of in found["laws"].items()
    ]


def _of_seed(value: Any, seed: int, seeds: int) -> Any:
    if isinstance(value, list) and len(value) == seeds:
        value = value[seed]
    if isinstance(value, list):
        return np.nan
    return np.nan if value is None else value


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
