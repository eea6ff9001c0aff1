"""The results as one HTML page with its figures, and as Markdown for docs/."""

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from testbed.files import together
from testbed.reports import style
from testbed.reports.page import document, image, mathematics, table
from testbed.reports.sweeps.picture import log_ticks

NAME = "accelerator"
APART = ("s, range", "width", "depth", "seeds", "way")
"""Columns that stay in the JSON file."""
_WAITED_SECONDS = 0.02  # for a case whose gap matters to a person


def write(results: dict[str, Any], out: Path) -> None:
    """Writes accelerator.html, accelerator.md and the figures into `out`, all or none.

    It needs neither jax nor the card.
    """
    pictures = _pictures(results)
    with together() as files:
        files.write(out / f"{NAME}.html", _page(results, pictures).encode())
        files.write(out / f"{NAME}.md", _markdown(results, pictures).encode())
        for name, (_, png) in pictures.items():
            files.write(out / f"{name}.png", png)


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


def _page(results: dict[str, Any], pictures: dict[str, tuple[str, bytes]]) -> str:
    head = "<h1>What this testbed does on this device</h1>"
    head += "".join(f'<p class="note">{escape(line)}</p>' for line in _head(results))
    if gap := largest_gap(results):
        head += f'<p class="reading">{escape(gap)}</p>'
    sections = []
    for name, part in results["parts"].items():
        text = f"<p>{mathematics(part['why'])}</p>"
        text += "".join(f"<p>{escape(note)}</p>" for note in part["notes"])
        text += "".join(table(rows, header) for header, rows in _tables(part))
        text += f'<p class="note">{escape(_spent(part))}</p>' if _spent(part) else ""
        sections.append((name, part["title"], text))
    drawn = "".join(
        f"<h3>{escape(title)}</h3><figure>{image(png, title)}</figure>"
        for title, png in pictures.values()
    )
    if drawn:
        sections.insert(0, ("figures", "Figures", drawn))
    return document("What this testbed does on this device", head, sections)


def _markdown(results: dict[str, Any], pictures: dict[str, tuple[str, bytes]]) -> str:
    lines = ["# On an accelerator", ""]
    for line in _head(results):
        lines += [line, ""]
    if gap := largest_gap(results):
        lines += [f"**{gap}**", ""]
    for name, (title, _) in pictures.items():
        lines += [f"![{title}]({NAME}/{name}.png)", ""]
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


def _pictures(results: dict[str, Any]) -> dict[str, tuple[str, bytes]]:
    """{name: (title, PNG)} of what can be drawn of these results."""
    drawn = {}
    with style.in_style():
        for name, title, draw in (
            ("floors", "Time over its floor", _floors),
            ("ensembles", "A step of one network of an ensemble", _ensembles),
        ):
            figure = draw(results)
            if figure is not None:
                png = io.BytesIO()
                figure.savefig(png, format="png")
                drawn[name] = (title, png.getvalue())
    return drawn


def _figure(height: float, columns: int = 1):
    from matplotlib.figure import Figure

    size = (style.WIDTH_INCHES, height)
    figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _floors(results: dict[str, Any]):
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
    figure, (ax,) = _figure(1.2 + 0.26 * len(rows))
    for place, row in enumerate(rows):
        color = colors[row["bound by"]]
        ax.barh(place, row["x floor"], left=0, color=color, height=0.6)
        ax.text(row["x floor"], place, f" {number(row['x floor'])}", va="center")
        if loop := row.get("empty loop s"):
            ax.plot(loop / row["floor s"], place, "d", color=style.INK, markersize=4)
    ax.set_yticks(range(len(rows)), [row["case"] for row in rows])
    ax.set_xscale("log")
    log_ticks(ax.xaxis)
    ax.axvline(1, color=style.INK, linewidth=1, label="the floor")
    ax.margins(x=0.12)
    ax.set_xlabel("time / floor (the longest of what the case must do)")
    for bound, color in colors.items():
        ax.barh(0, 0, color=color, label=f"bound by {bound}")
    ax.plot([], [], "d", color=style.INK, markersize=4, label="a nearly empty loop")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


def _ensembles(results: dict[str, Any]):
    """Time of a step of one network against the number of networks, by way."""
    rows = [r for r in results["parts"].get("ensembles", {}).get("rows", ())
            if "skipped" not in r]  # fmt: skip
    sizes = sorted({(r["width"], r["depth"]) for r in rows})
    if not sizes:
        return None
    figure, axes = _figure(3.4, len(sizes))
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
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
        ticks = sorted({r["seeds"] for r in own})
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.set_title(f"width {width}, depth {depth}")
        ax.set_xlabel("networks of the ensemble")
        ax.set_ylabel("μs a network and step")
        ax.legend()
    return figure
