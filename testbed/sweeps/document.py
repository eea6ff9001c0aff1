"""The text of a sweep file and what YAML makes of it, within limits.

The events of the text are looked at first, one after another: a key given twice, a
reference to what holds it, nesting or references that would fill the memory are
refused by their line before anything is made of them.
"""

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

import yaml

from testbed.errors import UserError, one_line, shown

MOST_BYTES = 2_000_000
MOST_NESTED = 30
MOST_NODES = 300_000  # references counted as what they stand for
_MOST_BITS = 1024  # of a number: float64 has none beyond
_FLAVOUR: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the former is fast


class _Loader(_FLAVOUR):
    """wandb's reading, `yaml.safe_load`, with a line for what cannot be made."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """What a node stands for."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise ValueError(f"holds {shown(value)}")  # in base 16, say
            return value
        except (ValueError, OverflowError) as error:  # 5000 digits, the 31st of April
            raise yaml.constructor.ConstructorError(
                None, None, f"{error}", node.start_mark
            ) from None


def read_document(path: Path | str) -> tuple[str, Any]:
    """The text of a sweep file, and what YAML makes of it.

    Raises:
      UserError: a file that cannot be read, is not YAML, gives a key twice, refers to
        itself, or is beyond the limits.
    """
    path = Path(path)
    give = "give a sweep file"
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise UserError("sweep", path, "is not a file", give)
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            rule = f"has more than {MOST_BYTES:,} bytes"
            raise UserError("sweep", path, rule, "use a distribution for long lists")
        text = path.read_text("utf-8")
        _check(path, text)
        return text, yaml.load(text, Loader=_Loader)
    except OSError as error:
        rule = f"cannot be read ({error.strerror})"
        raise UserError("sweep", path, rule, give) from None
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from None
    except UnicodeDecodeError:
        raise UserError("sweep", path, "is not a text in UTF-8", give) from None


def holders(text: str) -> set[str]:
    """Keys at the top under which an anchor is, for other parts of the file to use."""
    found, key, depth, wants_key = set(), "", 0, True
    for event in yaml.parse(text, Loader=_FLAVOUR):
        begins = isinstance(event, yaml.CollectionStartEvent)
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            wants_key = wants_key or depth == 1
        elif isinstance(event, yaml.NodeEvent) and depth:
            if depth == 1 and wants_key and isinstance(event, yaml.ScalarEvent):
                key, wants_key = event.value, False
                continue
            if event.anchor and not isinstance(event, yaml.AliasEvent):
                found.add(key)
            wants_key = depth == 1 and not begins
        depth += begins
    return found


@dataclasses.dataclass
class _Open:
    """A mapping or list whose end is still to come."""

    mapping: bool
    anchor: str | None
    nodes: int = 1
    height: int = 1
    entries: int = 0
    keys: dict[str, int] = dataclasses.field(default_factory=dict)  # and their lines


def _check(path: Path, text: str) -> None:
    """Raises UserError for what may not be made of the text."""
    stack: list[_Open] = []
    known: dict[str, tuple[int, int]] = {}  # nodes and height of what is anchored

    def refuse(event: Any, value: object, rule: str, remedy: str) -> UserError:
        line = event.start_mark.line + 1
        return UserError("sweep", path, f"line {line}: {shown(value)} {rule}", remedy)

    def add(event: Any, nodes: int, height: int) -> None:
        """Counts a finished node, or the start of one, in what holds it."""
        if stack:
            top = stack[-1]
            top.nodes += nodes
            top.height = max(top.height, height + 1)
            if top.nodes > MOST_NODES:
                rule = f"is one of more than {MOST_NODES:,} entries"
                raise refuse(event, "this", rule, "use a distribution for long lists")
            if len(stack) - 1 + top.height > MOST_NESTED:
                rule = f"is nested more than {MOST_NESTED} deep"
                raise refuse(event, "this", rule, "write dotted names: model.depth")

    for event in yaml.parse(text, Loader=_FLAVOUR):
        if isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            if done.anchor:
                known[done.anchor] = done.nodes, done.height
            add(event, done.nodes, done.height)
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if stack:
            top = stack[-1]
            is_key = top.mapping and top.entries % 2 == 0
            top.entries += 1
            if is_key and isinstance(event, yaml.ScalarEvent):
                if event.value in top.keys:
                    first = top.keys[event.value]
                    rule = f"is given twice, first in line {first}"
                    raise refuse(event, event.value, rule, "leave one of them out")
                top.keys[event.value] = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if any(one.anchor == event.anchor for one in stack):
                rule = "refers to what it is in"
                raise refuse(event, f"*{event.anchor}", rule, "write it out")
            add(event, *known.get(event.anchor, (1, 0)))
        elif isinstance(event, yaml.CollectionStartEvent):
            add(event, 0, 1)
            mapping = isinstance(event, yaml.MappingStartEvent)
            stack.append(_Open(mapping, event.anchor))
        else:
            if event.anchor:
                known[event.anchor] = 1, 0
            add(event, 1, 0)


def _not_yaml(path: Path, error: yaml.YAMLError) -> UserError:
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    rule = f"is not YAML: {where}{one_line(problem, 120)}"
    return UserError("sweep", path, rule, "correct it")


def yaml_text(value: Any) -> str:
    """`value` in one line of YAML, as a person could paste it into a sweep file."""
    if isinstance(value, float) and math.isfinite(value):
        mantissa, e, exponent = repr(value).partition("e")
        point = ".0" if e and "." not in mantissa else ""  # else YAML reads a text
        return f"{mantissa}{point}{e}{exponent}"
    if isinstance(value, dict):
        entries = (f"{yaml_text(key)}: {yaml_text(v)}" for key, v in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml_text, value)) + "]"
    with contextlib.suppress(yaml.YAMLError, ValueError):
        text = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
        return text.removesuffix("\n").removesuffix("\n...")
    return shown(value)
