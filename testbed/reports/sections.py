"""Sections that the pages of a run and of a simulation share."""

import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from testbed.reports.toolkit.page import folded, table


def settings(changed: Mapping[str, Any], everything: Mapping[str, Any]) -> str:
    """Those that differ from the defaults, and all of them.

    Args:
      changed: {dotted name: value} of those that are not the defaults.
      everything: all.
    """
    rows = [(name, in_words(value)) for name, value in _of_numbers(changed).items()]
    first = "<p>All settings are the defaults.</p>"
    if rows:
        first = table(rows, title="settings that differ from the defaults")
    return first + folded("all settings", all_settings(everything))


def all_settings(everything: Mapping[str, Any]) -> str:
    """A table of {dotted name: value}."""
    return table([(name, in_words(value)) for name, value in everything.items()])


def environment(found: Mapping[str, Any]) -> str:
    """The machine and the versions, of environment.json."""
    if "damaged" in found:
        return f"<p>environment.json is damaged ({escape(str(found['damaged']))}).</p>"
    rows = []
    if found.get("commit"):
        differs = ", with uncommitted changes" if found.get("modified") else ""
        rows.append(("commit", f"{found['commit']}{differs}"))
    if found.get("device"):
        rows.append(("device", f"{found.get('devices', 1)} × {found['device']}"))
    rows += [(k, str(found[k])) for k in ("platform", "python") if found.get(k)]
    rows += [(k, v) for k, v in (found.get("packages") or {}).items() if v]
    return table(rows) if rows else "<p>Not recorded.</p>"


def again(short: str, full: str, found: Mapping[str, Any]) -> str:
    """How to get the same numbers again.

    Args:
      short: the command line, of what is not the default.
      full: the same with every setting.
      found: environment.json.
    """
    commit = found.get("commit")
    first = f"git checkout {commit}\n" if commit else ""
    warning = (
        "<p>The files had uncommitted changes, so the commit alone may not give the "
        "same numbers.</p>"
        if found.get("modified")
        else ""
    )
    every = folded(
        "the same with every setting spelled out, in case the defaults have changed",
        f"<pre>{escape(full)}</pre>",
    )
    return (
        "<p>In the project's folder, with the versions above:</p>"
        f"<pre>{escape(first + short)}</pre>{warning}{every}"
        "<p>On another device the numbers differ by rounding, which training can "
        "amplify.</p>"
    )


def command(script: str, given: Mapping[str, Any]) -> str:
    """The command line that gives these settings to a script.

    Where it is written and who watches is left out.
    """
    words = [f"python scripts/{script}"]
    for name, value in _of_numbers(given, "run.seed_axis").items():
        words.append(shlex.quote(f"--{name}={in_words(value)}"))
    return " \\\n    ".join(words)


def in_words(value: Any) -> str:
    """A setting as the command line writes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)


def _of_numbers(given: Mapping[str, Any], *kept: str) -> dict[str, Any]:
    """The settings that numbers can depend on."""
    apart = ("run.", "wandb.")
    return {k: v for k, v in given.items() if k in kept or not k.startswith(apart)}
