"""Run a sweep file without a server: on this machine, or a piece of it anywhere.

python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --jobs 2
python scripts/sweep.py --dir maps/dw                        # go on, retry what failed
python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --index 3
python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --shard 0/8
python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --print-slurm
"""

from testbed.cli import guarded, read
from testbed.options import SweepOptions


def main() -> None:
    """Reads the options and runs."""
    with guarded("rerun to resume"):
        options = read(SweepOptions, __doc__)
        from testbed.programs import PROGRAMS
        from testbed.sweeps.run import run

        run(options, PROGRAMS)


if __name__ == "__main__":
    main()
