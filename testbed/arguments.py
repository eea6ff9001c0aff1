"""Checks of what library functions are given: numbers, whole numbers, arrays of them.

One rule for all laws and samplers.  8.0, np.int64(8) and an array that holds one 8 are
the whole number 8; 8.5, True, "8" and None are not.  nan is refused everywhere, and
infinity wherever a function does not say that it takes it.  What is wrong is named by
the first entry that breaks the rule.
"""

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from testbed.errors import UserError

_LARGEST = 2**53  # beyond it float64 does not hold every whole number
_WEIGHT = 1e100  # of skip and branch; its square is in float64's range


def numbers(
    field: str,
    value: ArrayLike,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float | None = None,
    infinite: bool = False,
    remedy: str | None = None,
) -> np.ndarray:
    """The value as float64, if every entry is a number in [least, most].

    Args:
      field: name of the argument.
      value: what it was given, of any shape.
      least: smallest number that is taken.
      most: largest number that is taken.
      above: a number that all must exceed, in place of `least`.
      infinite: whether infinity is taken too.
      remedy: what to give instead.

    Raises:
      UserError: naming the first entry that breaks the rule.
    """
    array = _array(field, value, "a number", remedy or "give a number")
    fits = (array >= least) & (array <= most)
    if above is not None:
        fits &= array > above
    if not infinite:
        fits &= np.isfinite(array)
    if not fits.all():
        rule = f"must be {_range(least, most, above, infinite)}"
        wrong = np.asarray(value)[~fits].tolist()[0]
        raise UserError(field, wrong, rule, remedy or "give a number that is")
    return array


def number(field: str, value: Any, *args: Any, **limits: Any) -> float:
    """One number as a float; the limits are those of `numbers`.

    Raises:
      UserError: several numbers, or as `numbers`.
    """
    return float(_one(field, numbers(field, value, *args, **limits)))


def wholes(
    field: str,
    value: ArrayLike,
    least: int = 1,
    *,
    infinite: bool = False,
    remedy: str | None = None,
) -> np.ndarray:
    """The value as int64, if every entry is a whole number from `least` to 2^53.

    Args:
      field: name of the argument.
      value: what it was given, of any shape.
      least: smallest number that is taken.
      infinite: whether infinity is taken too; the result is then float64.
      remedy: what to give instead.

    Raises:
      UserError: naming the first entry that breaks the rule.
    """
    remedy = remedy or f"use {least} or more"
    array = _array(field, value, "a whole number", remedy)
    fits = (array >= least) & (array <= _LARGEST) & (array == np.floor(array))
    fits |= infinite & (array == math.inf)
    if not fits.all():
        rule = f"must be a whole number of at least {least}"
        wrong = np.asarray(value)[~fits].tolist()[0]
        if wrong > _LARGEST:
            rule = f"must be a whole number from {least} to 2^53"
        raise UserError(field, wrong, rule, remedy)
    return array if infinite else array.astype(np.int64)


def whole(field: str, value: Any, least: int = 1, *, remedy: str | None = None) -> int:
    """One whole number from `least` to 2^53 as an int.

    Raises:
      UserError: several numbers, or as `wholes`.
    """
    return int(_one(field, wholes(field, value, least, remedy=remedy)))


def branch_weights(alpha: Any, lam: Any) -> tuple[float, float]:
    """(alpha, lam): of either sign, not both 0.

    Raises:
      UserError: one beyond +-1e100, or both 0, where z_l = 0 from l = 1 on.
    """
    alpha = number("alpha", alpha, -_WEIGHT, _WEIGHT, remedy="e.g. 0.7")
    lam = number("lam", lam, -_WEIGHT, _WEIGHT, remedy="e.g. 0.7")
    if alpha == lam == 0:
        rule = "alpha and lam are both 0: the network is constant"
        raise UserError("lam", lam, rule, "give lam or alpha a value")
    return alpha, lam


def _array(field: str, value: ArrayLike, what: str, remedy: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise UserError(field, value, "must be one array", remedy) from None
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    if array.dtype.kind == "O":  # whole numbers beyond int64, or no numbers at all
        try:
            values = [float(operator.index(v)) for v in array.flat]
            return np.array(values).reshape(array.shape)
        except (TypeError, OverflowError):
            pass
    raise UserError(field, value, f"must be {what}", remedy)


def _one(field: str, array: np.ndarray) -> Any:
    if array.size != 1:
        rule = f"must be one number, but has shape {array.shape}"
        raise UserError(field, "[...]", rule, "call the function for each")
    return array.item()


def _range(least: float, most: float, above: float | None, infinite: bool) -> str:
    if above is not None:
        low = "positive" if above == 0 else f"above {above:g}"
    else:
        low = f"at least {least:g}" if least > -math.inf else ""
    high = f"at most {most:g}" if most < math.inf else ""
    finite = "" if infinite or (low and high) else "finite"
    return " and ".join(part for part in (low, high, finite) if part) or "a number"
