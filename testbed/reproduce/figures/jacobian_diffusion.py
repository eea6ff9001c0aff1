"""The Jacobian of a deep network is a diffusion whose determinant ignores width.

Question: what becomes of gradients in residual networks with smooth branches, as deep
  as one likes: do they vanish or explode, and does it depend on width?
Source: Peluchetti & Favaro 2020, arXiv:1905.11065 (JMLR 20-706), Theorem 14, Corollary
  15, sections 5.3-5.5 and Figure 3; the laws of determinant and trace are derived here.
Parameters: sigma_w = sigma_b = T = 1, phi''(0) = 0: C = 1; forward and inverse Jacobian
  in 100 steps, D = 2, 5, 20 with 50 000, 10 000 and 1500 paths; tangent kernels of one
  unit at inputs 1 and 2, linear networks of D = L = 8 to 64.
Quick: 50 steps, D = 2 and 5 with 4000 and 1000 paths; linear networks of D = L
  = 8 and 16.
Expected: log|det| ~ N(-C/2, C) at every D; E tr(g g^T)/D = e^C, of the inverse
  e^{C (1 + 2/D)}; K_W = 2e + 1 = 6.4366 and K_b = e - 1 = 1.7183.
Time: 30 s on 2 CPU cores; quick: 6 s.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from testbed.laws.agreement import Sample, agreement
from testbed.laws.diffusion import TANH, Branch, log_determinant_law
from testbed.laws.doubly_infinite_kernels import increment_kernels
from testbed.reports.toolkit import (
    Caption,
    blank,
    histogram,
    log_axis,
    points,
    size_axis,
    style,
)
from testbed.reproduce.claim import Claim, Result, above, below, close, mean_and_error
from testbed.sampling.diffusions import inverse_jacobian, jacobian, with_identity
from testbed.sampling.sde import SDE, euler_maruyama

BRANCH = Branch(TANH)  # of phi only phi'(0) = 1 and phi''(0) = 0 matter
FORWARD, INVERSE = jacobian(BRANCH), inverse_jacobian(BRANCH)
COLORS = (style.FINITE, style.LINEARIZED, style.INFINITE)
INPUTS = (1.0, 2.0)


class Paths(NamedTuple):
    """What is kept of many paths.

    Attributes:
      log_det: log|det g_T|, (paths,).
      forward: tr(g g^T)/D at the saved times, (times, paths).
      inverse: the same of g^{-1}.
    """

    log_det: np.ndarray
    forward: np.ndarray
    inverse: np.ndarray


def reproduce(quick: bool) -> Result:
    """Follows Jacobians and their inverses, and sums tangent kernels."""
    steps = 50 if quick else 100
    counts = {2: 4000, 5: 1000} if quick else {2: 50_000, 5: 10_000, 20: 1500}
    save = tuple(range(0, steps + 1, steps // 10))
    seen = {width: follow(width, n, steps, save) for width, n in counts.items()}
    grids = 4 ** np.arange(2, 4 if quick else 6)
    gaps = np.array([gap(int(k), 1000 if quick else 4000) for k in grids])
    sizes = (8, 16) if quick else (8, 16, 32, 64)
    drawn = 2e6 if quick else 1.6e7
    kernels = {n: tangent_kernels(n, int(min(drawn / n**3, 10_000))) for n in sizes}

    claims = [
        *(c for width in seen for c in determinant_claims(width, seen[width], steps)),
        *(c for width in seen for c in trace_claims(width, seen[width], save)),
        *inverse_claims(grids, gaps),
        *kernel_claims(kernels),
    ]
    figure, axes = blank(2, 2, 7.0)
    draw_determinants(axes[0, 0], seen)
    draw_traces(axes[0, 1], seen, np.array(save) / steps)
    draw_gaps(axes[1, 0], grids, gaps)
    draw_kernels(axes[1, 1], kernels)
    caption = Caption(
        "Top left: log|det dx_T/dx_0| at several widths (bars) and its law, one for "
        "all of them; dotted, the law without Ito's term. Top right: mean squared "
        "size of the Jacobian (dots) and of its inverse (triangles), with the laws. "
        "Bottom left: how far g g^{-1} on one path is from the identity. Bottom "
        "right: the tangent kernels of one unit in networks as deep as wide, mean and "
        "two standard deviations of single networks.",
        look_for="Dots on the lines, and bars that do not move with D.",
    )
    return Result(figure, claims, caption)


def run(sde: SDE, width: int, count: int, steps: int, save=None) -> np.ndarray:
    """g at the saved steps from x_0 = 1, (times, paths, D, D)."""
    start = with_identity(jnp.ones((count, width), jnp.float32))
    key = jax.random.fold_in(jax.random.key(0), width)
    state = euler_maruyama(key, *sde, start, time=1.0, steps=steps, save=save)
    return np.asarray(state, np.float64)[..., 1:]


def follow(width: int, count: int, steps: int, save) -> Paths:
    """Jacobians and inverses of `count` paths."""
    size = lambda g: (g**2).sum((-2, -1)) / width
    forward = run(FORWARD, width, count, steps, save)
    log_det = np.linalg.slogdet(forward[-1])[1]
    return Paths(log_det, size(forward), size(run(INVERSE, width, count, steps, save)))


def gap(steps: int, count: int) -> np.ndarray:
    """Root mean squared entry of g g^{-1} - I at D = 3, in 20 groups of paths."""
    product = run(FORWARD, 3, count, steps)[0] @ run(INVERSE, 3, count, steps)[0]
    square = ((product - np.eye(3)) ** 2).mean((1, 2))
    return square.reshape(20, -1).mean(1) ** 0.5


def tangent_kernels(size: int, count: int) -> np.ndarray:
    """K_W and K_b of unit 1 in linear networks, D = L = size, (count, 2).

        K_W = (1/L) sum_l <x_l, x'_l>/D |delta_{l+1}|^2,
        K_b = (1/L) sum_l |delta_{l+1}|^2,

    delta_l the gradient of the unit with respect to x_l.
    """
    rng = np.random.default_rng(size)
    weights = rng.standard_normal((count, size, size, size), np.float32) / size
    biases = rng.standard_normal((count, size, size), np.float32) / size**0.5
    x = np.ones((count, 2, size)) * np.array(INPUTS)[:, None]
    inner = []
    for layer in range(size):
        inner.append((x[:, 0] * x[:, 1]).sum(-1) / size)
        x = x + x @ weights[:, layer].transpose(0, 2, 1) + biases[:, None, layer]
    delta, kernels = np.eye(1, size).repeat(count, 0), np.zeros((2, count))
    for layer in reversed(range(size)):
        square = (delta**2).sum(-1) / size
        kernels += np.stack([inner[layer] * square, square])
        delta = delta + (delta[:, None] @ weights[:, layer])[:, 0]
    return kernels.T


def determinant_claims(width: int, seen: Paths, steps: int) -> list[Claim]:
    """log|det g_T| is N(-C/2, C) but for the step: log|det(I + A)| to fourth order."""
    sample = Sample.of(seen.log_det)
    law = log_determinant_law(BRANCH)
    mean = -0.5 - (1 + 2 / width) / (4 * steps)
    var = 1 + (0.5 + 2 / width) / steps
    # A mean off by e moves the cdf by .4 e, a variance off by a share e by .121 e.
    step = 0.4 * (-0.5 - mean) + 0.121 * (var - 1)
    noise = 1.95 / sample.count**0.5
    ks = agreement(sample, law).ks
    wrong = agreement(sample, stats.norm(0, 1)).ks  # pyright: ignore[reportArgumentType]
    text = f"D = {width}: log|det g_T|,"
    why = f"noise, 99.9 %, and {step:.2g} from {steps} steps"
    return [
        close(f"{text} mean (limit -0.5)", sample.mean, mean, sample.mean_se),
        close(f"{text} variance (limit 1)", sample.var, var, sample.var_se),
        below(f"{text} KS to N(-1/2, 1)", ks, noise + step, why),
        above(f"{text} KS to N(0, 1)", wrong, 2 * (noise + step), "twice that bound"),
    ]


def trace_claims(width: int, seen: Paths, save) -> list[Claim]:
    """E tr(g g^T)/D = (1 + C h)^k, of the inverse ((1 + C h/D)^2 + C h)^k."""
    h, k = 1 / save[-1], np.array(save)
    forward, inverse = (1 + h) ** k, ((1 + h / width) ** 2 + h) ** k
    claims = []
    for name, x, want, limit in (
        ("tr(g g^T)/D", seen.forward, forward, 1.0),
        ("tr(g^{-1} g^{-T})/D", seen.inverse, inverse, 1 + 2 / width),
    ):
        value, error = mean_and_error(x, axis=1)
        text = f"D = {width}: E {name} at T (limit e^{limit:g} = {np.exp(limit):.4f})"
        claims.append(close(text, value[-1], want[-1], error[-1]))
    value, error = mean_and_error(seen.inverse[-1])
    if width <= 5:
        off = (value - forward[-1]) / error
        text = f"D = {width}: that of the inverse against e^C, without d[M], in s.e."
        claims.append(above(text, float(off), 4))
    return claims


def inverse_claims(grids: np.ndarray, gaps: np.ndarray) -> list[Claim]:
    """g g^{-1} -> I on one path, with strong order 1/2."""
    slopes = np.polyfit(np.log(grids), np.log(gaps), 1)[0]
    value, error = mean_and_error(slopes)
    bias = np.log1p(grids[0] ** -0.5) / np.log(grids[-1] / grids[0])
    text = f"slope of |g g^{{-1}} - I| in the steps, {grids[0]} to {grids[-1]}"
    why = "next order, a share h^{1/2} at the coarsest step"
    return [
        close(text, value, -0.5, error, bias=float(bias), why=why),
        above("the same slope's distance from 0, in s.e.", float(-value / error), 10),
    ]


def exact_kernels(depth: int) -> np.ndarray:
    """E K_W and E K_b of linear networks of depth L, at every width."""
    left = (1 + 1 / depth) ** np.arange(depth)
    lam = np.prod(INPUTS)
    return np.array([((lam + 1) * left - 1) @ left[::-1], left.sum()]) / depth


def kernel_claims(kernels: dict[int, np.ndarray]) -> list[Claim]:
    """K_W and K_b of networks have their exact means, which tend to the limit."""
    limit = increment_kernels(BRANCH, float(np.prod(INPUTS)))
    limits = (float(limit.ntk_weights), float(limit.ntk_biases))
    far = 2 * exact_kernels(4000) - exact_kernels(2000)
    claims = []
    size, seen = max(kernels.items())
    value, error = mean_and_error(seen)
    for i, name in enumerate(("K_W", "K_b")):
        text = f"E {name} of linear networks, L to infinity"
        why = "extrapolated from L = 2000 and 4000: order 1/L^2"
        claims.append(close(text, far[i], limits[i], 0, bias=1e-5, why=why))
        text = f"{name}, D = L = {size} (limit {limits[i]:.4f})"
        claims.append(close(text, value[i], exact_kernels(size)[i], error[i]))
    off = abs(value[0] - exact_kernels(size).sum()) / error[0]
    text = "K_W against K_W + K_b = (lam_0 + r) C E, in s.e."
    return [*claims, above(text, float(off), 4)]


def draw_determinants(ax, seen: dict[int, Paths]) -> None:
    """Histograms of log|det g_T| and the law."""
    for color, (width, paths) in zip(COLORS, seen.items(), strict=False):
        histogram(ax, paths.log_det, 30, color=color, label=f"D = {width}")
    grid = np.linspace(-4.2, 3.2, 300)
    density = lambda mean: np.exp(-((grid - mean) ** 2) / 2) / (2 * np.pi) ** 0.5
    ax.plot(grid, density(-0.5), color=style.INK, label="N(-C/2, C)")
    ax.plot(grid, density(0.0), ":", color=style.FAINT, label="N(0, C)")
    ax.set(xlabel=r"$\log|\det g_T|$", ylabel="density", title="Determinant")
    ax.legend(loc="upper right")


def draw_traces(ax, seen: dict[int, Paths], times: np.ndarray) -> None:
    """Sizes of Jacobians and inverses against time."""
    ax.plot(times, np.exp(times), color=style.INK, label="$e^{C}$")
    for color, (width, paths) in zip(COLORS, seen.items(), strict=False):
        label = f"$e^{{C(1+2/D)}}$, D = {width}"
        rate = 1 + 2 / width
        ax.plot(times, np.exp(rate * times), "--", color=color, label=label)
        for x, marker in ((paths.forward, "o"), (paths.inverse, "^")):
            value, error = mean_and_error(x, axis=1)
            points(ax, times, value, 2 * error, color, fmt=marker)
    ax.set(title="Size: forward (dots), inverse (triangles)", xlabel="time $t$")
    log_axis(ax.yaxis)
    ax.set_ylabel(r"$E\,\mathrm{tr}(g_t g_t^T) / D$")
    ax.legend(loc="upper left")


def draw_gaps(ax, grids: np.ndarray, gaps: np.ndarray) -> None:
    """Distance of g g^{-1} from the identity against steps."""
    value, error = mean_and_error(gaps, axis=1)
    points(ax, grids, value, 2 * error, label="D = 3")
    guide = value[-1] * (grids / grids[-1]) ** -0.5
    ax.plot(grids, guide, color=style.LINEARIZED, label="slope $-1/2$")
    ax.set(title="Forward times inverse", xlabel="steps")
    log_axis(ax.xaxis, ax.yaxis)
    ax.set_ylabel(r"rms entry of $g_T\,g_T^{-1} - I$")
    ax.legend(loc="upper right")


def draw_kernels(ax, kernels: dict[int, np.ndarray]) -> None:
    """Tangent kernels against size."""
    sizes = np.array(list(kernels))
    limit = increment_kernels(BRANCH, float(np.prod(INPUTS)))
    grid = 2 ** np.arange(2, 9)
    exact = np.array([exact_kernels(int(n)) for n in grid])
    for i, (name, end) in enumerate(
        (("$K_W$", limit.ntk_weights), ("$K_b$", limit.ntk_biases))
    ):
        value = np.array([x[:, i].mean() for x in kernels.values()])
        spread = np.array([x[:, i].std() for x in kernels.values()])
        label = f"{name}, networks: mean and 2 sd"
        points(ax, sizes, value, 2 * spread, COLORS[i], label=label)
        ax.plot(grid, exact[:, i], color=COLORS[i], label=f"{name}, exact mean")
        ax.axhline(float(end), linestyle=":", color=style.INK)
        ax.annotate(
            f"{float(end):.4f}", (grid[-1], float(end)), va="bottom", ha="right"
        )
    ax.set(title="Tangent kernels of one unit", xlabel="$D = L$", ylim=(None, 17))
    ax.set_ylabel("kernel at inputs 1 and 2")
    size_axis(ax.xaxis, sizes=grid)
    ax.legend(loc="upper right")
