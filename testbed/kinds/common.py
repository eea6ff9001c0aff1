"""What models of all kinds have, and the names of the kinds."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from testbed.bounds import Bound

Kind = Literal["mlp", "resnet", "balanced", "conv_resnet", "balanced_conv_resnet"]
"""Values of `model.kind`: each a file here, with its settings, and one in families/."""

Head = Literal["linear", "relu"]

Needs = dict[str, tuple[bool, str]]
"""{dotted name: (whether the setting has an effect, what it needs for one)}."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network."""

    images: ClassVar[bool] = False
    """Whether networks of the kind take images; the others take vectors."""
    bounds: ClassVar[Mapping[str, Bound]] = {}
    """Of the numbers among the settings that not every kind has, by dotted name."""

    kind: Kind = "balanced"
    """The family of networks; each has settings of its own."""
    width: int = 32
    """Units of a hidden layer, n."""
    depth: int | None = None
    """Residual blocks (hidden layers of the mlp), d; 32 unless ratio is given."""
    ratio: float | None = None
    """Sets depth = round(ratio * width), to hold d/n fixed."""
    head: Head = "linear"
    """linear: f = W z_d / sqrt(n); relu: f = sqrt(2/n) W phi(z_d)."""
    activation: Literal["relu", "identity", "tanh"] = "relu"
    """phi, of every hidden layer."""
    parameterization: Literal["ntk", "standard"] = "ntk"
    """ntk: unit-variance weights, scales in the forward pass; standard."""
    bias_std: float = 0.0
    """Standard deviation of biases; 0 means none."""

    def check(self) -> None:
        """Raises UserError for settings of the kind that go together in no network.

        The depth is known, and every number is within its bound.
        """

    def check_random(self) -> None:
        """Raises UserError where nothing but the input layer is random at t = 0."""

    def needs(self) -> Needs:
        """What settings of the kind need to have an effect."""
        return {}
