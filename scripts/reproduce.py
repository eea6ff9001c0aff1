"""Draw figures of the literature anew and decide their claims by numbers.

python scripts/reproduce.py --list
python scripts/reproduce.py log_gaussian_histogram --quick
python scripts/reproduce.py all --dir reproductions
"""

from testbed.cli import guarded, read
from testbed.options import ReproduceOptions


def main() -> None:
    """Reads the options and runs."""
    with guarded("run again"):
        options = read(ReproduceOptions, __doc__)
        from testbed.reproduce.run import run, show_list

        if options.list or not options.name:
            show_list()
        else:
            run(options.name, options.quick, options.dir)


if __name__ == "__main__":
    main()
