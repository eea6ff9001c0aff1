"""What the law of a network at initialization depends on."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from models import MLP, BranchScaling, ResNet
from models.activations import ACTIVATIONS, Activation
from models.resnet import HEADS
from testbed.arguments import number, whole
from testbed.errors import UserError, check_name


class Architecture(NamedTuple):
    """The static part of a network of `models`: what shapes a compiled program."""

    width: int
    depth: int
    out_features: int
    head: str
    activation: str
    bias_std: float
    signed: bool

    @property
    def phi(self) -> Activation:
        """The activation and its weight variance."""
        return ACTIVATIONS[self.activation]

    @property
    def homogeneous(self) -> bool:
        """Whether scaling z_0 scales everything: norms may then be kept as logs."""
        return self.phi.homogeneous and not self.bias_std


class Scales(NamedTuple):
    """Weights of skip and branch, (d,) each; changing them compiles nothing."""

    alpha: jax.Array
    lam: jax.Array


@functools.singledispatch
def describe(net: nn.Module) -> tuple[Architecture, Scales]:
    """Splits a network into what is compiled and what is an argument.

    Raises:
      UserError: a network that cannot be drawn without its weights; a width, depth or
        number of outputs below 1 or not whole, an unknown name, or a branch scaling
        that is not finite, does not fit the depth, or is 0 for both skip and branch in
        a layer.
    """
    rule = "cannot be drawn in law without its weights"
    remedy = "use MLP, ResNet or BalancedResNet, or register one with describe"
    raise UserError("model", type(net).__name__, rule, remedy)


@describe.register
def _of_mlp(net: MLP) -> tuple[Architecture, Scales]:
    return _dense(net, BranchScaling.fixed(0.0, 1.0), signed=False)


@describe.register
def _of_resnet(net: ResNet) -> tuple[Architecture, Scales]:
    return _dense(net, net.branch, net.signed)


def _dense(net: MLP | ResNet, branch: BranchScaling, signed: bool):
    """Of square dense layers, with or without a skip."""
    sizes = [whole(k, getattr(net, k)) for k in ("width", "depth", "out_features")]
    width, depth, out_features = sizes
    bias_std = number("bias_std", net.bias_std, 0)
    check_name("head", net.head, HEADS)
    check_name("activation", net.activation, ACTIVATIONS)
    try:
        alpha, lam = branch.at_depth(depth)
    except ValueError as error:
        raise UserError("branch", branch, str(error), "change the branch") from None
    if not np.isfinite([alpha, lam]).all():
        rule = "alpha and lam must be finite in float32"
        raise UserError("branch", branch, rule, "give finite numbers")
    if not np.any([alpha, lam], axis=0).all():
        rule = "alpha and lam are both 0 in a layer: the network is constant"
        raise UserError("branch", branch, rule, "give lam or alpha a value")
    shape = Architecture(
        width, depth, out_features, net.head, net.activation, bias_std, signed
    )
    return shape, Scales(alpha, lam)
