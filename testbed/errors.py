"""The two ways a run can end early: a user's mistake, and a failed run."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A setting that cannot be honoured; the command line exits with 2.

    Args:
      field: dotted name of the setting, e.g. ``model.depth``.
      value: what it was set to.
      rule: what it must satisfy.
      remedy: what to do instead.
    """

    def __init__(self, field: str, value: object, rule: str, remedy: str):
        self.field, self.value, self.rule, self.remedy = field, value, rule, remedy
        super().__init__(f"{field}={value}: {rule}; {remedy}")

    def __reduce__(self):  # else it could not be sent from one process to another
        return type(self), (self.field, self.value, self.rule, self.remedy)


class RunError(RuntimeError):
    """A run that had to stop; everything recorded is kept; exits with 1."""


class NotFinite(RunError):
    """A run that stopped because its numbers were not finite any more.

    Args:
      message: of the error.
      seeds: the networks that diverged, or whose linearizations did.
      t: when that was seen.
    """

    def __init__(self, message: str, seeds: Iterable[int], t: float):
        super().__init__(message)
        self.seeds, self.t = list(seeds), t


def check_name(field: str, value: str, valid: Iterable[str]) -> None:
    """Raises a `UserError` that suggests the nearest of the `valid` names."""
    valid = list(valid)
    if value in valid:
        return
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.5)
    rule = f"must be one of {', '.join(valid)}"
    remedy = f"did you mean '{near[0]}'?" if near else "choose one of these"
    raise UserError(field, value, rule, remedy)
