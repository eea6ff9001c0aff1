"""What the families of dense residual networks share.

    z_{l+1} = alpha z_l + lam sqrt(2/n) W_l phi(s_l * z_l),

with signs s_l in the Balanced network, without them in the vanilla one; alpha = 0,
lam = 1 is the fully connected network.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import flax.linen as nn
import numpy as np

from models import BranchScaling
from testbed.families.family import (
    BETA,
    DISPERSION,
    INTERLAYER,
    Counts,
    Family,
    NoLaw,
    attributes,
)
from testbed.kinds.branches import BranchConfig
from testbed.kinds.common import Head, ModelConfig
from testbed.laws.gaussian import gaussian_log_norm
from testbed.laws.law import Law
from testbed.laws.log_gaussian import LayerLaw, layer_law, resnet_log_norm
from testbed.laws.norms import NormLaws, norm_laws
from testbed.laws.resnet_ntk import resnet_ntk_moments


def branch_scaling(m: ModelConfig) -> BranchScaling:
    """The branch scaling of a network of `models`."""
    assert isinstance(m, BranchConfig)
    if m.branch == "fixed":
        return BranchScaling.fixed(m.alpha, m.lam)
    return BranchScaling.depth_scaled(m.c, m.exponent, m.normalized)


class DenseFamily(Family):
    """A family whose networks take vectors and are made of square dense layers."""

    head: ClassVar[Head] = "linear"
    signed: bool

    def pair(self, m: ModelConfig) -> tuple[float, float]:
        """(alpha, lam) of every block."""
        assert isinstance(m, BranchConfig)
        return m.branch_weights()

    def arrange(self, x: np.ndarray) -> np.ndarray:
        """Vectors."""
        return x.reshape(len(x), -1)

    def counts(self, m: ModelConfig, shape: Sequence[int], n_out: int) -> Counts:
        """n (n_in + d n + n_out) weights, with biases n (d + 1) + n_out more."""
        depth, n_in = m.depth or 0, math.prod(shape)
        weights = m.width * (n_in + depth * m.width + n_out)
        biases = m.width * (depth + 1) + n_out if m.bias_std else 0
        return Counts(weights + biases, m.width * depth)

    def weights(self, m: ModelConfig) -> dict[str, float]:
        """alpha and lam."""
        alpha, lam = self.pair(m)
        return {"alpha": alpha, "lam": lam}

    def norm_laws(self, m: ModelConfig, n_out: int) -> NormLaws | NoLaw:
        """Log-Gaussian and Gaussian, of ReLU networks without biases."""
        if missing := _beyond(m):
            return missing
        if m.head != "linear":
            return NoLaw("the output's law is that of a linear head")
        assert m.depth is not None
        return norm_laws(m.width, m.depth, *self.pair(m), n_out, self.signed)

    def layer_law(self, m: ModelConfig, depth: int) -> LayerLaw | NoLaw:
        """To leading order in 1/n, of ReLU networks without biases."""
        return _beyond(m) or layer_law(m.width, depth, *self.pair(m), self.signed)

    def width_law(self, m: ModelConfig, layers: np.ndarray) -> Law | NoLaw:
        """Gaussian, of ReLU networks without biases."""
        return _beyond(m) or gaussian_log_norm(m.width, layers, *self.pair(m))

    def variables(
        self, m: ModelConfig, widths: Sequence[int], depth: int
    ) -> dict[str, np.ndarray] | NoLaw:
        """Nothing is fitted.

        beta            variance of log(|z_d|^2 / |z_0|^2), Li, Nica & Roy 2021
        NTK dispersion  Var K / (E K)^2 of the tangent kernel K(x, x), in NTK
                        parameterization; exact for Balanced and fully connected
                        networks, and for vanilla ones that of the Balanced network of
                        the same sizes and weights, as nothing better is known
        interlayer part of beta: what correlations between layers add to it in a
                        vanilla network; 0 in a Balanced one and without a skip
        """
        if missing := _beyond(m):
            return missing
        alpha, lam = self.pair(m)
        beta = resnet_log_norm(widths, depth, alpha, lam, self.signed).var()
        without = resnet_log_norm(widths, depth, alpha, lam, balanced=True).var()
        found = {BETA: beta}
        if m.parameterization == "ntk":
            moments = resnet_ntk_moments(widths, depth, alpha, lam, m.head)
            found[DISPERSION] = moments.dispersion
        return found | {INTERLAYER: beta - without}


def _beyond(m: ModelConfig) -> NoLaw | None:
    """Why the laws do not hold for these settings, if they do not."""
    if m.activation != "relu":
        return NoLaw(f"it is known for ReLU, and the activation is {m.activation}")
    if m.bias_std:
        return NoLaw("it is known for networks without biases")
    return None


class ResidualFamily(DenseFamily):
    """A family of residual networks of `models`, vanilla or with signs.

    Args:
      module: the Flax module.
      signed: whether hidden units carry random signs.
    """

    def __init__(self, module: type[nn.Module], signed: bool):
        self._module, self.signed = module, signed

    def network(self, m: ModelConfig, n_out: int) -> nn.Module:
        """The module, with its branch scaling."""
        return self._module(branch=branch_scaling(m), **attributes(m, n_out))

    def formula(self, m: ModelConfig) -> str:
        """With its weights, and the law of the signs."""
        inside, signs = "z", ""
        if self.signed:
            inside, signs = "s ⊙ z", ", fixed random signs s = ±1"
        return f"z' = α z + λ √(2/n) W φ({inside}), {weights_in_words(m)}{signs}"


def weights_in_words(m: ModelConfig) -> str:
    """alpha and lam of a block, as in "α = 1, λ = d^(−1/2)"."""
    assert isinstance(m, BranchConfig)
    if m.branch == "fixed":
        half = 0.5**0.5
        number = lambda v: "1/√2" if v == half else f"{v:.4g}"
        if m.alpha == m.lam:
            return f"α = λ = {number(m.lam)}"
        return f"α = {number(m.alpha)}, λ = {number(m.lam)}"
    power = Fraction(m.exponent).limit_denominator(100)
    lam = f"{m.c:g} d^(−{power})" if m.c != 1 else f"d^(−{power})"
    return f"α = {'√(1 − λ²)' if m.normalized else '1'}, λ = {lam}"
