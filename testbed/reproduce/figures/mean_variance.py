"""Mean and variance of the log-norm grow like d/n, at a rate the architecture sets.

Question: at what rates do mean and variance of log(|z_d|^2 / |z_0|^2) change with d/n,
  and do widths collapse on one line?
Source: Li, Nica & Roy 2021, arXiv:2106.04013 (residual networks); Hanin & Nica 2018,
  arXiv:1812.05994 (5 d/n of fully connected ones).  Constants derived in
  testbed.laws.log_gaussian and testbed.laws.products.
Parameters: fully connected, vanilla and Balanced, the latter two with
  alpha = lam = 1/sqrt(2); n = 16, 64 and 256, d up to n; 100 000, 60 000 and 8000
  networks of each kind.
Quick: n = 32 and 64; 15 000 and 10 000 networks of each kind.
Expected: variances per d/n of 5 (fully connected), 2.25 (Balanced) and 5.44 (vanilla),
  up to relative corrections of order 1/n, which the exact law of products has for the
  fully connected network.
Time: 40 s on 2 CPU cores; quick: 15 s.
"""

from typing import NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models import MLP, BalancedResNet, BranchScaling, ResNet
from testbed.laws.gaussian import gaussian_log_norm
from testbed.laws.log_gaussian import layer_law, rates
from testbed.laws.products import layer_moments
from testbed.reports.toolkit import Caption, blank, points, style
from testbed.reproduce.claim import Claim, Result, above, close
from testbed.sampling import LayerSampler
from testbed.sampling.moments import Moments

HALF = 0.5**0.5
BRANCH = BranchScaling.fixed(HALF, HALF)
SAMPLES = {16: 100_000, 64: 60_000, 256: 8000}
QUICK = {32: 15_000, 64: 10_000}
MARKS = {16: "s", 32: "v", 64: "o", 256: "^"}
KINDS = ("fully connected", "Balanced", "vanilla")
COLORS: dict[str, str] = dict(
    zip(KINDS, (style.INFINITE, style.FINITE, style.LINEARIZED), strict=True)
)


class Limit(NamedTuple):
    """Growth of mean and variance per d/n at large width."""

    mean: float
    var: float


def reproduce(quick: bool) -> Result:
    """Measures every layer of every network once and draws them against l/n."""
    samples = QUICK if quick else SAMPLES
    seen: dict[tuple[str, int], Moments] = {}
    for i, kind in enumerate(KINDS):
        for n, count in samples.items():
            key = jax.random.fold_in(jax.random.key(0), 1000 * i + n)
            seen[kind, n] = LayerSampler(_network(kind, n)).moments(key, count).log_norm
    growth = rates(HALF, HALF)
    limits = {
        "fully connected": Limit(-2.5, 5.0),
        "Balanced": Limit(-growth.var_balanced / 2, growth.var_balanced),
        "vanilla": Limit(growth.mean_vanilla, growth.var_vanilla),
    }
    connected, balanced, vanilla = (
        {n: seen[kind, n] for n in samples} for kind in KINDS
    )
    claims = [
        *_fully_connected(connected),
        *_balanced(balanced),
        *_vanilla(vanilla, balanced),
    ]
    caption = Caption(
        "Points: sampled networks of each width, every layer of which gives a point "
        "at l/n (8 are shown); most error bars, of one standard error, are smaller "
        "than the marks. Lines: rates at large width, nothing fitted; dotted: exact "
        "law of the fully connected network at the smallest width.",
        look_for="Widths that approach one line for each architecture. The "
        "infinite-width law has mean 0 and a variance below 4/n at every depth.",
    )
    return Result(_draw(seen, limits), claims, caption)


def _network(kind: str, n: int) -> MLP | ResNet:
    if kind == "fully connected":
        return MLP(width=n, depth=n)
    net = BalancedResNet if kind == "Balanced" else ResNet
    return net(width=n, depth=n, branch=BRANCH)


def _fully_connected(seen: dict[int, Moments]) -> list[Claim]:
    claims = []
    for n, moments in seen.items():
        mean, var = (n * m for m in layer_moments(n))
        text = f"fully connected, n = d = {n}: mean of the exact law"
        claims.append(close(text, moments.mean[-1], mean, moments.mean_se[-1]))
        text = f"fully connected, n = d = {n}: variance of the exact law"
        claims.append(close(text, moments.var[-1], var, moments.var_se[-1]))
    n = min(seen)
    z = (seen[n].var[-1] - 5) / seen[n].var_se[-1]
    text = f"fully connected, n = d = {n}: s.e. between the variance and 5 d/n"
    return [*claims, above(text, z, 4, "the rate of wide layers is rejected")]


def _balanced(seen: dict[int, Moments]) -> list[Claim]:
    """The law is exact up to order 1/n, of which the smallest width shows the size."""
    laws = {n: layer_law(n, n, HALF, HALF, balanced=True) for n in seen}
    small = min(seen)
    why = f"of order 1/n: {small}/n of the deviation at n = {small}"
    words = {"mean": "mean", "var": "variance"}
    claims = []
    for name, word in words.items():
        off = {
            n: getattr(seen[n], name)[-1] - getattr(law, f"log_norm_{name}")[-1]
            for n, law in laws.items()
        }
        for n in list(seen)[1:]:
            measured = getattr(seen[n], name)[-1]
            error = getattr(seen[n], f"{name}_se")[-1]
            text = f"Balanced, n = d = {n}: {word}"
            bias = abs(off[small]) * small / n
            claims.append(
                close(text, measured, measured - off[n], error, bias=bias, why=why)
            )
    return claims


def _vanilla(vanilla: dict[int, Moments], balanced: dict[int, Moments]) -> list[Claim]:
    """Terms of order 1/n from two widths, and laws that the variance excludes."""
    small, large = list(vanilla)[-2:]
    ratio, error = {}, {}
    for n in (small, large):
        var = layer_law(n, n, HALF, HALF).log_norm_var[-1]
        ratio[n] = vanilla[n].var[-1] / var
        error[n] = vanilla[n].var_se[-1] / var
    # ratio = 1 + kappa/n + O(1/n^2): this combination is free of kappa.
    extrapolated = (large * ratio[large] - small * ratio[small]) / (large - small)
    spread = np.hypot(large * error[large], small * error[small]) / (large - small)
    kappa, kappa_error = small * (ratio[small] - 1), small * error[small]
    at, what = vanilla[small], f"vanilla, n = d = {small}: s.e. between the variance"
    distance = lambda var: abs(at.var[-1] - var) / at.var_se[-1]
    connected = small * layer_moments(small)[1]
    gaussian = gaussian_log_norm(small, small, HALF, HALF).var()
    sign_free = np.hypot(at.var_se[-1], balanced[small].var_se[-1])
    both = f"vanilla, d = n: variance / finite sums, n = {small} and {large}"
    order = f"vanilla, n = d = {small}: n (variance / finite sums - 1)"
    why = "7 to 8, a coefficient that was measured, not derived"
    return [
        close(f"{both} extrapolated to n = infinity", extrapolated, 1, spread),
        close(order, kappa, 7.5, kappa_error, bias=0.5, why=why),
        above(f"{what} and the exact fully connected one", distance(connected), 4),
        above(
            f"{what} and that of infinite width, {gaussian:.2g}", distance(gaussian), 4
        ),
        above(
            f"{what} and that of Balanced networks",
            (at.var[-1] - balanced[small].var[-1]) / sign_free,
            4,
        ),
    ]


def _draw(seen: dict[tuple[str, int], Moments], limits: dict[str, Limit]) -> Figure:
    figure, axes = blank(1, 2, 4.6)
    for ax, name in zip(axes[0], Limit._fields, strict=True):
        for kind, color in COLORS.items():
            rate = getattr(limits[kind], name)
            ax.plot([0, 1], [0, rate], color=color, label=f"{kind}: {rate:.3g} d/n")
        n = min(n for _, n in seen)
        exact = n * layer_moments(n)[Limit._fields.index(name)]
        label = f"fully connected, n = {n}: exact"
        green = COLORS["fully connected"]
        ax.plot([0, 1], [0, exact], color=green, linestyle=":", label=label)
        ax.axhline(0, color=style.FAINT, linestyle=(0, (5, 2)), label="infinite width")
        for (kind, n), moments in seen.items():
            layers = np.arange(n // 8, n + 1, n // 8)
            value = getattr(moments, name)[layers]
            error = getattr(moments, f"{name}_se")[layers]
            mark = {"fmt": MARKS[n], "markerfacecolor": "none"}
            points(ax, layers / n, value, error, COLORS[kind], **mark)
        ax.set_xlabel("depth / width, d/n")
    for n in dict.fromkeys(n for _, n in seen):
        line = dict(marker=MARKS[n], linestyle="", markerfacecolor="none")
        axes[0, 0].plot([], [], color=style.INK, **line, label=f"measured, n = {n}")
    log_norm = r"of $\log(|z_d|^2 / |z_0|^2)$"
    axes[0, 0].set(title="Mean of the log-norm", ylabel=f"mean {log_norm}")
    axes[0, 0].legend(*_entries(axes[0, 0], slice(5, None)), loc="lower left")
    axes[0, 1].set(title="Variance of the log-norm", ylabel=f"variance {log_norm}")
    axes[0, 1].legend(*_entries(axes[0, 1], slice(None)), loc="upper left")
    return figure


def _entries(ax: Axes, which: slice) -> tuple[list, list]:
    """Some of the legend's entries: colours in one panel, marks in the other."""
    lines, labels = ax.get_legend_handles_labels()
    return lines[which], labels[which]
