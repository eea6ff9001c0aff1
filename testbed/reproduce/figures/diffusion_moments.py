"""Deep networks with tanh and swish branches are diffusions, with known moments.

Question: do residual networks with smooth branches, as deep as wide, follow the
  diffusion of infinite depth, and its closed moments of infinite depth, then width?
Source: Peluchetti & Favaro 2020, arXiv:1905.11065 (JMLR 20-706), Corollaries 3-5,
  Propositions 18 and 19 and Figure 2; the bias of finite depth is derived here.
Parameters: x + phi(W x + b), sigma_w = sigma_b = T = 1, inputs z = 0 and 1 copied to
  every unit; D = L = 200, 1000 networks, 200 units of each (there D = L = 500, 10 000
  draws of one unit); for swish also D = L = 100; bias: D = 400, L = 32 to 256.
Quick: D = L = 40, 1000 networks; for swish also D = L = 20; bias: D = 100,
  L = 16 to 64.
Expected: tanh: means 0 and 1, variances 1.7183 and 3.4366, covariance 1.7183, missed by
  -10.7/L at z = 0; swish: means 0.2909 and 1.7934.
Time: 25 s on 2 CPU cores; quick: 4 s.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from testbed.laws.agreement import Sample, agreement
from testbed.laws.diffusion import IDENTITY, SWISH, TANH, Branch
from testbed.laws.doubly_infinite import depth_bias, unit_law
from testbed.reports.toolkit import Caption, blank, histogram, log_axis, points, style
from testbed.reproduce.claim import Claim, Result, above, below, close, mean_and_error
from testbed.sampling.diffusions import smooth_branch
from testbed.sampling.sde import SDE, euler_maruyama

INPUTS = (0.0, 1.0)
FTANH, FSWISH = Branch(TANH), Branch(SWISH)
NAMES = ("mean at 0", "mean at 1", "variance at 0", "variance at 1", "covariance")
GROWN = float(FTANH.growth() - 1)  # the variance at input 0
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Measured(NamedTuple):
    """Mean over networks of the five NAMES, and standard errors, (5,) each."""

    value: np.ndarray
    error: np.ndarray


def reproduce(quick: bool) -> Result:
    """Draws networks and diffusions, and puts them beside the closed forms."""
    size, count = (40, 1000) if quick else (200, 1000)
    tanh, swish = network(jnp.tanh), network(jax.nn.swish)
    laws = unit_law(FTANH, INPUTS), unit_law(FSWISH, INPUTS)
    seen = [
        units(sde, INPUTS, size, size, count, tag)
        for tag, sde in enumerate((tanh, smooth_branch(FTANH), swish))
    ]
    half = units(swish, INPUTS, size // 2, size // 2, 2 * count, 3)
    depths = 2 ** np.arange(4, 7) if quick else 2 ** np.arange(5, 9)
    width = 100 if quick else 400
    squares = [units(tanh, INPUTS[:1], width, int(d), count, 4) for d in depths]
    bias = [mean_and_error((x[:, 0] ** 2).mean(-1) - GROWN) for x in squares]

    claims = [
        *tanh_claims(measured(seen[0], laws[0]), laws[0], size),
        *euler_claims(measured(seen[1], laws[0]), size),
        *swish_claims(measured(seen[2], laws[1]), measured(half, laws[1]), laws[1]),
        *marginal_claims(seen[0], laws[0], size),
        *bias_claims(bias, depths, width),
    ]
    figure, axes = blank(2, 2, 7.0)
    titles = (f"tanh, D = L = {size}", f"swish, D = L = {size}")
    draw_marginals(axes[0, 0], seen[0], laws[0], titles[0])
    draw_paths(axes[0, 0], seen[1])
    draw_marginals(axes[0, 1], seen[2], laws[1], titles[1])
    draw_driftless(axes[0, 1], laws[1])
    for ax in axes[0]:
        ax.legend(loc="upper right")
    draw_pairs(axes[1, 0], seen[0], laws[0], titles[0])
    draw_bias(axes[1, 1], bias, depths, width)
    caption = Caption(
        "Top: one unit of x_T at the inputs 0 and 1 over sampled networks (bars), and "
        "the Gaussian law of infinite depth and width (lines), nothing fitted; tanh "
        "networks are a little narrower, by the bias of their depth. Bottom left: the "
        "two inputs' values of one unit, with the law's ellipses of 1 and 2 standard "
        "deviations. Bottom right: what finite depth takes from the variance at input "
        "0.",
        look_for="Bars on the lines, and points on the dashed line as L grows.",
    )
    return Result(figure, claims, caption)


def network(phi: Callable[[jax.Array], jax.Array]) -> SDE:
    """x + phi(W x + b): a layer is a step of `euler_maruyama`, exactly in law.

    Given x, W x + b is the noise of a linear branch, which phi is applied to.
    """
    linear = smooth_branch(Branch(IDENTITY))
    return SDE(linear.drift, lambda t, x, dw: phi(linear.noise(t, x, dw)))


def units(sde: SDE, inputs, width: int, depth: int, count: int, tag: int) -> np.ndarray:
    """x_T of all units, (count, inputs, D)."""
    z = jnp.asarray(inputs, jnp.float32)[None, :, None]
    x0 = jnp.broadcast_to(z, (count, len(inputs), width))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), tag), depth)
    x = euler_maruyama(key, *sde, x0, time=1.0, steps=depth)[0]
    return np.asarray(x, np.float64)


def measured(x: np.ndarray, law: Any) -> Measured:
    """Means, and covariances about the law's mean, averaged over a network's units."""
    centred = x - law.mean[:, None]
    c = np.einsum("nid,njd->nij", centred, centred) / x.shape[-1]
    columns = [*x.mean(-1).T, c[:, 0, 0], c[:, 1, 1], c[:, 0, 1]]
    return Measured(*mean_and_error(np.stack(columns, axis=1)))


def expected(law: Any) -> np.ndarray:
    """The five NAMES of a law, (5,)."""
    return np.array([*law.mean, law.cov[0, 0], law.cov[1, 1], law.cov[0, 1]])


def tanh_claims(seen: Measured, law: Any, size: int) -> list[Claim]:
    """Moments of tanh networks: those of the law, and the bias of depth."""
    want = expected(law)
    lam, q, other = (np.array(a) for a in ((0, 1, 0), (0, 1, 0), (0, 1, 1)))
    bias = np.append([0.0, 0.0], depth_bias(FTANH, lam, q, other, depth=size))
    # Order 1/L^2, from layers of infinite width: see bias_claims.
    second = np.append([0.0, 0.0], 2 * bias[2:] ** 2 / want[2:])
    why = "order 1/L^2, below twice the square of the relative bias"
    claims = [
        close(
            f"tanh networks, D = L = {size}: {name} (limit {limit:.4f}, "
            f"{b:+.3f} from depth)"
            if b
            else f"tanh networks: {name}",
            found,
            limit + b,
            error,
            bias=more,
            why=why if more else "",
        )
        for name, found, error, limit, b, more in zip(
            NAMES, *seen, want, bias, second, strict=True
        )
    ]
    off = abs(seen.value[2] - want[2]) / seen.error[2]
    text = "tanh networks: variance at 0 against the limit without the bias, in s.e."
    return [*claims, above(text, off, 4)]


def euler_claims(seen: Measured, size: int) -> list[Claim]:
    """Moments of the diffusion's Euler scheme, exact at every width and step."""
    grown = (1 + 1 / size) ** size
    want = np.array([0, 1, grown - 1, 2 * (grown - 1), grown - 1])
    z = np.max(np.abs(seen.value - want) / seen.error)
    text = f"Euler paths of the diffusion, {size} steps: largest z of the five moments"
    far = np.max(np.abs(seen.value - np.array([0, 1, 1, 2, 1])) / seen.error)
    frozen = "the same against variances that do not feed back (1, 2, 1), in s.e."
    why = "exact values, with (1 + 1/L)^L for e"
    return [below(text, float(z), 4, why), above(frozen, float(far), 10)]


def swish_claims(seen: Measured, half: Measured, law: Any) -> list[Claim]:
    """Moments of swish networks, extrapolated from two sizes to order 1/D and 1/L."""
    value = 2 * seen.value - half.value
    error = np.hypot(2 * seen.error, half.error)
    claims = [
        close(f"swish networks, extrapolated from two sizes: {name}", *numbers)
        for name, *numbers in zip(NAMES, value, expected(law), error, strict=True)
    ]
    off = np.min(np.abs(value[:2] - np.array(INPUTS)) / error[:2])
    text = "swish networks: means against those without phi''(0), in s.e."
    return [*claims, above(text, float(off), 10)]


def marginal_claims(x: np.ndarray, law: Any, size: int) -> list[Claim]:
    """The marginal law of one unit is Gaussian, of the grown variance."""
    sample = Sample.of(x[:, 0])
    variance = law.cov[0, 0]
    squares = (x[:, 0] ** 2).mean(-1)
    _, error = mean_and_error(squares)
    # A log-variance off by e moves a Gaussian's cdf by .121 e at most, and one that
    # varies between networks with variance v by .041 v: second order in |x|^2/D.
    shift = 0.121 * abs(float(depth_bias(FTANH, 0.0, 0.0, depth=size))) / variance
    mixture = 0.041 * float(np.var(squares)) / variance**2
    noise = 1.95 / sample.count**0.5 + 4 * 0.121 * float(error) / variance
    bound = noise + shift + mixture
    ks = agreement(sample, gaussian(0.0, variance)).ks
    frozen = agreement(sample, gaussian(0.0, 1.0)).ks
    why = f"noise {noise:.2g}, depth {shift:.2g}, spread of |x|^2/D {mixture:.2g}"
    text = "tanh networks: KS of a unit at input 0 to"
    return [
        below(f"{text} N(0, 1.7183)", ks, bound, why),
        above(f"{text} N(0, 1), no feedback", frozen, bound, "the same bound"),
    ]


def gaussian(mean: float, variance: float) -> Any:
    """N(mean, variance)."""
    return stats.norm(mean, variance**0.5)


def wide_bias(depth: int) -> float:
    """What L layers of infinite width take from the variance at input 0, tanh."""
    q = 0.0
    for _ in range(depth):
        q += WEIGHTS @ np.tanh(np.sqrt((1 + q) / depth) * NODES) ** 2
    return q - GROWN


def bias_claims(bias: list[tuple], depths: np.ndarray, width: int) -> list[Claim]:
    """-10.7/L, from layers of infinite width and from networks."""
    limit = float(depth_bias(FTANH, 0.0, 0.0, depth=1))
    two = [depth * wide_bias(depth) for depth in (1000, 2000)]
    text = "L (q_L - q_T) at input 0, infinite width, extrapolated to L = infinity"
    why = "what the extrapolation leaves: order 1/L^2"
    claims = [close(text, 2 * two[1] - two[0], limit, 0, bias=0.01, why=why)]
    for depth, (value, error) in zip(depths, bias, strict=True):
        want = wide_bias(int(depth))
        text = f"tanh networks, D = {width}: q_{depth} - q_T at input 0"
        # The branch's fourth moment is that of s^2: Var(s)/s^2 <= 4/D, derived here.
        more, why = 4 / width * abs(want), "fluctuations of |x|^2/D, a share 4/D"
        claims.append(close(text, value, want, error, bias=more, why=why))
    value, error = bias[-1]
    euler = abs(value + np.e / 2 / depths[-1]) / error
    text = "the last one against Euler's own bias, -1.36/L, in s.e."
    return [*claims, above(text, float(euler), 4)]


def draw_marginals(ax, x: np.ndarray, law: Any, title: str) -> None:
    """Histograms of a unit at both inputs, and the law."""
    grid = np.linspace(-6, 12, 400)
    for i, color in enumerate((style.FINITE, style.LINEARIZED)):
        label = f"$z = {INPUTS[i]:g}$: networks"
        histogram(ax, x[:, i].ravel(), color=color, label=label)
        density = gaussian(law.mean[i], law.cov[i, i]).pdf(grid)
        ax.plot(grid, density, color=color, label="law")
    ax.set(title=title, xlabel="a unit of $x_T$", ylabel="density", xlim=(-6, 12))


def draw_paths(ax, x: np.ndarray) -> None:
    """Outlines of the diffusion's own histograms."""
    for i in range(len(INPUTS)):
        label = None if i else "diffusion (Euler)"
        kind = {"density": True, "histtype": "step", "color": style.INK}
        ax.hist(x[:, i].ravel(), 100, label=label, linewidth=0.8, **kind)


def draw_driftless(ax, law: Any) -> None:
    """The densities if phi''(0) moved nothing."""
    grid = np.linspace(-6, 12, 400)
    for i, z in enumerate(INPUTS):
        label = None if i else "law without drift"
        density = gaussian(z, law.cov[i, i]).pdf(grid)
        ax.plot(grid, density, ":", color=style.INK, linewidth=1.2, label=label)


def draw_pairs(ax, x: np.ndarray, law: Any, title: str) -> None:
    """One unit at both inputs, and the law's ellipses."""
    pairs = x[:, :, :3].transpose(0, 2, 1).reshape(-1, 2)
    ax.plot(*pairs.T, ".", color=style.START, ms=2, alpha=0.5, label="networks")
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = np.linalg.cholesky(law.cov) @ np.stack([np.cos(turn), np.sin(turn)])
    for radius in (1, 2):
        ellipse = law.mean[:, None] + radius * circle
        label = "law, 1 and 2 standard deviations" if radius == 1 else None
        ax.plot(*ellipse, color=style.INK, label=label)
    ax.set(title=f"One unit at both inputs: {title}", ylim=(-7, 12))
    ax.set(xlabel="$x_T$ at $z = 0$", ylabel="$x_T$ at $z = 1$")
    ax.legend(loc="upper left")


def draw_bias(ax, bias: list[tuple], depths: np.ndarray, width: int) -> None:
    """The bias at input 0 against depth."""
    grid = 2 ** np.arange(3, 11)
    wide = [-wide_bias(int(d)) for d in grid]
    value, error = np.array(bias).T
    label = f"networks, D = {width}"
    limit = float(depth_bias(FTANH, 0.0, 0.0, depth=1))
    ax.plot(grid, -limit / grid, "--", color=style.LINEARIZED, label="$10.7/L$")
    ax.plot(grid, wide, color=style.INFINITE, label="layers of infinite width")
    own = np.e / 2 / grid
    ax.plot(grid, own, ":", color=style.FAINT, label="Euler's own, $1.36/L$")
    points(ax, depths, -value, 2 * error, label=label)
    ax.set(title="Bias of finite depth", xlabel="depth $L$")
    ax.set_ylabel("$q_T - E\\,|x_L|^2 / D$ at $z = 0$")
    log_axis(ax.xaxis, ax.yaxis)
    ax.legend(loc="lower left")
