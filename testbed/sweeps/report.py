"""What scripts/report.py does, and what a person sees of it."""

from collections.abc import Sequence
from pathlib import Path

from testbed.reports.sweep import write_sweep_report
from testbed.reports.sweep_groups import groups_of, reading
from testbed.runs.console import Console
from testbed.sweeps.spec import read_sweep


def report(paths: Sequence[Path], out: Path) -> None:
    """Writes tables, figures and report.html of the runs at or below `paths`.

    Raises:
      UserError: no finished run below them.
      RunError: `out` cannot be written.
    """
    console = Console()
    files = [path / "sweep.yaml" for path in paths if (path / "sweep.yaml").exists()]
    header = dict(read_sweep(files[0]).header) if files else {}
    page, gathered = write_sweep_report(paths, out, header)
    console.print(f"{len(gathered.runs)} runs, {len(gathered.networks)} networks")
    for path, why in gathered.problems:
        console.print(f"left out: {path}: {why}")
    console.print(reading(groups_of(gathered)))
    console.print(f"Tables: {out / 'divergence.csv'}, {out / 'divergence.parquet'}")
    console.print(f"Report: {page}")
