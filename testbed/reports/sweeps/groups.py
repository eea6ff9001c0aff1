"""Runs of a sweep by what they share: measures on a grid of width and depth."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.divergence.collapse import (
    Collapse,
    FreeCollapse,
    collapse,
    free_collapse,
    variables,
)
from testbed.divergence.scaling import ScalingTable, scaling_table
from testbed.errors import UserError
from testbed.kinds import lacks
from testbed.reports.sweeps.laws import at_initialization
from testbed.sweeps.gather import (
    MEASURES,
    OF_ENSEMBLES,
    Gathered,
    Table,
    text,
    varied_in,
)

EXPECTED = {  # of the exponent in n at fixed depth
    "departure_time": (0.5, 1.0),
    "relative_distance": (-1.0, -0.5),
    "kernel_drift": (-1.0, -0.5),
    "ensemble_spread": (-1.0, -0.5),
}
"""Measures with a law; the ratio to the Gaussian process tends to 1 and has none."""
SIZES = ("model.width", "model.depth")
REPLICATES = ("train.seed", "sampling.seed")
"""Settings whose values are further networks, not another kind of them."""


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
    def is_map(self) -> bool:
        """Whether there is more than one line of cells to look at."""
        return len(self.widths) > 1 and len(self.depths) > 1

    @property
    def is_grid(self) -> bool:
        """Whether widths and depths vary enough for laws over both."""
        return len(self.widths) >= 3 and len(self.depths) >= 3

    @property
    def cells(self) -> int:
        """How many cells hold a network."""
        known = [~np.isnan(v).all(-1) for v in self.values.values()]
        return int(np.any(known, 0).sum()) if known else 0


def label_of(settings: dict[str, Any]) -> str:
    """kind = balanced, depth = 8; without what networks of that kind lack."""
    kind = settings.get("model.kind")
    return ", ".join(
        f"{name.rpartition('.')[2]} = {text(value)}"
        for name, value in settings.items()
        if not lacks(kind, name)
    )


def titled(title: str, label: str) -> str:
    """A title with what its networks share."""
    return f"{title}; {label}" if label else title


def split(table: Table, keys: Sequence[str]) -> list[tuple[dict[str, Any], Table]]:
    """Parts of a table that share the values of `keys`, in the order of these.

    Numbers are kept; anything else, also in a column where only some are set, is text.
    """
    if not keys:
        return [({}, table)]
    named = {k: table[k] if is_numeric(table[k]) else table[k].map(text) for k in keys}
    parts = table.groupby(list(named.values()), sort=True)
    return [(dict(zip(keys, key, strict=True)), part) for key, part in parts]


def is_numeric(column: Table) -> bool:
    """Whether every value is a number, set, and no truth value."""
    number = lambda v: isinstance(v, int | float) and not isinstance(v, bool)
    return all(number(v) and v == v for v in column)


def by_run(networks: Table, measure: str) -> Table:
    """One value of each run: the median over networks, or the number of them all."""
    runs = networks.groupby("run", sort=False)[measure]
    if measure in EXPECTED:
        return runs.apply(lambda values: median(values.to_numpy(float)).item())
    return runs.first()


def groups_of(gathered: Gathered) -> list[Group]:
    """Splits networks by every varied setting but sizes and seeds, largest first."""
    networks = gathered.networks
    if networks.empty:
        return []
    keys = [c for c in varied_in(networks) if c not in (*SIZES, *REPLICATES)]
    parts = split(networks, keys)
    found = [_group(label_of(settings), part) for settings, part in parts]
    return sorted(found, key=lambda group: -group.cells)


def _group(label: str, networks: Table) -> Group:
    widths = sorted({int(n) for n in networks["model.width"]})
    depths = sorted({int(d) for d in networks["model.depth"]})
    cells = networks.groupby(["model.depth", "model.width"])
    seeds = int(cells.size().max())
    values = {}
    for name in MEASURES:
        array = np.full((len(depths), len(widths), seeds), np.nan)
        for key, cell in cells:
            depth, width = key  # pyright: ignore[reportGeneralTypeIssues]
            one = cell.drop_duplicates("run") if name in OF_ENSEMBLES else cell
            found = one[name].to_numpy(float)
            array[depths.index(depth), widths.index(width), : len(found)] = found
        if not np.isnan(array).all():
            values[name] = np.where(array > 0, array, np.nan)
    settings: Any = networks.iloc[0].to_dict()
    return Group(label, settings, widths, depths, values)


def largest_grids(groups: Sequence[Group], most: int = 4) -> list[Group]:
    """Up to `most` groups that are grids, the largest first."""
    return [g for g in groups if g.is_grid][:most]


def median(values: np.ndarray) -> np.ndarray:
    """Over known seeds, the last axis, of logarithms as in the fits; nan where none is
    known, inf where half never departed.
    """
    out = np.full(values.shape[:-1], np.nan)
    for index in np.ndindex(*out.shape):
        known = values[index][~np.isnan(values[index])]
        if known.size:
            with np.errstate(divide="ignore"):
                out[index] = np.exp(np.median(np.log(known)))
    return out


def candidates(group: Group) -> dict[str, Any]:
    """The variables to try: of width and depth, and of the laws at initialization."""
    found: dict[str, Any] = dict(variables(group.widths, group.depths))
    theory = at_initialization(group.settings, group.widths, group.depths)
    for law, x in theory.items():
        if not np.all(x > 0):  # a collapse takes the logarithm
            continue
        same = [name for name, other in found.items() if _is_power(x, other)]
        if same:  # one variable, and not two that tie
            found[f"{same[0]} (= {law})"] = found.pop(same[0])
        else:
            found[law] = x
    return found


def _is_power(x: np.ndarray, other: np.ndarray) -> bool:
    """Whether one variable is a power of the other, and so the same to a collapse."""
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(other) == 0:
        return False
    return abs(np.corrcoef(np.log(x).ravel(), np.log(other).ravel())[0, 1]) > 1 - 1e-9


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
