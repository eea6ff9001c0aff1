"""What scripts/report.py does, and what a person sees of it."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from testbed.errors import RunError, UserError, one_line
from testbed.reports.sweeps.write import write_sweep_report
from testbed.runs.console import Console
from testbed.sweeps.gather import Gathered, gather
from testbed.sweeps.queue.sweep_store import SweepStore, open_store


def report(paths: Sequence[Path], out: Path) -> None:
    """Writes tables, figures and report.html of the runs at or below `paths`.

    Raises:
      UserError: no finished run below them.
      RunError: `out` cannot be written.
    """
    console = Console()
    for name, what in (("config.json", "run"), ("boundary.json", "boundary")):
        if (out / name).exists():
            rule = f"is a {what}, whose own report would be overwritten"
            raise UserError("out", out, rule, "give --out another folder")
    stores, broken = _stores(paths)
    sweep = stores[0].sweep if stores else None
    header, metric = (dict(sweep.header), dict(sweep.metric)) if sweep else ({}, {})
    order = {}
    if sweep and sweep.method == "bayes":
        order = {point.name: point.index for point in stores[0].points()}
    gathered = with_unfinished(gather(paths, metric.get("name")), stores)
    gathered.problems.extend(broken)
    page, said = write_sweep_report(gathered, out, header, metric, order)
    counts = [f"{len(gathered.runs)} runs"]
    if len(gathered.networks):
        counts.append(f"{len(gathered.networks)} trained networks")
    console.print(", ".join(counts))
    for name, why in gathered.problems:
        console.print(one_line(f"left out: {name}: {why}"))
    for name, remark in gathered.notes:
        console.print(one_line(f"note: {name}: {remark}"))
    console.print(said)
    for name in ("divergence", "laws"):
        if (out / f"{name}.csv").exists():
            console.print(f"Tables: {out / name}.csv, {out / name}.parquet")
    console.print(f"Report: {page}")


def _stores(paths: Sequence[Path]) -> tuple[list[SweepStore], list[tuple[str, str]]]:
    """The sweeps among some folders, and what is wrong with those that are damaged.

    The runs of a damaged one are drawn all the same.
    """
    stores, broken = [], []
    for path in paths:
        if (path / "sweep.yaml").is_file():
            try:
                store = open_store(None, path, reading=True)
                store.points()
            except (UserError, RunError) as error:
                broken.append((path.name, str(error)))
                continue
            stores.append(store)
    return stores, broken


def with_unfinished(gathered: Gathered, stores: Sequence[SweepStore]) -> Gathered:
    """Adds the points of sweeps that have failed, are at work, or were not run.

    A point's failure says more than what its folder does, and a point that was refused
    has no folder.
    """
    problems = dict(gathered.problems)
    for store in stores:
        waiting = 0
        for point, state in store.look():
            name = os.path.relpath(store.folder(point).resolve(), gathered.base)
            if state == "failed":
                error = str((store.failure(point) or {})["error"]).strip()
                problems[name] = f"failed: {error.splitlines()[-1]}"
            elif state == "running":
                problems[name] = "at work just now"
            elif state == "waiting":
                waiting += 1
        if waiting:
            where = os.path.relpath(store.path.resolve(), gathered.base.parent)
            problems[where] = f"{waiting} points are not finished; run the sweep again"
    return dataclasses.replace(gathered, problems=list(problems.items()))
