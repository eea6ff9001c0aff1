"""A boundary's folder keeps its plan, in plan.json, so that --dir alone goes on."""

import dataclasses
from pathlib import Path
from typing import Any

from testbed.errors import UserError
from testbed.options import BoundaryOptions
from testbed.runs.folder import RunFolder
from testbed.runs.parsing import Damaged
from testbed.runs.stored import identity
from testbed.settings import flatten
from testbed.sweeps.boundary import Plan, plan_of, todays_names
from testbed.sweeps.boundary_search import Searches
from testbed.sweeps.queue.store import Store, accidents


def plan_in(options: BoundaryOptions) -> Plan:
    """The plan of their folder; of a new one, what is given and else the defaults.

    Raises:
      UserError: the folder is of a sweep or of another plan, or what is given is wrong.
    """
    path, choose = options.dir, "choose another folder"
    if (path / "sweep.yaml").exists():
        raise UserError("dir", path, "holds a sweep", choose)
    if not (path / "plan.json").exists():
        return plan_of(Plan(), options)
    try:
        stored: dict[str, Any] = RunFolder(path).read_json("plan.json") or {}
        lists = {name: tuple(stored[name]) for name in ("networks", "widths", "depths")}
        lists["networks"] = todays_names(lists["networks"])
        lists["reuse"] = tuple(stored.get("reuse", ()))
        values: dict[str, Any] = stored | lists
        kept = Plan(**values)
        kept.check()
    except (TypeError, LookupError, AttributeError, Damaged) as error:
        reason = error.reason if isinstance(error, Damaged) else "it is no plan"
        remedy = "remove that file and give the options again"
        rule = f"holds a damaged plan.json ({reason})"
        raise UserError("dir", path, rule, remedy) from None
    plan = plan_of(kept, options)
    if _decisive(plan) != _decisive(kept):
        raise UserError("dir", path, "belongs to another boundary", choose)
    return plan


def open_boundary(path: Path) -> Store:
    """The store of a boundary's folder that holds a plan."""
    plan = plan_in(BoundaryOptions(path))
    return Store(path, Searches(plan, path))


def keep_plan(plan: Plan, path: Path) -> None:
    """Writes plan.json.

    Raises:
      RunError: it cannot be written.
    """
    with accidents(path):
        path.mkdir(parents=True, exist_ok=True)
        RunFolder(path).write_json("plan.json", dataclasses.asdict(plan))


def _decisive(plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """What decides the numbers, however the settings are written."""
    config = plan.config(plan.networks[0], plan.widths[0], plan.depths[0])
    return dataclasses.replace(plan, settings={}, reuse=()), identity(flatten(config))
