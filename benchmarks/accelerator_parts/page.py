"""The results as one HTML page with its figures, and as Markdown for docs/."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from testbed.files import together
from testbed.reports.toolkit import Caption, Drawing, blank, log_axis, mark, style
from testbed.reports.toolkit import page as html

NAME = "accelerator"
APART = ("s, range", "width", "depth", "seeds", "way")
"""Columns that stay in the JSON file."""
_WAITED_SECONDS = 0.02  # for a case whose gap matters to a person


def write(results: dict[str, Any], out: Path) -> None:
    """Writes accelerator.html, accelerator.md and the figures into `out`, all or none.

    It needs neither jax nor the card.
    """
    with style.in_style():
        drawings = [one for one in (_floors(results), _ensembles(results)) if one]
    with together() as files:
        files.write(out / f"{NAME}.html", _page(results, drawings).encode())
        files.write(out / f"{NAME}.md", _markdown(results, drawings).encode())
        for one in drawings:
            files.write(out / f"{one.name}.png", one.png)


def largest_gap(results: dict[str, Any]) -> str:
    """The case that is furthest above its floor, in a sentence; '' if none has one."""
    rows = [row for part in results["parts"].values() for row in part["rows"]]
    timed = [row for row in rows if "x floor" in row]
    if not timed:
        return ""
    seconds = lambda row: row["x floor"] * row["floor s"]
    timed = [row for row in timed if seconds(row) > _WAITED_SECONDS] or timed
    worst = max(timed, key=lambda row: row["x floor"])
    text = (
        f"The largest gap to the floor: {worst['case']}, {number(worst['x floor'])} "
        f"times what {worst['bound by']} alone would take"
    )
    if worst.get("empty loop s"):
        share = worst["empty loop s"] / seconds(worst)
        text += f"; as many iterations of an empty loop would take {share:.0%} of it"
    where = next((r["where"] for r in rows if r["case"].startswith(worst["case"])
                  and "where" in r), "")  # fmt: skip
    return text + (f". Where it goes: {where}." if where else ".")


def number(value: Any) -> str:
    """A value in a table, to three digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(number, value))}]"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _head(results: dict[str, Any]) -> list[str]:
    card, parts = results["card"], results["parts"]
    versions = ", ".join(f"{k} {v}" for k, v in card["versions"].items() if v)
    memory = f", {card['memory GiB']:.0f} GiB" if card.get("memory GiB") else ""
    changed = " with changes" if card.get("modified") else ""
    commit = f"commit {card['commit'][:12]}{changed}" if card.get("commit") else ""
    states = [f"{name} {part['state']}" for name, part in parts.items()]
    lines = [
        f"{card['device']}{memory} ({card['backend']}), {results['date']}",
        f"{versions}; {commit}".rstrip("; "),
        f"{results['command']}: {', '.join(states)}",
    ]
    if results["quick"]:
        lines.append(
            "Sizes of a test (--quick): these numbers say nothing of the card."
        )
    return lines


def _spent(part: dict[str, Any]) -> str:
    """How long a part took, and how much of that went into compilation."""
    seen = part.get("compiled", {})
    if not seen.get("programs"):
        return ""
    longest = ", ".join(
        f"{name} {count} times {number(seconds)} s"
        for name, count, seconds in ((n, c, s / c) for n, c, s in seen["longest"][:4])
    )
    return (
        f"The part took {part['seconds']:.0f} s, {seen['compiling s']:.0f} s of them "
        f"for compiling {seen['programs']} programs, or reading those that had been "
        f"compiled before: {longest}, …"
    )


def _tables(part: dict[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """Header and rows of a part: a table for every set of columns."""
    shown = [{k: v for k, v in row.items() if k not in APART} for row in part["rows"]]
    found: dict[tuple[str, ...], list[list[str]]] = {}
    for row in shown:
        found.setdefault(tuple(row), []).append([number(v) for v in row.values()])
    named = lambda names: ["" if name == "case" else name for name in names]
    return [(named(names), rows) for names, rows in found.items()]


def _page(results: dict[str, Any], drawings: Sequence[Drawing]) -> str:
    question = "What this testbed does on this device"
    head = html.heading(question, _head(results), largest_gap(results))
    sections = []
    for name, part in results["parts"].items():
        text = f"<p>{html.mathematics(part['why'])}</p>"
        text += "".join(f"<p>{escape(note)}</p>" for note in part["notes"])
        text += "".join(html.table(rows, header) for header, rows in _tables(part))
        text += f'<p class="note">{escape(_spent(part))}</p>' if _spent(part) else ""
        sections.append((name, part["title"], text))
    if drawings:
        sections.insert(0, ("figures", "Figures", html.figures(drawings)))
    return html.document("What this testbed does on this device", head, sections)


def _markdown(results: dict[str, Any], drawings: Sequence[Drawing]) -> str:
    lines = ["# On an accelerator", ""]
    for line in _head(results):
        lines += [line, ""]
    if gap := largest_gap(results):
        lines += [f"**{gap}**", ""]
    for one in drawings:
        lines += [f"![{one.title}]({NAME}/{one.name}.png)", ""]
    for part in results["parts"].values():
        lines += [f"## {part['title']}", "", part["why"], ""]
        for note in part["notes"]:
            lines += [note, ""]
        for header, rows in _tables(part):
            lines += [_cells(header), _cells(["---"] * len(header))]
            lines += [*map(_cells, rows), ""]
        if spent := _spent(part):
            lines += [spent, ""]
    return "\n".join(lines)


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _floors(results: dict[str, Any]) -> Drawing | None:
    """How many times its floor each case takes, by what bounds it."""
    colors = {
        "arithmetic": style.FINITE,
        "memory": style.LINEARIZED,
        "special functions": style.INFINITE,
        "the copy to the host": style.FAINT,
    }
    rows = [
        row
        for name, part in results["parts"].items()
        for row in part["rows"]
        if "x floor" in row and name != "ensembles"
    ][::-1]
    if not rows:
        return None
    figure, ((ax,),) = blank(1, 1, 1.2 + 0.26 * len(rows))
    for place, row in enumerate(rows):
        color = colors[row["bound by"]]
        ax.barh(place, row["x floor"], left=0, color=color, height=0.6)
        ax.text(row["x floor"], place, f" {number(row['x floor'])}", va="center")
        if loop := row.get("empty loop s"):
            ax.plot(loop / row["floor s"], place, "d", color=style.INK, markersize=4)
    ax.set_yticks(range(len(rows)), [row["case"] for row in rows])
    ax.axvline(1, color=style.INK, linewidth=1, label="the floor")
    ax.margins(x=0.12)
    ax.set_xlabel("time / floor (the longest of what the case must do)")
    for bound, color in colors.items():
        ax.barh(0, 0, color=color, label=f"bound by {bound}")
    ax.plot([], [], "d", color=style.INK, markersize=4, label="a nearly empty loop")
    log_axis(ax.xaxis)
    figure.legend(loc="outside upper left", ncols=3)
    caption = Caption(
        "Time of each case over its floor, the longest of what it must do; its colour "
        "is what bounds it. Diamonds: as many iterations of a nearly empty loop.",
        look_for="Long bars without a diamond near their end: time that neither the "
        "work nor the loop takes.",
    )
    return Drawing("floors", "Time over its floor", caption, figure)


def _ensembles(results: dict[str, Any]) -> Drawing | None:
    """Time of a step of one network against the number of networks, by way."""
    rows = [r for r in results["parts"].get("ensembles", {}).get("rows", ())
            if "skipped" not in r]  # fmt: skip
    sizes = sorted({(r["width"], r["depth"]) for r in rows})
    if not sizes:
        return None
    figure, (axes,) = blank(1, len(sizes), 3.4)
    lines = {"vmap": "-", "map": (0, (5, 2)), "loop": (0, (1, 1))}
    colors = (style.FINITE, style.LINEARIZED, style.INFINITE)
    for ax, (width, depth) in zip(axes, sizes, strict=True):
        own = [r for r in rows if (r["width"], r["depth"]) == (width, depth)]
        for (way, dashes), color in zip(lines.items(), colors, strict=True):
            x = [r["seeds"] for r in own if r["way"] == way]
            y = [r["us a network and step"] for r in own if r["way"] == way]
            if not x:
                continue
            if len(x) == 1:  # in turn: the same in any number of networks
                ax.axhline(y[0], linestyle=dashes, color=color, linewidth=1)
            ax.plot(x, y, marker="o", linestyle=dashes, color=color, label=way)
        log_axis(ax.xaxis, ax.yaxis)
        mark(ax.xaxis, sorted({r["seeds"] for r in own}))
        ax.set_title(f"width {width}, depth {depth}")
        ax.set_xlabel("networks of the ensemble")
        ax.set_ylabel("μs a network and step")
        ax.legend()
    caption = Caption(
        "Time of a step of one network against the number of networks: all at once "
        "(vmap), one after another in one program (map), one after another (loop).",
        look_for="From how many networks on a step of one of them gets no cheaper.",
    )
    title = "A step of one network of an ensemble"
    return Drawing("ensembles", title, caption, figure)
