"""The command line: arguments to a `Config` or to options, errors to exit codes.

Values are read by `testbed.settings`, the same reader that serves sweep files and
wandb; `tyro` renders the help.  Nothing heavy is imported before arguments are read.
"""

import contextlib
import dataclasses
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_type_hints

from testbed.commands import TRAIN, Command
from testbed.errors import MOST_LINE, RunError, UserError, check_name, one_line
from testbed.settings import (
    POSITIONAL,
    choices,
    lacking,
    made,
    override,
    pairs,
    without_lacking,
)
from testbed.surroundings import check_device, refused_by_jax, settle, wandb_mode

Options = TypeVar("Options")


def main(run: Callable[[Any], Any], description: str, command: Command = TRAIN) -> None:
    """Reads sys.argv, calls `run` with the validated config, and exits.

    Exit codes: 0 success; 1 a failed run; 2 a user's mistake, told in one line.
    """
    with guarded():
        config = command.validate(parse(sys.argv[1:], description, command))
        if config.wandb.mode == "auto":
            wandb_mode()
        _share_accelerator()
        check_device()
        given = pairs(sys.argv[1:], command.config, "preset")
        if given.get("preset") in command.accelerated:
            # It loads data, which help and mistakes do not wait for.
            from testbed.runs.preflight import check_accelerated

            check_accelerated(config)
        for line in command.unused(config):
            warnings.warn(line, stacklevel=1)
        run(config)


@contextlib.contextmanager
def guarded(go_on: str = "continue with --run.resume") -> Iterator[None]:
    """Turns errors inside of it into one line on stderr and an exit code.

    Args:
      go_on: what to do after Ctrl-C.
    """
    warnings.showwarning = _one_line_warning
    try:
        settle()
        check_packages()
        yield
    except UserError as error:
        _stop(error, 2)
    except RunError as error:
        _stop(error, 1)
    except MemoryError:
        _stop("memory is exhausted; lower data.train_size or model.width", 1)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _stop(f"interrupted; {go_on}", 130)
    except Exception as error:
        refused = refused_by_jax(error)
        if refused is None:
            raise
        _stop(refused, 2)


def read(kind: type[Options], description: str | None) -> Options:
    """The options in sys.argv; with --help, prints the description of the script.

    Understood: ``--name=value``, ``--name value``, ``--flag``, ``--several a b``, and
    the one option without a name; with dashes or underscores, in any order.

    Raises:
      UserError: an unknown option (with the nearest valid one), one that is missing, or
        a value that cannot be read.
    """
    argv = sys.argv[1:]
    if "-h" in argv or "--help" in argv:
        _render_help(kind, description or "")
    return made(kind, pairs(argv, kind))


def parse(argv: Sequence[str], description: str = "", command: Command = TRAIN) -> Any:
    """Returns the (not yet validated) config of command-line arguments.

    Understood: ``--model.depth=8``, ``--model.depth 8``, ``--run.resume``,
    ``--run.report=False``, ``--preset smoke``, and wandb's nested
    ``--model={'depth': 8}``.  With ``--run.resume`` and a folder that holds a run, what
    is not given is as it was there.

    Raises:
      UserError: an unknown option (with the nearest valid one), an unreadable value, or
        one that does not agree with the run to be resumed.
    """
    if "-h" in argv or "--help" in argv:
        _print_help(argv, description, command)
    given = pairs(argv, command.config, "preset")
    if "WANDB_SWEEP_ID" in os.environ:  # a sweep over kinds has settings of them all
        for name, choice in lacking(command.config(), given).items():
            line = f"{name} is no setting of {choice}: left out"
            warnings.warn(line, stacklevel=1)
        given = without_lacking(command.config(), given)
    chosen = str(given.pop("preset", "default"))
    check_name("preset", chosen, command.presets)
    run = override(command.config(), given).run
    if run.resume and run.dir and (Path(run.dir) / "config.json").exists():
        from testbed.runs.stored import going_on, read_config  # it imports numpy

        stored = read_config(Path(run.dir), command.config)
        given = {**command.presets[chosen], **given}
        return going_on(Path(run.dir), stored, given, command.validate)
    base = override(command.config(), command.presets[chosen])
    if "model.ratio" in given and "model.depth" not in given:
        base = override(base, {"model.depth": None})  # a preset's depth gives way
    return override(base, given)


def _print_help(argv: Sequence[str], description: str, command: Command) -> None:
    words = [word for word in argv if word not in ("-h", "--help")]
    given = pairs(words, command.config, "preset")
    kind = {n: v for n, v in given.items() if n == "model.kind"}
    for name, value in kind.items():
        check_name(name, value, choices(command.config)[name])
    text = (
        f"{description}\n\n--preset {' or '.join(command.presets)} sets "
        "the values that the other options then change."
    )
    default = override(command.config(), kind)
    _render_help(command.config, text, default=default, use_underscores=True)


def _render_help(kind: type, description: str, **more: Any) -> None:
    import tyro

    # Lines that are indented keep to themselves; others are run together.
    examples = re.sub("^python ", "    python ", description, flags=re.MULTILINE)
    for field in dataclasses.fields(kind):
        if POSITIONAL in field.metadata:
            form = tyro.conf.arg(metavar=field.metadata[POSITIONAL])
            place = Annotated[get_type_hints(kind)[field.name], form]
            default = dataclasses.field(default=field.default)
            marked = [(field.name, tyro.conf.Positional[place], default)]
            kind = dataclasses.make_dataclass("_", marked, bases=(kind,), frozen=True)
    flags = tyro.conf.FlagConversionOff if more else tyro.conf.FlagCreatePairsOff
    tyro.cli(kind, description=examples, args=["--help"], config=(flags,), **more)


def check_packages() -> None:
    """Raises UserError if `models` is not the package that came with `testbed`."""
    here = Path(__file__).resolve().parent.parent
    found = importlib.util.find_spec("models")
    if found is None or found.origin is None:
        where, same = "nowhere", False
    else:
        where = found.origin
        same = Path(where).resolve().parent.parent == here
    if not same:
        rule = "is shadowed: it must be the package that came with this project"
        remedy = "remove the other one from PYTHONPATH, or start Python with -P"
        raise UserError("import models", Path(where), rule, remedy)


def _share_accelerator() -> None:
    """Under a wandb agent a card may be shared: take its memory as it is needed."""
    if "WANDB_SWEEP_ID" in os.environ:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def _one_line_warning(message, category, filename, lineno, file=None, line=None):
    if issubclass(category, UserWarning):
        print(f"warning: {one_line(message)}", file=sys.stderr)


def _stop(message: object, code: int) -> NoReturn:
    kind = "stopped" if code == 130 else "error"
    print(f"{kind}: {one_line(message, 3 * MOST_LINE)}", file=sys.stderr)
    sys.stdout.flush()
    sys.exit(code)
