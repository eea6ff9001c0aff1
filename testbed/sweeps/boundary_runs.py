"""The runs of boundaries: what they are called, which are there, what they say.

A run is named by the hash of the settings that decide its numbers, so that a search
started again, or another one, finds what was trained.  A network that diverged counts
as beyond the threshold.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import UserError
from testbed.runs.folder import RunFolder
from testbed.runs.parsing import Damaged
from testbed.runs.stored import identity
from testbed.sweeps.boundary import Plan
from testbed.sweeps.gather import gather

WARNINGS = "warnings.json"
"""What a run warned of; the search speaks for it."""
Runs = Mapping[str, Sequence[Path]]
"""{digest: folders of the runs that it names}."""


def runs_below(paths: Iterable[Path]) -> Runs:
    """The runs at or below `paths`, finished or not."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for file in sorted(path.rglob("config.json")):
            config = _read(file.parent, "config.json")
            if "train.seeds" in config:
                found.setdefault(digest(config), []).append(file.parent)
    return found


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A file of a run, {} if it is not there or damaged: the run is then made anew."""
    try:
        return RunFolder(folder).read_json(name) or {}
    except Damaged as damage:
        warnings.warn(f"{damage}; its run is not used", stacklevel=2)
        return {}


def digest(flat: Mapping[str, Any]) -> str:
    """Names a run by the settings that decide its numbers."""
    text = json.dumps(identity(flat), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def values(folder: Path, plan: Plan) -> list[float] | None:
    """The measure of each network of a run that is done, or that ended in divergence.

    A network that diverged counts as beyond any threshold: inf, or the departure time
    that is known, at the latest that of divergence.  None of a run that failed
    otherwise, or is not finished.
    """
    summary = _read(folder, "summary.json")
    if not summary:
        return None
    lost = summary.get("diverged") or {"seeds": []}
    y = [math.nan] * plan.seeds
    if summary["status"] == "done":
        try:
            found = gather([folder]).networks[plan.measure]
        except UserError as error:  # damaged: it is run again
            warnings.warn(f"{folder}: not used: {error.rule}", stacklevel=2)
            return None
        y = [float(v) if v > 0 else math.nan for v in np.asarray(found, np.float64)]
    elif not lost["seeds"]:
        return None
    elif not plan.rises and "departure" in summary:
        departed = summary["departure"]["test"]["seeds"]
        y = [math.nan if t is None else t for t in departed]
    for seed in lost["seeds"]:
        if plan.rises:
            y[seed] = math.inf
        elif math.isnan(y[seed]):
            y[seed] = max(lost["t"], summary["lr"])  # lr is the time of one step
    return y


def warnings_of(folder: Path, plan: Plan) -> list[str]:
    """What is to be told of a finished run."""
    y = values(folder, plan)
    if plan.rises and y and math.inf in y:
        return [f"{y.count(math.inf)} of {len(y)} networks diverged"]
    return list(_read(folder, WARNINGS).get("warnings") or ())
