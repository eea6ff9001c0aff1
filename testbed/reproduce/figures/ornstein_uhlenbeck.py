"""An activation that makes a network of width 1 an Ornstein-Uhlenbeck process.

Question: does a residual network of width 1 have a closed-form law at infinite depth
  for another activation than ReLU?
Source: Hayou 2022, arXiv:2210.00688, which announces a second closed form; the
  parameterization of the activation and the laws were derived here by Ito's formula.
Parameters: phi(x) = exp(h^{-1}(a x + b)^2), h(y) = int_0^y exp(u^2) du, three triples
  (a, b, X_0), t = 1, L = 1000 (and 10, 30, 100, 300 for the rate); 100 000 networks.
Quick: 10 000 networks.
Expected: Y_t = h^{-1}(a X_t + b) ~ N(Y_0 e^{-a^2 t}, (1 - e^{-2 a^2 t})/2); X_t follows
  the law of (h(Y_t) - b)/a; the distance falls like 1/L.
Time: 10 s on 2 CPU cores; quick: 6 s.
"""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from testbed.laws.agreement import Sample, agreement
from testbed.laws.law import Law
from testbed.laws.ornstein_uhlenbeck import OrnsteinUhlenbeckActivation
from testbed.reports.toolkit import Caption, blank, histogram, log_axis, style
from testbed.reproduce.claim import Result, above, below, close
from testbed.sampling.sde import SDE, euler_maruyama

CASES = ((1.0, 0.0, 1.0), (0.7, 0.3, -0.5), (1.5, 0.0, 0.8))  # a, b, X_0
DEPTHS = (10, 30, 100, 300, 1000)
FOUR_SIGMA_KS = float(stats.kstwobign.isf(2 * stats.norm.sf(4)))


def reproduce(quick: bool) -> Result:
    """Draws histograms of Y_t and X_t, and distances to the law against depth."""
    samples = 10_000 if quick else 100_000
    noise = FOUR_SIGMA_KS / samples**0.5
    figure, axes = blank(3, 3, 8.6)
    claims = []
    for column, (a, b, start) in enumerate(CASES):
        phi = OrnsteinUhlenbeckActivation(a, b)
        sde, law = _network(phi), phi.transformed_law(start)
        ends, distances = {}, []
        for i, depth in enumerate(DEPTHS):
            root = jax.random.fold_in(jax.random.key(0), 2)
            key = jax.random.fold_in(root, 10 * column + i)
            x0 = jnp.full(samples, start, jnp.float32)
            x = np.asarray(euler_maruyama(key, *sde, x0, time=1.0, steps=depth))[0]
            ends[depth] = x
            distances.append(agreement(Sample.of(phi.transform(x)), law).ks)
        x, what = ends[DEPTHS[-1]], f"a = {a:g}, b = {b:g}, X_0 = {start:g}"
        _draw(axes[:, column], phi, start, x, distances)
        sample, depth = Sample.of(phi.transform(x)), DEPTHS[-1]
        shift, spread = _weak_error(phi, start) / depth
        mean, var = law.mean() + shift, law.var() + spread
        text = f"{what}: mean of Y_t, with the 1/L term {shift:.2g}"
        claims.append(close(text, sample.mean, mean, sample.mean_se))
        text = f"{what}: variance of Y_t, with the 1/L term {spread:.2g}"
        claims.append(close(text, sample.var, var, sample.var_se))
        # To first order a shift of mean and variance moves a normal cdf by this.
        moved = 0.4 * abs(shift) / law.std() + 0.25 * abs(spread) / law.var()
        reason = f"noise {noise:.2g} and twice what the 1/L terms make"
        bound = noise + 2 * moved
        text = f"{what}: KS of X_t to its law, L = {depth}"
        follows = agreement(Sample.of(x), phi.law(start)).ks
        claims.append(below(text, follows, bound, reason))
        frozen = _kept(phi, start)
        text = f"{what}: KS of X_t to N(X_0, phi(X_0)^2 t), phi kept at its start"
        claims.append(above(text, agreement(Sample.of(x), frozen).ks, bound))
        if a > 1:
            text = f"{what}: KS at L = {DEPTHS[0]} to the law of infinite depth"
            claims.append(above(text, distances[0], bound))
            wrong = cast(Law, stats.norm(law.mean() * np.exp(a**2 - a), law.std()))
            text = f"{what}: KS of Y_t with mean Y_0 e^(-a t), not e^(-a^2 t)"
            claims.append(above(text, agreement(sample, wrong).ks, bound))
    caption = Caption(
        "Bars: 1000 layers; lines: closed forms, nothing fitted. Top: Y_t and its "
        "normal law; dotted: Y_0. Middle: X_t = (h(Y_t) - b)/a, skewed and "
        "heavy-tailed, its central 96 per cent; dashed: the Gaussian of an activation "
        "that stays at its first value. Bottom: KS distance to the law against depth; "
        "below the dotted line it is noise.",
        look_for="Bars on the curves, and distances that fall like 1/L.",
    )
    return Result(figure, claims, caption)


def _network(phi: OrnsteinUhlenbeckActivation) -> SDE:
    """dX = phi(X) dB, with h^{-1} from a table that is even in log(1 + |z|)."""
    reach, count = 30.0, 2**16
    places = np.expm1(np.linspace(0, reach, count))
    table = jnp.asarray(OrnsteinUhlenbeckActivation().transform(places), jnp.float32)

    def noise(t, x, dw):
        place = jnp.log1p(jnp.abs(phi.a * x + phi.b)) * ((count - 1) / reach)
        below = jnp.clip(place.astype(jnp.int32), 0, count - 2)
        part = place - below
        y = (1 - part) * table[below] + part * table[below + 1]
        return jnp.exp(y**2) * dw

    return SDE(lambda t, x: jnp.zeros_like(x), noise)


def _kept(phi: OrnsteinUhlenbeckActivation, start: float) -> Law:
    """Law of X_1 if phi kept its first value."""
    return cast(Law, stats.norm(start, float(phi(start))))


def _draw(axes, phi, start, x, distances) -> None:
    law, limit = phi.transformed_law(start), phi.law(start)
    axes[0].set_title(f"a = {phi.a:g}, b = {phi.b:g}, $X_0$ = {start:g}")
    histogram(axes[0], phi.transform(x), color=style.START)
    grid = np.linspace(law.mean() - 3.5 * law.std(), law.mean() + 3.5 * law.std(), 300)
    axes[0].plot(grid, law.pdf(grid), color=style.LINEARIZED)
    axes[0].axvline(phi.transform(start), color=style.INK, linestyle=":")
    axes[0].set(xlabel=r"$Y_t = h^{-1}(a X_t + b)$", ylabel="density")
    low, high = limit.ppf([0.02, 0.98])
    label = "1000 layers"
    histogram(axes[1], x, ends=(low, high), color=style.START, label=label)
    grid = np.linspace(low, high, 400)
    axes[1].plot(grid, limit.pdf(grid), color=style.LINEARIZED, label="closed form")
    frozen = _kept(phi, start).pdf(grid)
    axes[1].plot(grid, frozen, "--", color=style.INFINITE, label="phi kept at $X_0$")
    axes[1].set(xlabel=r"$X_t$", ylabel="density")
    axes[1].set_ylim(0, 1.45 * limit.pdf(grid).max())  # room for the legend
    axes[1].legend(loc="upper right")
    axes[2].plot(DEPTHS, distances, "o-", ms=4, color=style.FINITE, label="networks")
    depth = np.array(DEPTHS)
    slope = distances[0] * depth[0] / depth
    axes[2].plot(depth, slope, "--", lw=1, color=style.FAINT, label="slope -1")
    noise = agreement(Sample.of(x), limit).ks_noise
    axes[2].axhline(noise, color=style.INK, linestyle=":", label="noise (95 %)")
    axes[2].set(xlabel="depth L", ylabel="KS distance to the law")
    axes[2].set_ylim(bottom=8e-5)  # room for the legend
    log_axis(axes[2].xaxis, axes[2].yaxis)
    axes[2].legend(loc="lower left")


def _weak_error(phi: OrnsteinUhlenbeckActivation, start: float) -> np.ndarray:
    """L times the errors of mean and variance of Y_t at t = 1, L steps, to first order.

    A step of length 1/L errs by a^4 (3 Y - 6 Y^3)/L^2 in E Y and by
    a^4 (-1 + 16 Y^2 - 12 Y^4)/L^2 in E Y^2 (Taylor's formula for h^{-1} to 4th order);
    errors at time s decay by exp(-a^2 (1 - s)) and exp(-2 a^2 (1 - s)).
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    first = second = 0.0
    for s, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        y, decay = phi.transformed_law(start, s), np.exp(-(phi.a**2) * (1 - s))
        m, v = y.mean(), y.var()
        cube, fourth = m**3 + 3 * m * v, m**4 + 6 * m**2 * v + 3 * v**2
        first += weight * decay * (3 * m - 6 * cube)
        second += weight * decay**2 * (-1 + 16 * (m**2 + v) - 12 * fourth)
    mean = phi.transformed_law(start).mean()
    return phi.a**4 * np.array([first, second - 2 * mean * first])
