"""The points of a sweep: enumerated or drawn, each with a name of its own."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from testbed.settings import field_types
from testbed.sweeps.distributions import quantile
from testbed.sweeps.spec import Parameter, Sweep, left_out, placed

Settings = dict[str, Any]

QUICK_VALUES: dict[str, list[Any]] = {
    "model.width": [8, 16],
    "model.depth": [2, 4],
    "model.ratio": [0.25, 0.5],
    "data.train_size": [16, 24],
    "train.seeds": [2],
}
QUICK_FIXED: Settings = {
    "data.train_size": 24,
    "data.test_size": 20,
    "model.width": 12,
    "model.depth": 3,
    "train.seeds": 2,
    "train.steps": 12,
    "kernel.probes": 6,
    "measure.times": 4,
    "samples": 400,
}


_MOST_REPEATS = 1000


def grid(sweep: Sweep) -> Iterator[Settings]:
    """All combinations, the last parameter varying fastest.

    Of those that differ in nothing that their kind of model has, the first.
    """
    columns = [p.values for p in sweep.parameters.values()]
    rows = (
        dict(zip(sweep.parameters, row, strict=True))
        for row in itertools.product(*columns)
    )
    if not left_out(sweep):  # a million points are different then
        yield from rows
        return
    seen: set[str] = set()
    for settings in rows:
        name = point_name(sweep, placed(sweep, settings))
        if name not in seen:
            seen.add(name)
            yield settings


def drawn(sweep: Sweep, seed: int = 0) -> Iterator[Settings]:
    """Random points, each once: those of indices 0, 1, ... that were not drawn before.

    The draw of an index depends on the seed and on the index alone.  They end where a
    thousand draws bring nothing new.
    """
    seen: set[str] = set()
    last_new = 0
    for index in itertools.count():
        rng = np.random.default_rng((seed, index))
        settings = {name: draw(p, rng) for name, p in sweep.parameters.items()}
        if (name := point_name(sweep, placed(sweep, settings))) not in seen:
            seen.add(name)
            last_new = index
            yield settings
        elif index - last_new > _MOST_REPEATS:
            return


def draw(parameter: Parameter, rng: np.random.Generator) -> Any:
    """One value of a parameter, of plain Python type."""
    p = parameter
    if p.weights:
        ends = np.cumsum(p.weights)
        return p.values[int(np.searchsorted(ends / ends[-1], rng.random(), "right"))]
    if p.values:
        return p.values[int(rng.integers(len(p.values)))]
    return quantile(p.distribution, p.numbers, float(rng.random()))


def quick(sweep: Sweep) -> Sweep:
    """The same sweep made small: two values a parameter, small networks, few steps.

    Its header keeps the question and says the small sizes.
    """
    known = [k for k in QUICK_FIXED if k in field_types(sweep.command.config)]
    parameters = {}
    for name, p in sweep.parameters.items():
        most = len(p.values[:2]) or 2  # of a range, too
        values = tuple(QUICK_VALUES.get(name, list(p.values))[:most])
        if len(p.values) == 1 and name in known:
            values = (QUICK_FIXED[name],)
        parameters[name] = dataclasses.replace(p, values=values, weights=())
    for name in known:
        ratio = name == "model.depth" and "model.ratio" in parameters
        if name in parameters or ratio:
            continue
        parameters[name] = Parameter(name, (QUICK_FIXED[name],), "constant", {})
    cap = min(sweep.run_cap or 4, 4) if sweep.method != "grid" else None
    sizes = "; ".join(
        f"{name} {', '.join(map(str, p.values))}" for name, p in parameters.items()
    )
    # What else the header says is of the sizes that the file has.
    header = {k: v for k, v in sweep.header.items() if k == "question"}
    header["quick"] = f"a trial of the sweep at small sizes: {sizes}"
    return dataclasses.replace(sweep, parameters=parameters, run_cap=cap, header=header)


def point_name(sweep: Sweep, settings: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the program and of all that the sweep sets."""
    text = json.dumps([sweep.program, dict(settings)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
