"""The command line: arguments to a `Config`, errors to exit codes.

Values are read by `config.override`, the same reader that serves sweep files and
wandb; `tyro` renders the help.  Nothing heavy is imported before arguments are read.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from testbed.commands import TRAIN, Command
from testbed.errors import MOST_LINE, RunError, UserError, check_name, one_line, shown
from testbed.settings import (
    choices,
    field_types,
    lacking,
    override,
    pairs,
    whole_number,
    without_lacking,
)
from testbed.surroundings import check_device, refused_by_jax, settle, wandb_mode


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
        if _preset(sys.argv[1:], command) in command.accelerated:
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
    given = pairs(argv, field_types(command.config))
    if "WANDB_SWEEP_ID" in os.environ:
        given = _without_place(command.config(), given)
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


def _without_place(base: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Without what the kind of this point of a wandb sweep has no setting for."""
    for name, choice in lacking(base, given).items():
        warnings.warn(f"{name} is no setting of {choice}: left out", stacklevel=2)
    return without_lacking(base, given)


def _preset(argv: Sequence[str], command: Command) -> str:
    return str(pairs(argv, field_types(command.config)).get("preset", "default"))


def _print_help(argv: Sequence[str], description: str, command: Command) -> None:
    import tyro

    given = pairs(
        [word for word in argv if word not in ("-h", "--help")],
        field_types(command.config),
    )
    kind = {n: v for n, v in given.items() if n == "model.kind"}
    for name, value in kind.items():
        check_name(name, value, choices(command.config)[name])
    default = override(command.config(), kind)
    # Lines that are indented keep to themselves; others are run together.
    examples = re.sub("^python ", "    python ", description, flags=re.MULTILINE)
    tyro.cli(
        command.config,
        default=default,
        description=f"{examples}\n\n--preset {' or '.join(command.presets)} sets "
        "the values that the other options then change.",
        args=["--help"],
        use_underscores=True,
        config=(tyro.conf.FlagConversionOff,),
    )


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


class Parser(argparse.ArgumentParser):
    """Reads the options of a script; a mistake is one line, as everywhere.

    Args:
      text: the script's docstring.
    """

    def __init__(self, text: str | None):
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(description=text, formatter_class=form)

    def parse_args(self, *args: Any, **more: Any) -> Any:
        """The options; a value that is ``--``, which argparse drops, is a mistake."""
        options = super().parse_args(*args, **more)
        for action in self._actions:
            value = getattr(options, action.dest, None)
            if action.nargs is None and isinstance(value, list):
                self.error(f"argument {action.option_strings[0]}: expected one value")
        return options

    def error(self, message: str) -> NoReturn:
        """Tells a mistake and exits with 2."""
        start, _, rest = message.partition(": ")
        if start == "unrecognized arguments":
            word = rest.partition(" ")[0].partition("=")[0]
            if word.startswith("-"):
                try:
                    check_name("option", word, self._option_string_actions)
                except UserError as error:
                    message = str(error)
        _stop(f"{one_line(message, 200)}; see --help", 2)


def whole(text: str) -> int:
    """A whole number of the command line, for argparse.

    Raises:
      argparse.ArgumentTypeError: it is none.
    """
    try:
        return whole_number(text)
    except (ValueError, OverflowError):
        told = f"{shown(text)}: must be a whole number"
        raise argparse.ArgumentTypeError(told) from None


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
