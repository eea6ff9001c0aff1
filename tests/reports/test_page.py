from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from testbed.reports.page import link

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
