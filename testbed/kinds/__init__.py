"""Which settings each kind of model has: one file a kind; imports nothing heavy.

A kind is a file here, a file of `testbed.families`, and a name in `common.Kind`.
"""

import importlib
from typing import get_args

from testbed.bounds import BOUNDS
from testbed.kinds.common import Kind, ModelConfig

KINDS: dict[str, type[ModelConfig]] = {
    name: importlib.import_module(f"testbed.kinds.{name}").SETTINGS
    for name in get_args(Kind)
}
"""Values of `model.kind`, with the class of their settings."""

for _one in KINDS.values():
    BOUNDS.update(_one.bounds)


def of_vectors() -> list[str]:
    """Kinds whose networks take vectors, and so can be teachers of synthetic data."""
    return [name for name, kind in KINDS.items() if not kind.images]


def lacks(kind: object, name: str) -> bool:
    """Whether models of this kind have no setting of this dotted name, as others have.

    Of a kind that is unknown here, nobody can say it.
    """
    group, _, field = name.partition(".")
    if group != "model" or kind not in KINDS:
        return False
    having = {one for one in KINDS.values() if hasattr(one, field)}
    return bool(having) and KINDS[str(kind)] not in having
