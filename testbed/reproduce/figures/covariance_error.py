"""Covariances of residual networks: error n^{-1/2} from width, 1/L from depth.

Question: how fast does the covariance of two inputs approach the deterministic flow of
  infinite width and depth, and which of the two, width or depth, decides the error?
Source: Hayou & Yang 2023, arXiv:2302.00453, Theorem 2; Hayou 2024 (JMLR), Theorem 2 for
  the rates and Figures 1 and 3, whose printed errors are compared as mean squares.
Parameters: Y_l = Y_{l-1} + (nL)^{-1/2} W_l relu(Y_{l-1}), |a|^2 = |b|^2 = d_in,
  correlation -0.3 at the input; n = 64 to 4096 at L = 64, 250 to 16 000 networks each;
  L = 2 to 16 at n = 256, 25 000 networks each; L = 2^3 to 2^14 at infinite width.
Quick: n = 16, 64 and 256 at L = 16, 7800 to 490 networks; L = 2 to 8 at n = 256,
  8000 networks each; L = 2^3 to 2^11 at infinite width.
Expected: root mean square error of slope -1/2 in n; bias of slope -1 in L.
Time: 40 s on 2 CPU cores; quick: 5 s.
"""

from typing import NamedTuple

import jax
import numpy as np

from models import BranchScaling, ResNet
from testbed.laws.depth_covariance import covariance_flow, covariance_recursion
from testbed.reports.toolkit import Caption, blank, log_axis, points, style
from testbed.reproduce.claim import Claim, Result, above, below, close
from testbed.sampling import sample_gram

START = -0.3
LIMIT = float(covariance_flow(1.0, START, 1.0, [1.0])[0])
# Mean squares of 100 networks, as printed in Figure 1 of Hayou 2024.
PRINTED = {
    (8, 2): 0.234,
    (8, 8): 0.464,
    (8, 256): 0.608,
    (256, 2): 1.32e-2,
    (256, 8): 1.41e-2,
    (256, 256): 1.84e-2,
}
WIDE = 256


class Errors(NamedTuple):
    """q_{L,n}(a, b) against its limit: mean square, bias, and their standard errors."""

    square: float
    square_se: float
    bias: float
    bias_se: float
    square_sd: float

    @property
    def root(self) -> float:
        """Root mean square error."""
        return self.square**0.5

    @property
    def root_se(self) -> float:
        """Its standard error."""
        return self.square_se / (2 * self.root)


class Slope(NamedTuple):
    """Of log y against log x, by least squares weighted by y's errors."""

    value: float
    error: float


def reproduce(quick: bool) -> Result:
    """Measures both errors, fits both slopes."""
    widths = 4 ** np.arange(2, 5) if quick else 2 ** np.arange(6, 13)
    depth, drawn = (16, 4e6) if quick else (64, 2e8)
    by_width = [
        networks(int(n), depth, clip(drawn / (2 * n * depth), 250, 16_000))
        for n in widths
    ]
    depths = 2 ** np.arange(1, 4 if quick else 5)
    by_depth = [networks(WIDE, int(d), 8000 if quick else 25_000) for d in depths]
    printed = {(WIDE, int(d)): e for d, e in zip(depths, by_depth, strict=True)}
    table = {place: PRINTED[place] for place in PRINTED if place in printed}
    if not quick:
        table, missing = PRINTED, PRINTED.keys() - printed.keys()
        printed |= {(n, d): networks(n, d, 512_000 // d) for n, d in missing}
    many = 2 ** np.arange(3, 12 if quick else 15)
    recursion = np.array([infinite_width(int(d)) for d in many]) - LIMIT

    claims = [
        *width_claims(widths, by_width),
        *depth_claims(many, recursion, depths, by_depth),
        *printed_claims(table, printed),
    ]
    figure, axes = blank(1, 2, 4.2)
    draw_widths(axes[0, 0], widths, by_width, depth, table)
    draw_depths(axes[0, 1], many, recursion, depths, by_depth)
    caption = Caption(
        "Left: root mean square distance of q_{L,n}(a, b) from the flow's value at t "
        "= 1, two standard errors thick, with the line of slope -1/2 through the "
        "widest networks; rings are the errors printed in the literature (roots of "
        "them, 100 networks each). Right: distance of the mean from the flow against "
        "depth.",
        look_for="Points along the solid guides, not along the dotted ones, which are "
        "the rates n^{-1} and L^{-1/2}.",
    )
    return Result(figure, claims, caption)


def networks(width: int, depth: int, count: int) -> Errors:
    """Errors of `count` networks Y_l = Y_{l-1} + (nL)^{-1/2} W_l relu(Y_{l-1})."""
    branch = BranchScaling.fixed(1.0, (0.5 / depth) ** 0.5)  # weights of variance 2/n
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), width), depth)
    net = ResNet(width=width, depth=depth, branch=branch)
    gram = np.array([[1.0, START], [START, 1.0]])
    layers = sample_gram(key, count, net, gram)
    error = np.asarray(layers.covariance)[:, -1, 0, 1] - LIMIT
    spread, root = np.std(error**2, ddof=1), count**0.5
    return Errors(
        float(np.mean(error**2)),
        float(spread / root),
        float(np.mean(error)),
        float(np.std(error, ddof=1) / root),
        float(spread),
    )


def infinite_width(depth: int) -> float:
    """q_L(a, b) at infinite width and depth L."""
    squares = np.full(depth, 1 / depth)
    return float(covariance_recursion(1.0, START, 1.0, squares)[-1])


def clip(number: float, least: int, most: int) -> int:
    """A whole number of networks between two bounds."""
    return int(min(max(number, least), most))


def slope(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> Slope:
    """Slope of log y against log x."""
    weight = (y / error) ** 2
    centred = np.log(x) - np.average(np.log(x), weights=weight)
    share = weight * centred / (weight * centred**2).sum()
    return Slope(float(share @ np.log(y)), float((weight * centred**2).sum() ** -0.5))


def width_claims(widths: np.ndarray, seen: list[Errors]) -> list[Claim]:
    """The slope in n is -1/2, not -1."""
    root, error = (np.array([getattr(e, a) for e in seen]) for a in ("root", "root_se"))
    found = slope(widths, root, error)
    # n MSE is 3.79 ± .06 at n = 16 and 3.65 ± .03 from 64 on: a relative 1/n at most.
    finite = np.log1p(1 / widths[0]) / (2 * np.log(widths[-1] / widths[0]))
    why = "n MSE is constant up to a relative 1/n, measured at L = 64"
    text = f"slope of the root mean square error in n, {widths[0]} to {widths[-1]}"
    against = abs(found.value + 1) / found.error
    return [
        close(text, found.value, -0.5, found.error, bias=float(finite), why=why),
        above("the same slope's distance from -1, in s.e.", against, 10),
    ]


def depth_claims(many, recursion, depths, seen: list[Errors]) -> list[Claim]:
    """The slope in L is -1, not -1/2, at infinite width and in finite networks."""
    last = float(np.log2(recursion[-1] / recursion[-2]))
    step = f"L = {many[-2]} to {many[-1]}"
    text, why = "q_1(a, b), the flow's value", "digits of the reference, derived here"
    claims = [close(text, LIMIT, -0.14858587, 0, bias=5e-9, why=why)]
    text, why = "bias at L = 8, infinite width", "digits of the reference"
    claims.append(close(text, recursion[0], -1.055e-2, 0, bias=5e-6, why=why))
    text = f"slope of the bias at infinite width, {step}"
    why = "the next order, 1/L relative"
    claims.append(close(text, last, -1, 0, bias=1 / many[-2], why=why))
    bias, error = (np.array([getattr(e, a) for e in seen]) for a in ("bias", "bias_se"))
    exact = np.array([infinite_width(int(d)) for d in depths]) - LIMIT
    worst = float(np.max(np.abs(bias - exact) / error))
    text = f"mean of networks of width {WIDE} against infinite width's, largest z"
    found = slope(depths, np.abs(bias), error)
    own = slope(depths, np.abs(exact), error)
    text_slope = f"slope of the bias at width {WIDE} in L, 2 to {depths[-1]}"
    half = abs(found.value + 0.5) / found.error
    return [
        *claims,
        below(text, worst, 4, "standard errors"),
        close(text_slope, found.value, own.value, found.error),
        above("the same slope's distance from -1/2, in s.e.", half, 4),
    ]


def printed_claims(table: dict, seen: dict[tuple[int, int], Errors]) -> list[Claim]:
    """Mean squares are those that were printed, for 100 networks; roots are not."""
    claims = []
    for (width, depth), value in table.items():
        errors = seen[width, depth]
        theirs = errors.square_sd / 10
        text = f"mean square error at n = {width}, L = {depth}, against print"
        error = float(np.hypot(errors.square_se, theirs))
        claims.append(close(text, errors.square, value, error))
    errors, value = seen[256, 8], table[256, 8]
    theirs = errors.square_sd / 10 / (2 * errors.root)
    off = abs(value - errors.root) / theirs
    text = "print at n = 256, L = 8 read as a root mean square: distance in s.e."
    return [*claims, above(text, off, 8)]


def draw_widths(ax, widths, seen: list[Errors], depth: int, table: dict) -> None:
    """Root mean square error against width."""
    root, error = (np.array([getattr(e, a) for e in seen]) for a in ("root", "root_se"))
    label = f"networks, $L = {depth}$"
    points(ax, widths, root, 2 * error, label=label)
    x = np.geomspace(6, widths[-1] * 1.3, 50)
    end = x / widths[-1]
    ax.plot(x, root[-1] * end**-0.5, color=style.LINEARIZED, label="slope $-1/2$")
    steep, label = root[0] * widths[0] / x, "slope $-1$ (rejected)"
    ax.plot(x, steep, ":", color=style.FAINT, label=label)
    printed, label = np.sqrt(list(table.values())), "printed, several $L$"
    ax.plot(
        [n for n, _ in table], printed, "o", mfc="none", color=style.INK, label=label
    )
    ax.set(title="Error from width", xlabel="width $n$", ylim=(root[-1] / 2, 1.5))
    ax.set_ylabel(r"rms of $q_{L,n}(a, b) - q_1(a, b)$")
    log_axis(ax.xaxis, ax.yaxis)
    ax.legend(loc="lower left")


def draw_depths(ax, many, recursion, depths, seen: list[Errors]) -> None:
    """Bias against depth."""
    bias, error = (np.array([getattr(e, a) for e in seen]) for a in ("bias", "bias_se"))
    x = np.geomspace(2, many[-1], 50)
    guide = np.abs(recursion[-1]) * many[-1]
    ax.plot(x, guide / x, color=style.LINEARIZED, label="slope $-1$")
    start = np.abs(recursion[0]) * (many[0] / x) ** 0.5
    ax.plot(x, start, ":", color=style.FAINT, label="slope $-1/2$ (rejected)")
    kind = {"color": style.INFINITE, "label": "infinite width"}
    ax.plot(many, np.abs(recursion), "D", markersize=5, **kind)
    points(ax, depths, np.abs(bias), 2 * error, label=f"networks, $n = {WIDE}$")
    ax.set(title="Bias from depth", xlabel="depth $L$")
    ax.set_ylabel(r"$|E\, q_{L,n}(a, b) - q_1(a, b)|$")
    log_axis(ax.xaxis, ax.yaxis)
    ax.legend(loc="lower left")
