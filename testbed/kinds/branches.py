"""How skip and branch of a residual block are weighted."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from testbed.bounds import SQUARED, Bound
from testbed.errors import UserError
from testbed.kinds.common import ModelConfig, Needs


@dataclasses.dataclass(frozen=True)
class BranchConfig(ModelConfig):
    """A residual network."""

    bounds: ClassVar[Mapping[str, Bound]] = {
        **{f"model.{n}": Bound(None, 1e18, SQUARED) for n in ("c", "alpha", "lam")},
        "model.exponent": Bound(None, 100, "d^-exponent would leave float64"),
    }

    branch: Literal["depth_scaled", "fixed"] = "depth_scaled"
    """depth_scaled: lam = c d^-exponent; fixed: alpha and lam as given."""
    c: float = 1.0
    """Branch weight before depth scaling."""
    exponent: float = 0.5
    """kappa in lam = c d^-kappa."""
    normalized: bool = False
    """alpha = sqrt(1 - lam^2) instead of 1, with depth_scaled."""
    alpha: float = 1.0
    """Skip weight, with fixed."""
    lam: float = 1.0
    """Branch weight, with fixed."""

    def branch_weights(self) -> tuple[float, float]:
        """(alpha, lam), the same in every block; the depth is known.

            lam = c d^-exponent,  alpha = 1 or sqrt(1 - lam^2)      branch depth_scaled
            as given                                                branch fixed

        Raises:
          OverflowError: lam is beyond float64.
          ValueError: lam > 1 where alpha = sqrt(1 - lam^2) is asked for.
        """
        if self.branch == "fixed":
            return self.alpha, self.lam
        assert self.depth is not None
        lam = self.c * self.depth**-self.exponent
        if self.normalized and abs(lam) > 1:
            raise ValueError(f"lam = {lam:.3g} > 1, so sqrt(1 - lam^2) fails")
        return ((1 - lam**2) ** 0.5 if self.normalized else 1.0), lam

    def check(self) -> None:
        """lam is a number, and the network no constant."""
        if self.branch == "fixed":
            if self.alpha == 0 and self.lam == 0:
                rule = "alpha and lam are both 0: the network is constant"
                remedy = "give lam or alpha a value"
                raise UserError("model.lam", self.lam, rule, remedy)
            return
        depth = self.depth or 1
        try:
            _, lam = dataclasses.replace(self, normalized=False).branch_weights()
        except OverflowError:
            lam = math.inf
        limit = self.bounds["model.lam"].most
        if not abs(lam) <= limit:
            rule = f"gives lam = c d^-exponent beyond {limit:g} at depth {depth}"
            raise UserError("model.exponent", self.exponent, rule, "e.g. 0.5")
        if self.normalized and abs(lam) > 1:
            rule = (
                f"gives lam = c d^-exponent = {lam:.3g} > 1, so sqrt(1 - lam^2) fails"
            )
            remedy = f"use c of at most {depth**self.exponent:.3g}, or normalized=False"
            raise UserError("model.c", self.c, rule, remedy)

    def check_random(self) -> None:
        """The branch has a weight."""
        if self.branch_weights()[1] == 0:
            fixed = self.branch == "fixed"
            name = "lam" if fixed else "exponent" if self.c else "c"
            rule = "without a branch nothing is random but the input layer"
            remedy = "give the branch a weight"
            raise UserError(f"model.{name}", getattr(self, name), rule, remedy)

    def needs(self) -> Needs:
        """alpha and lam are those of fixed branches, the others of scaled ones."""
        fixed = (self.branch == "fixed", "model.branch=fixed")
        scaled = (self.branch == "depth_scaled", "model.branch=depth_scaled")
        found = dict.fromkeys(("alpha", "lam"), fixed)
        found |= dict.fromkeys(("c", "exponent", "normalized"), scaled)
        return {f"model.{name}": need for name, need in found.items()}
