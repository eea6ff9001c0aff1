"""Find, for each width, the depth at which a measure passes a threshold.

python scripts/boundary.py --dir maps/boundary --widths 8,16,32,64 --depths 1-64
python scripts/boundary.py --dir maps/boundary               # again: it goes on
python scripts/boundary.py --dir maps/drift --measure kernel_drift --threshold 0.2

What is not given is as it was in --dir; in a new folder, as the brackets say.
"""

from testbed.cli import guarded, read
from testbed.options import BoundaryOptions


def main() -> None:
    """Reads the options and searches."""
    with guarded("rerun to resume"):
        options = read(BoundaryOptions, __doc__)
        from testbed.reports.boundary import write_boundary
        from testbed.sweeps.boundary_run import run

        run(options, write_boundary)


if __name__ == "__main__":
    main()
