"""Run a sweep file without a server: on this machine, or a piece of it anywhere.

python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --jobs 2
python scripts/sweep.py --dir maps/dw                        # go on, retry what failed
python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --index 3
python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --shard 0/8
python scripts/sweep.py sweeps/depth_width.yaml --dir maps/dw --print-slurm
"""

from pathlib import Path

from testbed.cli import Parser, guarded, whole


def main() -> None:
    """Reads the arguments and runs."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("file", nargs="?", type=Path, help="of sweeps/; left out, that of the folder")
    add("--dir", type=Path, required=True, help="folder of the sweep")
    add("--jobs", type=whole, default=1, help="workers on this machine")
    add("--index", help="only these points: 3, or 0-7, or 0,4,8")
    add("--shard", help="only shard I of N: I/N")
    add("--quick", action="store_true", help="the same made small, for a trial")
    add("--seed", type=whole, help="of random and bayes sweeps")
    add("--yes", action="store_true", help="run more than a million points")
    add("--list", action="store_true", help="say which points there are, and stop")
    add("--print-slurm", action="store_true", help="print an sbatch script, and stop")
    add("--cpus", type=whole, default=2, help="of a job of that script")
    add("--mem", default="4G", help="memory of a job")
    add("--time", default="01:00:00", help="of a job, at most")
    add("--gres", help="e.g. gpu:1")
    add("--partition", help="of the cluster")
    add("--throttle", type=whole, help="jobs at a time")
    add("--submitit", metavar="KEY=VALUE", nargs="*", help="submit shards by submitit")
    options = parser.parse_args()
    with guarded("run again to go on"):
        from testbed.programs import PROGRAMS
        from testbed.sweeps.run import run

        run(options, PROGRAMS)


if __name__ == "__main__":
    main()
