"""Find, for each width, the depth at which a measure passes a threshold.

python scripts/boundary.py --dir maps/boundary --widths 8,16,32,64 --depths 1-64
python scripts/boundary.py --dir maps/boundary               # again: it goes on
python scripts/boundary.py --dir maps/drift --measure kernel_drift --threshold 0.2
"""

from pathlib import Path

from testbed.cli import Parser, guarded, whole


def main() -> None:
    """Reads the arguments and searches."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--dir", type=Path, required=True, help="folder; started again, it goes on")
    # Of the plan what is not given is as it was in --dir, or as `Plan` has it.
    add("--networks", help="of resnet,balanced,balanced_scaled")
    add("--widths", help="e.g. 8,16,32,64")
    add("--depths", help="LOW-HIGH, two depths a doubling")
    add("--measure", help="e.g. relative_distance")
    add("--threshold", type=float)
    add("--seeds", type=whole, help="networks of one run")
    add("--most-seeds", type=whole, help="at most at one depth")
    several: dict = {"nargs": "*", "action": "extend"}
    settings: dict = {"dest": "settings", "metavar": "NAME=VALUE"}
    add("--set", help="of every run", **settings, **several)
    add("--reuse", type=Path, help="further folders of runs", default=[], **several)
    add("--jobs", type=whole, default=1, help="runs at a time, each a process")
    add("--dry", action="store_true", help="say what it costs, and stop")
    options = parser.parse_args()
    with guarded("run again to go on"):
        from testbed.reports.boundary import write_boundary
        from testbed.sweeps.boundary_run import run

        run(options, write_boundary)


if __name__ == "__main__":
    main()
