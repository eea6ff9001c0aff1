"""The figures of the literature, small, and the machinery that decides their claims."""

import json
import runpy
import subprocess
import sys
import types
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from testbed.errors import RunError, UserError
from testbed.reports.toolkit import Caption, blank, histogram, style
from testbed.reports.toolkit.page import mathematics
from testbed.reproduce import registry
from testbed.reproduce.claim import Result, above, below, close
from testbed.reproduce.registry import FIELDS, NAMES, header_of, reproduce
from testbed.reproduce.run import run, show_list
from testbed.reproduce.write import write_page
from testbed.runs import digests

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "scripts" / "reproduce.py")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Runs a figure's quick variant once, whatever asks for it: (result, folder)."""
    path, done = tmp_path_factory.mktemp("reproductions"), {}

    def get(name):
        if name not in done:
            done[name] = reproduce(name, True, path)
        return done[name], path

    return get


@pytest.mark.parametrize("name", NAMES)
def test_every_quick_variant_holds_its_claims(small, name):
    """All claims pass, and the folder has the picture and the same claims."""
    done, path = small(name)
    failed = [f"{c.text}: {c.found}, {c.wanted}" for c in done.claims if not c.passed]
    assert done.claims and not failed, failed
    assert done.passed and done.quick and done.seconds > 0
    assert (path / name / "figure.png").read_bytes() == done.png
    assert done.png.startswith(b"\x89PNG") and len(done.png) > 20_000
    kept = json.loads((path / name / "claims.json").read_text())
    assert kept["passed"] and kept["name"] == name and kept["header"] == done.header
    assert [c["text"] for c in kept["claims"]] == [c.text for c in done.claims]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_what_it_asks(name):
    """A title in one line, and question, source, parameters, expected result, time."""
    title, header = header_of(name)
    assert title.endswith(".") and len(title) <= 88
    assert set(header) == set(FIELDS), name
    assert all(len(text) > 5 for text in header.values())
    assert "arXiv" in header["Source"] or any(c.isdigit() for c in header["Source"])
    assert "quick" in header["Time"]


def test_claims_of_a_figure_have_different_texts(small):
    """A reader can tell them apart, and each says what it wanted."""
    done, _ = small(NAMES[0])
    texts = [claim.text for claim in done.claims]
    assert len(set(texts)) == len(texts)
    assert all(c.found and c.wanted for c in done.claims)


def test_the_page_has_every_figure_and_claim(small):
    """One file: a picture, the header, the caption and each claim of every figure."""
    names = NAMES[0], "ornstein_uhlenbeck"
    done = [small(name)[0] for name in names]
    path = small(names[0])[1]
    page = write_page(done, path)
    html = page.read_text()
    assert page == path / "report.html" and not list(path.glob(".*"))
    assert html.count("data:image/png;base64") == len(done)
    rows = html.count("<tr><td>")
    claims = [claim for one in done for claim in one.claims]
    assert rows == len(claims)
    assert f"{len(claims)} of {len(claims)} claims hold" in html
    for one in done:
        assert f"python scripts/reproduce.py {one.name} --quick" in html
    for field in FIELDS:
        shown = 0 if field == "Quick" else len(done)
        assert html.count(f"<strong>{field}.</strong>") == shown
    for one in done:  # the sizes that were drawn come first
        quick = header_of(one.name)[1]["Quick"]
        assert f"<strong>Parameters.</strong> {mathematics(quick)} (--quick;" in html
    assert ">fail<" not in html and "http" not in html.split("<body")[0]


def test_close_counts_standard_errors():
    """|measured - expected| <= 4 s.e. + bias, and not a hair more."""
    assert close("a", 1.39, 1.0, 0.1).passed
    assert not close("a", 1.41, 1.0, 0.1).passed
    assert not close("a", 0.59, 1.0, 0.1).passed
    assert not close("a", 1.31, 1.0, 0.1, sigmas=3).passed
    assert close("a", 1.45, 1.0, 0.1, bias=0.1, why="finite depth").passed
    assert not close("a", 1.51, 1.0, 0.1, bias=0.1, why="finite depth").passed
    assert close("a", 1.0, 1.0, 0.0).passed
    assert not close("a", 1.0 + 1e-9, 1.0, 0.0).passed
    for number in (float("nan"), float("inf")):
        assert not close("a", number, 1.0, 0.1).passed
        assert not close("a", 1.0, number, 0.1).passed
    assert not close("a", 1.0, 1.0, float("nan")).passed


def test_a_claim_says_what_was_found_and_wanted():
    """Numbers with errors; a bias with its reason, without which it is refused."""
    claim = close("mean", 1.25, 1.0, 0.1, bias=0.05, why="finite depth")
    assert claim.found == "1.25 ± 0.1"
    assert claim.wanted == "1 to within 4 s.e. and 0.05 (finite depth)"
    assert close("mean", 1.0, 1.0, 0.0, bias=0.5, why="w").wanted == (
        "1 to within 0.5 (w)"
    )
    assert below("KS", 0.1, 0.2, "noise").wanted == "below 0.2 (noise)"
    assert above("z", 9.0, 4.0).wanted == "above 4"
    with pytest.raises(ValueError, match="needs its reason"):
        close("mean", 1.0, 1.0, 0.1, bias=0.1)


def test_bounds_are_strict():
    """below and above hold strictly, and never of a number that is none."""
    assert below("a", 0.1, 0.2).passed and not below("a", 0.2, 0.2).passed
    assert above("a", 0.3, 0.2).passed and not above("a", 0.2, 0.2).passed
    nan = float("nan")
    assert not below("a", nan, 0.2).passed and not above("a", nan, 0.2).passed
    assert type(below("a", np.float32(0.1), 0.2).passed) is bool  # JSON knows no other


def a_figure(*claims):
    """A module as those in `figures`, that makes these claims."""
    module = types.ModuleType("a_figure")
    module.__doc__ = """A figure <for> a test.

Question: is it kept
  whole?
Source: this file, 2024.
Parameters: none: at all.
Quick: the same.
Expected: claims.
Time: 0 s; quick: 0 s.
"""

    def drawn(quick):
        figure, axes = blank(1, 1, 3.8)
        axes[0, 0].plot([0, 1])
        return Result(figure, list(claims), Caption("A line & nothing else."))

    vars(module)["reproduce"] = drawn
    return module


@pytest.fixture
def failing(monkeypatch):
    """Every name is a figure one of whose two claims does not hold."""
    good, bad = below("noise is small", 0.1, 0.2), above("<law> is met", 0.1, 0.2)
    monkeypatch.setattr(registry, "_module", lambda name: a_figure(good, bad))


def test_headers_are_read_over_lines(failing):
    """Continuation lines join; a colon inside of a field starts no other."""
    title, header = header_of("any")
    assert title == "A figure <for> a test."
    assert header["Question"] == "is it kept whole?"
    assert header["Parameters"] == "none: at all."


def test_a_failing_claim_is_named(failing, tmp_path, capsys):
    """RunError with figure and claim; the page and the folder are there and say so."""
    with pytest.raises(RunError, match=f"1 claims do not hold: {NAMES[0]}: <law> is"):
        run(NAMES[0], True, tmp_path)
    out = capsys.readouterr().out
    assert "1 of 2 claims hold" in out and "FAIL" in out
    html = (tmp_path / "report.html").read_text()
    assert "1 of 2 claims hold" in html and ">fail</strong>" in html
    assert "&lt;law&gt; is met" in html and "<law>" not in html  # escaped
    kept = json.loads((tmp_path / NAMES[0] / "claims.json").read_text())
    assert not kept["passed"]
    assert [c["passed"] for c in kept["claims"]] == [True, False]


def test_figures_of_an_earlier_version_stay_on_the_page(failing, tmp_path):
    """Their caption was one text, and what is expected a field of the header."""
    done, before = registry.reproduce(NAMES[0], True, tmp_path), tmp_path / NAMES[0]
    assert registry.kept(tmp_path) == [done]
    record = json.loads((before / "claims.json").read_text())
    record["header"]["Expected"] = record["caption"]["expected"]
    record["caption"] = record["caption"]["shown"]
    del record["sha256"]
    (before / "claims.json").write_text(json.dumps(digests.sealed(record)))
    assert registry.kept(tmp_path) == [done]


def test_a_failing_claim_is_exit_code_1(failing, tmp_path, monkeypatch, capsys):
    """The script, arguments and all: one line on stderr that names the claim."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back
    arguments = [SCRIPT, NAMES[0], "--quick", "--dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    script = runpy.run_path(SCRIPT)
    with pytest.raises(SystemExit) as stopped:
        script["main"]()
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert lines == [f"error: 1 claims do not hold: {NAMES[0]}: <law> is met"]


def test_all_runs_every_figure(failing, tmp_path):
    """`all`: each of the names is in the error, on the page and in the folder."""
    with pytest.raises(RunError) as caught:
        run("all", True, tmp_path)
    assert all(f"{name}: <law> is met" in str(caught.value) for name in NAMES)
    html = (tmp_path / "report.html").read_text()
    assert html.count("data:image/png;base64") == len(NAMES)
    assert f"{len(NAMES)} of {2 * len(NAMES)} claims hold" in html
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == sorted(NAMES)


def test_a_folder_that_cannot_be_written_is_named(failing, tmp_path):
    """A file where the folder should be: RunError with a remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written .*choose another --dir"):
        run(NAMES[0], True, tmp_path / "file")


def script(*args):
    command = [sys.executable, SCRIPT, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_an_unknown_name_is_one_line_and_exit_2(tmp_path):
    """The nearest name is suggested; nothing runs and nothing is written."""
    done = script("mean_varience", "--quick", "--dir", str(tmp_path / "out"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: name=mean_varience")
    assert done.stderr.strip().endswith("did you mean 'mean_variance'?")
    assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="did you mean 'all'"):
        run("al", True, tmp_path)


def test_list_has_every_name_and_title(capsys):
    """--list, and no name at all: what there is and what it takes."""
    done = script("--list")
    assert done.returncode == 0, done.stderr
    flat = " ".join(done.stdout.split())
    assert all(name in flat for name in NAMES)
    show_list()
    assert NAMES[0] in capsys.readouterr().out
    assert script().stdout == done.stdout


def test_a_blank_figure_is_a_grid_in_the_houses_style():
    """(rows, columns) of axes, always two-dimensional, of the reports' width."""
    figure, axes = blank(2, 3, 5.0)
    assert axes.shape == (2, 3) and blank(1, 1, 3.8)[1].shape == (1, 1)
    assert tuple(figure.get_size_inches()) == (style.WIDTH_INCHES, 5.0)
    assert matplotlib.rcParams["axes.grid"] is False  # set while drawing, no longer


def test_a_histogram_is_a_density_of_all_of_the_sample():
    """Its area is the share between the outer quantiles, 99.9 per cent."""
    x = np.random.default_rng(0).normal(size=100_000)
    _, axes = blank(1, 1, 3.8)
    histogram(axes[0, 0], x, bins=40, color="k", label="x")
    (steps,) = axes[0, 0].patches
    density, edges, _ = steps.get_data()
    area = (density * np.diff(edges)).sum()
    assert len(density) == 40 and abs(area - 0.999) < 1e-4
    middle = (edges[1:] + edges[:-1]) / 2
    want = np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    width = edges[1] - edges[0]
    error = np.sqrt(want / (len(x) * width))
    assert np.all(np.abs(density - want) < 5 * error + width**2 / 24)
    assert not np.all(np.abs(density - 0.9 * want) < 5 * error + width**2 / 24)
