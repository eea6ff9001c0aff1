"""What the families of convolutional residual networks share.

    z_{l+1} = alpha z_l + lam sqrt(2/(k^2 n)) W_l * phi(s_l z_l)

with a sign for every channel in the Balanced network, without them in the vanilla one.
Their kernels are known, `testbed.kernels.convolutional`; their laws are not, here.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import numpy as np

from models.conv_resnet import stage_depths
from testbed.errors import UserError
from testbed.families.family import Counts, Family, NoLaw, attributes
from testbed.families.residual import branch_scaling, weights_in_words
from testbed.kinds.common import Head, ModelConfig
from testbed.kinds.convolution import ConvConfig
from testbed.laws.law import Law
from testbed.laws.log_gaussian import LayerLaw
from testbed.laws.norms import NormLaws

_UNKNOWN = NoLaw("convolutional networks have no law here yet, and no sampler")


class ConvFamily(Family):
    """A family of convolutional networks of `models`, vanilla or with signs.

    Args:
      module: the Flax module.
      signed: whether channels carry random signs.
    """

    head: ClassVar[Head] = "linear"

    def __init__(self, module: type[nn.Module], signed: bool):
        self._module, self._signed = module, signed

    def network(self, m: ModelConfig, n_out: int) -> nn.Module:
        """The module, with its branch scaling and filters."""
        assert isinstance(m, ConvConfig)
        return self._module(
            branch=branch_scaling(m),
            filter_size=m.filter_size,
            padding=m.padding,
            strides=tuple(m.strides),
            pooling=m.pooling,
            **attributes(m, n_out),
        )

    def arrange(self, x: np.ndarray) -> np.ndarray:
        """Images as they are."""
        if x.ndim != 4:
            rule = f"gives examples of shape {x.shape[1:]}, and not (height, width, "
            rule += "channels)"
            raise UserError("data", "this set", rule, "use a set of images")
        return x

    def counts(self, m: ModelConfig, shape: Sequence[int], n_out: int) -> Counts:
        """Of filters, strided skips and read-out; a block makes its input's pixels.

        n k^2 (C + d n) weights of filters, n^2 of a skip for each stride above 1, and
        n_out n times the pixels that are read; with biases n (d + 1) + n_out more.
        """
        assert isinstance(m, ConvConfig)
        height, width, channels = shape
        depth, n, taps = m.depth or 0, m.width, m.filter_size**2
        weights, made = n * taps * (channels + depth * n), 0
        for stride, blocks in zip(
            m.strides, stage_depths(depth, len(m.strides)), strict=True
        ):
            if stride > 1:
                weights += n * n
                made += height * width  # of the block that strides
                height, width, blocks = (
                    -(-height // stride),
                    -(-width // stride),
                    blocks - 1,
                )
            made += blocks * height * width
        weights += n_out * n * (1 if m.pooling else height * width)
        biases = n * (depth + 1) + n_out if m.bias_std else 0
        return Counts(weights + biases, n * made)

    def formula(self, m: ModelConfig) -> str:
        """With its weights, filters, and the law of the signs."""
        assert isinstance(m, ConvConfig)
        k, inside, signs = m.filter_size, "z", ""
        if self._signed:
            inside, signs = "s z", ", fixed random signs s = ±1 of channels"
        filters = f"filters of {k} × {k}, {m.padding} padding"
        return (
            f"z' = α z + λ √(2/({k * k} n)) W ∗ φ({inside}), {weights_in_words(m)}"
            f"{signs}, {filters}"
        )

    def weights(self, m: ModelConfig) -> dict[str, float]:
        """alpha and lam."""
        assert isinstance(m, ConvConfig)
        alpha, lam = m.branch_weights()
        return {"alpha": alpha, "lam": lam}

    def norm_laws(self, m: ModelConfig, n_out: int) -> NormLaws | NoLaw:
        """None yet."""
        return _UNKNOWN

    def layer_law(self, m: ModelConfig, depth: int) -> LayerLaw | NoLaw:
        """None yet."""
        return _UNKNOWN

    def width_law(self, m: ModelConfig, layers: np.ndarray) -> Law | NoLaw:
        """None yet."""
        return _UNKNOWN

    def variables(
        self, m: ModelConfig, widths: Sequence[int], depth: int
    ) -> dict[str, np.ndarray] | NoLaw:
        """None yet."""
        return _UNKNOWN
