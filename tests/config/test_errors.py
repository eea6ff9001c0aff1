"""A message is one line that a terminal shows as it is, whatever is in it."""

import pickle
from pathlib import Path

import pytest
from rich.table import Table

from testbed.errors import (
    MOST_SHOWN,
    NotFinite,
    RunError,
    UserError,
    check_name,
    one_line,
    shown,
)
from testbed.runs.console import Console

HOSTILE = {
    "newline": "a\nb",
    "carriage return": "a\rb",
    "bell": "a\x07b",
    "escape of a terminal": "\x1b[31mred",
    "one-byte escape": "\x9b31m",
    "NUL": "a\0b",
    "line separator": "a\u2028b",
    "right to left": "a\u202egpj.exe",
    "isolate": "a\u2066b",
    "half of a pair": "a\ud800b",
    "byte that is no UTF-8": "a\udcffb",
    "5000 characters": "x" * 5000,
    "5000 digits": 10**5000,
    "nested": [[[[[[[["deep\n"]]]]]]]],
    "wide": list(range(10**5)),
    "mapping": {"a\n": {"b": "\x1b" * 100}},
    "path": Path("a\nb") / ("c" * 2000),
}


def itself():
    """A list that holds itself."""
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize("value", [*HOSTILE.values(), itself()], ids=[*HOSTILE, "self"])
def test_a_value_is_short_and_printable_in_every_message(value, capsys):
    """Mistakes, failed runs and what the console says; the value itself is kept."""
    error = UserError("model.depth", value, "must be a number", "correct it")
    kept = str(error)
    assert kept.isprintable() and len(kept) < 400
    assert kept.startswith("model.depth=") and kept.endswith("; correct it")
    assert error.value is value
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == kept and isinstance(again.value, type(value))
    failed = RunError(f"{shown(value)}: {error}")
    assert str(failed).isprintable() and str(failed).endswith("correct it")
    assert str(pickle.loads(pickle.dumps(failed))) == str(failed)
    Console().say(shown(value))
    assert capsys.readouterr().out.count("\n") == 1


def test_rules_fields_and_remedies_are_lines_too():
    """A text of another library in a rule loses its line breaks, not its words."""
    error = UserError("a\nb", 1, "fails\n  (here)\n", "try\x1b[0m this")
    assert str(error) == "a\\nb=1: fails (here); try\\x1b[0m this"
    assert one_line("one\n\ttwo  three\n") == "one two three"
    assert len(str(RunError("word " * 5000))) < 1300


def test_what_is_shortened_keeps_both_ends():
    """The middle goes; what fits is left as it is, Greek letters included."""
    text = "/start/" + "x" * 500 + "/end.yaml"
    assert len(shown(text)) == MOST_SHOWN
    assert shown(text).startswith("/start/xx") and shown(text).endswith("xx/end.yaml")
    assert shown("λ = 0.5 · α²") == "λ = 0.5 · α²"
    assert shown(Path("/a") / ("b" * 200)).endswith("b" * 200)
    assert shown([1, 2.5, "three", None]) == "[1, 2.5, 'three', None]"


def test_a_divergence_reaches_another_process():
    """Message, networks and time survive pickling."""
    error = pickle.loads(pickle.dumps(NotFinite("not finite", [1, 3], 0.5)))
    assert (str(error), error.seeds, error.t) == ("not finite", [1, 3], 0.5)


def test_of_many_names_the_nearest_are_listed():
    """Of few, all."""
    many = [f"model.setting_{i}" for i in range(50)] + ["model.depth", "model.width"]
    with pytest.raises(UserError) as caught:
        check_name("option", "model.dpeth", many)
    assert caught.value.remedy == "did you mean 'model.depth'?"
    assert "one of 52 names, the nearest of which are model.depth" in str(caught.value)
    assert len(str(caught.value)) < 200
    with pytest.raises(UserError, match="one of 52 names; see --help"):
        check_name("option", "zzz" * 2000, many)
    with pytest.raises(UserError, match="one of mlp, resnet; choose one"):
        check_name("model.kind", "z", ["mlp", "resnet"])


def test_names_are_neither_styles_nor_pictures(capsys):
    """[/x] in a table or its title would stop rich; :cat: would be drawn."""
    console = Console()
    table = Table(title="maps/[/x]:cat:")
    table.add_column("[bold]")
    table.add_row("[/y]")
    console.print(table)
    console.rich.print(table)  # as a live table does
    said = capsys.readouterr().out
    for text in ("[/x]:cat:", "[bold]", "[/y]"):
        assert said.count(text) == 2
