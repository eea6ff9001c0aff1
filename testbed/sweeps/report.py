"""What scripts/report.py does, and what a person sees of it."""

from collections.abc import Sequence
from pathlib import Path

from testbed.errors import UserError
from testbed.reports.sweeps.write import write_sweep_report
from testbed.runs.console import Console
from testbed.sweeps.gather import gather
from testbed.sweeps.spec import read_sweep
from testbed.sweeps.store import open_store


def report(paths: Sequence[Path], out: Path) -> None:
    """Writes tables, figures and report.html of the runs at or below `paths`.

    Raises:
      UserError: no finished run below them.
      RunError: `out` cannot be written.
    """
    console = Console()
    if (out / "config.json").exists():
        rule = "is a run, whose own report would be overwritten"
        raise UserError("out", out, rule, "give --out another folder")
    files = [path / "sweep.yaml" for path in paths if (path / "sweep.yaml").exists()]
    sweep = read_sweep(files[0]) if files else None
    header, metric = (dict(sweep.header), dict(sweep.metric)) if sweep else ({}, {})
    order = {}
    if sweep and sweep.method == "bayes":
        points = open_store(None, files[0].parent).points()
        order = {point.name: point.index for point in points}
    gathered = gather(paths, metric.get("name"))
    page, said = write_sweep_report(gathered, out, header, metric, order)
    counts = [f"{len(gathered.runs)} runs"]
    if len(gathered.networks):
        counts.append(f"{len(gathered.networks)} trained networks")
    console.print(", ".join(counts))
    for path, why in gathered.problems:
        console.print(f"left out: {path}: {why}")
    console.print(said)
    for name in ("divergence", "laws"):
        if (out / f"{name}.csv").exists():
            console.print(f"Tables: {out / name}.csv, {out / name}.parquet")
    console.print(f"Report: {page}")
