"""Settings of convolutional residual networks."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from testbed.bounds import Bound
from testbed.errors import UserError
from testbed.kinds.branches import BranchConfig


@dataclasses.dataclass(frozen=True)
class ConvConfig(BranchConfig):
    """A convolutional residual network; width counts channels, depth blocks."""

    images: ClassVar[bool] = True
    bounds: ClassVar[Mapping[str, Bound]] = {
        **BranchConfig.bounds,
        "model.filter_size": Bound(1, 1023, "images are smaller"),
    }

    filter_size: int = 3
    """Pixels of a side of a filter, k, odd."""
    padding: Literal["SAME", "CIRCULAR"] = "SAME"
    """SAME: zeros outside of an image; CIRCULAR: it goes on at the other side."""
    strides: tuple[int, ...] = (1,)
    """One a stage; depth is split over stages."""
    pooling: bool = False
    """Average over pixels before the read-out, which else reads all of them."""

    def check(self) -> None:
        """Filters have a middle, and every stage a block."""
        super().check()
        k, strides = self.filter_size, self.strides
        if k % 2 == 0:
            raise UserError("model.filter_size", k, "must be odd", "e.g. 3")
        most = self.bounds["model.filter_size"].most
        if not strides or not all(1 <= s <= most for s in strides):
            rule = f"must be one number a stage, from 1 to {most}"
            raise UserError("model.strides", strides, rule, "e.g. 1,2")
        if len(strides) > (self.depth or 1):
            rule = f"has {len(strides)} stages, and there are {self.depth} blocks"
            remedy = "raise model.depth, or give fewer strides"
            raise UserError("model.strides", strides, rule, remedy)
