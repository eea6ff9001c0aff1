"""From a run's folder to its figures and its page."""

from pathlib import Path

from testbed.files import together
from testbed.reports.record import load_record
from testbed.reports.toolkit.page import add_page
from testbed.reports.toolkit.style import in_style, load_matplotlib


def write_report(path: Path) -> list[Path]:
    """Draws the run in the folder `path`: figures/*.png and report.html.

    Only the folder is read; a run that failed or has not finished is drawn as far as
    it was recorded.  report.html carries its pictures and refers to nothing outside.

    Args:
      path: the run's folder.

    Returns:
      The PNG files, in the order of the page.

    Raises:
      UserError: `path` is not a run's folder, holds no recorded time yet, or is
        damaged.
      OSError: it cannot be written.
    """
    load_matplotlib()
    from testbed.reports.figures import draw
    from testbed.reports.html import render

    path = Path(path)
    record = load_record(path)
    with in_style():
        drawings = draw(record)
    page = render(record, drawings)
    with together() as files:
        return add_page(files, path, page, drawings)
