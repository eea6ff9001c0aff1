"""What the laws at initialization have for each cell of a sweep."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.families import NoLaw, family
from testbed.kinds import KINDS
from testbed.sweeps.gather import text

_SIZES = ("width", "depth", "ratio")


def at_initialization(
    settings: dict[str, Any], widths: Sequence[int], depths: Sequence[int]
) -> dict[str, np.ndarray]:
    """The laws' numbers over a grid of cells, as the networks' family has them.

    Args:
      settings: of the networks, by dotted name.
      widths: n, (W,).
      depths: d, (D,).

    Returns:
      {name: (D, W)}, see `Family.variables`; {} where the family has none.  What is 0
      everywhere is left out.
    """
    kind = KINDS.get(settings["model.kind"])
    if kind is None:
        return {}
    names = [f.name for f in dataclasses.fields(kind) if f.name not in _SIZES]
    given: dict[str, Any] = {name: settings.get(f"model.{name}") for name in names}
    if any(text(value) == "not set" for value in given.values()):
        return {}  # of an older version
    rows = []
    for depth in depths:
        model = kind(depth=int(depth), **given)
        found = family(model.kind).variables(model, widths, int(depth))
        if isinstance(found, NoLaw):
            return {}
        rows.append(found)
    grids = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {name: grid for name, grid in grids.items() if np.any(grid > 0)}
