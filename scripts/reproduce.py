"""Draw figures of the literature anew and decide their claims by numbers.

python scripts/reproduce.py --list
python scripts/reproduce.py log_gaussian_histogram --quick
python scripts/reproduce.py all --dir reproductions
"""

from pathlib import Path

from testbed.cli import Parser, guarded


def main() -> None:
    """Reads the arguments and runs."""
    parser = Parser(__doc__)
    parser.add_argument("name", nargs="?", help="of a figure, or all")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--quick", action="store_true", help="small variants, seconds")
    parser.add_argument("--dir", type=Path, default=Path("reproductions"))
    options = parser.parse_args()
    with guarded("run again"):
        from testbed.reproduce.run import run, show_list

        if options.list or not options.name:
            show_list()
        else:
            run(options.name, options.quick, options.dir)


if __name__ == "__main__":
    main()
