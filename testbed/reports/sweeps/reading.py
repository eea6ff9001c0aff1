"""What a sweep comes to, in a few sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.reports.sweeps.dependence import are_lines, axes_of, lines
from testbed.reports.sweeps.groups import EXPECTED, Group, fits, label_of
from testbed.reports.sweeps.initialization import reading as reading_of_laws
from testbed.reports.sweeps.ranks import ranks, strongest
from testbed.reports.sweeps.tables import exponent
from testbed.sweeps.gather import MEASURES, Gathered, Table, text, varied_in

_MEASURE = "relative_distance"
_MOST_GROUPS = 4


def reading(
    gathered: Gathered, groups: Sequence[Group], metric: Mapping[str, Any]
) -> str:
    """The result: laws over grids, slopes along a line, or the strongest correlations.

    Args:
      gathered: the runs.
      groups: of them.
      metric: of the sweep file; {} without one.
    """
    parts = []
    if metric and gathered.runs["metric"].notna().any():
        parts.append(_best(gathered.runs, metric))
    joint = [_joint(g) for g in groups if len(g.widths) >= 3 or len(g.depths) >= 3]
    parts += [said for said in joint if said][:_MOST_GROUPS]
    if not parts and len(gathered.networks):
        parts += _slopes(gathered.networks)[:_MOST_GROUPS]
    if not parts and len(gathered.networks):
        parts += _ranks(gathered.networks)
    laws = reading_of_laws(gathered.laws)
    parts += [laws] if laws else []
    return ". ".join(parts) + "." if parts else "Too few runs for a law."


def _joint(group: Group) -> str:
    if _MEASURE not in group.values:
        return ""
    joint = fits(group, _MEASURE).joint
    if not np.isfinite(joint.width_exponent):
        return ""
    prefix = f"{group.label}: " if group.label else ""
    text = (
        f"{prefix}final relative distance ~ d^{joint.depth_exponent:.2f} "
        f"n^{joint.width_exponent:.2f}"
    )
    low, high = joint.width_interval
    if np.isfinite(low):
        text += f" (95 % in n: {low:.2f} to {high:.2f}; R² = {joint.r_squared:.2f})"
    return text


def _slopes(networks: Table) -> list[str]:
    """Along the setting with most values, at each combination of the others."""
    axes = sorted(axes_of(networks), key=lambda name: -networks[name].nunique())
    if not axes or not are_lines(lines(networks, axes[0], _MEASURE)):
        return []
    said = []
    for measure in ("departure_time", _MEASURE):
        for line in lines(networks, axes[0], measure):
            if len(line.x) < 3 or line.x[0] <= 0:
                continue
            law = line.law()
            if np.isfinite(law.exponent):
                where = f" at {label_of(line.fixed)}" if line.fixed else ""
                value = exponent(law.exponent, law.interval)
                said.append(f"{MEASURES[measure]} ~ {axes[0]}^a, a = {value}{where}")
    return said


def _ranks(networks: Table) -> list[str]:
    found, said = ranks(networks), []
    for measure in EXPECTED:
        best = strongest(found, measure)
        if best is not None:
            value = exponent(best.value, best.interval)
            said.append(
                f"{MEASURES[measure]} goes most with {best.setting} (rank correlation "
                f"{value})"
            )
    return said or ["No setting goes clearly with any measure"] * bool(found)


def _best(runs: Table, metric: Mapping[str, Any]) -> str:
    known = runs[runs["metric"].notna()]
    maximize = metric.get("goal") == "maximize"
    at = known["metric"].idxmax() if maximize else known["metric"].idxmin()
    best = known.loc[at]
    settings = {n: best[n] for n in varied_in(runs)}
    word = "Highest" if maximize else "Lowest"
    return f"{word} {metric['name']}: {text(best['metric'])} at {label_of(settings)}"
