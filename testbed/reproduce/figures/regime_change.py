"""Typical norms fall with depth up to width 3 and rise from width 4 on.

Question: does the norm of a very deep network of fixed width shrink or grow?
Source: Hayou 2022, arXiv:2210.00688, which announces a change of regime between widths
  3 and 4; that it is the sign of d/dt E log R_t at t = 0 was derived here.
Parameters: Y_{l+1} = Y_l + sqrt(t/(n L)) W_l phi(Y_l), ReLU, h = t/L = 1/100 per layer
  up to t = 2 (alpha = 1, lam = c/sqrt(d), c up to 1), n = 2 to 64; R = |phi(Y)|, given
  R_0 > 0; 100 000 networks, 200 000 at n = 3 and 4, fewer from n = 8 on.
Quick: h = 1/50 per layer; n = 2, 3, 4 and 16; 5000 networks, 40 000 at n = 3 and 4.
Expected: E log(R_t/R_0) starts as mubar_n t, mubar_n = (1/4)/(1 - 2^-n) - 1/n, which is
  < 0 up to n = 3 and > 0 from n = 4; mean norms, E R_t, never fall.
Time: 50 s on 2 CPU cores; quick: 7 s.
"""

import jax
import numpy as np

from testbed.laws.infinite_depth import initial_log_drift, log_norm_mean
from testbed.reports.toolkit import Caption, blank, points, shades, style
from testbed.reproduce.claim import Claim, Result, above, below, close, mean_and_error
from testbed.sampling.diffusions import fixed_width
from testbed.sampling.sde import euler_maruyama

NETWORKS = {2: 1e5, 3: 2e5, 4: 2e5, 5: 1e5, 8: 5e4, 16: 2e4, 64: 5e3}
NETWORKS_QUICK = {2: 5e3, 3: 4e4, 4: 4e4, 16: 5e3}
TIMES = np.linspace(0.0, 2.0, 11)
DT, ONE = 0.2, 5  # between times; the place of t = 1
STEPS, STEPS_QUICK = 200, 100
SDE = fixed_width(jax.nn.relu)


def reproduce(quick: bool) -> Result:
    """Follows log(R_t/R_0) in time at several widths, and compares its signs."""
    networks = NETWORKS_QUICK if quick else NETWORKS
    steps = STEPS_QUICK if quick else STEPS
    figure, axes = blank(2, 2, 7.2)
    _prepare(axes)
    claims = []
    colors = shades(len(networks))
    for color, (width, count) in zip(colors, networks.items(), strict=True):
        logs = _log_growth(width, int(count), steps)
        claims += _claims(width, logs)
        _draw(axes, width, logs, color)
    axes[0, 0].legend(loc="upper left", ncols=2)
    axes[0, 1].legend(loc="lower left")
    caption = Caption(
        "Networks with R_0 > 0; bars are 2 s.e. Top left: mean log-growth (points) "
        "and theory to first order in 1/n (lines). Top right: n = 3 and 4, with their "
        "initial slopes (dashed). Bottom left: growth of the mean norm. Bottom right: "
        "log-growth at t = 1 against 1/n.",
        look_for="The sign, which changes between n = 3 and n = 4 for typical norms "
        "only; the mean norm rises at every width.",
    )
    return Result(figure, claims, caption)


def _log_growth(width: int, networks: int, steps: int) -> np.ndarray:
    """log(R_t/R_0) at TIMES, (times, networks), of the networks with R_0 > 0."""
    root = jax.random.fold_in(jax.random.key(0), 3)
    start, noise = jax.random.split(jax.random.fold_in(root, width))
    x0 = jax.random.normal(start, (networks, 1, width))
    x0 = x0[(x0 > 0).any((1, 2))]  # the others never move
    save = np.linspace(0, steps, len(TIMES), dtype=int).tolist()
    x = euler_maruyama(noise, *SDE, x0, time=TIMES[-1], steps=steps, save=save)
    r = np.linalg.norm(np.maximum(np.asarray(x)[:, :, 0], 0), axis=-1)
    return np.log(r / r[0]).astype(np.float64)


def _claims(width: int, logs: np.ndarray) -> list[Claim]:
    mean, error = mean_and_error(logs, axis=1)
    law = float(log_norm_mean(width, 1.0))
    text = f"n = {width}: E log(R_t/R_0) at t = 1"
    why = "accuracy of the first order in 1/n at t = 1"
    claims = [close(text, mean[ONE], law, error[ONE], bias=0.003, why=why)]
    if width < 4:
        text = f"n = {width}: s.e. from (1/4 - 1/n) t, the drift without R_0 > 0"
        z = abs(mean[ONE] - (1 / 4 - 1 / width)) / error[ONE]
        claims.append(above(text, z, 4.0))
    z = mean[ONE:] / error[ONE:]
    if width == 3:
        text = "n = 3: E log(R_t/R_0) in s.e., the largest of t = 1 to 2"
        claims.append(below(text, z.max(), -4.0, "typical norms fall"))
    if width == 4:
        text = "n = 4: E log(R_t/R_0) in s.e., the smallest of t = 1 to 2"
        claims.append(above(text, z.min(), 4.0, "typical norms rise"))
    if width in (3, 4):
        mean, error = mean_and_error(np.diff(np.exp(logs), axis=0), axis=1)
        text = f"n = {width}: growth of E R_t/R_0 in s.e., the least of all {DT:g} in t"
        claims.append(above(text, (mean / error).min(), 4.0, "mean norms rise"))
    return claims


def _prepare(axes) -> None:
    names = (
        ("typical norms", "t", r"E $\log (R_t / R_0)$"),
        ("typical norms at the change of sign", "t", r"E $\log (R_t / R_0)$"),
        ("mean norms", "t", r"E $R_t / R_0$"),
        ("typical norms at t = 1", "1/n", r"E $\log (R_1 / R_0)$"),
    )
    for ax, (title, x, y) in zip(axes.flat, names, strict=True):
        ax.set(xlabel=x, ylabel=y, title=title)
        ax.axhline(1 if title == "mean norms" else 0, color=style.INK, lw=0.8)
    widths = np.unique(np.geomspace(2, 1000, 300).round())
    ax = axes[1, 1]
    drift = initial_log_drift(widths)
    ax.plot(1 / widths, drift, color=style.FAINT, label=r"$\bar\mu_n t$")
    ax.legend(loc="lower left")


def _draw(axes, width: int, logs: np.ndarray, color) -> None:
    fine, label = np.linspace(0, TIMES[-1], 101), f"n = {width}"
    mean, error = mean_and_error(logs, axis=1)
    for ax in [axes[0, 0], axes[0, 1]] if width in (3, 4) else [axes[0, 0]]:
        ax.plot(fine, log_norm_mean(width, fine), color=color, label=label)
        points(ax, TIMES, mean, 2 * error, color)
    if width in (3, 4):
        slope = initial_log_drift(width) * fine
        axes[0, 1].plot(fine, slope, color=color, linestyle="--", lw=1)
    points(axes[1, 1], 1 / width, mean[ONE], 2 * error[ONE], color)
    place = (1 / width, mean[ONE])
    axes[1, 1].annotate(label, place, (6, 5), textcoords="offset points", fontsize=9)
    mean, error = mean_and_error(np.exp(logs), axis=1)
    points(axes[1, 0], TIMES, mean, 2 * error, color, fmt="o-", linewidth=1.2)
