"""Infinite depth first, infinite width second: units become Gaussian at rate 1/n.

Question: what does the diffusion of infinitely deep networks of width n tend to as the
  width grows, and how fast?
Source: Hayou 2022, arXiv:2210.00688, for the diffusion; Hayou & Yang 2023,
  arXiv:2302.00453, Theorem 2, for the limit of q; the 1/n terms were derived here.
Parameters: Y_{l+1} = Y_l + sqrt(t/(n L)) W_l phi(Y_l), ReLU, t = 1, L = 100, Y_0 ~
  N(0, I); n = 4 to 1024; 200 000 networks at n = 4 down to 1000 at n = 1024.
Quick: L = 40; n = 4, 16 and 64; 100 000, 10 000 and 2000 networks.
Expected: q = |Y|^2/n grows by (1 + t/(2 L))^L (1 + G2/n), G2(1) = 0.121, to e^{t/2};
  E log(R_t/R_0) -> t/4; the kurtosis of a unit, (3 n/(n + 2)) E q^2/(E q)^2 at every n,
  falls to 3 like 1/n.
Time: 20 s on 2 CPU cores; quick: 4 s.
"""

from typing import NamedTuple, cast

import jax
import numpy as np

from testbed.laws.depth_covariance import gaussian_limit
from testbed.laws.infinite_depth import (
    log_norm_mean,
    output_power,
    second_moment,
    second_moment_correction,
)
from testbed.laws.law import Law
from testbed.laws.log_gaussian import layer_law
from testbed.reports.toolkit import Caption, blank, log_axis, points, size_axis, style
from testbed.reproduce.claim import Claim, Result, above, close, mean_and_error
from testbed.sampling.diffusions import fixed_width
from testbed.sampling.sde import euler_maruyama

NETWORKS = {4: 2e5, 8: 1e5, 16: 1e5, 64: 2e4, 256: 4e3, 1024: 1e3}
NETWORKS_QUICK = {4: 1e5, 16: 1e4, 64: 2e3}
DEPTH, DEPTH_QUICK = 100, 40
BRANCH = 0.5**0.5  # t = 2 c^2 = 1
SDE = fixed_width(jax.nn.relu)


class Networks(NamedTuple):
    """Statistics of networks, (networks,) each.

    Attributes:
      growth: |Y_L|^2 / |Y_0|^2.
      log_growth: log(R_L / R_0); not finite where R_0 = 0.
      square, fourth: mean over units of Y_L^2 and of Y_L^4.
      unit: first unit of Y_L.
    """

    growth: np.ndarray
    log_growth: np.ndarray
    square: np.ndarray
    fourth: np.ndarray
    unit: np.ndarray


def reproduce(quick: bool) -> Result:
    """Measures growth, log-growth and kurtosis as the width increases."""
    depth = DEPTH_QUICK if quick else DEPTH
    networks = NETWORKS_QUICK if quick else NETWORKS
    seen = {n: _sample(n, int(count), depth) for n, count in networks.items()}
    claims = []
    for width, sample in seen.items():
        claims += _growth_claims(width, depth, sample)
        claims += _kurtosis_claims(width, depth, sample)
    (k16, e16), (k64, e64) = (_kurtosis(seen[n]) for n in (16, 64))
    slope = np.log((k16 - 3) / (k64 - 3)) / np.log(4)
    error = np.hypot(e16 / (k16 - 3), e64 / (k64 - 3)) / np.log(4)
    text = "kurtosis - 3 from n = 16 to 64: s.e. between its exponent and 1/2"
    claims.append(above(text, (slope - 0.5) / error, 4.0, "the rate is 1/n"))
    figure, axes = blank(2, 2, 7.2)
    _draw(axes, seen, depth)
    caption = Caption(
        "Bars are 2 s.e. Top left: one unit at two widths, and the Gaussian law of "
        "infinite width. Top right: growth of |Y|^2 over its infinite-width value at "
        "this depth, with the 1/n term (line). Bottom left: mean log-growth of the "
        "post-activations, to t/4. Bottom right: kurtosis of a unit less 3, with the "
        "log-Gaussian law (line).",
        look_for="Heavy tails at small width only, and points that follow 1/n to the "
        "Gaussian limit.",
    )
    return Result(figure, claims, caption)


def _key(width: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 5), width)


def _sample(width: int, networks: int, depth: int) -> Networks:
    start, noise = jax.random.split(_key(width))
    x0 = jax.random.normal(start, (networks, 1, width))
    x = euler_maruyama(noise, *SDE, x0, time=1.0, steps=depth, save=(0, depth))
    x = np.asarray(x)[:, :, 0].astype(np.float64)
    square, r = (x**2).mean(-1), np.linalg.norm(np.maximum(x, 0), axis=-1)
    alive = r[0] > 0
    return Networks(
        square[1] / square[0],
        np.log(r[1, alive] / r[0, alive]),
        square[1],
        (x[1] ** 4).mean(-1),
        x[1, :, 0],
    )


def _kurtosis(seen: Networks) -> tuple[float, float]:
    """E Y^4 / (E Y^2)^2 of a unit and its standard error (delta method)."""
    square = seen.square.mean()
    kurtosis = seen.fourth.mean() / square**2
    influence = seen.fourth / square**2 - 2 * kurtosis * seen.square / square
    return float(kurtosis), mean_and_error(influence)[1]


def _log_variance(width: int, depth: int) -> float:
    """Variance of log(|Y_L|^2 / |Y_0|^2), to first order in 1/n."""
    return float(layer_law(width, depth, 1.0, BRANCH / depth**0.5).log_norm_var[-1])


def _growth_claims(width: int, depth: int, seen: Networks) -> list[Claim]:
    power, error = mean_and_error(seen.growth)
    law = float(output_power(width, depth, BRANCH))
    # The n = 1 value is exact: what it differs by from first order scales as 1/n^2.
    first_order = np.exp(0.5) * (1 + second_moment_correction(1.0))
    bias = float(second_moment(1, 1.0) - first_order) / width**2
    bias = bias if bias > 0.01 * error else 0.0
    why = "1/n^2 times its size at n = 1, where the law is exact"
    text = f"n = {width}: E|Y_L|^2/|Y_0|^2"
    claims = [close(text, power, law, error, bias=bias, why=why)]
    if width == 4:
        wide = float(output_power(width, depth, BRANCH, balanced=True))
        text = "n = 4: s.e. between E|Y_L|^2/|Y_0|^2 and its infinite-width value"
        claims.append(above(text, (power - wide) / error, 4.0))
    if width >= 16:
        mean, error = mean_and_error(seen.log_growth)
        text, law = f"n = {width}: E log(R_t/R_0)", float(log_norm_mean(width, 1.0))
        why = "a tenth of a step, the Euler scheme's error"
        claims.append(close(text, mean, law, error, bias=0.1 / depth, why=why))
    return claims


def _kurtosis_claims(width: int, depth: int, seen: Networks) -> list[Claim]:
    # Sum_i Y_i^4 - 3 |Y|^4 / (n + 2) is a martingale that starts with mean 0.
    left = seen.fourth - 3 * width / (width + 2) * seen.square**2
    text = f"n = {width}: E Y^4 of a unit less 3 n/(n + 2) E q^2, exact at every depth"
    claims = [close(text, left.mean(), 0.0, mean_and_error(left)[1])]
    if width < 16:
        return claims
    kurtosis, error = _kurtosis(seen)
    beta = _log_variance(width, depth)
    text = f"n = {width}: kurtosis of a unit, 3 exp(beta)"
    why = "3 beta^2, the order after 1/n"
    law = 3 * np.exp(beta)
    claims.append(close(text, kurtosis, law, error, bias=3 * beta**2, why=why))
    if width in (16, 64):
        text = f"n = {width}: s.e. between kurtosis and 3, the Gaussian's"
        claims.append(above(text, (kurtosis - 3) / error, 4.0))
    return claims


def _draw(axes, seen: dict[int, Networks], depth: int) -> None:
    widths = np.array(list(seen))
    line = {"color": style.LINEARIZED, "label": "to first order in 1/n"}
    ax, limit = axes[0, 0], cast(Law, gaussian_limit(1.0))
    places = np.linspace(-8, 8, 65)
    for width, color in ((4, style.LINEARIZED), (16, style.START)):
        counts, _ = np.histogram(seen[width].unit, places)
        density = counts / np.diff(places) / len(seen[width].unit)
        ax.stairs(density, places, color=color, lw=1.4, label=f"n = {width}")
    grid = np.linspace(-6, 6, 300)
    ax.plot(grid, limit.pdf(grid), color=style.INK, label=r"N(0, $e^{t/2}$)")
    ax.set(xlabel="a unit of $Y_t$", ylabel="density", yscale="log", ylim=(1e-5, 2))
    ax.set_title("one unit")
    ax.legend(loc="upper right")

    fine = np.unique(np.geomspace(widths[0], 10_000, 200).round())
    ax, wide = axes[0, 1], float(output_power(1, depth, BRANCH, balanced=True))
    ax.axhline(1, color=style.INK, lw=0.8)
    ax.plot(1 / fine, 1 + second_moment_correction(1.0) / fine, **line)
    y, e = np.transpose([mean_and_error(s.growth / wide) for s in seen.values()])
    points(ax, 1 / widths, y, 2 * e)
    ax.set(title="power", xlabel="1/n")
    ax.set_ylabel(r"E $|Y_L|^2 / |Y_0|^2$ over $(1 + t/2L)^L$")
    ax.legend(loc="upper left")

    ax = axes[1, 0]
    ax.axhline(0.25, color=style.INK, lw=0.8)
    ax.plot(1 / fine, log_norm_mean(fine, 1.0), **line)
    y, e = np.transpose([mean_and_error(s.log_growth) for s in seen.values()])
    points(ax, 1 / widths, y, 2 * e)
    ax.set(xlabel="1/n", ylabel=r"E $\log (R_t / R_0)$")
    ax.set_title("typical norms; t/4 at infinite width")
    ax.legend(loc="lower left")

    ax = axes[1, 1]
    excess = [3 * np.expm1(_log_variance(n, depth)) for n in widths]
    ax.plot(widths, excess, **(line | {"label": r"$3 (e^\beta - 1)$"}))
    y, e = np.transpose([_kurtosis(s) for s in seen.values()])
    points(ax, widths, y - 3, 2 * e)
    ax.set(xlabel="width n", ylabel="kurtosis of a unit - 3", ylim=(1e-3, None))
    ax.set_title("distance from the Gaussian")
    size_axis(ax.xaxis, sizes=widths)
    log_axis(ax.yaxis)
    ax.legend(loc="lower left")
