"""``command`` of a sweep file: the arguments that it adds to those of the sweep.

wandb's agent runs the list of words, with ``${program}`` and ``${args}`` filled in.
Words of the form --name=value between them are settings of every point, here as there.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from testbed.commands import Command
from testbed.errors import UserError
from testbed.settings import flatten, override, pairs
from testbed.sweeps.document import yaml_text

USUAL = ["${env}", "${interpreter}", "${program}", "${args}"]
_ARGS = ("${args}", "${args_no_equals}")  # as our scripts read them


class Fixed(NamedTuple):
    """Settings by dotted name: what the sweep sets as well wins over `before`."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]


def fixed_arguments(words: Any, program: str, command: Command) -> Fixed:
    """The settings that ``command`` adds, before and after the sweep's own.

    Args:
      words: the list of the sweep file; None is `USUAL`.
      program: of the sweep file.
      command: the settings that it takes.

    Raises:
      UserError: a command that runs anything else, or sets what is none of them.
    """
    if words is None:
        return Fixed({}, {})
    if not isinstance(words, list) or not all(
        isinstance(word, str | int | float) for word in words
    ):
        rule = "must be a list of words"
        raise UserError("command", words, rule, f"write {yaml_text(USUAL)}")
    words = list(map(str, words))
    starts = [i for i, word in enumerate(words) if word in ("${program}", program)]
    head = words[: starts[0]] if starts else words
    if head[:1] in (["${env}"], ["/usr/bin/env"], ["env"]):
        head = head[1:]
    python = head and (head[0] == "${interpreter}" or head[0].startswith("python"))
    if len(starts) != 1 or not python or head[1:] not in ([], ["-u"]):
        rule = "must run the program by Python, and nothing else"
        remedy = f"begin with {yaml_text(USUAL[:3])}, and add --name=value"
        raise UserError("command", words, rule, remedy)
    rest = words[starts[0] + 1 :]
    places = [i for i, word in enumerate(rest) if word in _ARGS]
    others = [w for i, w in enumerate(rest) if "${" in w and i not in places]
    if len(places) != 1 or others:
        value = (others or ["command"])[0]
        rule = "settings of the sweep reach the program as ${args}, once"
        remedy = "write it so, and leave other ${...} out"
        raise UserError("command", value, rule, remedy)
    parts = rest[: places[0]], rest[places[0] + 1 :]
    return Fixed(*(_typed(part, command) for part in parts))


def _typed(words: list[str], command: Command) -> dict[str, Any]:
    given = pairs(words, command.config, "preset")
    settings = {name: value for name, value in given.items() if name != "preset"}
    read = flatten(override(command.config(), settings))
    return given | {name: read[name] for name in settings}
