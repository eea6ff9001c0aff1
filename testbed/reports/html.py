"""The report as one HTML file that needs nothing outside itself."""

from collections.abc import Mapping, Sequence
from html import escape

from testbed.reports import tables
from testbed.reports.captions import Caption
from testbed.reports.drawing import Drawing, in_one_line
from testbed.reports.glossary import glossary
from testbed.reports.page import document, image, mathematics, table
from testbed.reports.record import Record


def render(
    record: Record, drawings: Sequence[Drawing], images: Mapping[str, bytes]
) -> str:
    """The page.

    Args:
      record: the run.
      drawings: its figures, in their order.
      images: the PNG of each drawing that has a figure, by its name.
    """
    sections = [
        ("result", "Result", _result(record)),
        ("settings", "Settings", _settings(record)),
        ("figures", "Figures", _figures(drawings, images)),
        ("words", "What the words and numbers mean", _definitions(record)),
        ("environment", "Where it ran", _environment(record)),
        ("reproduce", "How to run it again", _reproduce(record)),
    ]
    return document(in_one_line(record), _head(record), sections)


def _head(record: Record) -> str:
    reading = record.summary.get("reading")
    parts = ["<h1>Where does this network leave its kernel?</h1>"]
    parts.append(f'<p class="note">{escape(in_one_line(record))}</p>')
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
    if not record.checked:
        parts.append(
            '<p class="note">Recorded by an older version, without digests: read '
            "unchecked.</p>"
        )
    if reading:
        parts.append(f'<p class="reading">{escape(reading)}</p>')
    return "".join(parts)


def _result(record: Record) -> str:
    many = record.seeds > 1
    when = f"At t = {record.times[-1]:.4g}, after {record.steps[-1]} steps"
    spread = f"; median [lowest, highest] of {record.seeds} networks" if many else ""
    losses = table(
        tables.final_losses(record), ("", *tables.predictors(record)), f"{when}{spread}"
    )
    note = (
        '<p class="note">infinite is the mean prediction of the infinite network, not '
        "one network drawn from it.</p>"
        if record.has_infinite
        else '<p class="note">There is no infinite network: no kernel describes '
        "adam's steps.</p>"
    )
    divergence = table(
        tables.final_divergence(record), ("", "training set", "test set")
    )
    kernel = table(tables.final_kernel(record), title="tangent kernel on the probes")
    kernel = kernel if record.config["kernel.probes"] else ""
    return losses + note + divergence + kernel + table(tables.circumstances(record))


def _settings(record: Record) -> str:
    changed = tables.changed_settings(record)
    shown = {k: v for k, v in changed.items() if not k.startswith(("run.", "wandb."))}
    rows = [(name, tables.in_words(value)) for name, value in shown.items()]
    if rows:
        first = table(rows, title="settings that differ from the defaults")
    else:
        first = "<p>All settings are the defaults.</p>"
    everything = [(name, tables.in_words(v)) for name, v in record.config.items()]
    return (
        f"{first}<details><summary>all settings</summary>{table(everything)}</details>"
    )


def _figures(drawings: Sequence[Drawing], images: Mapping[str, bytes]) -> str:
    parts = []
    for number, drawing in enumerate(drawings, 1):
        title, picture = escape(drawing.title), ""
        if drawing.name in images:
            picture = image(images[drawing.name], drawing.title)
        parts.append(
            f'<h3 id="{drawing.name}">{number}. {title}</h3><figure>{picture}'
            f"<figcaption>{_caption(drawing.caption)}</figcaption></figure>"
        )
    return "".join(parts)


def _caption(caption: Caption | str) -> str:
    if isinstance(caption, str):
        return f"<p>Not drawn. {mathematics(caption)}</p>"
    return "".join(
        f"<p><strong>{lead}</strong> {mathematics(text)}</p>"
        for lead, text in (
            ("Shown.", caption.shown),
            ("Expected.", caption.expected),
            ("Look for:", caption.look_for),
        )
    )


def _definitions(record: Record) -> str:
    terms = "".join(
        f"<dt>{mathematics(term)}</dt><dd>{mathematics(text)}</dd>"
        for term, text in glossary(record)
    )
    return f"<dl>{terms}</dl>"


def _environment(record: Record) -> str:
    if "damaged" in record.environment:
        why = escape(str(record.environment["damaged"]))
        return f"<p>environment.json is damaged ({why}).</p>"
    rows = tables.environment(record)
    return table(rows) if rows else "<p>Not recorded.</p>"


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
