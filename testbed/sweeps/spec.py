"""A sweep file: what it asks, which settings it varies, and whether they can be run.

The format is wandb's: ``method`` grid, random or bayes; ``parameters`` by dotted name
(``model.depth``) or nested (``model: {parameters: {depth: ...}}``), each with
``value``, ``values`` or a ``distribution``; ``metric`` for bayes.  The comment at the
top of the file is its header: ``Field: text`` lines.
"""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.bounds import check_bounds
from testbed.commands import SIMULATE, TRAIN, Command
from testbed.errors import UserError, check_name
from testbed.kinds import lacks
from testbed.settings import field_types, override
from testbed.sweeps.document import holders, read_document, yaml_text
from testbed.sweeps.fixed_arguments import fixed_arguments
from testbed.sweeps.parameter import Parameter, read_parameter

METHODS = ("grid", "random", "bayes")
PROGRAMS: dict[str, Command] = {
    "scripts/train.py": TRAIN,
    "scripts/simulate.py": SIMULATE,
}
_KEYS = (
    *("method", "program", "parameters", "metric", "run_cap", "name", "description"),
    *("project", "entity", "command", "early_terminate"),
)
_MOST_TRIED = 1000  # combinations in which a value may prove to be accepted
_FEW = 20  # values that a remedy writes out
_HOLDERS = ("x-", "_", ".")  # how keys begin under which anchors are kept
_RUNNER_ONLY = ("run.dir", "run.root", "run.resume")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep file that has been read and checked.

    Attributes:
      path: of the file.
      header: {field: text} of the comment at its top; "question" is the first.
      method: grid, random or bayes.
      program: the script that runs a point.
      parameters: by dotted name, in the file's order.
      metric: name, goal and target of what bayes optimizes; {} without.
      run_cap: how many points at most; None without.
      document: the file as YAML gives it.
    """

    path: Path
    header: Mapping[str, str]
    method: str
    program: str
    parameters: Mapping[str, Parameter]
    metric: Mapping[str, Any]
    run_cap: int | None
    document: Mapping[str, Any]

    @property
    def command(self) -> Command:
        """The settings that its program takes."""
        return PROGRAMS[self.program]

    @property
    def size(self) -> int:
        """How many points it has; of random and bayes, the cap."""
        if self.method != "grid":
            return self.run_cap or 0
        count = math.prod(len(p.values) for p in self.parameters.values())
        return min(count, self.run_cap or count)

    @property
    def varied(self) -> list[str]:
        """Names of the settings that take more than one value."""
        return [n for n, p in self.parameters.items() if len(p.values) != 1]


def read_sweep(path: Path | str) -> Sweep:
    """Reads and checks a sweep file.

    Raises:
      UserError: a file that `read_document` refuses; an unknown key, method, program or
        setting; a command that runs anything else than the program; a parameter that
        `read_parameter` refuses; a value that the program would refuse.
    """
    path = Path(path)
    text, document = read_document(path)
    if not isinstance(document, dict) or not document.get("parameters"):
        raise UserError("sweep", path, "has no parameters", "add parameters:")
    for key in document:
        if key not in _KEYS:
            _check_holder(str(key), text)
    method = str(document.get("method"))
    check_name("method", method, METHODS)
    program = str(document.get("program"))
    check_name("program", program, PROGRAMS)
    parameters = _parameters(document, program)
    sweep = Sweep(
        path,
        _header(text),
        method,
        program,
        parameters,
        document.get("metric") or {},
        document.get("run_cap"),
        document,
    )
    _check_method(sweep)
    _check_values(sweep)
    return sweep


def _check_holder(key: str, text: str) -> None:
    """Lets a key pass that is none of wandb's: it holds what is used elsewhere."""
    if not key.startswith(_HOLDERS):
        check_name("key", key, _KEYS)
    if key not in holders(text):
        rule = "is a key of your own, but holds no anchor for other parts to use"
        raise UserError("key", key, rule, "leave it out, or add &NAME to what it holds")


def _parameters(document: Mapping[str, Any], program: str) -> dict[str, Parameter]:
    """Those that are listed, and the arguments that ``command`` adds to them."""
    command = PROGRAMS[program]
    types = field_types(command.config)
    fixed = fixed_arguments(document.get("command"), program, command)
    listed = _flat(document["parameters"], types)
    parameters = {}
    for name, value in {**fixed.before, **fixed.after}.items():
        if name in _RUNNER_ONLY:
            rule = "is set by whoever runs the sweep"
            raise UserError("command", f"--{name}", rule, "leave it out")
        if name not in listed:
            parameters[name] = Parameter(name, (value,), "constant", {})
        elif name in fixed.after:
            rule = "comes after ${args} and would overrule the sweep's own values"
            raise UserError("command", f"--{name}", rule, "leave one of them out")
    for name, spec in listed.items():
        if name not in types and name != "preset":
            check_name("parameters", name, types)
        if name in _RUNNER_ONLY:
            rule = "is set by whoever runs the sweep"
            raise UserError(f"parameters.{name}", spec, rule, "leave it out")
        parameters[name] = read_parameter(name, spec, types.get(name, str))
    return parameters


def placed(sweep: Sweep, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A point's settings; in a sweep over kinds, without those that its kind lacks."""
    kind = settings.get("model.kind") if "model.kind" in sweep.varied else None
    return {name: v for name, v in settings.items() if not lacks(kind, name)}


def left_out(sweep: Sweep) -> list[str]:
    """A line for every kind and setting of which `placed` leaves something out."""
    if "model.kind" not in sweep.varied:
        return []
    found = []
    for kind in sweep.parameters["model.kind"].values:
        names = [name for name in sweep.parameters if lacks(kind, name)]
        if names:
            found.append(
                f"model.kind={kind} has no {', '.join(names)}: left out there; "
                "points that are then the same are run once"
            )
    return found


def config_of(sweep: Sweep, settings: Mapping[str, Any]) -> Any:
    """The validated config of one point.

    Raises:
      UserError: settings that the program refuses.
    """
    command, given = sweep.command, placed(sweep, settings)
    preset = str(given.pop("preset", "default"))
    check_name("preset", preset, command.presets)
    base = override(command.config(), command.presets[preset])
    if given.get("model.ratio") is not None and "model.depth" not in given:
        base = override(base, {"model.depth": None})
    return command.validate(override(base, given))


def _flat(parameters: Any, types: Mapping[str, Any], prefix: str = "") -> dict:
    if not isinstance(parameters, Mapping) or not parameters:
        field = f"parameters.{prefix}".rstrip(".")
        rule = "must hold settings by name"
        raise UserError(field, parameters, rule, "e.g. model.depth: {values: [2, 4]}")
    flat: dict[str, Any] = {}
    for name, spec in parameters.items():
        whole = f"{prefix}{name}"
        nested = isinstance(spec, Mapping) and "parameters" in spec
        if isinstance(spec, Mapping) and not nested and spec:
            _check_group(whole, spec, types)
        inner = _flat(spec["parameters"], types, f"{whole}.") if nested else None
        for key, value in (inner or {whole: spec}).items():
            if key in flat:
                rule = "is given twice, nested and dotted"
                raise UserError(f"parameters.{key}", value, rule, "leave one out")
            flat[key] = value
    return flat


def _check_group(name: str, spec: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raises UserError for settings that are nested without ``parameters``."""
    if name in types or not any(known.startswith(f"{name}.") for known in types):
        return
    inner, value = next(iter(spec.items()))
    nested = yaml_text({"parameters": dict(spec)})
    rule = "is a group: what it holds goes below parameters"
    remedy = f"write {name}.{inner}: {yaml_text(value)}, or {name}: {nested}"
    raise UserError(f"parameters.{name}", dict(spec), rule, remedy)


def _check_method(sweep: Sweep) -> None:
    cap, metric = sweep.run_cap, sweep.metric
    if cap is not None and (type(cap) is not int or cap < 1):
        rule = "must be a whole number of points"
        raise UserError("run_cap", cap, rule, "use 1 or more")
    check_bounds({"run_cap": cap})
    if sweep.method == "grid":
        for parameter in sweep.parameters.values():
            _check_grid(parameter)
    elif cap is None:
        rule = f"{sweep.method} has no end of its own"
        raise UserError("run_cap", None, rule, "add run_cap: 30")
    if metric and not isinstance(metric, Mapping):
        rule = "must have a name and a goal"
        raise UserError("metric", metric, rule, f"write {{name: {metric}}}")
    if sweep.method == "bayes" and not metric.get("name"):
        raise UserError("metric", dict(metric), "bayes needs one", "add metric.name")
    for key in metric:
        check_name("metric", key, ("name", "goal", "target"))
    goal = str(metric.get("goal", "minimize"))
    check_name("metric.goal", goal, ("minimize", "maximize"))
    target = metric.get("target", 0)
    if isinstance(target, bool) or not isinstance(target, int | float):
        raise UserError("metric.target", target, "must be a number", "correct it")


def _check_grid(p: Parameter) -> None:
    if p.weights:
        rule = "a grid has every value once, whatever its probability"
        field = f"parameters.{p.name}.probabilities"
        raise UserError(field, p.weights, rule, "leave them out, or use method: random")
    if not p.values:
        n, remedy = p.numbers, "list values"
        if p.distribution == "int_uniform" and n["max"] - n["min"] < _FEW:
            whole = list(range(int(n["min"]), int(n["max"]) + 1))
            remedy = f"write {yaml_text({'values': whole})}"
        rule = "a grid needs values"
        raise UserError(f"parameters.{p.name}", p.distribution, rule, remedy)


def _check_values(sweep: Sweep) -> None:
    """Raises UserError for a value that the program refuses in every combination.

    One that is refused in some of them only makes these points fail.
    """
    columns = {name: p.extremes for name, p in sweep.parameters.items()}
    rng = random.Random(0)
    accepted: set[tuple[str, str]] = set()
    for name, column in columns.items():
        for value in column:
            if (name, repr(value)) in accepted:
                continue
            told: UserError | None = None
            for settings in _combinations(columns | {name: [value]}, rng):
                try:
                    config_of(sweep, settings)
                except UserError as error:
                    told = error if told is None or error.field == name else told
                else:
                    accepted.update((n, repr(v)) for n, v in settings.items())
                    break
            else:
                assert told is not None
                raise told


def _combinations(
    columns: Mapping[str, Sequence[Any]], rng: random.Random
) -> Iterator[dict[str, Any]]:
    """All of them, or a sample where they are too many to try each."""
    if math.prod(map(len, columns.values())) <= _MOST_TRIED:
        for row in itertools.product(*columns.values()):
            yield dict(zip(columns, row, strict=True))
    else:
        for _ in range(_MOST_TRIED):
            yield {name: rng.choice(column) for name, column in columns.items()}


def _header(text: str) -> dict[str, str]:
    """{field: text} of the comment at the top."""
    header, current = {}, ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        line = line.lstrip("#").strip()
        word, colon, after = line.partition(":")
        if colon and word and word[0].isupper() and len(word.split()) == 1:
            current, line = word.lower(), after
        if current:
            header[current] = f"{header.get(current, '')} {line.strip()}".strip()
    return header
