"""Gather the runs of a sweep: divergence map, scaling, collapse, tables, one page.

python scripts/report.py maps/depth_width
python scripts/report.py runs maps/a maps/b --out maps/all
"""

from testbed.cli import guarded, read
from testbed.options import ReportOptions


def main() -> None:
    """Reads the options and writes the report."""
    with guarded("run again"):
        options = read(ReportOptions, __doc__)
        from testbed.reports.sweeps.report import report

        report(options.dirs, options.out or options.dirs[0])


if __name__ == "__main__":
    main()
