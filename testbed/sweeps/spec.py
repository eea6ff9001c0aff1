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

import yaml

from testbed.commands import SIMULATE, TRAIN, Command
from testbed.errors import UserError, check_name
from testbed.settings import field_types, override
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


def read_document(path: Path | str) -> tuple[str, Any]:
    """The text of a sweep file, and what YAML makes of it.

    Raises:
      UserError: a file that cannot be read, or is not YAML.
    """
    try:
        text = Path(path).read_text()
        return text, yaml.safe_load(text)
    except OSError as error:
        rule = f"cannot be read ({error.strerror})"
        raise UserError("sweep", path, rule, "give a sweep file") from None
    except yaml.YAMLError as error:
        line = str(error).replace("\n", " ")[:120]
        raise UserError("sweep", path, f"is not YAML: {line}", "mend it") from None
    except UnicodeDecodeError:
        rule = "is not a text in UTF-8"
        raise UserError("sweep", path, rule, "give a sweep file") from None


def read_sweep(path: Path | str) -> Sweep:
    """Reads and checks a sweep file.

    Raises:
      UserError: a file that cannot be read; an unknown key, method, program or setting;
        a parameter that `read_parameter` refuses; a value that the program would
        refuse.
    """
    path = Path(path)
    text, document = read_document(path)
    if not isinstance(document, dict) or not document.get("parameters"):
        raise UserError("sweep", path, "has no parameters", "add parameters:")
    for key in document:
        check_name("key", key, _KEYS)
    method = str(document.get("method"))
    check_name("method", method, METHODS)
    program = str(document.get("program"))
    check_name("program", program, PROGRAMS)
    types = field_types(PROGRAMS[program].config)
    parameters = {}
    for name, spec in _flat(document["parameters"]).items():
        if name not in types and name != "preset":
            check_name("parameters", name, types)
        if name in _RUNNER_ONLY:
            rule = "is set by whoever runs the sweep"
            raise UserError(f"parameters.{name}", spec, rule, "leave it out")
        parameters[name] = read_parameter(name, spec, types.get(name, str))
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


def config_of(sweep: Sweep, settings: Mapping[str, Any]) -> Any:
    """The validated config of one point.

    Raises:
      UserError: settings that the program refuses.
    """
    command, given = sweep.command, dict(settings)
    preset = str(given.pop("preset", "default"))
    check_name("preset", preset, command.presets)
    base = override(command.config(), command.presets[preset])
    if given.get("model.ratio") is not None and "model.depth" not in given:
        base = override(base, {"model.depth": None})
    return command.validate(override(base, given))


def _flat(parameters: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(parameters, Mapping) or not parameters:
        field = f"parameters.{prefix}".rstrip(".")
        rule = "must hold settings by name"
        raise UserError(field, parameters, rule, "e.g. model.depth: {values: [2, 4]}")
    flat: dict[str, Any] = {}
    for name, spec in parameters.items():
        nested = isinstance(spec, Mapping) and "parameters" in spec
        inner = _flat(spec["parameters"], f"{prefix}{name}.") if nested else None
        for key, value in (inner or {f"{prefix}{name}": spec}).items():
            if key in flat:
                rule = "is given twice, nested and dotted"
                raise UserError(f"parameters.{key}", value, rule, "leave one out")
            flat[key] = value
    return flat


def _check_method(sweep: Sweep) -> None:
    cap, metric = sweep.run_cap, sweep.metric
    if cap is not None and (type(cap) is not int or cap < 1):
        rule = "must be a whole number of points"
        raise UserError("run_cap", cap, rule, "use 1 or more")
    if sweep.method == "grid":
        for parameter in sweep.parameters.values():
            if not parameter.values:
                rule = "a grid needs values"
                field = f"parameters.{parameter.name}"
                raise UserError(field, parameter.distribution, rule, "list values")
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
