"""What scripts/reproduce.py does, and what a person sees of it."""

from pathlib import Path

from rich.table import Table

from testbed.errors import RunError, check_name
from testbed.numerics import use_float64
from testbed.reproduce.registry import NAMES, Reproduction, header_of, kept, reproduce
from testbed.reproduce.write import write_page
from testbed.runs.console import Console
from testbed.surroundings import check_device


def show_list() -> None:
    """Prints the names and titles."""
    table = Table(title="python scripts/reproduce.py NAME", title_justify="left")
    for column in ("name", "what it shows", "time"):
        table.add_column(column, no_wrap=column == "name")
    for name in NAMES:
        title, header = header_of(name)
        table.add_row(name, title, header.get("Time", ""))
    Console().print(table)


def run(name: str, quick: bool, path: Path) -> None:
    """Runs one reproduction, or all, and writes the page.

    Raises:
      UserError: no such reproduction.
      RunError: a claim that does not hold, or a folder that cannot be written.
    """
    check_name("name", name, (*NAMES, "all"))
    check_device()
    use_float64()
    console = Console()
    names = NAMES if name == "all" else (name,)
    done: list[Reproduction] = []
    page = path / "report.html"
    with console.progress(len(names), 0, "reproducing", "figure") as progress:
        for i, one in enumerate(names, 1):
            done.append(reproduce(one, quick, path))
            console.print(_table(done[-1]))
            page = write_page(kept(path), path)  # an interruption loses no figure
            progress(i)
    claims = [(one.name, claim) for one in done for claim in one.claims]
    failed = [f"{who}: {claim.text}" for who, claim in claims if not claim.passed]
    console.print(f"\n{len(claims) - len(failed)} of {len(claims)} claims hold.")
    console.print(f"Report: {page}")
    if failed:
        raise RunError(f"{len(failed)} claims do not hold: {'; '.join(failed)}")


def _table(one: Reproduction) -> Table:
    table = Table(title=f"{one.title} ({one.seconds:.0f} s)", title_justify="left")
    for column in ("claim", "measured", "wanted", ""):
        table.add_column(column)
    for c in one.claims:
        table.add_row(c.text, c.found, c.wanted, "pass" if c.passed else "FAIL")
    return table
