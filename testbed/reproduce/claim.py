"""A statement that numbers decide, and what a reproduction returns."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from testbed.reports.toolkit import Caption


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement and what was found.

    Build one with `close`, `below` or `above`.

    Attributes:
      text: the statement.
      found: what was measured, with its error.
      wanted: what it must satisfy.
      passed: whether it does.
    """

    text: str
    found: str
    wanted: str
    passed: bool


def close(
    text: str,
    measured: float,
    expected: float,
    error: float,
    *,
    sigmas: float = 4.0,
    bias: float = 0.0,
    why: str = "",
) -> Claim:
    """|measured - expected| <= sigmas * error + bias.

    Args:
      text: the statement.
      measured: what was found.
      expected: what theory has.
      error: standard error of what was found; 0 for a deterministic number.
      sigmas: standard errors allowed.
      bias: known size of what theory leaves out (finite width, finite depth).
      why: where `bias` comes from; required with it.
    """
    if bias and not why:
        raise ValueError(f"{text}: a bias of {bias:g} needs its reason")
    allowed = sigmas * error + bias
    found = f"{measured:.4g}" + (f" ± {error:.2g}" if error else "")
    wanted = f"{expected:.4g} to within " + (f"{sigmas:g} s.e." if error else "")
    if bias:
        wanted += (" and " if error else "") + f"{bias:.2g} ({why})"
    return Claim(text, found, wanted, bool(abs(measured - expected) <= allowed))


def below(text: str, measured: float, bound: float, why: str = "") -> Claim:
    """measured < bound; `why` says where the bound comes from."""
    wanted = f"below {bound:.4g}" + (f" ({why})" if why else "")
    return Claim(text, f"{measured:.4g}", wanted, bool(measured < bound))


def above(text: str, measured: float, bound: float, why: str = "") -> Claim:
    """measured > bound; `why` says where the bound comes from."""
    wanted = f"above {bound:.4g}" + (f" ({why})" if why else "")
    return Claim(text, f"{measured:.4g}", wanted, bool(measured > bound))


def mean_and_error(x: np.ndarray, axis: int = 0) -> tuple[Any, Any]:
    """Mean along an axis, that of independent networks, and its standard error."""
    return x.mean(axis), x.std(axis, ddof=1) / x.shape[axis] ** 0.5


@dataclasses.dataclass(frozen=True)
class Result:
    """What a reproduction returns.

    Attributes:
      figure: the picture.
      claims: statements decided by the numbers in it, at least one of them that a wrong
        law would fail.
      caption: what is shown, and what to look for; what is expected is in the header.
    """

    figure: Figure
    claims: Sequence[Claim]
    caption: Caption
