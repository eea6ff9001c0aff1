"""What a family is asked for."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import flax.linen as nn
import numpy as np

from testbed.errors import UserError
from testbed.kinds.common import Head, ModelConfig
from testbed.laws.law import Law
from testbed.laws.log_gaussian import LayerLaw
from testbed.laws.norms import NormLaws

T = TypeVar("T")
BETA = "beta (log-Gaussian)"
DISPERSION = "NTK dispersion"
INTERLAYER = "interlayer part of beta"
"""Names of what `Family.variables` may have."""


@dataclasses.dataclass(frozen=True)
class NoLaw:
    """That a family does not have what it was asked for, and why.

    Attributes:
      reason: the end of a sentence, as in "it is known for ReLU".
    """

    reason: str


def required(found: T | NoLaw, kind: str) -> T:
    """What was found, where nothing can be done without it.

    Raises:
      UserError: the family does not have it.
    """
    if isinstance(found, NoLaw):
        rule = f"has no law for this: {found.reason}"
        raise UserError("model.kind", kind, rule, "use another kind, or other settings")
    return found


class Counts(NamedTuple):
    """Sizes that memory and time grow with.

    Attributes:
      parameters: numbers that are trained.
      activations: hidden numbers that one example makes.
    """

    parameters: int
    activations: int


def attributes(m: ModelConfig, n_out: int) -> dict[str, Any]:
    """Attributes that all networks of `models` have, by name."""
    return dict(
        width=m.width,
        depth=m.depth,
        out_features=n_out,
        head=m.head,
        activation=m.activation,
        parameterization=m.parameterization,
        bias_std=m.bias_std,
    )


class Family(abc.ABC):
    """All that the testbed knows of one kind of model.

    Everything takes the model part of a config, `m`, validated and so with a depth.
    The rest of the testbed compares no kinds: it asks here.

    Attributes:
      head: `model.head` of a network that is used as a teacher.
    """

    head: ClassVar[Head]

    @abc.abstractmethod
    def network(self, m: ModelConfig, n_out: int) -> nn.Module:
        """The Flax network, with so many outputs."""

    @abc.abstractmethod
    def arrange(self, x: np.ndarray) -> np.ndarray:
        """Examples (N, *input_shape) of a data set as the network takes them.

        Those of a kind with `images` come as (N, height, width, channels).
        """

    @abc.abstractmethod
    def counts(self, m: ModelConfig, shape: Sequence[int], n_out: int) -> Counts:
        """Parameters and activations for inputs of this shape, without making any."""

    @abc.abstractmethod
    def formula(self, m: ModelConfig) -> str:
        """A block, z to z', in a line of text."""

    @abc.abstractmethod
    def weights(self, m: ModelConfig) -> dict[str, float]:
        """Weights within a block by name, {} where there are none to choose."""

    @abc.abstractmethod
    def norm_laws(self, m: ModelConfig, n_out: int) -> NormLaws | NoLaw:
        """Laws that compete for the norms of hidden vector and outputs at t = 0."""

    @abc.abstractmethod
    def layer_law(self, m: ModelConfig, depth: int) -> LayerLaw | NoLaw:
        """Norms and active units of every layer at t = 0, up to a depth."""

    @abc.abstractmethod
    def width_law(self, m: ModelConfig, layers: np.ndarray) -> Law | NoLaw:
        """The law of infinite width, at finite depth, of log(|z_l|^2 / |z_0|^2)."""

    @abc.abstractmethod
    def variables(
        self, m: ModelConfig, widths: Sequence[int], depth: int
    ) -> dict[str, np.ndarray] | NoLaw:
        """Numbers of the laws at t = 0 that divergence may depend on, (W,) by name.

        BETA, DISPERSION and INTERLAYER mean the same in every family; others are its
        own.
        """
