"""Slightly fewer than half of a residual network's units are active.

Question: how many units of a vanilla ResNet are active at each layer, and how much of
  the squared norm do they carry, against exactly one half in a Balanced one?
Source: Li, Nica & Roy 2021, arXiv:2106.04013, Proposition 2 and Theorem 4; the
  constants are derived in testbed.laws.log_gaussian.
Parameters: vanilla at alpha^2 = 0.2, 0.5 and 0.8, lam^2 = 1 - alpha^2, n = 256, and
  n = 64 for terms of higher order; Balanced at alpha^2 = 0.5; d = 40; 12 000 and 24 000
  antithetic pairs.
Quick: n = 64, and n = 32 for terms of higher order; d = 24; 3000 and 6000
  antithetic pairs.
Expected: n (1/2 - active share) and n E Y, Y = 2|phi(z)|^2/|z|^2 - 1, start from 0,
  grow over a few layers and saturate for vanilla networks, at relative 6/n beyond the
  law of wide networks; both are 0 at every layer for Balanced ones.
Time: 20 s on 2 CPU cores; quick: 6 s.
"""

from typing import NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes

from models import BalancedResNet, BranchScaling, ResNet
from testbed.laws.log_gaussian import LayerLaw, layer_law, rates
from testbed.reports.toolkit import Caption, blank, legend_below, points, style
from testbed.reproduce.claim import Claim, Result, above, close
from testbed.sampling import LayerSampler

SKIPS = {0.2: style.INFINITE, 0.5: style.FINITE, 0.8: style.LINEARIZED}  # alpha^2
BALANCED = 0.5
NAMES = {
    "inactive": r"$n\,(1/2 - \mathrm{active\ share})$",
    "imbalance": r"$n\,\mathrm{E}\,Y$,   $Y = 2|\varphi(z)|^2 / |z|^2 - 1$",
}


class Imbalance(NamedTuple):
    """By layer l = 0, ..., d - 1, times n.

    Attributes:
      inactive: 1/2 - share of active units.
      imbalance: E Y.
    """

    inactive: np.ndarray
    imbalance: np.ndarray


def reproduce(quick: bool) -> Result:
    """Measures both imbalances by layer and puts them beside the law."""
    large, small = (64, 32) if quick else (256, 64)
    pairs = {large: 3000 if quick else 12_000, small: 6000 if quick else 24_000}
    depth = 24 if quick else 40
    figure, axes = blank(1, 2, 4.4)
    claims: list[Claim] = []
    for i, (skip, color) in enumerate(SKIPS.items()):
        label = rf"vanilla, $\alpha^2$ = {skip}"
        wide, error = _sample(ResNet, large, depth, skip, pairs[large], 2 * i)
        narrow, more = _sample(ResNet, small, depth, skip, pairs[small], 2 * i + 1)
        law = _law(layer_law(large, depth, *_weights(skip)), large)
        for ax, name in zip(axes[0], NAMES, strict=True):
            column = [getattr(x, name) for x in (wide, error, law)]
            _points(ax, column[0], column[1], color, f"{label}, n = {large}")
            ax.plot(column[2], color=color)
        # measured = law (1 + kappa/n) + O(1/n^2): the combination is free of kappa.
        weight = large / (large - small)
        for name in NAMES:
            a, b = (getattr(x, name)[-1] for x in (wide, narrow))
            s, t = (getattr(x, name)[-1] for x in (error, more))
            expected = getattr(law, name)[-1]
            what = _words(name, skip, depth - 1)
            text = f"{what}, n = {small} and {large} extrapolated to n = infinity"
            spread = np.hypot(weight * s, (weight - 1) * t)
            value = weight * a - (weight - 1) * b
            claims.append(close(text, value, expected, spread))
            text = f"vanilla: s.e. between {what}, n = {large}, and 0"
            claims.append(above(text, abs(a) / s, 4, "one half is rejected"))
    claims += _balanced(axes[0], large, depth, pairs[large])
    legend_below(figure, axes[0, 0])
    return Result(figure, claims, _caption(large))


def _balanced(axes, large: int, depth: int, pairs: int) -> list[Claim]:
    """Balanced networks: one half, and not what vanilla ones have."""
    seen, error = _sample(BalancedResNet, large, depth, BALANCED, pairs, 100)
    law = _law(layer_law(large, depth, *_weights(BALANCED)), large)
    claims = []
    for ax, name in zip(axes, NAMES, strict=True):
        value, spread = getattr(seen, name), getattr(error, name)
        label = rf"Balanced, $\alpha^2$ = {BALANCED}, n = {large}"
        _points(ax, value, spread, style.FAINT, label)
        ax.axhline(0, color=style.FAINT, linestyle=(0, (5, 2)))
        ax.set_title("Inactive units" if name == "inactive" else "Imbalance of norms")
        ax.set(ylabel=NAMES[name], xlabel="layer l")
        text = f"Balanced: {_words(name, BALANCED, depth - 1)} is 0"
        claims.append(close(text, value[-1], 0, spread[-1]))
        z = abs(value[-1] - getattr(law, name)[-1]) / spread[-1]
        text = f"{text[:-5]}: s.e. from the vanilla law"
        claims.append(above(text, z, 4, "rejected"))
    return claims


def _weights(skip: float) -> tuple[float, float]:
    return skip**0.5, (1 - skip) ** 0.5


def _law(law: LayerLaw, n: int) -> Imbalance:
    return Imbalance(
        n * (0.5 - law.active_fraction), n * (2 * law.activation_ratio - 1)
    )


def _sample(
    kind: type[ResNet], n: int, depth: int, skip: float, pairs: int, purpose: int
) -> tuple[Imbalance, Imbalance]:
    """Measured, and standard errors; layer d, which no branch sees, left out."""
    net = kind(width=n, depth=depth, branch=BranchScaling.fixed(*_weights(skip)))
    key = jax.random.fold_in(jax.random.key(0), purpose)
    seen = LayerSampler(net, antithetic=True).moments(key, pairs)
    active, ratio = seen.active_fraction, seen.activation_ratio
    value = Imbalance(n * (0.5 - active.mean[:-1]), n * (2 * ratio.mean[:-1] - 1))
    error = Imbalance(n * active.mean_se[:-1], 2 * n * ratio.mean_se[:-1])
    return value, error


def _points(ax: Axes, value, error, color: str, label: str) -> None:
    layer, kind = np.arange(len(value)), {"markersize": 3.5, "elinewidth": 1}
    points(ax, layer, value, error, color, label=label, **kind)


def _words(name: str, skip: float, layer: int) -> str:
    what = "n (1/2 - active share)" if name == "inactive" else "n E Y"
    return f"{what}, alpha^2 = {skip}, layer {layer}"


def _caption(large: int) -> Caption:
    ends = ", ".join(
        f"{rates(*_weights(skip)).inactive:.3f} (alpha^2 = {skip})" for skip in SKIPS
    )
    return Caption(
        f"Points: networks of width {large} in antithetic pairs, with one standard "
        "error. Lines: the law of wide networks, nothing fitted; points lie a "
        f"relative 6/n beyond it. Missing active units tend to {ends}: a third of a "
        "unit of all n, yet enough to change the mean of the log-norm.",
        look_for="Rise and saturation without signs, zero with them.",
    )
