"""The range of every number that sizes something, or is multiplied or exponentiated.

One table serves settings, sweep files and the options of all scripts.  What a size
costs in memory depends on the machine: `testbed.runs.memory` asks for it.
"""

import dataclasses
import math
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.errors import UserError, shown


@dataclasses.dataclass(frozen=True)
class Bound:
    """What a number may be.

    Attributes:
      least: the smallest; None for -most.
      most: the largest.
      why: the reason of `most`.
      above: whether `least` itself is excluded.
    """

    least: float | None
    most: float
    why: str
    above: bool = False


_INDEX = 2**31 - 1
_COUNTED = "the largest index of 32 bits"
_SEED = "a seed has 32 bits"
SQUARED = "its square must stay within float32"
_ANY_FLOAT32 = "it must stay within float32"
_SIZES = {
    "data.train_size": 2,
    "data.test_size": 1,
    "data.n_in": 1,
    "data.n_out": 1,
    "model.width": 1,
    "model.depth": 1,
    "train.seeds": 1,
    "train.steps": 1,
    "train.batch_size": 0,
    "kernel.probes": 0,
    "kernel.every": 1,
    "kernel.draws": 2,
    "n_out": 1,
    "samples": 3,  # a variance and its error need as many
    "run_cap": 1,
}
MOST_JOBS = 1000
MOST_AT_A_DEPTH = 4096
BOUNDS: dict[str, Bound] = {
    **{name: Bound(least, _INDEX, _COUNTED) for name, least in _SIZES.items()},
    **{n: Bound(0, 2**32 - 1, _SEED) for n in ("data.seed", "train.seed", "seed")},
    "measure.times": Bound(1, 10_000, "each recorded time has a file of its own"),
    "model.ratio": Bound(0, float(_INDEX), "depth = ratio * width is counted", True),
    "model.bias_std": Bound(0, 1e18, SQUARED),
    "data.noise": Bound(0, 1e18, SQUARED),
    "train.momentum": Bound(0, 1, "at 1 nothing is forgotten"),
    "train.lr": Bound(0, 1e30, _ANY_FLOAT32, True),
    "train.lr_fraction": Bound(0, 1e6, "above 1 networks diverge", True),
    "kernel.ridge": Bound(0, 1e15, "float64 would see the ridge alone"),
    "measure.tolerance": Bound(0, 1e30, _ANY_FLOAT32, True),
    "measure.target": Bound(0, 1e30, _ANY_FLOAT32, True),
    "run.checkpoint_seconds": Bound(0, 1e9, "that is thirty years"),
    # Options of scripts.
    "jobs": Bound(1, MOST_JOBS, "each is a process"),
    "threshold": Bound(0, 1e12, "measures do not reach it", True),
    "seeds": Bound(2, MOST_AT_A_DEPTH, "they are trained at one depth"),
    "most_seeds": Bound(2, MOST_AT_A_DEPTH, "they are trained at one depth"),
    "cpus": Bound(1, 4096, "of one machine"),
    "throttle": Bound(1, 100_000, "jobs of an array"),
}
"""Of each setting and option that is a number; `testbed.kinds` adds those of a kind."""

MOST_CLASSES = 10_000
_MOST_TEXT = 128
_MOST_COMPONENT = 255  # bytes, of every file system in use
_MOST_PATH = 3584  # bytes: Linux takes 4096, and files come below
_MOST_FOLDERS = 200


def check_bounds(values: Mapping[str, Any]) -> None:
    """Raises UserError for a number that is not finite or not within its bound.

    Args:
      values: numbers by the name of their setting; others are not looked at.
    """
    for name, value in values.items():
        if name not in BOUNDS or value is None:
            continue
        bound = BOUNDS[name]
        least = -bound.most if bound.least is None else bound.least
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(name, value, "must be finite", "give a finite number")
        if bound.above and value <= least:
            raise UserError(name, value, "must be positive", "use a value above 0")
        if value < least:
            rule = f"must be at least {least:.15g}"
            raise UserError(name, value, rule, f"use {least:.15g} or more")
        if value > bound.most:
            rule = f"must be at most {bound.most:.15g}: {bound.why}"
            raise UserError(name, value, rule, "use a smaller number")


def check_text(field: str, value: str) -> None:
    """Raises UserError for a text that has no place on one line, or is too long."""
    if not value.isprintable():
        rule = "holds characters that cannot be printed"
        raise UserError(field, value, rule, "use plain letters")
    if len(value) > _MOST_TEXT:
        rule = f"has {len(value)} characters, of at most {_MOST_TEXT}"
        raise UserError(field, value, rule, "shorten it")


def check_path(field: str, path: str | os.PathLike) -> None:
    """Raises UserError for a path that cannot be made, or not told in one line.

    Args:
      field: the setting or option.
      path: there or not.
    """
    text, value = os.fspath(path), Path(path)
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    if bad:
        rule = f"holds {shown(bad[0])}, a character that paths here may not have"
        raise UserError(field, value, rule, "rename it")
    whole = os.path.abspath(text)
    names = whole.split(os.sep)
    longest = max((len(os.fsencode(name)) for name in names), default=0)
    if longest > _MOST_COMPONENT:
        rule = f"has a name of {longest} bytes, of at most {_MOST_COMPONENT}"
        raise UserError(field, value, rule, "shorten it")
    if len(os.fsencode(whole)) > _MOST_PATH:
        rule = f"has {len(os.fsencode(whole))} bytes, of at most {_MOST_PATH}"
        raise UserError(field, value, rule, "shorten it")
    if len(names) > _MOST_FOLDERS:
        rule = f"is {len(names)} folders deep, of at most {_MOST_FOLDERS}"
        raise UserError(field, value, rule, "use a shallower one")
