from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from testbed.errors import RunError
from testbed.reports.toolkit import (
    Caption,
    Drawing,
    blank,
    legend_below,
    log_axis,
    size_axis,
    style,
)
from testbed.reports.toolkit.page import figures, link, mathematics, report_files

PAGE = "file:///maps/a/report.html"


class Links(HTMLParser):
    """Collects the links of a page and what they are called."""

    def __init__(self):
        super().__init__()
        self.found, self.names = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.names.append(data)


@pytest.mark.parametrize(
    "folder",
    [
        "points/0123456789ab",
        "javascript:alert(1)",
        "data:text/html,x",
        "a#b?c=d&e",
        "100%25",
        "\"onmouseover='x'<b>",
        "a b+c;d",
        "../é/данные",
    ],
)
def test_a_link_leads_to_the_folder_that_is_named(folder):
    """Whatever its name, a browser resolves the link to that path on this host."""
    page = Links()
    page.feed(link(f"{folder}/report.html", folder))
    ((tag, attributes),) = page.found
    assert tag == "a" and set(attributes) == {"href"}
    assert "".join(page.names) == folder
    where = urlsplit(urljoin(PAGE, attributes["href"]))
    assert where.scheme == "file" and not (where.query or where.fragment)
    wanted = f"/maps/a/{folder}" if not folder.startswith("..") else "/maps/é/данные"
    assert not where.netloc
    assert unquote(where.path) == f"{wanted}/report.html"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("d^2/n", "d<sup>2</sup>/n"),
        ("d^0.98 n^-0.97", "d<sup>0.98</sup> n<sup>-0.97</sup>"),
        ("L^{-1/2}", "L<sup>-1/2</sup>"),
        ("n^(−1/2) & 1/n", "n<sup>−1/2</sup> &amp; 1/n"),
        ("|z_d|^2/|z_0|^2", "|z<sub>d</sub>|<sup>2</sup>/|z<sub>0</sub>|<sup>2</sup>"),
        ("y ~ train_size^a, half_t", "y ~ train_size^a, half_t"),
    ],
)
def test_indices_and_powers(text, html):
    """A power ends where the number ends, and a name is no index."""
    assert mathematics(text) == html


def test_figures_are_numbered_and_say_what_is_known_of_them():
    """A part of a caption that is empty has no heading; no figure, its reason."""
    with style.in_style():
        figure, axes = blank(1, 1, 2.0, "of what")
        axes[0, 0].plot([1, 2])
    drawn = Drawing("a", "First <one>", Caption("n^2.", look_for="Here."), figure)
    html = figures([drawn, Drawing("b", "Second", "Nothing was measured.")])
    assert '<h3 id="a">1. First &lt;one&gt;</h3>' in html and ">2. Second</h3>" in html
    assert html.count("data:image/png;base64") == 1 and drawn.png[:4] == b"\x89PNG"
    assert "<strong>Shown.</strong> n<sup>2</sup>." in html and "Expected." not in html
    assert "<strong>Look for:</strong> Here." in html
    assert "<strong>Not drawn.</strong> Nothing was measured." in html


def test_axes_have_round_numbers_and_sizes_their_own():
    """Ticks of logarithmic axes; those of sizes, thinned out if they are many."""
    with style.in_style():
        figure, ((left, right),) = blank(1, 2, 3.0)
        left.plot([3, 70], [0.02, 5.0], label="of a name that is rather long" * 3)
        log_axis(left.xaxis, left.yaxis)
        size_axis(right.xaxis, sizes=range(1, 31))
        legend_below(figure, left, right)
    assert left.get_yscale() == "log" and right.get_xscale() == "log"
    assert {0.03, 0.1, 0.3, 1, 3} <= set(left.get_yticks().round(6))
    assert list(right.get_xticks()) == list(range(1, 31, 3))
    assert figure.legends[0]._ncols == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    """With its remedy, and nothing of the others is left."""
    (tmp_path / "file").write_text("")
    told = "file: cannot be written .*; choose another"
    with (
        pytest.raises(RunError, match=told),
        report_files(tmp_path / "file", "choose another") as files,
    ):
        files.write(tmp_path / "one", b"1")
        files.write(tmp_path / "file" / "two", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
