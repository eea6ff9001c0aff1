"""The report as one HTML file that needs nothing outside itself."""

from collections.abc import Sequence
from html import escape

from testbed.reports import sections, tables
from testbed.reports.glossary import glossary
from testbed.reports.record import Record
from testbed.reports.toolkit import Drawing
from testbed.reports.toolkit.page import (
    definitions,
    document,
    figures,
    heading,
    table,
)


def render(record: Record, drawings: Sequence[Drawing]) -> str:
    """The page.

    Args:
      record: the run.
      drawings: its figures, in their order.
    """
    found = record.environment
    if record.foreign:
        fixed = record.config["network.fixed"] or "nothing"
        settings = sections.all_settings(record.config | {"network.fixed": fixed})
        again = _AGAIN
    else:
        settings = sections.settings(tables.changed_settings(record), record.config)
        short, full = tables.command(record), tables.command(record, every=True)
        again = sections.again(short, full, found)
    parts = [
        ("result", "Result", _result(record)),
        ("settings", "Settings", settings),
        ("figures", "Figures", figures(drawings)),
        ("words", "What the words and numbers mean", definitions(glossary(record))),
        ("environment", "Where it ran", sections.environment(found)),
        ("reproduce", "How to run it again", again),
    ]
    return document(record.in_one_line, _head(record), parts)


_AGAIN = (
    "<p>Call <code>testbed.compare</code> with the network, the data and these "
    "settings: they are not in this folder.</p>"
)


def _head(record: Record) -> str:
    status, until = record.summary.get("status"), f"t = {record.times[-1]:.4g}"
    banner = ""
    if status == "failed":
        error = escape(str(record.summary.get("error") or "no reason was recorded"))
        banner = (
            f"<strong>This run failed.</strong> {error}. What follows was recorded "
            f"before, up to {until}."
        )
    elif status != "done":
        banner = (
            "<strong>This run has not finished.</strong> What follows was recorded up "
            f"to {until}."
        )
    notes = [record.in_one_line]
    if not record.checked:
        notes.append("Recorded by an older version, without digests: read unchecked.")
    reading = record.summary.get("reading") or ""
    return heading("Where does this network leave its kernel?", notes, reading, banner)


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
        else '<p class="note">There is no infinite network: '
        f"{escape(record.why_no_infinite)}.</p>"
    )
    divergence = table(tables.final_divergence(record), ("", *record.splits.values()))
    kernel = table(tables.final_kernel(record), title="tangent kernel on the probes")
    kernel = kernel if record.config["kernel.probes"] else ""
    return losses + note + divergence + kernel + table(tables.circumstances(record))
