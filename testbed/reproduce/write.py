"""All reproductions on one page, figure beside statement, each claim decided."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from testbed.errors import RunError
from testbed.files import write_whole
from testbed.reports.page import document, image, mathematics
from testbed.reproduce.registry import Reproduction


def write_page(done: Sequence[Reproduction], path: Path) -> Path:
    """Writes path/report.html from reproductions that have run; returns it.

    Raises:
      RunError: it cannot be written.
    """
    page = path / "report.html"
    try:
        write_whole(page, _render(done).encode())
    except OSError as error:
        raise RunError(
            f"{page}: cannot be written ({error.strerror}); choose another --dir"
        ) from None
    return page


def _render(done: Sequence[Reproduction]) -> str:
    claims = [claim for one in done for claim in one.claims]
    held = sum(claim.passed for claim in claims)
    small = any(one.quick for one in done)
    note = "Small variants (--quick): fewer networks, wider errors. " if small else ""
    head = (
        "<h1>Networks at initialization against the literature</h1>"
        f'<p class="reading">{held} of {len(claims)} claims hold.</p>'
        f'<p class="note">{note}Every claim compares a number measured here with one '
        "that theory gives, or with a bound whose reason stands beside it; the laws "
        "have no fitted parameter.</p>"
    )
    sections = [
        (one.name, f"{i}. {one.title}", _section(one)) for i, one in enumerate(done, 1)
    ]
    return document("Reproductions", head, sections)


def _section(one: Reproduction) -> str:
    header = "".join(
        f"<p><strong>{escape(key)}.</strong> {mathematics(text)}</p>"
        for key, text in one.header.items()
    )
    rows = "".join(
        f"<tr><td>{mathematics(c.text)}</td><td>{mathematics(c.found)}</td>"
        f"<td>{mathematics(c.wanted)}</td><td>{_verdict(c.passed)}</td></tr>"
        for c in one.claims
    )
    table = (
        '<div class="wide"><table><thead><tr><th>claim</th><th>measured</th>'
        f"<th>wanted</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    figure = (
        f"<figure>{image(one.png, one.title)}<figcaption>"
        f"<p>{mathematics(one.caption)}</p></figcaption></figure>"
    )
    command = f"python scripts/reproduce.py {one.name}" + " --quick" * one.quick
    end = f'<p class="note">{one.seconds:.0f} s. <code>{escape(command)}</code></p>'
    return header + figure + table + end


def _verdict(passed: bool) -> str:
    return "pass" if passed else '<strong style="color:#b3261e">fail</strong>'
