"""The report as one HTML file that needs nothing outside itself."""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape

from testbed.reports import tables
from testbed.reports.captions import Caption
from testbed.reports.drawing import Drawing, describe
from testbed.reports.glossary import glossary
from testbed.reports.record import Record

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
caption { text-align: left; color: #666; padding-bottom: .3em;
  white-space: nowrap; }
figure { margin: 0; }
figcaption p { margin: .4em 0; }
img { width: 100%; height: auto; }
figcaption { font-size: .95em; color: #333; max-width: 75ch; }
pre { background: #f5f5f5; padding: .8em 1em; overflow-x: auto; font-size: .88em; }
dt { font-weight: 600; margin-top: .7em; }
dd { margin: 0; max-width: 75ch; }
summary { cursor: pointer; color: #444; }
"""


def render(
    record: Record, drawings: Sequence[Drawing], images: Mapping[str, bytes]
) -> str:
    """The page.

    Args:
      record: the run.
      drawings: its figures, in their order.
      images: the PNG of each drawing that has a figure, by its name.
    """
    title = describe(record)
    sections = [
        ("result", "Result", _result(record)),
        ("settings", "Settings", _settings(record)),
        ("figures", "Figures", _figures(drawings, images)),
        ("words", "What the words and numbers mean", _definitions(record)),
        ("environment", "Where it ran", _environment(record)),
        ("reproduce", "How to run it again", _reproduce(record)),
    ]
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    body = "".join(
        f'<section id="{key}"><h2>{name}</h2>{text}</section>'
        for key, name, text in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head><body>"
        f"{_head(record)}<nav>{links}</nav>{body}</body></html>\n"
    )


def _head(record: Record) -> str:
    reading = record.summary.get("reading")
    parts = ["<h1>Where does this network leave its kernel?</h1>"]
    parts.append(f'<p class="note">{escape(describe(record))}</p>')
    status = record.summary.get("status")
    if status == "failed":
        error = escape(str(record.summary.get("error") or "no reason was recorded"))
        parts.append(
            f'<p class="banner"><strong>This run failed.</strong> {error}. What '
            f"follows was recorded before, up to t = {record.times[-1]:.4g}.</p>"
        )
    elif status != "done":
        parts.append(
            '<p class="banner"><strong>This run has not finished.</strong> What '
            f"follows was recorded up to t = {record.times[-1]:.4g}.</p>"
        )
    if reading:
        parts.append(f'<p class="reading">{escape(reading)}</p>')
    return "".join(parts)


def _result(record: Record) -> str:
    many = record.seeds > 1
    when = f"At t = {record.times[-1]:.4g}, after {record.steps[-1]} steps"
    spread = f"; median [lowest, highest] of {record.seeds} networks" if many else ""
    losses = _table(
        tables.final_losses(record), ("", *tables.predictors(record)), f"{when}{spread}"
    )
    note = (
        '<p class="note">infinite is the mean prediction of the infinite network, not '
        "one network drawn from it.</p>"
        if record.has_infinite
        else '<p class="note">There is no infinite network: no kernel describes '
        "adam's steps.</p>"
    )
    divergence = _table(
        tables.final_divergence(record), ("", "training set", "test set")
    )
    kernel = _table(tables.final_kernel(record), title="tangent kernel on the probes")
    kernel = kernel if record.config["kernel.probes"] else ""
    return losses + note + divergence + kernel + _table(tables.circumstances(record))


def _settings(record: Record) -> str:
    changed = tables.changed_settings(record)
    shown = {k: v for k, v in changed.items() if not k.startswith(("run.", "wandb."))}
    rows = [(name, tables.in_words(value)) for name, value in shown.items()]
    if rows:
        first = _table(rows, title="settings that differ from the defaults")
    else:
        first = "<p>All settings are the defaults.</p>"
    everything = [(name, tables.in_words(v)) for name, v in record.config.items()]
    table = _table(everything)
    return f"{first}<details><summary>all settings</summary>{table}</details>"


def _figures(drawings: Sequence[Drawing], images: Mapping[str, bytes]) -> str:
    parts = []
    for number, drawing in enumerate(drawings, 1):
        title, image = escape(drawing.title), ""
        if drawing.name in images:
            data = base64.b64encode(images[drawing.name]).decode()
            image = f'<img alt="{title}" src="data:image/png;base64,{data}">'
        parts.append(
            f'<h3 id="{drawing.name}">{number}. {title}</h3><figure>{image}'
            f"<figcaption>{_caption(drawing.caption)}</figcaption></figure>"
        )
    return "".join(parts)


def _caption(caption: Caption | str) -> str:
    if isinstance(caption, str):
        return f"<p>Not drawn. {_mathematics(caption)}</p>"
    return "".join(
        f"<p><strong>{lead}</strong> {_mathematics(text)}</p>"
        for lead, text in (
            ("Shown.", caption.shown),
            ("Expected.", caption.expected),
            ("Look for:", caption.look_for),
        )
    )


def _definitions(record: Record) -> str:
    terms = "".join(
        f"<dt>{_mathematics(term)}</dt><dd>{_mathematics(text)}</dd>"
        for term, text in glossary(record)
    )
    return f"<dl>{terms}</dl>"


def _environment(record: Record) -> str:
    rows = tables.environment(record)
    return _table(rows) if rows else "<p>Not recorded.</p>"


def _reproduce(record: Record) -> str:
    commit = record.environment.get("commit")
    first = f"git checkout {commit}\n" if commit else ""
    warning = (
        "<p>The files had uncommitted changes, so the commit alone may not give the "
        "same numbers.</p>"
        if record.environment.get("modified")
        else ""
    )
    full = tables.command(record, every=True)
    return (
        "<p>In the project's folder, with the versions above:</p>"
        f"<pre>{escape(first + tables.command(record))}</pre>{warning}"
        "<details><summary>the same with every setting spelled out, in case the "
        f"defaults have changed</summary><pre>{escape(full)}</pre></details>"
        "<p>On another device the numbers differ by rounding, which training can "
        "amplify.</p>"
    )


def _mathematics(text: str) -> str:
    """Escaped text with Θ_0 and n^(−1/2) as indices and powers."""
    text = re.sub(r"([Θθzf])_([t0l∞])", r"\1<sub>\2</sub>", escape(text))
    return re.sub(r"\^\(?([−\d/]+)\)?", r"<sup>\1</sup>", text)


def _table(
    rows: Sequence[tables.Row], header: Sequence[str] = (), title: str = ""
) -> str:
    cells = lambda row, tag: "".join(f"<{tag}>{_mathematics(c)}</{tag}>" for c in row)
    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>" if header else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    named = f"<caption>{escape(title)}</caption>" if title else ""
    kind = "" if header else ' class="plain"'
    table = f"<table{kind}>{named}{head}<tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'
