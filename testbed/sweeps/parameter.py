"""One setting of a sweep: its values or its distribution, read and checked."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_args

from testbed.errors import UserError, check_name

_NUMBERS = {
    "uniform": ("min", "max"),
    "int_uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
    "normal": ("mu", "sigma"),
    "log_normal": ("mu", "sigma"),
}
DISTRIBUTIONS = ("constant", "categorical", *_NUMBERS)
_KEYS = ("value", "values", "distribution", "min", "max", "mu", "sigma", "q")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What one setting may be.

    Attributes:
      name: dotted.
      values: the choices; () for a continuous distribution.
      distribution: of wandb's names; "constant" or "categorical" with `values`.
      numbers: min, max, mu, sigma, q of a distribution.
    """

    name: str
    values: tuple[Any, ...]
    distribution: str
    numbers: Mapping[str, float]

    @property
    def extremes(self) -> list[Any]:
        """Every value, or the ends of a range, or the median where it has none."""
        if self.values:
            return list(self.values)
        if "min" in self.numbers:
            return [self.numbers["min"], self.numbers["max"]]
        mu = self.numbers["mu"]
        return [math.exp(mu) if self.distribution == "log_normal" else mu]


def read_parameter(name: str, spec: Any, kind: Any) -> Parameter:
    """Reads ``value``, ``values`` or a ``distribution`` of the setting `name`.

    Args:
      name: dotted.
      spec: what the sweep file has under that name.
      kind: declared type of the setting.

    Raises:
      UserError: a misspelt key, a number written as text (YAML reads 1e-5 as text:
        write 1.0e-5), the same value twice, a distribution that lacks a number, is
        empty, or draws what the setting cannot be.
    """
    field = f"parameters.{name}"
    if not isinstance(spec, Mapping):
        rule = "must have value, values or a distribution"
        raise UserError(field, spec, rule, f"write {name}: {{value: {spec}}}")
    for key in spec:
        check_name(field, key, _KEYS)
    drawn = set(spec) - {"value", "values", "distribution"}
    if spec.get("distribution", "constant") not in ("constant", "categorical"):
        drawn.add("distribution")
    if ("value" in spec) + ("values" in spec) + bool(drawn) != 1:
        rule = "must have either value, or values, or a distribution"
        raise UserError(field, dict(spec), rule, "keep one of them")
    if drawn:
        return _distribution(name, spec, kind)
    values = (spec["value"],) if "value" in spec else spec["values"]
    if not isinstance(values, list | tuple) or not values:
        rule = "values must be a list of at least one"
        raise UserError(field, values, rule, "write values: [A, B]")
    distribution = "constant" if "value" in spec else "categorical"
    given = spec.get("distribution", distribution)
    check_name(f"{field}.distribution", given, [distribution])
    for i, value in enumerate(values):
        if _core(kind) in (int, float):
            _refuse_text(field, value)
        if value in values[:i]:
            rule = f"holds {value} twice"
            raise UserError(field, values, rule, "leave one of the two out")
    return Parameter(name, tuple(values), distribution, {})


def _distribution(name: str, spec: Mapping[str, Any], kind: Any) -> Parameter:
    field = f"parameters.{name}"
    whole = all(isinstance(spec.get(end), int) for end in ("min", "max"))
    distribution = str(spec.get("distribution", "int_uniform" if whole else "uniform"))
    check_name(f"{field}.distribution", distribution, DISTRIBUTIONS)
    needed = _NUMBERS[distribution]
    numbers = {key: v for key, v in spec.items() if key != "distribution"}
    if "q" in needed:
        numbers.setdefault("q", 1)
    for key, value in numbers.items():
        check_name(f"{field} ({distribution})", key, needed)
        _refuse_text(f"{field}.{key}", value)
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not math.isfinite(value):
            raise UserError(f"{field}.{key}", value, "must be a number", "correct it")
    missing = [key for key in needed if key not in numbers]
    if missing:
        rule = f"needs {' and '.join(missing)}"
        raise UserError(field, distribution, rule, "add them")
    _check_numbers(field, distribution, numbers)
    parameter = Parameter(name, (), distribution, numbers)
    _check_kind(parameter, kind)
    return parameter


def _check_numbers(field: str, distribution: str, n: Mapping[str, float]) -> None:
    if n.get("sigma", 0) < 0:
        raise UserError(f"{field}.sigma", n["sigma"], "is below 0", "use 0 or more")
    if "min" not in n:
        return
    if n["min"] > n["max"]:
        rule = f"min={n['min']} is above max={n['max']}"
        raise UserError(field, distribution, rule, "swap them")
    if "log" in distribution and n["min"] <= 0:
        raise UserError(f"{field}.min", n["min"], "has no logarithm", "use more than 0")
    step = 1 if distribution == "int_uniform" else n.get("q")
    if step is None:
        return
    if step <= 0:
        raise UserError(f"{field}.q", step, "must be positive", "use a value above 0")
    for end in ("min", "max"):  # so that rounding stays between them
        if not math.isclose(round(n[end] / step) * step, n[end], abs_tol=1e-9 * step):
            rule = f"must be a multiple of {step}"
            raise UserError(f"{field}.{end}", n[end], rule, "round it")


def _check_kind(parameter: Parameter, kind: Any) -> None:
    field, given = f"parameters.{parameter.name}", parameter.distribution
    if _core(kind) not in (int, float):
        raise UserError(field, given, "this is not a number", "list its values")
    step = 1 if given == "int_uniform" else parameter.numbers.get("q", 0.5)
    if _core(kind) is int and not float(step).is_integer():
        rule = "draws fractions, but this must be a whole number"
        raise UserError(field, given, rule, "use int_uniform, or q_uniform with q: 1")


def _core(kind: Any) -> Any:
    """The type itself of an optional one."""
    options = get_args(kind)
    return options[0] if type(None) in options else kind


def _refuse_text(field: str, value: Any) -> None:
    if not isinstance(value, str):
        return
    try:
        number = float(value)
    except ValueError:
        return
    if math.isfinite(number):
        mantissa, e, exponent = repr(number).partition("e")
        point = ".0" if e and "." not in mantissa else ""
        rule = "is text, not a number: YAML reads it so"
        raise UserError(
            field, repr(value), rule, f"write {mantissa}{point}{e}{exponent}"
        )
