"""All reproductions on one page, figure beside statement, each claim decided."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from testbed.reports.toolkit import page
from testbed.reproduce.registry import REMEDY, Reproduction


def write_page(done: Sequence[Reproduction], path: Path) -> Path:
    """Writes path/report.html from reproductions that have run; returns it.

    Raises:
      RunError: it cannot be written.
    """
    report = path / "report.html"
    with page.report_files(report, REMEDY) as files:
        page.add_page(files, path, _render(done))
    return report


def _render(done: Sequence[Reproduction]) -> str:
    claims = [claim for one in done for claim in one.claims]
    held = sum(claim.passed for claim in claims)
    small = any(one.quick for one in done)
    note = "Small variants (--quick): fewer networks, wider errors. " if small else ""
    note += (
        "Every claim compares a number measured here with one that theory gives, or "
        "with a bound whose reason stands beside it; the laws have no fitted parameter."
    )
    reading = f"{held} of {len(claims)} claims hold."
    head = page.heading(
        "Networks at initialization against the literature", [note], reading
    )
    sections = [
        (one.name, f"{i}. {one.title}", _section(one)) for i, one in enumerate(done, 1)
    ]
    return page.document("Reproductions", head, sections)


def _section(one: Reproduction) -> str:
    header = "".join(
        page.paragraph(f"{key}.", text) for key, text in one.header.items()
    )
    rows = [(c.text, c.found, c.wanted, _verdict(c.passed)) for c in one.claims]
    claims = page.table(rows, ["claim", "measured", "wanted", ""])
    command = f"python scripts/reproduce.py {one.name}" + " --quick" * one.quick
    end = f'<p class="note">{one.seconds:.0f} s. <code>{escape(command)}</code></p>'
    return header + page.figure(one.title, one.caption, one.png) + claims + end


def _verdict(passed: bool) -> page.Html:
    return page.Html(
        "pass" if passed else '<strong style="color:#b3261e">fail</strong>'
    )
