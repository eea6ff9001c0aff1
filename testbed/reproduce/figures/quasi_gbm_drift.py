"""The norm is a geometric Brownian motion whose drift follows the active units.

Question: what drives the log-norm of a very deep network of fixed width, and does its
  drift stay at its first value?
Source: Hayou 2022, arXiv:2210.00688, for the diffusion of the norm; the drift, the
  identity and the loss of active units k(t) were derived here.
Parameters: Y_{l+1} = Y_l + sqrt(t/(n L)) W_l phi(Y_l), ReLU, A = number of active
  units. Identity: n = 3 and 4 to t = 8, 100 layers per unit of t, 100 000 networks.
  Loss: n = 16 and 32 to t = 4, 50 layers per unit of t, 60 000 and 30 000 antithetic
  pairs.
Quick: 10 000 networks; loss: to t = 2, 5000 and 2500 antithetic pairs.
Expected: E log(R_t/R_0) = (1/n) int_0^t (E A/2 - 1) ds; E A_t = n/2 - k(t) + O(1/n); at
  n = 4 the mean turns negative, where the initial drift has it positive for ever.
Time: 35 s on 2 CPU cores; quick: 9 s.
"""

import jax
import numpy as np

from models import BranchScaling, ResNet
from testbed.laws.infinite_depth import (
    inactive_units,
    initial_log_drift,
    log_norm_from_active,
)
from testbed.reports.toolkit import Caption, blank, points, style
from testbed.reproduce.claim import Claim, Result, above, below, close, mean_and_error
from testbed.sampling import LayerSampler
from testbed.sampling.diffusions import fixed_width
from testbed.sampling.sde import euler_maruyama

LONG, SAVED = 8, 80
COLORS = {3: style.FINITE, 4: style.LINEARIZED}
PAIR, PAIR_COLORS = (16, 32), (style.START, style.FINITE)
SDE = fixed_width(jax.nn.relu)


def reproduce(quick: bool) -> Result:
    """Follows log-norms and active units to t = 8, and their loss at larger widths."""
    figure, axes = blank(2, 2, 7.2)
    claims = []
    for width, color in COLORS.items():
        growth, active = _paths(width, 10_000 if quick else 100_000)
        claims += _identity_claims(width, growth, active)
        _draw_paths(axes[0], width, growth, active, color)
    claims += _loss(axes[1], 5000 if quick else 60_000, 2 if quick else 4)
    caption = Caption(
        "Bars are 2 s.e. Top: at n = 3 and 4, mean log-growth (points), the identity "
        "with the measured active units (lines) and the initial drift kept for ever "
        "(dashed); and the active units themselves, whose drift vanishes at A = 2. "
        "Bottom: units lost, n/2 - E A, at n = 16 and 32, with k(t), and the two "
        "widths combined so that their 1/n terms cancel.",
        look_for="Points on the lines, not on the dashes; at n = 4 a mean that turns "
        "over.",
    )
    return Result(figure, claims, caption)


def _key(width: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 4), width)


def _paths(width: int, networks: int) -> tuple[np.ndarray, np.ndarray]:
    """log(R_t/R_0) and A_t of networks with R_0 > 0, (SAVED + 1, networks) each."""
    start, noise = jax.random.split(_key(width))
    x0 = jax.random.normal(start, (networks, 1, width))
    x0 = x0[(x0 > 0).any((1, 2))]  # the others never move
    steps = 100 * LONG
    save = range(0, steps + 1, steps // SAVED)
    x = euler_maruyama(noise, *SDE, x0, time=LONG, steps=steps, save=save)
    x = np.asarray(x)[:, :, 0]
    r = np.linalg.norm(np.maximum(x, 0), axis=-1)
    return np.log(r / r[0]).astype(np.float64), (x > 0).sum(-1)


def _identity_claims(width: int, growth, active) -> list[Claim]:
    times = np.linspace(0, LONG, SAVED + 1)
    driven = log_norm_from_active(width, times, active.T).T
    left, left_error = mean_and_error(growth - driven, axis=1)
    mean, error = mean_and_error(growth, axis=1)
    claims = []
    for t in (1, 4, LONG):
        at = t * SAVED // LONG
        text = f"n = {width}, t = {t}: E log(R_t/R_0) less the drift of its A"
        why = "a tenth of a step h = 0.01, the Euler scheme's error"
        claims.append(close(text, left[at], 0, left_error[at], bias=0.001 * t, why=why))
    constant = float(initial_log_drift(width)) * LONG
    text = f"n = {width}, t = {LONG}: s.e. of E log(R_t/R_0) below mubar_n t"
    claims.append(above(text, (constant - mean[-1]) / error[-1], 4.0))
    if width == 4:
        # The drift vanishes near t = 3.
        late, late_error = mean_and_error(
            growth[-1:] - growth[3 * SAVED // LONG], axis=1
        )
        text = "n = 4: E log(R_8/R_3) in s.e.; mubar_4 > 0 has it positive"
        claims.append(below(text, late[0] / late_error[0], -4.0))
    return claims


def _draw_paths(axes, width: int, growth, active, color) -> None:
    times = np.linspace(0, LONG, SAVED + 1)
    mean, error = mean_and_error(growth, axis=1)
    units, spread = mean_and_error(active, axis=1)
    some = slice(None, None, SAVED // 16)
    label = f"n = {width}"
    ax = axes[0]
    ax.plot(times, log_norm_from_active(width, times, units), color=color, label=label)
    ax.plot(times, initial_log_drift(width) * times, "--", lw=1, color=color)
    points(ax, times[some], mean[some], 2 * error[some], color)
    ax.set(xlabel="t", ylabel=r"E $\log (R_t / R_0)$")
    ax.set_title(r"log-norm: identity (lines), $\bar\mu_n t$ (dashed)")
    ax.legend(loc="lower left")
    ax = axes[1]
    points(ax, times[some], units[some], 2 * spread[some], color, fmt="o-", label=label)
    ax.axhline(2, color=style.INK, lw=0.8)
    ax.set(xlabel="t", ylabel=r"E $A_t$")
    ax.set_title("active units; at 2 the log-norm has no drift")
    ax.legend(loc="upper right")


def _loss(axes, pairs: int, end: int) -> list[Claim]:
    depth = 50 * end
    times = np.linspace(0, end, depth + 1)
    lam = (end / 2 / depth) ** 0.5  # Hayou's time end = 2 depth lam^2
    lost, errors = [], []
    for i, width in enumerate(PAIR):
        branch = BranchScaling.fixed(1.0, lam)
        net = ResNet(width=width, depth=depth, branch=branch)
        sampler = LayerSampler(net, antithetic=True)
        seen = sampler.moments(_key(width), pairs // (i + 1))
        share = seen.active_fraction
        lost.append(width * (0.5 - share.mean))
        errors.append(width * share.mean_se)
    # k_n = k + c/n: twice the wider less the narrower is free of c.
    law, both = inactive_units(times), 2 * lost[1] - lost[0]
    both_error = np.hypot(2 * errors[1], errors[0])
    some = np.arange(depth // 8, depth + 1, depth // 8)
    for ax, curves in (
        (axes[0], zip(PAIR, lost, errors, PAIR_COLORS, strict=True)),
        (axes[1], [(None, both, both_error, style.INFINITE)]),
    ):
        ax.plot(times, law, color=style.INK, label="k(t)")
        for width, y, error, color in curves:
            label = f"n = {width}" if width else "2 (n = 32) - (n = 16)"
            points(ax, times[some], y[some], 2 * error[some], color, label=label)
        ax.set(xlabel="t", ylabel="n/2 - E $A_t$", ylim=(0, None))
        ax.legend(loc="upper left")
    axes[0].set_title("active units lost")
    axes[1].set_title("the same, 1/n terms cancelled")
    claims = []
    for at in (depth // 2, depth):
        text = f"t = {times[at]:g}: units lost at n = 16 and 32, extrapolated, and k(t)"
        claims.append(close(text, both[at], law[at], both_error[at]))
    z = lost[1][-1] / errors[1][-1]
    text = f"n = 32, t = {end}: active units lost, in s.e.; none if half stayed active"
    return [*claims, above(text, z, 4.0)]
