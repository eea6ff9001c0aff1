"""The text of a sweep file: keys given twice, and texts made to break a reader."""

import time

import pytest

from testbed.errors import UserError
from testbed.sweeps.spec import read_sweep

HEAD = "program: scripts/train.py\nmethod: grid\nparameters:\n"
BOMB = "_a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"_a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
CHAIN = "_a0: &a0 [1]\n" + "".join(
    f"_a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000)
)
TEXTS = {
    "a setting twice": (
        HEAD + "  model.depth: {value: 2}\n  model.width: {value: 8}\n"
        "  model.depth: {value: 16}\n",
        "line 6: model.depth is given twice, first in line 4; leave one",
    ),
    "a setting twice, once in quotes": (
        HEAD + "  model.depth: {value: 2}\n  'model.depth': {value: 16}\n",
        "line 5: model.depth is given twice",
    ),
    "a key at the top twice": (
        HEAD + "  model.depth: {value: 2}\nmethod: random\n",
        "line 5: method is given twice, first in line 2",
    ),
    "a block twice": (
        HEAD + "  model: {parameters: {depth: {value: 2}}}\n"
        "  model: {parameters: {width: {value: 8}}}\n",
        "line 5: model is given twice",
    ),
    "a word of one setting twice": (
        HEAD + "  model.depth: {values: [2], values: [3]}\n",
        "line 4: values is given twice",
    ),
    "references that multiply": (
        BOMB + HEAD + "  model.depth: {values: *a11}\n",
        "is one of more than 300,000 entries",
    ),
    "a reference to itself": (
        HEAD + "  model.depth: &a {values: [*a]}\n",
        r"line 4: \*a refers to what it is in",
    ),
    "3000 lists in one another": (
        HEAD + "  model.depth: {values: " + "[" * 3000 + "]" * 3000 + "}\n",
        "nested more than 30 deep|not YAML",
    ),
    "3000 blocks in one another": (
        HEAD + "".join(f"{'  ' * i}a:\n" for i in range(1, 800)),
        "nested more than 30 deep|not YAML",
    ),
    "3000 references in one another": (
        CHAIN + HEAD + "  model.depth: {values: *a2999}\n",
        "nested more than 30 deep",
    ),
    "5000 digits": (
        HEAD + "  model.depth: {value: " + "9" * 5000 + "}\n",
        "is not YAML: line 4: ",
    ),
    "5000 digits in base 16": (
        HEAD + "  model.depth: {value: 0x" + "f" * 5000 + "}\n",
        "is not YAML: line 4: holds a number of about 6020 digits",
    ),
    "the 31st of April": (HEAD + "  data.name: {value: 2001-04-31}\n", "is not YAML"),
    "100,000 values": (
        HEAD + f"  model.depth: {{values: {list(range(1, 100_001))}}}\n",
        "lists 100,000 values, of at most 10,000",
    ),
    "400,000 values": (
        HEAD + f"  model.depth: {{values: [{'1,' * 400_000}]}}\n",
        "is one of more than 300,000 entries",
    ),
    "megabytes": (HEAD + "#" * 2_000_000, "has more than 2,000,000 bytes"),
    "an unknown reference": (HEAD + "  model.depth: *b\n", "is not YAML: line 4"),
    "two documents": (HEAD + "  model.depth: {value: 2}\n---\na: 1\n", "is not YAML"),
    "a list as a key": (HEAD + "  ? [a]\n  : {value: 2}\n", "is not YAML"),
    "a newline in a name": (
        HEAD + '  "model\\nd\\e[31m": {value: 2}\n',
        r"model\\nd\\x1b\[31m: must be one of",
    ),
    "an object of Python": (HEAD + "  a: !!python/name:os.system\n", "is not YAML"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_is_refused_within_seconds(tmp_path, name):
    """One line of at most a few hundred printable characters, whatever it is."""
    text, match = TEXTS[name]
    path = tmp_path / "s.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(UserError, match=match) as caught:
        read_sweep(path)
    assert time.process_time() - began < 10
    assert str(caught.value).isprintable() and len(str(caught.value)) < 900


def test_a_mapping_may_take_over_and_change_another(tmp_path):
    """<<: *base is YAML's own way to say a key again, and no mistake."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "_base: &base {distribution: q_uniform, min: 2, max: 8}\n"
        "program: scripts/train.py\nmethod: random\nrun_cap: 2\nparameters:\n"
        "  model.depth: {<<: *base, max: 4}\n  model.width: *base\n"
    )
    numbers = read_sweep(path).parameters["model.depth"].numbers
    assert numbers == {"min": 2, "max": 4, "q": 1}


def test_a_pipe_is_no_sweep_file(tmp_path):
    """Reading one would wait for ever."""
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a file"):
        read_sweep(tmp_path / "pipe")
