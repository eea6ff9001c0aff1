"""Gather the runs of a sweep: divergence map, scaling, collapse, tables, one page.

python scripts/report.py maps/depth_width
python scripts/report.py runs maps/a maps/b --out maps/all
"""

from pathlib import Path

from testbed.cli import Parser, guarded


def main() -> None:
    """Reads the arguments and writes the report."""
    parser = Parser(__doc__)
    parser.add_argument("dirs", nargs="+", type=Path, help="folders of runs or sweeps")
    parser.add_argument("--out", type=Path, help="where to write; the first folder")
    options = parser.parse_args()
    with guarded("run again"):
        from testbed.reports.sweeps.report import report

        report(options.dirs, options.out or options.dirs[0])


if __name__ == "__main__":
    main()
