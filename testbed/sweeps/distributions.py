"""The distributions of wandb's sweep files: their numbers, quantiles and places.

Source: the JSON schema of the PyPI package sweeps 0.3.0, and its quantile functions.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import special

Numbers = Mapping[str, float]


class Form(NamedTuple):
    """What a distribution needs, and what is filled in where it is not given."""

    needs: tuple[str, ...] = ()
    defaults: Mapping[str, float] = {}


_ENDS = ("min", "max")
_NORMAL = {"mu": 0, "sigma": 1}
_BETA = {"a": 1, "b": 1}
_Q = {"q": 1}
FORMS: dict[str, Form] = {
    "uniform": Form(_ENDS),
    "int_uniform": Form(_ENDS),
    "q_uniform": Form(_ENDS, _Q),
    "log_uniform_values": Form(_ENDS),
    "q_log_uniform_values": Form(_ENDS, _Q),
    "inv_log_uniform_values": Form(_ENDS),
    "inv_log_uniform": Form(_ENDS),
    "normal": Form((), _NORMAL),
    "q_normal": Form((), _NORMAL | _Q),
    "log_normal": Form((), _NORMAL),
    "q_log_normal": Form((), _NORMAL | _Q),
    "beta": Form((), _BETA),
    "q_beta": Form((), _BETA | _Q),
}
"""By wandb's name.

inv_log_uniform: log(1/x) is uniform between min and max.  inv_log_uniform_values:
log(1/x) is uniform, and x between min and max.  q_: rounded to a multiple of q, the
nearest, which may lie beyond an end that is none.
"""

# A uniform number on a computer is 0 or at least 2^-53: normal quantiles would be
# infinite at 0.
_LEAST = 2.0**-54


def quantile(kind: str, n: Numbers, u: float) -> float | int:
    """The value of a distribution at `u` in [0, 1).

    Args:
      kind: of `FORMS`.
      n: its numbers.
      u: 1/2 is the median.

    Returns:
      A whole number of int_uniform, and where q is whole.
    """
    if kind == "int_uniform":
        low, high = int(n["min"]), int(n["max"])
        return min(low + math.floor(u * (high - low + 1)), high)
    value = _quantile(kind.removeprefix("q_"), n, u)
    if not kind.startswith("q_"):
        return value
    step = n["q"]
    value = round(value / step) * step
    return int(value) if float(step).is_integer() else value


def _quantile(kind: str, n: Numbers, u: float) -> float:
    if kind == "uniform":
        return float(n["min"] + u * (n["max"] - n["min"]))
    if kind in ("log_uniform_values", "inv_log_uniform_values"):
        low, high = np.log(n["min"]), np.log(n["max"])
        return float(np.exp(low + u * (high - low)))
    if kind == "inv_log_uniform":  # rising in u, as the others
        return float(np.exp(-n["max"] + u * (n["max"] - n["min"])))
    if kind == "beta":
        return float(special.betaincinv(n["a"], n["b"], u))
    value = n["mu"] + n["sigma"] * float(special.ndtri(max(u, _LEAST)))
    return float(np.exp(value)) if kind == "log_normal" else float(value)


def place(kind: str, n: Numbers, value: float) -> float:
    """Where a value is: 0 to 1 from one end to the other, in logs where it has them.

    A normal one, or the log of a log-normal one, is -2 to 2 standard deviations from
    its mean there.
    """
    kind = kind.removeprefix("q_")
    if kind == "beta":
        return float(value)
    if kind in ("normal", "log_normal"):
        if kind == "log_normal":
            value = math.log(max(value, n.get("q", 0) / 2))  # rounded, it may be 0
        return float((value - n["mu"]) / (4 * n["sigma"] or 1.0) + 0.5)
    low, high = n["min"], n["max"]
    if "log" in kind:
        if kind == "inv_log_uniform":
            low, high = -high, -low
        else:
            low, high = np.log(low), np.log(high)
        value = max(math.log(value), low) if value > 0 else low
    return float((value - low) / ((high - low) or 1.0))
