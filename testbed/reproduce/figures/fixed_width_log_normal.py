"""Infinitely deep networks of fixed width: log-normal at width 1 and if linear.

Question: does the output of a network of fixed width become log-normal, instead of
  Gaussian, as its depth grows, and how soon?
Source: Hayou 2022, arXiv:2210.00688, for networks and limit (two closed forms are
  announced there); the laws below were derived from its diffusion, and the finite-depth
  terms from the logarithm of one layer.
Parameters: Y_{l+1} = Y_l + sqrt(t/(n L)) W_l phi(Y_l), t = 1. ReLU: n = 1, L = 10, 100
  and 1000, Y_0 = 1, 200 000 networks. Identity: n = 1 to 50, L = 10, 200 000 networks.
Quick: ReLU: 20 000 networks. Identity: n = 1, 3 and 50, 20 000 networks.
Expected: ReLU: N(-t/2, t), missed at L = 10 and met at L = 1000. Identity: the mean is
  (1/2 - 1/n) t - (n - 2)(n - 4) t^2/(4 n^2 L), the variance t/n in the limit.
Time: 20 s on 2 CPU cores; quick: 6 s.
"""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from testbed.laws.agreement import Sample, agreement
from testbed.laws.infinite_depth import (
    identity_log_law,
    identity_log_moments,
    relu_log_law,
)
from testbed.laws.law import Law
from testbed.reports.toolkit import Caption, blank, histogram, points, style
from testbed.reproduce.claim import Claim, Result, above, below, close
from testbed.sampling.diffusions import fixed_width
from testbed.sampling.sde import SDE, euler_maruyama

DEPTHS = (10, 100, 1000)
WIDTHS, WIDTHS_QUICK = (1, 2, 3, 4, 8, 16, 50), (1, 3, 50)
SHALLOW = 10
RELU = fixed_width(jax.nn.relu)
IDENTITY = fixed_width(lambda x: x)
# sqrt(N) KS of a sample from the law itself exceeds this as often as 4 s.e. are.
FOUR_SIGMA_KS = float(stats.kstwobign.isf(2 * stats.norm.sf(4)))


def reproduce(quick: bool) -> Result:
    """Draws histograms of log-growth at width 1, and moments of linear networks."""
    samples = 20_000 if quick else 200_000
    figure, axes = blank(2, 3, 6.2)
    claims = _width_one(axes[0], samples) + _linear(
        axes[1], samples, WIDTHS_QUICK if quick else WIDTHS
    )
    caption = Caption(
        "Top: ReLU networks of width 1 (bars) and the normal law of infinite depth "
        "(line), nothing fitted; networks that have died are left out. Bottom: linear "
        "networks of depth 10: mean and variance against the exact values at this "
        "depth and the limit's, and one histogram at depth 1000.",
        look_for="Bars that leave the line at depth 10 only, points on the crosses of "
        "finite depth.",
    )
    return Result(figure, claims, caption)


def _ends(sde: SDE, purpose: int, width: int, depth: int, samples: int) -> np.ndarray:
    """Y_L from Y_0 = (1, ..., 1), (samples, n)."""
    root = jax.random.fold_in(jax.random.key(0), 1)
    key = jax.random.fold_in(root, purpose)
    x0 = jnp.ones((samples, 1, width))
    return np.asarray(euler_maruyama(key, *sde, x0, time=1.0, steps=depth))[0, :, 0]


def _width_one(axes, samples: int) -> list[Claim]:
    law, claims = relu_log_law(), []
    for purpose, (ax, depth) in enumerate(zip(axes, DEPTHS, strict=True)):
        y = _ends(RELU, purpose, 1, depth, samples)[:, 0]
        logs = np.log(y[y > 0].astype(np.float64))
        histogram(ax, logs, color=style.START)
        grid = np.linspace(-4.5, 3.5, 300)
        ax.plot(grid, law.pdf(grid), color=style.LINEARIZED, label="N(-t/2, t)")
        ax.set_title(f"ReLU, n = 1, L = {depth}")
        ax.set(xlabel=r"$\log (Y_L / Y_0)$", ylabel="density", xlim=(-5.5, 4))
        ax.legend(loc="upper left")
        sample = Sample.of(logs)
        seen = agreement(sample, law)
        noise = FOUR_SIGMA_KS / len(logs) ** 0.5
        if depth == 10:
            claims.append(
                above("ReLU, n = 1, L = 10: KS to N(-t/2, t)", seen.ks, noise, "noise")
            )
            # A step ends at 1 + g / sqrt(L) <= 0, and then Y stays there.
            died = 1 - float(stats.norm.cdf(depth**0.5)) ** depth
            share = float(np.mean(y <= 0))
            error = (died * (1 - died) / samples) ** 0.5
            text = "ReLU, n = 1, L = 10: share of networks that died, 1 - Phi(L^1/2)^L"
            claims.append(close(text, share, died, error))
            continue
        what = f"ReLU, n = 1, L = {depth}"
        # Cumulants of sum log(1 + g / sqrt(L)) to order 1/L.
        mean, var = -0.5 - 0.75 / depth, 1 + 2.5 / depth
        claims += [
            close(f"{what}: mean, -1/2 - 3/(4 L)", sample.mean, mean, sample.mean_se),
            close(f"{what}: variance, 1 + 5/(2 L)", sample.var, var, sample.var_se),
        ]
        if depth == 1000:
            reason = f"noise {noise:.2g} and 1/L, from its first three cumulants"
            claims.append(
                below(f"{what}: KS to N(-t/2, t)", seen.ks, noise + 1 / depth, reason)
            )
            driftless = agreement(sample, cast(Law, stats.norm(0, 1))).ks
            text = f"{what}: KS to N(0, t), without the drift"
            claims.append(above(text, driftless, 0.1, "the laws differ by 0.20"))
    return claims


def _linear(axes, samples: int, widths: tuple[int, ...]) -> list[Claim]:
    claims, found = [], []
    for i, width in enumerate(widths):
        y = _ends(IDENTITY, 10 + i, width, SHALLOW, samples).astype(np.float64)
        sample = Sample.of(np.log(np.sum(y**2, -1) / width) / 2)
        mean, var = identity_log_moments(width, SHALLOW)
        limit = identity_log_law(width)
        found.append((sample, mean, var, limit))
        what = f"identity, n = {width}, L = {SHALLOW}"
        claims.append(close(f"{what}: mean", sample.mean, mean, sample.mean_se))
        claims.append(close(f"{what}: variance", sample.var, var, sample.var_se))
        if width in (1, 50):
            z = abs(sample.mean - limit.mean()) / sample.mean_se
            text = f"{what}: s.e. between mean and infinite depth"
            claims.append(above(text, z, 4.0))
    names = (
        (r"mean $-$ limit $(1/2 - 1/n)\, t$", "mean at depth 10"),
        (r"variance $\times\, n/t$", "variance at depth 10"),
    )
    at = np.arange(len(widths))
    rows = [
        [(s.mean - lim.mean(), s.mean_se, m - lim.mean()) for s, m, _, lim in found],
        [[q / lim.var() for q in (s.var, s.var_se, v)] for s, _, v, lim in found],
    ]
    for ax, (label, title), row, limit in zip(axes, names, rows, (0, 1), strict=False):
        seen, error, exact = np.transpose(row)
        ax.axhline(limit, color=style.LINEARIZED, label="infinite depth")
        ax.plot(at, exact, "x", ms=9, mew=1.6, color=style.INK, label="exact at L = 10")
        points(ax, at, seen, 2 * error, label="measured")
        ax.set(xlabel="width n", ylabel=label, title=f"identity: {title}")
        ax.set_xticks(at, list(map(str, widths)))
        ax.legend(loc="lower right" if limit == 0 else "upper right")
    width, depth = 8, 1000
    y = _ends(IDENTITY, 20, width, depth, samples // 10).astype(np.float64)
    logs, law = np.log(np.sum(y**2, -1) / width) / 2, identity_log_law(width)
    histogram(axes[2], logs, bins=60, color=style.START)
    grid = np.linspace(logs.min(), logs.max(), 300)
    axes[2].plot(grid, law.pdf(grid), color=style.LINEARIZED, label="limit")
    axes[2].set_title(f"identity, n = {width}, L = {depth}")
    axes[2].set(xlabel=r"$\log (|Y_L| / |Y_0|)$", ylabel="density")
    axes[2].legend(loc="upper left")
    ks = agreement(Sample.of(logs), law).ks
    noise = FOUR_SIGMA_KS / len(logs) ** 0.5
    reason = f"noise {noise:.2g} and 1/L, above its exact mean and variance errors"
    text = f"identity, n = {width}, L = {depth}: KS to N((1/2 - 1/n) t, t/n)"
    return [*claims, below(text, ks, noise + 1 / depth, reason)]
