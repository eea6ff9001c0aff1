"""Runs of a sweep by what they share: measures on a grid of width and depth."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.config import ModelConfig
from testbed.divergence.collapse import (
    Collapse,
    FreeCollapse,
    collapse,
    free_collapse,
    variables,
)
from testbed.divergence.scaling import ScalingTable, scaling_table
from testbed.errors import UserError
from testbed.laws.log_gaussian import resnet_log_norm
from testbed.networks import branch_weights
from testbed.sweeps.gather import MEASURES, Gathered

BETA = "beta (log-Gaussian)"
EXPECTED = {  # of the exponent in n at fixed depth
    "departure_time": (0.5, 1.0),
    "relative_distance": (-1.0, -0.5),
    "kernel_drift": (-1.0, -0.5),
}
_AXES = ("model.width", "model.depth")


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in width, depth and seed only.

    Attributes:
      label: what they share and others do not.
      settings: of one of them.
      widths, depths: increasing.
      values: measure -> (D, W, seeds); nan where a cell or seed is missing.
    """

    label: str
    settings: dict[str, Any]
    widths: list[int]
    depths: list[int]
    values: dict[str, np.ndarray]

    @property
    def is_grid(self) -> bool:
        """Whether widths and depths vary enough for laws over both."""
        return len(self.widths) >= 3 and len(self.depths) >= 3


def groups_of(gathered: Gathered) -> list[Group]:
    """Splits networks by every varied setting but width and depth."""
    keys = [c for c in gathered.varied if c not in _AXES]
    parts: dict[tuple, list[dict[str, Any]]] = {}
    for row in gathered.networks.to_dict("records"):
        parts.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    return [_group(keys, key, rows) for key, rows in sorted(parts.items())]


def _group(keys: Sequence[str], key: tuple, rows: list[dict[str, Any]]) -> Group:
    names = [name.split(".")[1] for name in keys]
    label = ", ".join(f"{a} = {b}" for a, b in zip(names, key, strict=True))
    widths = sorted({int(row["model.width"]) for row in rows})
    depths = sorted({int(row["model.depth"]) for row in rows})
    seeds = 1 + max(int(row["seed"]) for row in rows)
    values = {}
    for name in MEASURES:
        array = np.full((len(depths), len(widths), seeds), np.nan)
        for row in rows:
            place = depths.index(row["model.depth"]), widths.index(row["model.width"])
            array[(*place, int(row["seed"]))] = row[name]
        if not np.isnan(array).all():
            values[name] = np.where(array > 0, array, np.nan)
    return Group(label, rows[0], widths, depths, values)


def candidates(group: Group) -> dict[str, Any]:
    """The variables to try, with beta of the log-Gaussian law where there is one."""
    found: dict[str, Any] = dict(variables(group.widths, group.depths))
    s = group.settings
    if s.get("model.activation") == "relu" and not s.get("model.bias_std"):
        beta = np.empty((len(group.depths), len(group.widths)))
        for i, depth in enumerate(group.depths):
            weights = _weights(s, depth)
            balanced = s["model.kind"] == "balanced"
            beta[i] = resnet_log_norm(group.widths, depth, *weights, balanced).var()
        found[BETA] = beta
    return found


def _weights(settings: dict[str, Any], depth: int) -> tuple[float, float]:
    names = ("kind", "branch", "alpha", "lam", "c", "exponent", "normalized")
    model = ModelConfig(
        depth=depth, **{name: settings[f"model.{name}"] for name in names}
    )
    return branch_weights(model)


def collapses(group: Group, name: str) -> list[Collapse]:
    """How well each candidate variable collapses a measure, best first.

    [] where there are too few cells to compare.
    """
    try:
        return collapse(
            group.widths, group.depths, group.values[name], candidates(group)
        )
    except UserError:
        return []


def free(group: Group, name: str) -> FreeCollapse | None:
    """The exponent a for which d^a / n collapses a measure best, or None."""
    try:
        return free_collapse(group.widths, group.depths, group.values[name])
    except UserError:
        return None


def fits(group: Group, name: str) -> ScalingTable:
    """All power laws of a measure."""
    expected, values = EXPECTED[name], group.values[name]
    return scaling_table(group.widths, group.depths, values, expected=expected)


def reading(groups: Sequence[Group]) -> str:
    """The result in a sentence or two."""
    parts = []
    for group in groups:
        prefix = f"{group.label}: " if group.label else ""
        if "relative_distance" not in group.values or len(group.widths) < 3:
            continue
        joint = fits(group, "relative_distance").joint
        if joint.reason and not np.isfinite(joint.width_exponent):
            continue
        low, high = joint.width_interval
        parts.append(
            f"{prefix}final relative distance ~ d^{joint.depth_exponent:.2f} "
            f"n^{joint.width_exponent:.2f} (95 % in n: {low:.2f} to {high:.2f}; "
            f"R^2 = {joint.r_squared:.2f})"
        )
    return ". ".join(parts) + "." if parts else "Too few widths and depths for a law."
