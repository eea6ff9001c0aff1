"""The tangent kernel's dispersion at initialization, in three phases.

Question: how does E K^2 / (E K)^2 of the diagonal tangent kernel grow with depth over
  width below, at and above the critical weight variance?
Source: Seleznova & Kutyniok 2022, arXiv:2202.00553; Hanin & Nica 2019,
  arXiv:1909.05989.  The exact recursion and its limits are derived in
  testbed.laws.ntk_moments and testbed.laws.ntk_limits.
Parameters: fully connected ReLU networks, M = n_0 = 100 units, |x| = 1, standard
  parameterization, biases 0 but trained; sigma_w^2 = 1 (ordered), 2 (edge of chaos), 3
  (chaotic); 5 to 49 hidden layers, 100 000 networks each, and 10 000 of 99.
Quick: 5, 20 and 99 hidden layers; 4000, 4000 and 500 networks.
Expected: bounded dispersion in the ordered phase, exponential growth in the others, as
  the recursion has it; exp(5T) overstates it.  From some depth on plain Monte Carlo
  misses the networks that decide E K^2.
Time: 50 s on 2 CPU cores; quick: 5 s.
"""

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import special

from models import MLP
from testbed.laws.agreement import SecondMoment, second_moment
from testbed.laws.ntk_limits import limit_ratio
from testbed.laws.ntk_moments import ntk_mean, ntk_second_moment_ratio
from testbed.reports.toolkit import Caption, blank, log_axis, points, style
from testbed.reproduce.claim import Claim, Result, above, below, close
from testbed.sampling import sample_gradients
from testbed.sampling.gradients import Gradients

WIDTH = 100
PHASES = {1.0: "ordered", 2.0: "edge of chaos", 3.0: "chaotic"}
COLORS = {1.0: style.INFINITE, 2.0: style.FINITE, 3.0: style.LINEARIZED}
SAMPLES = {5: 100_000, 10: 100_000, 20: 100_000, 30: 100_000, 49: 100_000, 99: 10_000}
QUICK = {5: 4000, 20: 4000, 99: 500}
MIDDLE = 20


def reproduce(quick: bool) -> Result:
    """Draws the networks of each depth once, for all phases."""
    claims: list[Claim] = []
    found: dict[tuple[float, int], SecondMoment] = {}
    biased: dict[tuple[float, int], float] = {}
    for hidden, samples in (QUICK if quick else SAMPLES).items():
        net = MLP(width=WIDTH, depth=hidden - 1, out_features=1, head="relu")
        key = jax.random.fold_in(jax.random.key(0), hidden)
        seen = sample_gradients(key, samples, net)
        for sigma_w2, phase in PHASES.items():
            kernel = log_kernel(seen, sigma_w2)
            exact = _exact(hidden, sigma_w2)
            moment = found[sigma_w2, hidden] = second_moment(kernel, exact)
            what = f"{phase}, {hidden} hidden layers"
            if moment.ratio is None or moment.ratio_se is None:
                plain, error = _plain(kernel)
                biased[sigma_w2, hidden] = plain
                text = (
                    f"{what}: plain Monte Carlo, {samples:,} samples, lies low by more "
                    "than 4 of the errors that it claims"
                )
                claims.append(below(text, plain + 4 * error, exact, "the exact value"))
                continue
            error = moment.ratio_se
            text = f"{what}: E K^2 / (E K)^2 of the recursion"
            claims.append(close(text, moment.ratio, exact, error))
            if hidden == MIDDLE:
                claims += _middle(kernel, sigma_w2, what, moment.ratio, error)
    caption = Caption(
        f"Solid: exact recursion at width {WIDTH}, nothing fitted. Dotted: its limit, "
        "width to infinity at fixed T. Dashed: exp(5T). Marks: sampled networks with "
        "one standard error; open ones are samples that hold fewer than 100 of the "
        "networks that decide E K^2 and lie low.",
        look_for="A flat line in the ordered phase, where the last layers' biases are "
        "nearly all of the kernel, growth beyond, and open marks below their lines.",
    )
    return Result(_draw(found, biased), claims, caption)


def log_kernel(seen: Gradients, sigma_w2: float) -> np.ndarray:
    """log K(x, x) of networks of variance sigma_w2/fan-in at |x| = 1, n_0 = n.

        K = sum_{i=1}^L (|x_{i-1}|^2 + 1) |delta_i|^2

    with x_i = phi(z_i), z_i = W_i x_{i-1} and delta_i = df/dz_i.  `models.MLP` with a
    ReLU head and d = L - 2 has the same weights at sigma_w2 = 2 in all layers but the
    first, whose variance is 1/n_in, and |x|^2 = n_in: its z_0 is N(0, I), where z_1 is
    N(0, (2/n_0) I).  Hence, with a = sigma_w2/2 and homogeneity of ReLU,

        |x_i|^2     = a^i (2/n_0) |h_i|^2        i = 1, ..., L - 1
        |delta_i|^2 = a^{L-i} |df/dy_{i-1}|^2    i = 1, ..., L

    in `Gradients`' h and y: each of the i layers before multiplies x_i by sqrt(a), and
    the first by sqrt(2/n_0) too; each of the L - i layers after multiplies delta_i by
    sqrt(a), and the scale of z_i, at which it is taken, does not matter.

    Args:
      seen: of `MLP(width=n, depth=L - 2, out_features=1, head="relu")`.
      sigma_w2: variance of a weight times its fan-in.

    Returns:
      (samples,), at least 0: the output's bias has slope 1 even if all units died.
    """
    layers = seen.log_h.shape[1]
    before = np.arange(layers)  # i - 1
    log_a = np.log(sigma_w2 / 2)
    # log_h is that of |h|^2 / n, so that (2/n_0) |h|^2 = 2 exp(log_h).
    log_x = before * log_a + np.where(before == 0, 0.0, np.log(2) + seen.log_h)
    log_delta = (layers - 1 - before) * log_a + seen.log_delta
    return np.asarray(special.logsumexp(np.logaddexp(log_x, 0) + log_delta, axis=1))


def _widths(hidden: int) -> list[int]:
    return [WIDTH] * (hidden + 1) + [1]


def _exact(hidden: int, sigma_w2: float, biases: bool = True) -> float:
    return ntk_second_moment_ratio(
        _widths(hidden), sigma_w2, biases=biases, parameterization="standard"
    )


def _middle(
    kernel: np.ndarray, sigma_w2: float, what: str, ratio: float, error: float
) -> list[Claim]:
    """The mean, and laws that the dispersion excludes."""
    values = np.exp(kernel)
    mean = ntk_mean(_widths(MIDDLE), sigma_w2, parameterization="standard")
    spread = float(values.std() / len(values) ** 0.5)
    claims = [close(f"{what}: E K", float(values.mean()), mean, spread)]
    z = abs(ratio - np.exp(5 * MIDDLE / WIDTH)) / error
    claims.append(above(f"{what}: s.e. from exp(5T)", z, 4, "rejected"))
    if sigma_w2 < 2:
        z = abs(ratio - _exact(MIDDLE, sigma_w2, biases=False)) / error
        text = f"{what}: s.e. from the recursion without biases"
        claims.append(above(text, z, 4, "the phase is in the biases"))
    return claims


def _plain(log_kernel: np.ndarray) -> tuple[float, float]:
    """E K^2 / (E K)^2 of the sample and the error it claims, trustworthy or not."""
    count = len(log_kernel)
    k = np.exp(log_kernel - special.logsumexp(log_kernel) + np.log(count))  # mean 1
    ratio = float(np.mean(k**2))
    return ratio, float(np.std(k**2 - 2 * ratio * k) / np.sqrt(count))


def _draw(
    found: dict[tuple[float, int], SecondMoment],
    biased: dict[tuple[float, int], float],
) -> Figure:
    figure, ((left, right),) = blank(1, 2, 4.8)
    last = max(hidden for _, hidden in found)
    layers = np.arange(1, last + 1)
    T = np.linspace(0, last / WIDTH, 100)
    for sigma_w2, phase in PHASES.items():
        color = COLORS[sigma_w2]
        line = [_exact(int(hidden), sigma_w2) for hidden in layers]
        label = rf"{phase}, $\sigma_w^2$ = {sigma_w2:g}"
        left.plot(layers / WIDTH, line, color=color, label=label)
        left.plot(T, limit_ratio(T, sigma_w2), color=color, linestyle=":", lw=1.2)
    left.plot(T, np.exp(5 * T), color=style.INK, ls=(0, (5, 2)), label="exp(5T)")
    for mark, label in ((style.INK, "sampled"), ("none", "sampled too little")):
        point = dict(marker="o", linestyle="", markerfacecolor=mark, label=label)
        left.plot([], [], color=style.INK, **point)
    for i, ((sigma_w2, hidden), moment) in enumerate(found.items()):
        color, place = COLORS[sigma_w2], hidden / WIDTH
        # Side by side on the right, where all phases lie on one line.
        beside = place + 0.01 * (i % len(PHASES) - 1)
        if moment.ratio is None or moment.ratio_se is None:
            value, error, mark = biased[sigma_w2, hidden], 0.0, "none"
        else:
            value, error, mark = moment.ratio, moment.ratio_se, color
        exact = moment.reference
        points(left, place, value, error, color, markerfacecolor=mark)
        share, part = value / exact, error / exact
        points(right, beside, share, part, color, markerfacecolor=mark)
    right.axhline(1, color=style.FAINT, linestyle=(0, (5, 2)))
    log_axis(left.yaxis)
    left.set_title(f"Dispersion of the kernel, width {WIDTH}")
    left.set_ylabel(r"$\mathrm{E}\,K^2 / (\mathrm{E}\,K)^2$")
    right.set(title="Sampled over exact dispersion", ylabel="sampled / exact")
    for ax in (left, right):
        ax.set_xlabel("T = hidden layers / width")
    left.legend(loc="upper left")
    return figure
