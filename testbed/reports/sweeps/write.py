"""The report of a sweep: tables, figures and one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.reports.sweeps import (
    collapse,
    dependence,
    initialization,
    maps,
    search,
    tables,
    theory,
)
from testbed.reports.sweeps.groups import Group, groups_of
from testbed.reports.sweeps.ranks import ranks
from testbed.reports.sweeps.reading import reading
from testbed.reports.toolkit import Drawing, page, style
from testbed.sweeps.gather import Gathered, write_tables

_NAMES = ("search", "map", "dependence*", "collapse*", "laws*", "theory")


def write_sweep_report(
    gathered: Gathered,
    out: Path,
    header: Mapping[str, str],
    metric: Mapping[str, Any],
    order: Mapping[str, int],
) -> tuple[Path, str]:
    """Writes tables, figures/ and report.html, all of them or none.

    Args:
      gathered: the runs.
      out: where to write.
      header: of the sweep file; {} without one.
      metric: name and goal of what was optimized; {} without one.
      order: {name of a run's folder: its place in the search}; {} without one.

    Returns:
      The page, and what it reads.

    Raises:
      RunError: `out` cannot be written.
    """
    groups = groups_of(gathered)
    drawings = _drawings(gathered, groups, metric, order)
    said = reading(gathered, groups, metric)
    html = _page(gathered, groups, drawings, header, said, out)
    with page.report_files(out) as files:
        write_tables(gathered, out, files)
        page.add_page(files, out, html, drawings)
        for name in _NAMES:  # of an earlier report, of other runs
            for old in (out / "figures").glob(f"{name}.png"):
                files.remove(old)
    return out / "report.html", said


def _drawings(gathered, groups, metric, order) -> list[Drawing]:
    with style.in_style():
        found = search.pictures(gathered.runs, order, metric) if metric else []
        return [
            *found,
            *maps.pictures(groups),
            *dependence.pictures(gathered.networks),
            *collapse.pictures(groups),
            *theory.pictures(groups),
            *initialization.pictures(gathered.laws),
        ]


def _page(
    gathered: Gathered,
    groups: Sequence[Group],
    drawings: Sequence[Drawing],
    header: Mapping[str, str],
    said: str,
    out: Path,
) -> str:
    question = header.get("question") or "where do finite networks leave their kernel?"
    question = question[:1].upper() + question[1:]
    count = f"{len(gathered.runs)} runs"
    if len(networks := gathered.networks):
        count += f" of {len(networks)} trained networks"
    if gathered.problems:
        count += f"; {len(gathered.problems)} runs left out"
    varied = ", ".join(gathered.varied) or "nothing"
    head = page.heading(question, [f"{count}; varied: {varied}"], said)
    laws = gathered.laws
    found = ranks(networks) if len(networks) else []
    sections = [
        ("sweep", "The sweep", _header(header)),
        ("figures", "Figures", page.figures(drawings)),
        ("exponents", "Exponents", tables.exponents(groups)),
        ("slopes", "Slopes", tables.slopes(networks) if len(networks) else ""),
        ("ranks", "Rank correlations", tables.correlations(found) if found else ""),
        ("collapses", "Collapse", tables.collapse(groups)),
        ("laws", "Simulations", _laws(laws) if len(laws) else ""),
        ("runs", "Runs", tables.runs(gathered, out)),
        ("problems", "Left out", tables.problems(gathered)),
    ]
    return page.document(question, head, [one for one in sections if one[2]])


def _header(header: Mapping[str, str]) -> str:
    return (
        page.table([(k.capitalize(), v) for k, v in header.items()]) if header else ""
    )


def _laws(laws) -> str:
    rows = initialization.table_rows(laws)
    return page.table(rows, initialization.table_header(laws))
