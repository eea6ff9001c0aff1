"""What the law of a network at initialization depends on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models import MLP, BranchScaling, ResNet
from models.activations import ACTIVATIONS, Activation
from models.resnet import HEADS
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


def describe(net: MLP | ResNet) -> tuple[Architecture, Scales]:
    """Splits a network into what is compiled and what is an argument.

    Raises:
      UserError: a width, depth or number of outputs below 1, an unknown name, or a
        branch scaling that does not fit the depth.
    """
    for name in ("width", "depth", "out_features"):
        value = getattr(net, name)
        if not isinstance(value, int | np.integer):
            rule = "must be one whole number: the skip needs equal widths"
            raise UserError(name, value, rule, "give one")
        if value < 1:
            raise UserError(name, value, "must be at least 1", "use 1 or more")
    check_name("head", net.head, HEADS)
    check_name("activation", net.activation, ACTIVATIONS)
    mlp = isinstance(net, MLP)
    branch = BranchScaling.fixed(0.0, 1.0) if mlp else net.branch
    try:
        alpha, lam = branch.at_depth(net.depth)
    except ValueError as error:
        raise UserError("branch", branch, str(error), "change the branch") from None
    if not (jnp.isfinite(alpha).all() and jnp.isfinite(lam).all()):
        rule = "alpha and lam must be finite"
        raise UserError("branch", branch, rule, "give finite numbers")
    signed = not mlp and net.signed
    shape = Architecture(
        net.width,
        net.depth,
        net.out_features,
        net.head,
        net.activation,
        float(net.bias_std),
        signed,
    )
    return shape, Scales(alpha, lam)
