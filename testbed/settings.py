"""Settings by dotted names: read, replace and list those of any config.

A config is a frozen dataclass whose fields are groups (frozen dataclasses themselves)
or plain values; ``model.depth`` is a field of a group, ``samples`` a plain one.  The
class of a group may depend on one of its own settings (`CHOSEN_BY`): that one is read
first.  One reader serves the command line, config.json, wandb and sweep files, and
also the options of scripts (`testbed.options`), whose fields are plain values alone.
"""

import ast
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from testbed.bounds import check_bounds, check_path
from testbed.errors import UserError, check_name

C = TypeVar("C")
CHOSEN_BY = "chosen by"
"""Metadata of a group's field: (name of a setting of it, {its value: the class})."""
POSITIONAL = "positional"
"""Metadata of the option that is given without its name: its form in the help."""
_SEVERAL = {
    tuple[str, ...]: str,
    tuple[str, ...] | None: str,
    tuple[Path, ...]: Path,
}
"""Types of what is given as words in a row, and of one such word."""
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
    """Returns {dotted name: declared type} of a config class.

    All settings that any choice of classes has; one that takes some texts is a str, see
    `choices`.
    """
    texts = lambda kind: str if get_origin(kind) is Literal else kind
    return {name: texts(kind) for name, kind in _annotated(config)}


def choices(config: type) -> dict[str, tuple[str, ...]]:
    """Returns {dotted name: what it may be} of the settings that take some texts."""
    found: dict[str, tuple[str, ...]] = {}
    for name, kind in _annotated(config):
        if get_origin(kind) is Literal:
            found[name] = get_args(kind)
    for group, (field, classes) in _chosen(config).items():
        found[f"{group}.{field}"] = tuple(classes)
    return found


def lacking(config: Any, values: Mapping[str, Any]) -> dict[str, str]:
    """Which of these settings the config with these values has no place for.

    Args:
      config: that the values are to replace some of.
      values: by dotted name.

    Returns:
      {dotted name: the choice that excludes it, as in "model.kind=mlp"}.
    """
    found = {}
    for group, (field, classes) in _chosen(type(config)).items():
        choice, kind = _class_of(getattr(config, group), group, field, classes, values)
        everywhere = {n for one in classes.values() for n in _names(one)}
        for name in sorted(everywhere - set(_names(kind))):
            if f"{group}.{name}" in values:
                found[f"{group}.{name}"] = f"{group}.{field}={choice}"
    return found


def without_lacking(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those that `lacking` names."""
    without = lacking(config, values)
    return {name: value for name, value in values.items() if name not in without}


def fitting(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same without unknown names, which a version with more settings may have."""
    types = field_types(type(config))
    known = {name: value for name, value in values.items() if name in types}
    return without_lacking(config, known)


def changed(config: C, base: C) -> dict[str, Any]:
    """{dotted name: value} of the settings that are not those of `base`.

    Where `config` chooses another class, what that class adds is compared with its
    defaults.
    """
    flat, chosen = flatten(config), _chosen(type(base))
    choice = {f"{group}.{field}": None for group, (field, _) in chosen.items()}
    before = flatten(base)
    same = flatten(override(base, {name: flat[name] for name in choice}))
    default = same | {name: before[name] for name in choice}
    return {name: value for name, value in flat.items() if value != default[name]}


def _class_of(
    group: Any, name: str, field: str, classes: Mapping[str, type], values: Mapping
) -> tuple[Any, type]:
    """The choice that a group makes with these values, and its class.

    What is no choice keeps the class: whoever checks the config says so.
    """
    choice = values.get(f"{name}.{field}", getattr(group, field))
    return choice, classes.get(str(choice), type(group))


@functools.cache
def _chosen(config: type) -> dict[str, tuple[str, Mapping[str, type]]]:
    """{group: (setting, {its value: class})} of the groups with a choice."""
    fields = dataclasses.fields(config)
    return {f.name: f.metadata[CHOSEN_BY] for f in fields if CHOSEN_BY in f.metadata}


def _annotated(config: type) -> tuple[tuple[str, Any], ...]:
    """(dotted name, annotation) of all settings, of all choices."""
    classes = (v for _, choice in _chosen(config).values() for v in choice.values())
    return _annotations(config, tuple(classes))


@functools.cache  # a sweep reads the same classes for every point
def _annotations(config: type, _: tuple[type, ...]) -> tuple[tuple[str, Any], ...]:
    return tuple(_walk(config))


def _walk(config: type) -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(config).items():
        if not dataclasses.is_dataclass(kind):
            yield name, kind
            continue
        _, classes = _chosen(config).get(name, ("", {}))
        for one in dict.fromkeys((kind, *classes.values())):
            hints = get_type_hints(one)
            for inner in _names(one):
                yield f"{name}.{inner}", hints[inner]


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    """Names of the fields of a group; none of a plain value."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(field.name for field in dataclasses.fields(kind))


def override(config: C, values: Mapping[str, Any]) -> C:
    """Returns `config` with dotted `values` replaced; texts are read as their type.

    Raises:
      UserError: an unknown name (with the nearest valid one), a setting that the choice
        of a class leaves no place for, or a value of the wrong type.
    """
    types = field_types(type(config))
    chosen = _chosen(type(config))
    for name, choice in lacking(config, values).items():
        group, _, field = name.partition(".")
        by, classes = chosen[group]
        able = [k for k, one in classes.items() if field in _names(one)]
        remedy = f"leave it out, or use {group}.{by}={' or '.join(able)}"
        raise UserError(name, values[name], f"is no setting of {choice}", remedy)
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
        before = getattr(config, group)
        if group in chosen:
            _, kind = _class_of(before, group, *chosen[group], values)
            if kind is not type(before):  # what both have stays as it is
                shared = set(_names(kind)) & set(_names(type(before)))
                before = kind(**{name: getattr(before, name) for name in shared})
        changed[group] = dataclasses.replace(before, **fields)
    return dataclasses.replace(config, **changed)  # pyright: ignore[reportArgumentType, reportReturnType]


def made(kind: type[C], values: Mapping[str, Any]) -> C:
    """Options with these values by name, read as their type; the rest are defaults.

    Raises:
      UserError: a value of the wrong type or beyond its bound, or none where there is
        no default.
    """
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        if field.default is dataclasses.MISSING and field.name not in values:
            form = field.metadata.get(POSITIONAL, f"--{field.name}=VALUE")
            raise UserError(field.name, "''", "must be given", f"add {form}")
    types = field_types(kind)
    read = {name: _read(name, text, types[name]) for name, text in values.items()}
    check_bounds(read)
    return kind(**read)


def _read(name: str, value: Any, kind: Any) -> Any:
    """Reads `value` as the declared type of the field `name`."""
    one, options = _SEVERAL.get(kind), get_args(kind)
    if type(None) in options:
        kind = options[0]
        # A text stays what it is: --index="" does not mean all points.
        number = kind in (int, float)
        if value is None or (number and value in ("None", "none", "null", "")):
            return None
    if one:
        return tuple(_read(name, word, one) for word in value)
    if kind is Path:
        check_path(name, value)
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


def pairs(argv: Sequence[str], config: type, *more: str) -> dict[str, Any]:
    """Returns {dotted name: text} of arguments, unread; a list where several may be.

    Args:
      argv: ``--name=value`` in any form that `testbed.cli` understands.
      config: class of the settings.
      more: names besides those of the settings.

    Raises:
      UserError: an unknown option (with the nearest valid ones), or one without value.
    """
    types = field_types(config)
    groups = {name.split(".")[0] for name in types if "." in name}
    fields = dataclasses.fields(config)
    place = next((f.name for f in fields if POSITIONAL in f.metadata), "")
    known = [name for name in (*types, *more) if name != place]
    given: dict[str, Any] = {}
    words, no_more = list(argv), False
    while words:
        word = words.pop(0)
        name, equals, value = word[2:].partition("=")
        name, values = name.replace("-", "_"), [value]
        if place and (no_more or not word.startswith("-")):
            name, values = place, [word]
        elif place and word == "--":
            no_more = True
            continue
        elif not word.startswith("--"):
            rule = "is not an option"
            raise UserError("argument", word, rule, "write --name=value")
        elif name in groups and equals and value.startswith("{"):
            given.update(_nested(name, value))
            continue
        elif name not in known:
            spelt = lambda n: f"--{n if groups else n.replace('_', '-')}"
            check_name("option", spelt(name), map(spelt, known))
        elif not equals:  # a flag leaves a word to what has no name
            flag, many = types.get(name) is bool, types.get(name) in _SEVERAL
            most = len(words) if many else int(not (flag and place))
            plain = lambda word: not word.startswith("--")
            values = list(itertools.takewhile(plain, words[:most]))
            del words[: len(values)]
            if not (values or many or flag):
                form = f"--{name}"
                raise UserError(form, "''", "needs a value", f"{form}=VALUE")
            values = values or ["True"] * flag
        if types.get(name) in _SEVERAL:
            given[name] = [*given.get(name, ()), *values]
        elif name == place and name in given:
            rule = f"is one too many: there is one {name}"
            raise UserError("argument", word, rule, "leave it out")
        else:
            given[name] = values[0]
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
