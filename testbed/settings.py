"""Settings by dotted names: read, replace and list those of any config.

A config is a frozen dataclass whose fields are groups (frozen dataclasses themselves)
or plain values; ``model.depth`` is a field of a group, ``samples`` a plain one.  One
reader serves the command line, config.json, wandb and sweep files.
"""

import ast
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_type_hints

from testbed.errors import UserError, check_name

C = TypeVar("C")
_DIGITS = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(
    r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE
)
_MOST_DIGITS = 300


def flatten(config: Any) -> dict[str, Any]:
    """Returns {dotted name: value}."""
    flat: dict[str, Any] = {}
    for name in _names(type(config)):
        value = getattr(config, name)
        if _names(type(value)):
            for inner, one in flatten(value).items():
                flat[f"{name}.{inner}"] = one
        else:
            flat[name] = value
    return flat


def field_types(config: type) -> dict[str, Any]:
    """Returns {dotted name: declared type} of a config class."""
    return dict(_field_types(config))


@functools.cache  # a sweep reads the same class for every point
def _field_types(config: type) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for name, kind in get_type_hints(config).items():
        if dataclasses.is_dataclass(kind):
            types |= {f"{name}.{k}": v for k, v in get_type_hints(kind).items()}
        else:
            types[name] = kind
    return types


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    """Names of the fields of a group; none of a plain value."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(field.name for field in dataclasses.fields(kind))


def override(config: C, values: Mapping[str, Any]) -> C:
    """Returns `config` with dotted `values` replaced; texts are read as their type.

    Raises:
      UserError: an unknown name (with the nearest valid one), or a value of the wrong
        type.
    """
    types = _field_types(type(config))
    groups: dict[str, dict[str, Any]] = {}
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            check_name("option", name, types)
        group, dot, field = name.partition(".")
        read = _read(name, value, types[name])
        if dot:
            groups.setdefault(group, {})[field] = read
        else:
            changed[name] = read
    for group, fields in groups.items():
        changed[group] = dataclasses.replace(getattr(config, group), **fields)
    return dataclasses.replace(config, **changed)  # pyright: ignore[reportArgumentType, reportReturnType]


def _read(name: str, value: Any, kind: Any) -> Any:
    """Reads `value` as the declared type of the field `name`."""
    options = get_args(kind)
    if type(None) in options:
        if value is None or value in ("None", "none", "null", ""):
            return None
        kind = options[0]
    what = {int: "a whole number", float: "a number", bool: "True or False"}
    what |= {str: "a text"}
    try:
        if kind is bool:
            truth = {"true": True, "false": False, "1": True, "0": False}
            return truth[str(value).strip().lower()]
        if kind is int:
            return whole_number(value)
        if kind is float:
            return _number(value)
        if get_args(kind):
            if isinstance(value, str):
                value = [v for v in value.strip("()[] ").split(",") if v.strip()]
            return tuple(map(whole_number, value))
        return kind(value)
    except OverflowError:
        rule = "is beyond the largest number, 1.8e308"
        raise UserError(name, value, rule, "use a smaller one") from None
    except (ValueError, TypeError, KeyError):
        rule = f"must be {what.get(kind, 'whole numbers with commas between')}"
        raise UserError(name, value, rule, "correct the value") from None


def count_of(text: str) -> int | None:
    """A number without sign, of up to 18 of the digits 0 to 9; None of other texts."""
    known = text.isascii() and text.isdecimal() and len(text) <= 18
    return int(text) if known else None


def whole_number(value: Any) -> int:
    """`value` as a whole number: 8, 8.0, "8" or "1e3", in the digits 0 to 9.

    Raises:
      ValueError, TypeError, OverflowError: it is none, or of more than 300 digits.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(text := value.strip()):
        if len(text) > _MOST_DIGITS:  # Python reads 4300 at most
            raise OverflowError
        return int(text)
    number = _number(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        raise ValueError  # Python would also take 1_000 and the digits of any script
    return float(value)


def pairs(argv: Sequence[str], types: dict[str, Any]) -> dict[str, Any]:
    """Returns {dotted name: text} of arguments, unread.

    Args:
      argv: ``--name=value`` in any form that `parse` understands.
      types: declared type of every setting, by dotted name.

    Raises:
      UserError: an unknown option (with the nearest valid ones), or one without value.
    """
    groups = {name.split(".")[0] for name in types if "." in name}
    given: dict[str, Any] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            rule = "is not an option"
            raise UserError("argument", word, rule, "write --name=value")
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name in groups and equals and value.startswith("{"):
            given.update(_nested(name, value))
            continue
        if name != "preset" and name not in types:
            check_name("option", f"--{name}", [f"--{t}" for t in [*types, "preset"]])
        if not equals:
            flag = types.get(name) is bool
            if words and not words[0].startswith("--"):
                value = words.pop(0)
            elif flag:
                value = "True"
            else:
                raise UserError(f"--{name}", "''", "needs a value", f"--{name}=VALUE")
        given[name] = value
    return given


def _nested(group: str, text: str) -> dict[str, Any]:
    """wandb's --group={'name': value}, as dotted names."""
    try:
        nested = ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        nested = None
    if not isinstance(nested, dict):
        rule = "must be a dictionary of settings"
        raise UserError(f"--{group}", text, rule, f"e.g. --{group}.NAME=VALUE")
    return {f"{group}.{key}": value for key, value in nested.items()}
