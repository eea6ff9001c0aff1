"""Residual networks: vanilla, and Balanced with a random sign for every unit."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.activations import activation
from models.layers import Dense, blocks_at_once
from models.scaling import BranchScaling
from models.statistics import activation_ratio

HEADS = ("linear", "relu")
REAL = (jnp.floating, jnp.integer, jnp.bool_)


class ResNet(nn.Module):
    """Residual network with explicit skip and branch weights.

        z_0     = W_in x / sqrt(n_in)
        z_{l+1} = alpha_l z_l + lam_l sqrt(2/n) W_l phi(z_l),    l = 0, ..., d - 1
        f       = W_out z_d / sqrt(n)              head "linear"
        f       = sqrt(2/n) W_out phi(z_d)         head "relu"

    All weights are N(0, 1) (NTK parameterization; see `models.layers.Dense` for the
    standard one); 2 is the weight variance of ReLU and is 1 for the other activations.
    Depth is a scan: blocks' parameters carry a leading layer axis and compile time does
    not grow with depth.

    Variables: ``params`` with groups ``input``, ``blocks``, ``head``.  Statistics of
    every layer are sown into ``intermediates`` when that collection is mutable, and are
    not computed otherwise; `models.layer_statistics` collects them.

    Attributes:
      width: n.
      depth: d, the number of residual blocks.
      out_features: number of outputs.
      branch: (alpha_l, lam_l).
      head: "linear" or "relu".
      activation: "relu", "identity" or "tanh".
      parameterization: "ntk" or "standard".
      bias_std: sigma_b of every layer; 0 means no biases.
      dtype: of parameters and computation.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013 (Vanilla ResNet).

    Example:
      >>> net = ResNet(width=64, depth=8, out_features=10)
      >>> variables = net.init(jax.random.key(0), jnp.ones((2, 64)))
      >>> net.apply(variables, jnp.ones((2, 64))).shape
      (2, 10)
    """

    width: int = 64
    depth: int = 32
    out_features: int = 10
    branch: BranchScaling = BranchScaling.depth_scaled(1.0)
    head: str = "linear"
    activation: str = "relu"
    parameterization: str = "ntk"
    bias_std: float = 0.0
    dtype: jnp.dtype = jnp.float32

    signed: ClassVar[bool] = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (batch, n_in) to (batch, out_features).

        Raises:
          ValueError: settings that make no network, x of another shape, or x that is
            not real.  Integers and booleans are cast to `dtype`.
        """
        alpha, lam = self.branch.at_depth(self.depth, self.dtype)
        return residual_forward(self, x, alpha, lam, self.signed)


class BalancedResNet(ResNet):
    """Residual network whose hidden units carry random signs.

        z_{l+1} = alpha_l z_l + lam_l sqrt(2/n) W_l phi(s_l * z_l)

    with s_l in {-1, +1}^n fair, fixed, and drawn afresh for every layer (one sign
    vector shared by all layers would give the vanilla network back in law).  Half of
    the units see z and half see -z, hence E|z_d|^2 = prod_l (alpha_l^2 + lam_l^2)
    |z_0|^2 at every width.  A ReLU head carries signs of its own.

    The signs are the collection ``signs``, drawn from the key ``signs`` if given, else
    from ``params``.  They are not trained; keep them with the parameters.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013 (Balanced ResNet).
    """

    signed: ClassVar[bool] = True


def residual_forward(
    net: nn.Module, x: jax.Array, alpha: jax.Array, lam: jax.Array, signed: bool
) -> jax.Array:
    """The forward pass of `ResNet`, in the compact scope of `net`."""
    if net.width < 1 or net.depth < 1 or net.out_features < 1:
        raise ValueError(
            f"width={net.width}, depth={net.depth}, out_features={net.out_features}: "
            "each must be at least 1"
        )
    if net.head not in HEADS:
        raise ValueError(f"head={net.head!r}: must be one of {', '.join(HEADS)}")
    x = x if hasattr(x, "dtype") else jnp.asarray(x)
    _check_inputs(x)
    shared = dict(
        bias_std=net.bias_std, parameterization=net.parameterization, dtype=net.dtype
    )
    z = Dense(net.width, **shared, name="input")(jnp.asarray(x, net.dtype))
    z, _ = nn.scan(
        _Block,
        variable_axes={"params": 0, "signs": 0, "intermediates": 0},
        split_rngs={"params": True, "signs": True},
        length=net.depth,
        unroll=blocks_at_once(),
    )(net.activation, signed, shared, name="blocks")(z, (alpha, lam))
    sow_statistics(net, squared_norm=lambda: jnp.mean(z**2, -1))
    variance = 1.0
    if net.head == "relu":
        z = Signed(net.activation, signed, net.dtype, name="head_activation")(z)
        variance = activation(net.activation).weight_variance
    return Dense(net.out_features, variance, **shared, name="head")(z)


def _check_inputs(x) -> None:
    """Raises a ValueError unless `x` is a batch of real vectors, or a single one."""
    if x.ndim not in (1, 2) or not x.shape[-1]:
        remedy = "give features"
        if x.ndim > 2:
            remedy = "flatten the examples, x.reshape(len(x), -1)"
        raise ValueError(
            f"x has shape {x.shape}: must be (batch, n_in) or (n_in,); {remedy}"
        )
    if not any(jnp.issubdtype(x.dtype, kind) for kind in REAL):
        raise ValueError(
            f"x has dtype {x.dtype}: must be real; give real and imaginary parts as "
            "features of their own"
        )


class Signed(nn.Module):
    """z -> phi(s * z), or phi(z) if not `signed`."""

    activation: str
    signed: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, z):
        """The activations, like z."""
        if self.signed:

            def draw():
                key = self.make_rng("signs")
                return jax.random.rademacher(key, z.shape[-1:], self.dtype)

            z = z * jnp.broadcast_to(self.variable("signs", "s", draw).value, z.shape)
        return activation(self.activation).phi(z)


class _Block(nn.Module):
    activation: str
    signed: bool
    shared: dict

    @nn.compact
    def __call__(self, z, scales):
        alpha, lam = scales
        dtype = self.shared["dtype"]
        h = Signed(self.activation, self.signed, dtype, name="activation")(z)
        sow_statistics(
            self,
            squared_norm=lambda: jnp.mean(z**2, -1),
            active_fraction=lambda: jnp.mean(h > 0, -1, dtype=dtype),
            activation_ratio=lambda: activation_ratio(h, z),
        )
        variance = activation(self.activation).weight_variance
        branch = Dense(z.shape[-1], variance, **self.shared, name="dense")(h)
        return alpha * z + lam * branch, None


def sow_statistics(module: nn.Module, **statistics):
    """Keeps what these functions give, where statistics are asked for."""
    wanted = module.is_mutable_collection("intermediates")
    if wanted and not module.is_initializing():
        for name, value in statistics.items():
            module.sow("intermediates", name, value())
