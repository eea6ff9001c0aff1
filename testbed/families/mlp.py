"""Fully connected networks: the residual recursion without a skip."""

from typing import ClassVar

import flax.linen as nn

from models import MLP
from testbed.families.family import attributes
from testbed.families.residual import DenseFamily
from testbed.kinds.common import Head, ModelConfig


class MLPFamily(DenseFamily):
    """alpha = 0 and lam = 1."""

    head: ClassVar[Head] = "relu"  # d + 1 hidden layers, as usual
    signed = False

    def network(self, m: ModelConfig, n_out: int) -> nn.Module:
        """The module."""
        return MLP(**attributes(m, n_out))

    def pair(self, m: ModelConfig) -> tuple[float, float]:
        """(0, 1)."""
        return 0.0, 1.0

    def formula(self, m: ModelConfig) -> str:
        """Of a layer."""
        return "z' = √(2/n) W φ(z)"


FAMILY = MLPFamily()
