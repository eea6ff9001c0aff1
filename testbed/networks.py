"""From the model part of a config to a Flax network."""

from typing import Any

from models import MLP, BalancedResNet, BranchScaling, ResNet
from testbed.config import ModelConfig

KINDS = {"resnet": ResNet, "balanced": BalancedResNet}


def build_network(config: ModelConfig, out_features: int) -> MLP | ResNet:
    """Returns the network that `config` (validated, so with a depth) describes."""
    common: dict[str, Any] = dict(
        width=config.width,
        depth=config.depth,
        out_features=out_features,
        head=config.head,
        activation=config.activation,
        parameterization=config.parameterization,
        bias_std=config.bias_std,
    )
    if config.kind == "mlp":
        return MLP(**common)
    return KINDS[config.kind](branch=branch_scaling(config), **common)


def branch_scaling(config: ModelConfig) -> BranchScaling:
    """Returns the branch scaling that `config` describes."""
    if config.branch == "fixed":
        return BranchScaling.fixed(config.alpha, config.lam)
    return BranchScaling.depth_scaled(config.c, config.exponent, config.normalized)


def branch_weights(config: ModelConfig) -> tuple[float, float]:
    """Returns (alpha, lam) of `config` (validated), the same in every layer."""
    if config.kind == "mlp":
        return 0.0, 1.0
    lam = config.lam
    if config.branch == "fixed":
        return config.alpha, lam
    assert config.depth is not None
    lam = config.c * config.depth**-config.exponent
    return ((1 - lam**2) ** 0.5 if config.normalized else 1.0), lam
