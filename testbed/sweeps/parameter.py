"""One setting of a sweep: its values or its distribution, read and checked."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from testbed.errors import UserError, check_name
from testbed.settings import whole_number
from testbed.sweeps.distributions import FORMS, quantile
from testbed.sweeps.document import yaml_text

CATEGORICAL = "categorical"
WEIGHTED = "categorical_w_probabilities"
DISTRIBUTIONS = ("constant", CATEGORICAL, WEIGHTED, *FORMS)
MOST_VALUES = 10_000
_KEYS = ("value", "values", "probabilities", "distribution")
_KEYS += ("min", "max", "mu", "sigma", "a", "b", "q")
_EXPONENTS = ("log_uniform", "q_log_uniform")  # whose ends are powers of e
_MOST_STEPS = 2.0**53  # of q, beyond which a float64 is no multiple of it


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What one setting may be.

    Attributes:
      name: dotted.
      values: the choices; () for a continuous distribution.
      distribution: of wandb's names; "constant" or "categorical" with `values`.
      numbers: min, max, mu, sigma, a, b, q of a distribution.
      weights: the probability of each value; () where they are alike.
    """

    name: str
    values: tuple[Any, ...]
    distribution: str
    numbers: Mapping[str, float]
    weights: tuple[float, ...] = ()

    @property
    def extremes(self) -> list[Any]:
        """Every value, or the ends of a range, or the median where it has none."""
        if self.values:
            return list(self.values)
        ends = (0.0, 1.0) if "min" in self.numbers else (0.5,)
        return [quantile(self.distribution, self.numbers, u) for u in ends]


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
        listed = isinstance(spec, list | tuple) and not (
            _is_list(kind) and not any(isinstance(v, list | tuple) for v in spec)
        )
        meant = {"values" if listed and spec else "value": spec}
        raise UserError(field, spec, rule, f"write {name}: {yaml_text(meant)}")
    for key in spec:
        check_name(field, key, _KEYS)
    drawn = set(spec) - {"value", "values", "probabilities", "distribution"}
    if spec.get("distribution", "constant") not in ("constant", CATEGORICAL, WEIGHTED):
        drawn.add("distribution")
    if ("value" in spec) + ("values" in spec) + bool(drawn) != 1:
        rule = "must have either value, or values, or a distribution"
        raise UserError(field, dict(spec), rule, "keep one of them")
    if drawn:
        return _distribution(name, spec, kind)
    values = (spec["value"],) if "value" in spec else spec["values"]
    if not isinstance(values, list | tuple) or not values:
        rule = "values must be a list of at least one"
        meant = "[A, B]" if values in ([], None) else yaml_text([values])
        raise UserError(field, values, rule, f"write values: {meant}")
    if len(values) > MOST_VALUES:
        rule = f"lists {len(values):,} values, of at most {MOST_VALUES:,}"
        raise UserError(field, values, rule, "use a distribution")
    distribution = "constant" if "value" in spec else CATEGORICAL
    if "probabilities" in spec:
        distribution = WEIGHTED
    given = spec.get("distribution", distribution)
    known = {distribution, CATEGORICAL} if "values" in spec else {distribution}
    check_name(f"{field}.distribution", given, sorted(known))
    _check_listed(field, values, kind)
    weights = _weights(field, spec, len(values))
    return Parameter(name, tuple(values), distribution, {}, weights)


def _check_listed(field: str, values: Sequence[Any], kind: Any) -> None:
    seen = set()
    for value in values:
        if _core(kind) in (int, float):
            _refuse_text(field, value, kind)
        key = value if isinstance(value, int | float | str | None) else repr(value)
        if key in seen:
            rule = f"holds {yaml_text(value)} twice"
            raise UserError(field, values, rule, "leave one of the two out")
        seen.add(key)


def _weights(field: str, spec: Mapping[str, Any], count: int) -> tuple[float, ...]:
    if "probabilities" not in spec:
        return ()
    given, field = spec["probabilities"], f"{field}.probabilities"
    if "value" in spec or not isinstance(given, list) or len(given) != count:
        rule = "must be a list, a number for each of values"
        raise UserError(field, given, rule, "e.g. values: [2, 4], with [0.3, 0.7]")
    for weight in given:
        _refuse_text(field, weight, float)
        if not _is_number(weight) or weight < 0:
            raise UserError(field, weight, "must be a number from 0 to 1", "correct it")
    if not math.isclose(sum(given), 1, abs_tol=1e-6):
        total = sum(given)
        rule = f"sum to {total:.6g}, not to 1"
        meant = [round(weight / total, 6) for weight in given] if total else "[...]"
        raise UserError(field, given, rule, f"e.g. {yaml_text(meant)}")
    return tuple(map(float, given))


def _distribution(name: str, spec: Mapping[str, Any], kind: Any) -> Parameter:
    field = f"parameters.{name}"
    whole = all(isinstance(spec.get(end), int) for end in ("min", "max"))
    distribution = str(spec.get("distribution", "int_uniform" if whole else "uniform"))
    numbers = {key: v for key, v in spec.items() if key != "distribution"}
    if distribution in _EXPONENTS:
        raise _exponents(field, distribution, numbers)
    check_name(f"{field}.distribution", distribution, DISTRIBUTIONS)
    if distribution not in FORMS:
        rule = f"has values, and no {', '.join(map(str, numbers))}"
        raise UserError(field, distribution, rule, "keep one or the other")
    form = FORMS[distribution]
    for key, value in numbers.items():
        check_name(f"{field} ({distribution})", key, (*form.needs, *form.defaults))
        _refuse_text(f"{field}.{key}", value, float)
        if not _is_number(value):
            raise UserError(f"{field}.{key}", value, "must be a number", "correct it")
    missing = [key for key in form.needs if key not in numbers]
    if missing:
        rule = f"needs {' and '.join(missing)}"
        raise UserError(field, distribution, rule, "add them")
    parameter = Parameter(name, (), distribution, {**form.defaults, **numbers})
    _check_numbers(field, parameter)
    _check_kind(parameter, kind)
    return parameter


def _exponents(field: str, distribution: str, n: Mapping[str, Any]) -> UserError:
    """log_uniform as wandb had it: e^min to e^max."""
    rule = "gives its ends as powers of e"
    meant: dict[str, Any] = {"distribution": f"{distribution}_values"}
    for key, value in n.items():
        known = _is_number(value) and abs(value) < 700 and key != "q"
        meant[key] = float(f"{math.exp(value):.4g}") if known else value
    return UserError(field, distribution, rule, f"write {yaml_text(meant)}")


def _check_numbers(field: str, parameter: Parameter) -> None:
    distribution, n = parameter.distribution, parameter.numbers
    if n.get("sigma", 0) < 0:
        raise UserError(f"{field}.sigma", n["sigma"], "is below 0", "use 0 or more")
    for key in ("a", "b", "q"):
        if n.get(key, 1) <= 0:
            rule = "must be positive"
            raise UserError(f"{field}.{key}", n[key], rule, "use a value above 0")
    if "min" in n and n["min"] > n["max"]:
        rule = f"min={n['min']} is above max={n['max']}"
        raise UserError(field, distribution, rule, "swap them")
    if distribution.endswith("log_uniform_values") and n["min"] <= 0:
        raise UserError(f"{field}.min", n["min"], "has no logarithm", "use more than 0")
    if distribution == "int_uniform":
        for end in ("min", "max"):
            if n[end] != round(n[end]):
                rule = "must be a whole number"
                raise UserError(f"{field}.{end}", n[end], rule, "round it")
    steps = n.get("q", 1)
    with np.errstate(all="ignore"):
        unrounded = distribution.removeprefix("q_")
        ends = [quantile(unrounded, n, u) for u in (0.0, 2.0**-53, 1 - 2.0**-53)]
    if not all(math.isfinite(end) for end in ends):
        rule = "draws numbers beyond float64"
        raise UserError(field, distribution, rule, "bring its numbers nearer to 0")
    if max(map(abs, ends)) > _MOST_STEPS * steps:
        rule = f"draws numbers of more than 2^53 steps of {steps:g}"
        raise UserError(field, distribution, rule, "bring its numbers nearer to 0")


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


def _is_list(kind: Any) -> bool:
    return bool(get_args(kind)) and type(None) not in get_args(kind)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def _refuse_text(field: str, value: Any, kind: Any) -> None:
    if not isinstance(value, str):
        return
    try:
        number = whole_number(value) if _core(kind) is int else float(value)
    except (ValueError, OverflowError):
        return
    if _is_number(number):
        rule = "is text, not a number: YAML reads it so"
        raise UserError(field, repr(value), rule, f"write {yaml_text(number)}")
