"""The report of a sweep: divergence map, scaling, collapse, theory, table of runs."""

import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from testbed.divergence.collapse import Collapse
from testbed.errors import RunError
from testbed.reports import style
from testbed.reports.page import document, image, table
from testbed.reports.sweep_figures import FIGURES
from testbed.reports.sweep_groups import (
    EXPECTED,
    Group,
    collapses,
    fits,
    free,
    groups_of,
    reading,
)
from testbed.sweeps.gather import MEASURES, Gathered, gather, write_tables


def write_sweep_report(
    paths: Sequence[Path], out: Path, header: dict[str, str]
) -> tuple[Path, Gathered]:
    """Gathers the runs at or below `paths`; writes tables, figures and report.html.

    Args:
      paths: folders of runs, or of sweeps.
      out: where to write.
      header: of the sweep file; {} without one.

    Raises:
      UserError: no finished run below `paths`.
      RunError: `out` cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    gathered = gather(paths)
    groups = groups_of(gathered)
    pictures: dict[str, tuple[str, bytes, str]] = {}
    with matplotlib.rc_context(style.RC):
        for name, title, draw, caption in FIGURES:
            figure = draw(groups)
            if figure is not None:
                png = io.BytesIO()
                FigureCanvasAgg(figure).print_png(png)
                pictures[name] = (title, png.getvalue(), caption)
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        write_tables(gathered, out)
        for name, (_, png, _) in pictures.items():
            (out / "figures" / f"{name}.png").write_bytes(png)
        page = out / ".report.html"
        page.write_text(_page(gathered, groups, pictures, header, out), "utf-8")
        os.replace(page, out / "report.html")  # whole or not at all
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror})") from None
    return out / "report.html", gathered


def _page(gathered, groups, pictures, header, out: Path) -> str:
    question = header.get("question") or "Where do finite networks leave their kernel?"
    runs = gathered.runs
    count = f"{len(runs)} runs"
    if gathered.problems:
        count += f", {len(gathered.problems)} left out"
    head = (
        f"<h1>{escape(question)}</h1>"
        f'<p class="note">{escape(count)}; varied: '
        f"{escape(', '.join(gathered.varied) or 'nothing')}</p>"
        f'<p class="reading">{escape(reading(groups))}</p>'
    )
    figures = "".join(
        f'<h3 id="{name}">{escape(title)}</h3><figure>{image(png, title)}'
        f"<figcaption><p>{escape(caption)}</p></figcaption></figure>"
        for name, (title, png, caption) in pictures.items()
    )
    sections = [
        ("figures", "Figures", figures),
        ("exponents", "Exponents", _exponents(groups)),
        ("collapses", "Collapse", _collapse_table(groups)),
        ("runs", "Runs", _runs(gathered, out)),
        ("problems", "Left out", _problems(gathered)),
    ]
    if header:
        rows = [(k.capitalize(), v) for k, v in header.items()]
        sections.insert(0, ("sweep", "The sweep", table(rows)))
    return document(question, head, sections)


def _titled(group: Group, name: str) -> str:
    return f"{MEASURES[name]}; {group.label}" if group.label else MEASURES[name]


def _exponents(groups: Sequence[Group]) -> str:
    parts = []
    for group in groups:
        for name in EXPECTED:
            if name not in group.values:
                continue
            laws, rows = fits(group, name), []
            for fit in laws.fits:
                law = fit.law
                what = "n" if fit.varied == "width" else "d"
                at = {"depth": "d", "width": "n", "ratio": "d/n"}[fit.fixed]
                rows.append(
                    (
                        f"{what}^a at {at} = {fit.at:.4g}",
                        _exponent(law.exponent, law.interval),
                        str(law.points),
                        "censored" if law.never else fit.agreement,
                        law.reason or _left(law.never, law.missing),
                    )
                )
            joint = laws.joint
            rows.append(
                (
                    "d^b n^a, all cells: a",
                    _exponent(joint.width_exponent, joint.width_interval),
                    str(joint.points),
                    "censored" if joint.never else joint.agreement,
                    joint.reason or _left(joint.never, joint.missing),
                )
            )
            rows.append(
                (
                    "d^b n^a, all cells: b",
                    _exponent(joint.depth_exponent, joint.depth_interval),
                    str(joint.points),
                    "",
                    "",
                )
            )
            low, high = EXPECTED[name]
            note = (
                f"{_titled(group, name)} (theory, in n at fixed d: {low:g} to {high:g})"
            )
            header = ["law", "exponent [95 %]", "cells", "theory", ""]
            parts.append(table(rows, header, note))
    return "".join(parts) or "<p>Too few cells.</p>"


def _exponent(value: float, interval) -> str:
    if not np.isfinite(value):
        return "–"
    if not np.isfinite(interval).all():
        return f"{value:.2f}"
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _left(never: int, missing: int) -> str:
    parts = [f"{never} never departed"] if never else []
    parts += [f"{missing} missing"] if missing else []
    return ", ".join(parts)


def _collapse_table(groups: Sequence[Group]) -> str:
    parts = []
    for group in groups:
        for name in EXPECTED:
            ranking = collapses(group, name) if name in group.values else []
            if not ranking or not group.is_grid:
                continue
            rows = [
                (
                    one.name,
                    _exponent(one.quality, one.interval),
                    "–" if np.isnan(one.misfit) else f"{one.misfit:.2g}",
                    _standing(one, ranking),
                )
                for one in ranking
            ]
            best = free(group, name)
            if best is not None:
                value = _exponent(best.exponent, best.interval)
                rows.append((f"d^a/n, a = {value}", f"{best.quality:.2f}", "", "free"))
            header = ["variable", "quality [95 %]", "misfit", "against the best"]
            parts.append(table(rows, header, _titled(group, name)))
    note = (
        '<p class="note">Quality: error of predicting each cell from the others along '
        "the variable, 0 perfect, 1 worthless. Misfit: the same in units of the noise "
        "of the networks, 1 where nothing but that noise is left. d/sqrt(n) is the "
        "same variable as d²/n.</p>"
    )
    return note + "".join(parts) if parts else "<p>Too few widths and depths.</p>"


def _standing(one: Collapse, ranking: Sequence[Collapse]) -> str:
    if one is not ranking[0]:
        return "worse" if one.worse else "open"
    return "best" if all(other.worse for other in ranking[1:]) else "lowest, open"


def _runs(gathered: Gathered, out: Path) -> str:
    rows = []
    for run in gathered.runs.to_dict("records"):
        path = Path(run["run"])
        page = path / "report.html"
        target = os.path.relpath(page if page.exists() else path, out.resolve())
        link = f'<a href="{escape(target)}">{escape(path.name)}</a>'
        cells = "".join(f"<td>{escape(str(run[c]))}</td>" for c in gathered.varied)
        rows.append(
            f"<tr><td>{link}</td>{cells}<td>{escape(str(run['reading']))}</td></tr>"
        )
    names = "".join(f"<th>{escape(c)}</th>" for c in gathered.varied)
    head = f"<thead><tr><th>run</th>{names}<th>reading</th></tr></thead>"
    body = f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table>{head}{body}</table></div>'


def _problems(gathered: Gathered) -> str:
    if not gathered.problems:
        return "<p>Nothing.</p>"
    return table([(path, why) for path, why in gathered.problems], ["run", "why"])
