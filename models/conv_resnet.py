"""Convolutional residual networks: vanilla, and Balanced with a sign a channel."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.activations import activation
from models.layers import Dense, affine, blocks_at_once
from models.resnet import HEADS, REAL, Signed, sow_statistics
from models.scaling import BranchScaling
from models.statistics import activation_ratio

PADDINGS = ("SAME", "CIRCULAR")


class Conv(nn.Module):
    """h -> sqrt(weight_variance / (k^2 C_in)) conv(h, W) + bias_std b, b a channel.

    The division is by k^2 C_in also at a border padded with zeros.  Parameterizations
    are those of `models.layers.Dense`.

    Attributes:
      features: channels of the output.
      filter_size: k, odd.
      stride: taps are at stride * p + delta.
      padding: "SAME", zeros outside, where XLA puts them; or "CIRCULAR", windows
        centred at stride * p, as Flax has them (neural-tangents does not).
      weight_variance: sigma_w^2.
      bias_std: sigma_b; 0 means that there is no bias.
    """

    features: int
    filter_size: int
    stride: int = 1
    padding: str = "SAME"
    weight_variance: float = 1.0
    bias_std: float = 0.0
    parameterization: str = "ntk"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        """Maps (N, H, W, C_in) to (N, ceil(H / s), ceil(W / s), features)."""
        k, padding = self.filter_size, self.padding
        if padding == "CIRCULAR":
            around = (k // 2, k // 2)
            h = jnp.pad(h, ((0, 0), around, around, (0, 0)), mode="wrap")
            padding = "VALID"

        def linear(kernel):
            strides, axes = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                h, kernel, strides, padding, dimension_numbers=axes
            )

        return affine(self, (k, k, h.shape[-1], self.features), linear)


class ConvResNet(nn.Module):
    """Convolutional residual network with explicit skip and branch weights.

        z_0     = conv(x; W_in),                                   sigma_w^2 = 1
        z_{l+1} = alpha_l z_l + lam_l conv(phi(z_l); W_l),         l = 0, ..., d - 1
        f       = W_out z_d / sqrt(P n)              pooling False, all P pixels read
        f       = W_out mean_p z_{d,p} / sqrt(n)     pooling True

    conv divides by sqrt(k^2 C_in) and branches have sigma_w^2 = 2 for ReLU, else 1;
    all weights are N(0, 1) (NTK parameterization).  With head "relu" z_d is replaced
    by sqrt(sigma_w^2) phi(z_d).

    A stage is a stride; depth is split over stages, the first ones taking what is left
    over.  Where a stride exceeds 1 the first block of its stage has it in its branch,
    and a 1x1 convolution of that stride, sigma_w^2 = 1 and no bias, as its skip.
    Within a stage depth is a scan.

    Variables: ``params`` with groups ``input``, ``blocks``, ``head``.  Statistics of
    every layer are sown as by `models.ResNet`, over all pixels and channels.

    Attributes:
      width: n, channels.
      depth: d, the number of residual blocks, at least one a stage.
      out_features: number of outputs.
      branch: (alpha_l, lam_l).
      filter_size: k, odd.
      padding: "SAME" (zeros) or "CIRCULAR".
      strides: one a stage.
      pooling: average over pixels before the read-out.
      head: "linear" or "relu".
      activation: "relu", "identity" or "tanh".
      parameterization: "ntk" or "standard".
      bias_std: sigma_b of every layer, one number a channel; 0 means no biases.
      dtype: of parameters and computation.

    Source: Garriga-Alonso et al. 2019, arXiv:1808.05587; branch weights as in Li, Nica
    & Roy 2021, arXiv:2106.04013.

    Example:
      >>> net = ConvResNet(width=16, depth=4, out_features=10, strides=(1, 2))
      >>> variables = net.init(jax.random.key(0), jnp.ones((2, 8, 8, 1)))
      >>> net.apply(variables, jnp.ones((2, 8, 8, 1))).shape
      (2, 10)
    """

    width: int = 64
    depth: int = 32
    out_features: int = 10
    branch: BranchScaling = BranchScaling.depth_scaled(1.0)
    filter_size: int = 3
    padding: str = "SAME"
    strides: tuple[int, ...] = (1,)
    pooling: bool = False
    head: str = "linear"
    activation: str = "relu"
    parameterization: str = "ntk"
    bias_std: float = 0.0
    dtype: jnp.dtype = jnp.float32

    signed: ClassVar[bool] = False

    @staticmethod
    def stages(blocks: Any) -> list[Any]:
        """Parts of the group ``blocks`` in order, each with an axis of its blocks."""
        found = []
        for i in range(len(blocks)):
            if (down := blocks.get(f"down_{i}")) is not None:
                found.append(jax.tree.map(lambda leaf: leaf[None], down))
            if f"stage_{i}" in blocks:
                found.append(blocks[f"stage_{i}"])
        return found

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (N, H, W, C) to (N, out_features), or one (H, W, C) to (out_features,).

        Raises:
          ValueError: settings that make no network, x of another shape, or x that is
            not real.  Integers and booleans are cast to `dtype`.
        """
        check_settings(self)
        x = x if hasattr(x, "dtype") else jnp.asarray(x)
        _check_images(x)
        batch = x if x.ndim == 4 else x[None]
        shared: dict[str, Any] = dict(
            bias_std=self.bias_std,
            parameterization=self.parameterization,
            dtype=self.dtype,
        )
        conv: dict[str, Any] = dict(
            filter_size=self.filter_size, padding=self.padding, **shared
        )
        z = Conv(self.width, **conv, name="input")(jnp.asarray(batch, self.dtype))
        scales = self.branch.at_depth(self.depth, self.dtype)
        lengths = stage_depths(self.depth, len(self.strides))
        z = _Stages(
            self.activation, self.signed, self.strides, lengths, conv, name="blocks"
        )(z, scales)
        sow_statistics(self, squared_norm=lambda: jnp.mean(z**2, (1, 2, 3)))
        variance = 1.0
        if self.head == "relu":
            z = Signed(
                self.activation, self.signed, self.dtype, name="head_activation"
            )(z)
            variance = activation(self.activation).weight_variance
        z = jnp.mean(z, (1, 2)) if self.pooling else z.reshape(len(z), -1)
        f = Dense(self.out_features, variance, **shared, name="head")(z)
        return f if x.ndim == 4 else f[0]


class BalancedConvResNet(ConvResNet):
    """Convolutional residual network whose channels carry random signs.

        z_{l+1} = alpha_l z_l + lam_l conv(phi(s_l * z_l); W_l)

    with s_l in {-1, +1}^n fair, fixed, one a channel and the same at all its pixels,
    drawn afresh for every layer.  Kernels of infinite width are those of `ConvResNet`,
    with pooling too; signs of every pixel would change them there.  The signs are the
    collection ``signs``, as in `models.BalancedResNet`.

    Source: Li, Nica & Roy 2021, arXiv:2106.04013 (Balanced ResNet), by channels.
    """

    signed: ClassVar[bool] = True


def stage_depths(depth: int, stages: int) -> tuple[int, ...]:
    """Blocks of every stage: depth // stages, and one more in the first ones."""
    return tuple(depth // stages + (i < depth % stages) for i in range(stages))


def check_settings(net: ConvResNet) -> None:
    """Raises a ValueError unless the settings of `net` make a network."""
    if net.width < 1 or net.depth < 1 or net.out_features < 1:
        raise ValueError(
            f"width={net.width}, depth={net.depth}, out_features={net.out_features}: "
            "each must be at least 1"
        )
    if net.filter_size < 1 or net.filter_size % 2 == 0:
        raise ValueError(
            f"filter_size={net.filter_size}: must be odd and at least 1; use 3"
        )
    if not net.strides or min(net.strides) < 1:
        raise ValueError(
            f"strides={net.strides}: must be one number a stage, each at least 1"
        )
    if net.depth < len(net.strides):
        raise ValueError(
            f"depth={net.depth}: must be at least {len(net.strides)}, one block for "
            f"each of strides={net.strides}; use fewer stages"
        )
    for name, value, valid in (
        ("head", net.head, HEADS),
        ("padding", net.padding, PADDINGS),
    ):
        if value not in valid:
            raise ValueError(f"{name}={value!r}: must be one of {', '.join(valid)}")


def _check_images(x) -> None:
    if x.ndim not in (3, 4) or 0 in x.shape[-3:]:
        raise ValueError(
            f"x has shape {x.shape}: must be (N, H, W, C) or (H, W, C); give images, "
            "x[..., None] where they have no channels"
        )
    if not any(jnp.issubdtype(x.dtype, kind) for kind in REAL):
        raise ValueError(
            f"x has dtype {x.dtype}: must be real; give real and imaginary parts as "
            "channels of their own"
        )


class _Stages(nn.Module):
    activation: str
    signed: bool
    strides: tuple[int, ...]
    lengths: tuple[int, ...]
    conv: dict[str, Any]

    @nn.compact
    def __call__(self, z, scales):
        alpha, lam = scales
        wanted = self.is_mutable_collection("intermediates")
        watched = wanted and not self.is_initializing()
        rest = (self.activation, self.signed, self.conv, watched)
        start, kept = 0, []
        for i, (stride, length) in enumerate(
            zip(self.strides, self.lengths, strict=True)
        ):
            if stride > 1:
                first = _Block(*rest, stride, name=f"down_{i}")
                z, seen = first(z, (alpha[start], lam[start]))
                kept.append(jax.tree.map(lambda v: v[None], seen))
                start, length = start + 1, length - 1
            if length:
                part = slice(start, start + length)
                z, seen = nn.scan(
                    _Block,
                    variable_axes={"params": 0, "signs": 0},
                    split_rngs={"params": True, "signs": True},
                    length=length,
                    unroll=blocks_at_once(),
                )(*rest, name=f"stage_{i}")(z, (alpha[part], lam[part]))
                kept.append(seen)
                start += length
        if watched:
            for name in kept[0]:
                whole = jnp.concatenate([seen[name] for seen in kept])
                self.sow("intermediates", name, whole)
        return z


class _Block(nn.Module):
    activation: str
    signed: bool
    conv: dict[str, Any]
    watched: bool
    stride: int = 1

    @nn.compact
    def __call__(self, z, scales):
        alpha, lam = scales
        dtype, n = self.conv["dtype"], z.shape[-1]
        h = Signed(self.activation, self.signed, dtype, name="activation")(z)
        seen = {}
        if self.watched:
            flat_h, flat_z = h.reshape(len(h), -1), z.reshape(len(z), -1)
            seen = dict(
                squared_norm=jnp.mean(flat_z**2, -1),
                active_fraction=jnp.mean(flat_h > 0, -1, dtype=dtype),
                activation_ratio=activation_ratio(flat_h, flat_z),
            )
        variance = activation(self.activation).weight_variance
        branch = Conv(
            n,
            stride=self.stride,
            weight_variance=variance,
            **self.conv,
            name="conv",
        )(h)
        if self.stride > 1:
            plain = {**self.conv, "filter_size": 1, "bias_std": 0.0}
            z = Conv(n, stride=self.stride, **plain, name="skip")(z)
        return alpha * z + lam * branch, seen
