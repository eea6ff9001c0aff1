"""Flax networks whose depth is a scan and whose scales are explicit.

`MLP`, `ResNet`, `ConvResNet` and the Balanced ones are ordinary Flax Linen modules;
`BranchScaling` says how strongly a block's skip and branch are weighted.  Nothing here
needs more than jax, numpy and flax.
"""

from models.conv_resnet import BalancedConvResNet, ConvResNet
from models.mlp import MLP
from models.resnet import BalancedResNet, ResNet
from models.scaling import BranchScaling
from models.statistics import block_norms, layer_statistics

__all__ = [
    "MLP",
    "BalancedConvResNet",
    "BalancedResNet",
    "BranchScaling",
    "ConvResNet",
    "ResNet",
    "block_norms",
    "layer_statistics",
]
