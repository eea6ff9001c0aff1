"""The two ways a run can end early: a user's mistake, and a failed run.

A message is one line: values are shortened, and what a terminal would not print as
itself is escaped.
"""

import difflib
import math
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

MOST_SHOWN = 80
"""Characters of a value in a message."""
MOST_PATH = 300
"""Characters of a path, which people copy."""
MOST_LINE = 600
"""Characters of a message."""
MOST_NAMES = 20
"""Names that a message lists; of more it gives the nearest."""


class UserError(ValueError):
    """A setting that cannot be honoured; the command line exits with 2.

    Args:
      field: dotted name of the setting, e.g. ``model.depth``.
      value: what it was set to; the message has it shortened and escaped.
      rule: what it must satisfy.
      remedy: what to do instead.
    """

    def __init__(self, field: str, value: object, rule: str, remedy: str):
        self.field, self.value, self.rule, self.remedy = field, value, rule, remedy
        parts = (one_line(rule, MOST_LINE), one_line(remedy, MOST_LINE))
        super().__init__(f"{shown(field)}={shown(value)}: {'; '.join(parts)}")

    def __reduce__(self):  # else it could not be sent from one process to another
        return type(self), (self.field, self.value, self.rule, self.remedy)


class RunError(RuntimeError):
    """A run that had to stop; everything recorded is kept; exits with 1."""

    def __init__(self, message: str):
        super().__init__(one_line(message, 2 * MOST_LINE))


class NotFinite(RunError):
    """A run that stopped because its numbers were not finite any more.

    Args:
      message: of the error.
      seeds: the networks that diverged, or whose linearizations did.
      t: when that was seen.

    Attributes:
      comparison: what `testbed.compare` had recorded until then, where it was asked.
    """

    comparison: Any = None

    def __init__(self, message: str, seeds: Iterable[int], t: float):
        super().__init__(message)
        self.seeds, self.t = list(seeds), t

    def __reduce__(self):
        return type(self), (str(self), self.seeds, self.t)


def shown(value: object, most: int = 0) -> str:
    """A value as a message shows it: escaped, and no longer than `most` characters.

    Newlines, control codes, the escapes of terminals, marks that turn the direction of
    a text and halves of surrogate pairs appear by their codes, as in a Python string;
    the middle of what is too long is left out.

    Args:
      value: anything; of a container the first few entries are shown.
      most: `MOST_SHOWN`, or `MOST_PATH` of a path, if it is 0.
    """
    most = most or (MOST_PATH if isinstance(value, PurePath) else MOST_SHOWN)
    return shortened(escaped(_text(value)), most)


def one_line(text: object, most: int = MOST_LINE) -> str:
    """A message on one line: line breaks become spaces, the rest is as in `shown`."""
    return shortened(escaped(" ".join(str(text).split())), most)


def escaped(text: str) -> str:
    """`text` with what is not printable written out."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def shortened(text: str, most: int) -> str:
    """`text` without its middle, if it is longer than `most` characters."""
    if len(text) <= most:
        return text
    end = max((most - 3) // 3, 0)
    return f"{text[: most - 3 - end]}...{text[len(text) - end :]}"


class _Repr(reprlib.Repr):
    """Of containers: a few entries of a few levels, however large they are."""

    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 4, 8, 8, 8
        self.maxstring = self.maxother = MOST_SHOWN

    def repr_int(self, x: int, level: int) -> str:  # Python writes 4300 digits at most
        return _number(x)


_repr = _Repr()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return _number(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _repr.repr(dict(value) if isinstance(value, Mapping) else value)
    return str(value)


def _number(value: int) -> str:
    digits = int(value.bit_length() * math.log10(2))
    return f"a number of about {digits} digits" if digits > 100 else str(value)


def in_a_line(error: BaseException) -> str:
    """Type and message of an error; of a longer message, the first line.

    The last line of a traceback will not do: JAX ends its own with a remark on frames.
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_name(field: str, value: object, valid: Iterable[str]) -> None:
    """Raises a `UserError` that suggests the nearest of the `valid` names.

    Where there are many, only the nearest few are listed.
    """
    valid = list(valid)
    if value in valid:
        return
    text = shown(value)
    many = len(valid) > MOST_NAMES
    near = difflib.get_close_matches(text, valid, n=3, cutoff=0.6 if many else 0.5)
    rule = f"must be one of {', '.join(valid)}"
    remedy = f"did you mean '{near[0]}'?" if near else "choose one of these"
    if many:
        rule = f"must be one of {len(valid)} names"
        rule += f", the nearest of which are {', '.join(near)}" if near[1:] else ""
        remedy = remedy if near else "see --help for all of them"
    raise UserError(field, value, rule, remedy)
