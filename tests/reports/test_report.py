"""The written report: complete, self-contained, and right about the run."""

import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

from testbed.cli import parse
from testbed.divergence import Departure, departure_time
from testbed.reports import load_record, write_report
from testbed.reports.departures import above_at_end, departure_words
from testbed.reports.html import render
from testbed.reports.predictions import losses
from testbed.reports.tables import (
    changed_settings,
    command,
    final_divergence,
    final_kernel,
    final_losses,
)
from testbed.runs.folder import RunFolder
from testbed.settings import flatten
from testbed.validation import validate

ALL = ("losses", "distances", "ensemble", "kernel", "spectrum", "layers", "movement")
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags close in order; collects text, links and sources."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.sources, self.links, self.ids = [], [], [], []
        self.text = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        """Opens a tag."""
        given = dict(attrs)
        self.sources += [v for k, v in given.items() if k in ("src", "data", "action")]
        self.links += [given["href"]] if "href" in given else []
        self.ids += [given["id"]] if "id" in given else []
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Closes the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keeps what can be read."""
        if "style" not in self.open:
            self.text += data


def read(path) -> Page:
    """The report in the run's folder `path`, checked to need nothing outside."""
    text = (path / "report.html").read_text("utf-8")
    page = Page(text)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link[0] == "#" and link[1:] in page.ids for link in page.links)
    assert "url(" not in text and "@import" not in text and "http" not in text
    return page


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"steps": (0,)}, ("distances", "movement")),
        ({"steps": (0, 1), "seeds": 1}, ()),
        ({"seeds": 2, "classes": 2, "every": 3}, ()),
        ({"classes": None, "probes": 0}, ("kernel", "spectrum")),
        ({"infinite": False}, ()),
        ({"status": None, "settings": {"train.loss": "cross_entropy"}}, ()),
        ({"settings": {"train.center": True, "model.kind": "mlp"}}, ()),
        (
            {"steps": (0,), "seeds": 1, "classes": None, "probes": 0},
            ("distances", "kernel", "spectrum", "movement"),
        ),
    ],
)
def test_every_kind_of_run_has_a_report(make_run, options, missing):
    """All figures that can be drawn are files and on the page; others say why not."""
    made = make_run(**options)
    files = write_report(made.path)
    wanted = [
        made.path / "figures" / f"{name}.png" for name in ALL if name not in missing
    ]
    assert files == wanted
    for file in files:
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = read(made.path)
    assert len(page.sources) == len(wanted)
    assert page.text.count("Not drawn.") == len(missing)
    assert not re.search(r"\b(nan|inf|None)\b", page.text.split("all settings")[0])


def test_the_page_of_the_usual_run(usual):
    """All figures; the one-sentence reading first; every number's word explained."""
    before = dict(matplotlib.rcParams)
    files = write_report(usual.path)
    assert dict(matplotlib.rcParams) == before
    assert [file.stem for file in files] == list(ALL)
    page = read(usual.path)
    assert len(page.sources) == len(ALL)
    reading = "The network left its kernel at t = 1 (made up)."
    assert reading in page.text
    assert page.text.index(reading) < page.text.index("Result")
    for word in ("departure time", "kernel drift", "alignment", "critical learning"):
        assert word in page.text
    assert "This run" not in page.text.split("Result")[0]


def test_a_failed_run_says_so(make_run):
    """A run that stopped shows its error on top."""
    error = "finite/loss/train of seed 1 is not finite at step 9, t = 2.25"
    record = load_record(make_run(status="failed", error=error).path)
    text = Page(render(record, [])).text
    assert "This run failed." in text and error in text
    assert text.index(error) < text.index("Result")
    unfinished = load_record(make_run(status=None).path)
    assert "has not finished" in Page(render(unfinished, [])).text


def test_a_diverged_predictor_does_not_flatten_the_others(make_run):
    """The loss axis is cut at 100 times its start, and the caption says so."""
    made = make_run(steps=(0, 1, 2))
    lines = (made.path / "metrics.jsonl").read_text().splitlines()
    old = re.search(r'"linearized/loss/train": \[[^]]*\]', lines[-1]).group()
    lines[-1] = lines[-1].replace(old, '"linearized/loss/train": [1e30, 1e28, 1e29]')
    (made.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    folder = RunFolder(made.path)
    summary = folder.read_json("summary.json")
    del summary["records"]  # as of an older version
    folder.write_json("summary.json", summary)
    record = load_record(made.path)
    assert "without digests" in Page(render(record, [])).text
    drawing = losses(record)
    top = drawing.figure.axes[0].get_ylim()[1]
    first = [v[0].max() for k, v in record.metrics.items() if "/loss/" in k]
    np.testing.assert_allclose(top, 100 * max(first))
    assert "cut" in drawing.caption.shown


def test_numbers_in_the_tables(usual):
    """The tables hold the last row's medians with their ranges."""
    record = load_record(usual.path)
    table = {row[0]: row[1:] for row in final_losses(record)}
    for split in ("train", "test"):
        last = np.asarray(usual.rows[-1][f"finite/loss/{split}"])
        wanted = f"{np.median(last):.4g} [{last.min():.4g}, {last.max():.4g}]"
        assert table[f"{split} loss"][0] == wanted
        infinite = float(usual.rows[-1][f"infinite/loss/{split}"])
        assert table[f"{split} loss"][2] == f"{infinite:.4g}"
    divergence = {row[0]: row[1:] for row in final_divergence(record)}
    for place, split in enumerate(("train", "test")):
        relative = [
            r[f"distance/finite_linearized/{split}/relative"] for r in usual.rows
        ]
        each = departure_time(record.times, relative, 0.1)
        wanted = str(Departure.of_seeds(each))
        assert divergence["departure time at tolerance 0.1"][place] == wanted
    drift = np.median(usual.rows[-1]["kernel/drift"])
    assert final_kernel(record)[0][1].startswith(f"{drift:.3g} [")


def test_words_about_departure(make_run):
    """Who departed, when, and who is above the tolerance at the end."""
    record = load_record(make_run().path)
    words = departure_words(record, "test")
    assert words == "all 3 networks depart, at t = 0.5 to 1"
    assert above_at_end(record, "test") == 3
    relative = record.metrics["distance/finite_linearized/test/relative"]
    relative[:, 0] = 0.01
    relative[-1, 1] = 0.05
    words = departure_words(record, "test")
    assert words == "2 of 3 networks depart, at t = 0.5"
    assert above_at_end(record, "test") == 1
    relative[:] = 0.01
    assert departure_words(record, "test") == "no network departs"
    relative[:] = np.nan
    assert departure_words(record, "test") == "nothing can be said"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model.kind": "mlp", "model.depth": 32, "train.center": True},
        {
            "data.data_dir": "/some where/it's",
            "model.branch": "fixed",
            "model.lam": 1e-3,
        },
        {"data.classes": (3, 7, 9), "run.dir": "x", "wandb.mode": "offline"},
    ],
)
def test_the_command_gives_the_run_again(make_run, settings):
    """Parsing the printed command gives the config, run.* and wandb.* aside."""
    record = load_record(make_run(steps=(0,), settings=settings).path)
    for every in (False, True):
        text = command(record, every)
        words = shlex.split(text.replace("\\\n", " "))  # as a shell reads it
        assert words[:2] == ["python", "scripts/train.py"]
        again = flatten(validate(parse(words[2:])))
        for name, value in again.items():
            stored = record.config[name]
            stored = tuple(stored) if isinstance(stored, list) else stored
            if name.startswith(("run.", "wandb.")):
                assert f"--{name}=" not in text or name == "run.seed_axis"
            else:
                assert stored == value, name
    assert len(command(record, True)) > len(command(record))
    assert "model.width" in changed_settings(record)
    assert "data.noise" not in changed_settings(record)


def test_text_is_escaped(make_run):
    """What a user wrote into a setting stays text."""
    group = "<script>alert(1)</script>"
    made = make_run(steps=(0,), settings={"wandb.group": group})
    page = Page(render(load_record(made.path), []))  # refuses script tags
    assert group in page.text


def test_settings_of_another_version(make_run):
    """A setting that this version does not know is shown and left out of commands."""
    made = make_run(steps=(0,))
    folder = RunFolder(made.path)
    config = {"train.magic": 3, **folder.read_json("config.json")}
    folder.write_json("config.json", config)
    record = load_record(made.path)
    assert "train.magic" in Page(render(record, [])).text
    assert "magic" not in command(record)


def test_matplotlib_waits_until_it_is_needed():
    """Importing testbed.reports does not import it; drawing never imports pyplot."""
    program = (
        "import sys, testbed.reports;"
        "assert 'matplotlib' not in sys.modules;"
        "import testbed.reports.figures;"
        "assert 'matplotlib.pyplot' not in sys.modules;"
        "print('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "fine", done.stderr
