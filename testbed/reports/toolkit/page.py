"""What every HTML page is made of: one file that needs nothing outside itself."""

import base64
import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from testbed.errors import RunError
from testbed.files import Together, together
from testbed.reports.toolkit.figure import Caption, Drawing

_CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 1060px; margin: 0 auto; padding: 24px; }
h1 { font-size: 1.5em; margin: 0 0 .2em; }
h2 { font-size: 1.2em; margin: 2.2em 0 .6em; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.05em; margin: 1.8em 0 .5em; }
.reading { font-size: 1.15em; margin: .6em 0; padding: .7em 1em;
  background: #eef4f9; border-left: 4px solid #0072B2; }
.banner { margin: 1em 0; padding: .7em 1em; background: #fdecea;
  border-left: 4px solid #b3261e; }
.note, nav { color: #666; font-size: .92em; }
nav a { margin-right: 1em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8em 0 1.2em; font-size: .92em; }
th, td { text-align: right; padding: .25em .9em; border-bottom: 1px solid #e5e5e5;
  font-variant-numeric: tabular-nums; vertical-align: top; }
th:first-child, td:first-child, .plain td { text-align: left; padding-left: 0; }
.plain td { overflow-wrap: anywhere; }
.plain td:first-child { overflow-wrap: break-word; }  /* labels stay whole */
caption { text-align: left; color: #666; padding-bottom: .3em;
  white-space: nowrap; }
figure { margin: 0; }
figcaption p { margin: .4em 0; }
img { width: 100%; height: auto; }
@media (max-width: 700px) {  /* their small print stays readable */
  img { min-width: 700px; }
  .wide + figcaption::before { content: "← the picture scrolls sideways →";
    color: #666; font-size: .9em; }
}
sub, sup { line-height: 0; white-space: nowrap; }
figcaption { font-size: .95em; color: #333; max-width: 75ch; }
pre { background: #f5f5f5; padding: .8em 1em; overflow-x: auto; font-size: .88em; }
dt { font-weight: 600; margin-top: .7em; }
dd { margin: 0; max-width: 75ch; }
summary { cursor: pointer; color: #444; }
"""


def document(title: str, head: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The page.

    Args:
      title: of the browser's window.
      head: HTML above the links.
      sections: (key, name, HTML) each.
    """
    links = "".join(
        f'<a href="#{key}">{mathematics(name)}</a>' for key, name, _ in sections
    )
    body = "".join(
        f'<section id="{key}"><h2>{mathematics(name)}</h2>{text}</section>'
        for key, name, text in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head><body>"
        f"{head}<nav>{links}</nav>{body}</body></html>\n"
    )


def heading(
    question: str, notes: Sequence[str] = (), reading: str = "", banner: str = ""
) -> str:
    """The top of a page.

    Args:
      question: that the page answers.
      notes: what was run, a line each.
      reading: the answer, a sentence or two.
      banner: HTML of what is wrong with it.
    """
    parts = [f"<h1>{mathematics(question)}</h1>"]
    parts += [f'<p class="note">{mathematics(note)}</p>' for note in notes]
    parts += [f'<p class="banner">{banner}</p>'] * bool(banner)
    parts += [f'<p class="reading">{mathematics(reading)}</p>'] * bool(reading)
    return "".join(parts)


def add_page(
    files: Together, out: Path, page: str, drawings: Sequence[Drawing] = ()
) -> list[Path]:
    """Adds out/report.html and out/figures/NAME.png to files that appear together.

    Args:
      files: the others.
      out: the folder of the page.
      page: its HTML.
      drawings: its figures.

    Returns:
      The pictures' files.
    """
    files.write(out / "report.html", page.encode())
    drawn = {out / "figures" / f"{one.name}.png": one.png for one in drawings}
    drawn = {path: png for path, png in drawn.items() if png}
    for path, png in drawn.items():
        files.write(path, png)
    return list(drawn)


@contextlib.contextmanager
def report_files(out: Path, remedy: str = "") -> Iterator[Together]:
    """Files in `out` that appear together, at the end of the block, or not at all.

    Raises:
      RunError: they cannot be written.
    """
    try:
        with together() as files:
            yield files
    except OSError as error:
        why = f"cannot be written ({error.strerror})"
        raise RunError("; ".join([f"{out}: {why}", *[remedy] * bool(remedy)])) from None


def figures(drawings: Sequence[Drawing]) -> str:
    """All figures of a section, numbered, each with its caption."""
    return "".join(
        f'<h3 id="{one.name}">{number}. {mathematics(one.title)}</h3>'
        f"{figure(one.title, one.caption, one.png)}"
        for number, one in enumerate(drawings, 1)
    )


def figure(title: str, caption: Caption | str, png: bytes) -> str:
    """A picture and its caption, or the reason why there is none."""
    if isinstance(caption, str):
        said = [("Not drawn.", caption)]
    else:
        said = [
            ("Shown.", caption.shown),
            ("Expected.", caption.expected),
            ("Look for:", caption.look_for),
        ]
    picture = ""
    if png:
        data = base64.b64encode(png).decode()
        picture = f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        picture = f'<div class="wide">{picture}</div>'
    under = "".join(paragraph(lead, text) for lead, text in said if text)
    return f"<figure>{picture}<figcaption>{under}</figcaption></figure>"


def paragraph(lead: str, text: str) -> str:
    """A paragraph that says in bold what it is about."""
    return f"<p><strong>{escape(lead)}</strong> {mathematics(text)}</p>"


class Html(str):
    """Text that is HTML already: nothing in it is escaped again."""


def link(target: str | os.PathLike, name: str) -> Html:
    """A link to a file beside the page, whatever characters its path has.

    Percent signs make `#`, `?` and `:` parts of the path: a folder that is called
    ``javascript:...`` is a folder.
    """
    path = quote(os.fsencode(os.fspath(target)), safe="/")
    return Html(f'<a href="{path}">{escape(name)}</a>')


def mathematics(text: str) -> str:
    """Escaped text with Θ_0 and n^(−1/2) as indices and powers; `Html` as it is."""
    if isinstance(text, Html):
        return text
    text = re.sub(r"\b([ΘθzfxYRX])_([t0ldLT∞])", r"\1<sub>\2</sub>", escape(text))
    return re.sub(_POWER, lambda m: f"<sup>{m[1] or m[2]}</sup>", text)


_POWER = re.compile(r"\^(?:[({]([−\-\d/]+)[)}]|([−-]?\d+(?:\.\d+)?))")


def table(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), title: str = ""
) -> str:
    """A table of texts; without a header its first column is a name."""
    cells = lambda row, tag: "".join(f"<{tag}>{mathematics(c)}</{tag}>" for c in row)
    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>" if header else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    named = f"<caption>{mathematics(title)}</caption>" if title else ""
    kind = "" if header else ' class="plain"'
    text = f"<table{kind}>{named}{head}<tbody>{body}</tbody></table>"
    return f'<div class="wide">{text}</div>'


def definitions(terms: Iterable[tuple[str, str]]) -> str:
    """Terms, each with what it means."""
    parts = [
        f"<dt>{mathematics(term)}</dt><dd>{mathematics(text)}</dd>"
        for term, text in terms
    ]
    return f"<dl>{''.join(parts)}</dl>"


def folded(summary: str, text: str) -> str:
    """HTML that a click unfolds."""
    return f"<details><summary>{mathematics(summary)}</summary>{text}</details>"
