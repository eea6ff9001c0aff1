"""Settings by dotted names: read, replace and list those of any config.

A config is a frozen dataclass whose fields are groups (frozen dataclasses themselves)
or plain values; ``model.depth`` is a field of a group, ``samples`` a plain one.  One
reader serves the command line, config.json, wandb and sweep files.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from testbed.errors import UserError, check_name

C = TypeVar("C")


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
    try:
        if kind is bool:
            truth = {"true": True, "false": False, "1": True, "0": False}
            return truth[str(value).strip().lower()]
        if options and kind not in (int, float):
            text = value if isinstance(value, str) else ",".join(map(str, value))
            return tuple(int(v) for v in text.strip("()[] ").split(",") if v.strip())
        if kind is int:
            number = int(float(value))
            if isinstance(value, bool) or number != float(value):
                raise ValueError
            return int(value) if str(value).lstrip("-").isdigit() else number
        if kind is float and isinstance(value, bool):
            raise ValueError
        return kind(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        what = {int: "a whole number", float: "a number", bool: "True or False"}
        rule = f"must be {what.get(kind, 'whole numbers with commas between')}"
        raise UserError(name, value, rule, "correct the value") from None
