"""Samples of the log-norm, and statistics of every layer."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models import BalancedResNet, BranchScaling, ResNet
from testbed.arguments import numbers, whole
from testbed.sampling.architecture import describe
from testbed.sampling.forward import Layer, forward
from testbed.sampling.moments import Moments, merge, moments_of, stack
from testbed.sampling.stream import batch_size, check_samples, stream

Tell = Callable[[int], None]


def sample_log_norm(
    key: jax.Array,
    samples: int,
    *,
    width: int,
    depth: int,
    alpha: float | np.ndarray,
    lam: float | np.ndarray,
    balanced: bool = False,
) -> np.ndarray:
    """Samples log(|z_d|^2 / |z_0|^2) of ReLU residual networks at initialization.

        z_{l+1} = alpha z_l + lam sqrt(2/n) W_l phi(s_l z_l),    l = 0, ..., d - 1,

    exactly in law (see `testbed.sampling.forward`), at any depth.

    Args:
      key: PRNG key.
      samples: how many networks.
      width: n.
      depth: d.
      alpha: weight of the skip, a number or (d,); 0 is the fully connected network.
      lam: weight of the branch, a number or (d,).
      balanced: random signs s_l, drawn afresh for every layer and unit.

    Returns:
      (samples,) float64; -inf for a network all of whose units died.

    Raises:
      UserError: samples, width or depth below 1 or not whole, weights that are not
        finite, do not fit the depth, or are both 0 in a layer.

    Example:
      >>> x = sample_log_norm(
      ...     jax.random.key(0), 10_000, width=64, depth=64, alpha=0.5**0.5,
      ...     lam=0.5**0.5, balanced=True)
      >>> bool(abs(x.mean() + 1.125) < 0.06)
      True
    """
    samples = check_samples(samples, 1)
    net = BalancedResNet if balanced else ResNet
    branch = BranchScaling.fixed(numbers("alpha", alpha), numbers("lam", lam))
    shape, scales = describe(net(width=width, depth=depth, branch=branch))
    batch = batch_size(shape.width)
    parts = stream(_final, key, shape, scales, samples, batch=batch)
    return np.concatenate([out.reshape(-1) for _, out in parts])[:samples]


def _final(key, shape, scales, batch, counted, shared):
    return forward(key, shape, scales, batch).last.log_norm[0]


class LayerMoments(NamedTuple):
    """Moments over networks at every layer, and of the ends.

    Attributes:
      log_norm: of log(|z_l|^2 / |z_0|^2), l = 0, ..., d, (d + 1,).
      activation_ratio: of |phi(z_l)|^2 / |z_l|^2, l = 0, ..., d, (d + 1,).
      active_fraction: of the share of units with phi > 0, l = 0, ..., d, (d + 1,).
      log_hidden: of log(|z_d|^2 / n), with the input layer.
      log_output: of log|f|^2.

    Networks that have died at a layer, z_l = 0, are not counted from there on, nor is
    an output of exactly 0: these are moments of the networks that live, and nan where
    none does.
    """

    log_norm: Moments
    activation_ratio: Moments
    active_fraction: Moments
    log_hidden: Moments
    log_output: Moments

    @classmethod
    def zeros(cls, depth: int) -> "LayerMoments":
        """Of no network."""
        layer, end = np.zeros(depth + 1), np.zeros(())
        fill = lambda a: Moments(*[a] * len(Moments._fields))
        return cls(fill(layer), fill(layer), fill(layer), fill(end), fill(end))


@dataclasses.dataclass(frozen=True)
class LayerSampler:
    """Draws networks and accumulates the statistics of every layer.

    Args:
      net: an `MLP`, `ResNet` or `BalancedResNet` of `models`.
      antithetic: in pairs with every Gaussian number negated.  It pays where a
        statistic is odd in z: the standard error of the mean active fraction falls.
    """

    net: nn.Module
    antithetic: bool = False

    def chunks(self, key: jax.Array, samples: int, start: int = 0):
        """Yields (samples so far, `LayerMoments`, ends), a call of the program each.

        ends: {"log_norm", "log_hidden", "log_output"}, arrays over the networks drawn
        in this call; antithetic copies are left out of them.
        """
        samples, start = check_samples(samples), whole("start", start, 0)
        shape, scales = describe(self.net)
        batch = self.batch
        draw = _layers_antithetic if self.antithetic else _layers
        for done, (layers, ends) in stream(
            draw, key, shape, scales, samples, batch=batch, start=start
        ):
            merged = LayerMoments._make(merge(m) for m in layers)
            room = done - start
            ends = {name: a.reshape(-1)[:room] for name, a in ends.items()}
            start = done
            yield done, merged, ends

    @property
    def batch(self) -> int:
        """Networks in a batch."""
        shape, _ = describe(self.net)
        return batch_size(shape.width * (2 if self.antithetic else 1))

    def moments(self, key: jax.Array, samples: int) -> LayerMoments:
        """The moments of `samples` networks (pairs, if antithetic)."""
        total = None
        for _, part, _ in self.chunks(key, samples):
            total = part if total is None else merge_layers(total, part)
        assert total is not None
        return total


def merge_layers(a: LayerMoments, b: LayerMoments) -> LayerMoments:
    """The moments of two disjoint sets of networks together."""
    return LayerMoments._make(merge(stack(x, y)) for x, y in zip(a, b, strict=True))


def _layers(key, shape, scales, batch, counted, shared, antithetic=False):
    def of(layer: Layer):
        use = layer.alive & counted[None]
        return tuple(moments_of(x, use) for x in layer[:3])

    seen = forward(key, shape, scales, batch, antithetic=antithetic, each=of)
    layers = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b[None]]), seen.each, of(seen.last)
    )
    use = seen.last.alive & counted[None]
    log_hidden = seen.log_input + seen.last.log_norm
    ends = {
        "log_norm": seen.last.log_norm[0],
        "log_hidden": log_hidden[0],
        "log_output": seen.log_output[0],
    }
    hidden = moments_of(log_hidden, use)
    # A ReLU head may see no unit that is on, though z_d is not 0.
    output = moments_of(seen.log_output, use & jnp.isfinite(seen.log_output))
    return LayerMoments._make([*layers, hidden, output]), ends


def _layers_antithetic(*args):
    return _layers(*args, antithetic=True)
