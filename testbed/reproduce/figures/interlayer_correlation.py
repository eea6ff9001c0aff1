"""Activations of layers are correlated in a vanilla ResNet, not in a Balanced one.

Question: how does the imbalance Y_l = 2|phi(z_l)|^2/|z_l|^2 - 1 of one layer go with
  that of the layer q further on?
Source: Li, Nica & Roy 2021, arXiv:2106.04013 (interlayer correlations); the form
  Phi(c^q), c = alpha / sqrt(alpha^2 + lam^2), is derived in testbed.laws.log_gaussian.
Parameters: alpha = lam = 1/sqrt(2), d = 24; n = 512 and, for terms of higher order,
  n = 128; 20 000 and 60 000 networks, and 10 000 Balanced ones of n = 512.  Products
  Y_l Y_{l+q} are averaged over l; errors are those of independent networks.
Quick: n = 256 and n = 64; 1500 and 5000 networks, and 1000 Balanced ones of
  n = 256.
Expected: n Cov(Y_l, Y_{l+q}) is Phi(c^q) at infinite width, 3 at q = 0, with a heavier
  tail by terms of order 1/n; for Balanced networks 3 at q = 0 and 0 elsewhere.
Time: 10 s on 2 CPU cores; quick: 4 s.
"""

import jax
import numpy as np

from models import BalancedResNet, BranchScaling, ResNet
from testbed.laws.log_gaussian import interlayer_covariance, square_correlation
from testbed.reports.toolkit import Caption, blank, points, style
from testbed.reproduce.claim import Claim, Result, above, close
from testbed.sampling.architecture import describe
from testbed.sampling.forward import forward
from testbed.sampling.stream import batch_size, stream

HALF = 0.5**0.5
BRANCH = BranchScaling.fixed(HALF, HALF)
DEPTH = 24
LAGS = np.arange(13)
CLAIMED = (0, 1, 2, 4, 8)


def reproduce(quick: bool) -> Result:
    """Measures covariances at all lags and puts them beside Phi(c^q)."""
    large, small = (256, 64) if quick else (512, 128)
    samples = (1500, 5000, 1000) if quick else (20_000, 60_000, 10_000)
    law = interlayer_covariance(LAGS, HALF, HALF)
    wide, error = _covariance(ResNet, large, samples[0], 0)
    narrow, more = _covariance(ResNet, small, samples[1], 1)
    fair, noise = _covariance(BalancedResNet, large, samples[2], 2)
    # measured = law + b/n + O(1/n^2), with b free here.
    weight = large / (large - small)
    limit = weight * wide - (weight - 1) * narrow
    spread = np.hypot(weight * error, (weight - 1) * more)
    claims: list[Claim] = []
    for q in CLAIMED:
        text = f"vanilla: n Cov at lag {q}, n = {small} and {large} extrapolated"
        claims.append(close(text, limit[q], law[q], spread[q]))
    for q in (0, 1, 2, 4):
        text = f"Balanced: n Cov at lag {q}, n = {large}"
        claims.append(close(text, fair[q], 3.0 if q == 0 else 0.0, noise[q]))
    text = f"vanilla, n = {large}: s.e. between n Cov at lag 4 and 0"
    claims.append(above(text, wide[4] / error[4], 4, "independent layers are rejected"))
    text = f"vanilla, n = {large}: s.e. between n Cov at lag 1 and 3 c"
    z = (3 * HALF - wide[1]) / error[1]
    claims.append(above(text, z, 4, "correlation c^q, as of linear units, is rejected"))
    text = "Balanced: s.e. between n Cov at lag 1 and the vanilla law"
    claims.append(above(text, (law[1] - fair[1]) / noise[1], 4, "rejected"))

    figure, axes = blank(1, 2, 4.4)
    for ax, rest in zip(axes[0], (0.0, law), strict=True):
        for values, bars, color, mark, label in (
            (wide, error, style.LINEARIZED, "o", f"vanilla, n = {large}"),
            (narrow, more, style.FINITE, "s", f"vanilla, n = {small}"),
            (fair, noise, style.FAINT, "^", f"Balanced, n = {large}"),
        ):
            if label.startswith("Balanced") and ax is axes[0, 1]:
                continue
            points(ax, LAGS, values - rest, bars, color, fmt=mark, label=label)
        ax.axhline(0, color=style.FAINT, linestyle=(0, (5, 2)))
        ax.set_xlabel("lag q (layers)")
    fine = np.linspace(0, LAGS[-1], 200)
    smooth = square_correlation(HALF**fine)  # c = alpha, as alpha^2 + lam^2 = 1
    axes[0, 0].plot(fine, smooth, color=style.LINEARIZED, label=r"$\Phi(c^q)$")
    axes[0, 0].set_ylabel(r"$n\,\mathrm{Cov}(Y_l, Y_{l+q})$")
    axes[0, 0].set_title("Covariance across layers")
    axes[0, 1].set_ylabel(r"$n\,\mathrm{Cov}(Y_l, Y_{l+q}) - \Phi(c^q)$")
    axes[0, 1].set_title("Beyond the law: terms of order 1/n")
    for ax in axes[0]:
        ax.legend(loc="upper right")
    caption = Caption(
        "Points: sampled networks with one standard error. Line: Phi(c^q), from 3 on "
        "down. Right: what is left of the vanilla networks' when the line is taken "
        "off; it shrinks in proportion to 1/n.",
        look_for="Points of the vanilla network on the line, those of the Balanced "
        "one at 0 from lag 1 on.",
    )
    return Result(figure, claims, caption)


def _covariance(
    kind: type[ResNet], n: int, samples: int, purpose: int
) -> tuple[np.ndarray, np.ndarray]:
    """n Cov(Y_l, Y_{l+q}) by lag, averaged over l, and its standard error."""
    shape, scales = describe(kind(width=n, depth=DEPTH, branch=BRANCH))
    key = jax.random.fold_in(jax.random.key(0), purpose)
    parts = stream(_ratios, key, shape, scales, samples, batch=batch_size(n))
    layers = [ratio.swapaxes(1, 2).reshape(-1, DEPTH) for _, ratio in parts]
    y = 2 * np.concatenate(layers)[:samples].astype(np.float64) - 1
    y -= y.mean(0)
    products = [np.mean(y[:, : DEPTH - q] * y[:, q:], 1) for q in LAGS]
    values = n * np.stack(products)
    return values.mean(1), values.std(1) / samples**0.5


def _ratios(key, shape, scales, batch, counted, shared):
    """|phi(z_l)|^2 / |z_l|^2 at l = 0, ..., d - 1, (d, batch)."""
    each = lambda layer: layer.activation_ratio[0]
    return forward(key, shape, scales, batch, each=each).each
