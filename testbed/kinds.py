"""The kinds of models there are, and which settings each has; imports nothing heavy.

A kind is a file of `testbed.families` and a line here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.config import ModelConfig

BRANCH = ("branch", "alpha", "lam", "c", "exponent", "normalized")
"""Settings of how skip and branch of a residual block are weighted."""

KINDS: dict[str, tuple[str, ...]] = {
    "mlp": (),
    "resnet": BRANCH,
    "balanced": BRANCH,
}
"""Values of `model.kind`, with the settings that not every kind has."""


def has_branch(kind: str) -> bool:
    """Whether networks of this kind weight a skip against a branch."""
    return "branch" in KINDS[kind]


def branch_weights(m: "ModelConfig") -> tuple[float, float]:
    """(alpha, lam) of a model that has branches and a depth, the same in every block.

        lam = c d^-exponent,  alpha = 1 or sqrt(1 - lam^2)        branch depth_scaled
        as given                                                  branch fixed

    Raises:
      OverflowError: lam is beyond float64.
      ValueError: lam > 1 where alpha = sqrt(1 - lam^2) is asked for.
    """
    if m.branch == "fixed":
        return m.alpha, m.lam
    assert m.depth is not None
    lam = m.c * m.depth**-m.exponent
    if m.normalized and abs(lam) > 1:
        raise ValueError(f"lam = {lam:.3g} > 1, so sqrt(1 - lam^2) fails")
    return ((1 - lam**2) ** 0.5 if m.normalized else 1.0), lam
