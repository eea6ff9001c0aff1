"""Where in the plane of width and depth the log-Gaussian and Gaussian laws hold.

Question: how far are the outputs of residual networks from the log-Gaussian law and
  from that of infinite width, at every width and depth?
Source: Li, Nica & Roy 2021, arXiv:2106.04013, Theorems 1 and 4; the laws of
  log|f|^2 are in testbed.laws.norms.
Parameters: vanilla and Balanced, alpha = lam = 1/sqrt(2), n = 16 to 256 and d = 1 to
  256 in powers of 2, 10 outputs, |x|^2 = n_in; 8000 networks of each width.
Quick: n = 16 and 64, d = 1 to 64; 2000 networks of each width.
Expected: the Gaussian law fails along d/n, whatever the width, visibly from 1/16 on.
  The log-Gaussian one holds at every depth for Balanced networks from n = 32 on and for
  vanilla ones from n = 128 on; it fails for narrow vanilla networks deeper than wide.
Time: 30 s on 2 CPU cores; quick: 9 s.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy import stats

from models import BalancedResNet, BranchScaling, ResNet
from testbed.laws.agreement import Sample, agreement
from testbed.laws.norms import GAUSSIAN, LOG_GAUSSIAN, norm_laws
from testbed.reports.toolkit import Caption, blank, heat_map, log_ticks
from testbed.reproduce.claim import Claim, Result, above, below
from testbed.sampling.architecture import describe
from testbed.sampling.forward import forward
from testbed.sampling.normals import normal_and_sign
from testbed.sampling.stream import batch_size, stream

HALF = 0.5**0.5
N_OUT = 10
LAWS = (LOG_GAUSSIAN, GAUSSIAN)
KINDS = {"Balanced": BalancedResNet, "vanilla": ResNet}


def reproduce(quick: bool) -> Result:
    """Measures KS distances on a grid of widths and depths."""
    widths = np.array([16, 64] if quick else [16, 32, 64, 128, 256])
    depths = 2 ** np.arange(7 if quick else 9)
    samples = 2000 if quick else 8000
    found = {
        kind: _distances(kind, widths, depths, samples, 100 * i)
        for i, kind in enumerate(KINDS)
    }
    noise = stats.kstwobign.isf(0.05) / samples**0.5
    caption = Caption(
        "Colour and number: KS distance of log|f|^2 to a law, nothing fitted; below "
        f"{noise:.2g} it is noise in 95 cases of 100. Grey "
        "lines: d/n, its value where they leave the map.",
        look_for="A Gaussian law that gets worse along d/n, alike on each diagonal, "
        "and a log-Gaussian one that fails in one corner only, of narrow vanilla "
        "networks deeper than wide.",
    )
    claims = _claims(found, widths, depths, samples)
    return Result(_draw(found, widths, depths), claims, caption)


def _claims(
    found: dict[str, dict[str, np.ndarray]],
    widths: np.ndarray,
    depths: np.ndarray,
    samples: int,
) -> list[Claim]:
    def noise(cells: int) -> float:
        """What the largest of so many distances stays below in 95 % of cases."""
        return float(stats.kstwobign.isf(0.05 / cells) / samples**0.5)

    why = "95 % quantile of the noise of the largest"
    bal, van = (found[kind][LOG_GAUSSIAN] for kind in KINDS)
    small, large = widths[0], widths[-1]
    text = f"Balanced, n >= {widths[1]}, all depths: largest KS to the log-Gaussian"
    claims = [below(text, bal[1:].max(), noise(bal[1:].size), why)]
    text = f"vanilla, n = {large}, all depths: largest KS to the log-Gaussian"
    claims.append(below(text, van[-1].max(), noise(van[-1].size), why))
    text = (
        f"vanilla, n = {small}, d = {depths[-1]}: KS to the log-Gaussian, which fails "
    )
    claims.append(above(f"{text}there", van[0, -1], noise(van.size), why))
    ratio = depths / widths[:, None]
    for kind in KINDS:
        ks = found[kind][GAUSSIAN]
        far, deep = ratio >= 1 / 16, ratio >= 1
        text, bound = (
            f"{kind}, d/n >= 1/16: smallest KS to the Gaussian",
            noise(far.sum()),
        )
        claims.append(above(text, ks[far].min(), bound, f"{why}: rejected"))
        text = f"{kind}, d/n >= 1: smallest KS to the Gaussian"
        claims.append(
            above(text, ks[deep].min(), 0.3, "three networks in ten misplaced")
        )
        text = f"{kind}, d = 1: KS to the Gaussian, n = {large} over n = {small}"
        bound, reason = (
            small / large + noise(1) / ks[0, 0],
            "proportion to 1/n, and noise",
        )
        claims.append(below(text, ks[-1, 0] / ks[0, 0], bound, f"in {reason}"))
    return claims


def _draw(
    found: dict[str, dict[str, np.ndarray]], widths: np.ndarray, depths: np.ndarray
) -> Figure:
    figure, axes = blank(2, 2, 8.4)
    for panels, (kind, of_kind) in zip(axes, found.items(), strict=True):
        for ax, law in zip(panels, LAWS, strict=True):
            mesh = heat_map(ax, widths, depths, of_kind[law].T, LogNorm(0.005, 1))
            ax.set_title(f"{kind}: KS to the {law} law", pad=14)
            ax.set_ylabel("depth d")
    bar = figure.colorbar(mesh, ax=axes, label="KS distance of $\\log|f|^2$")
    log_ticks(bar.ax.yaxis)
    return figure


def _distances(
    kind: str, widths: np.ndarray, depths: np.ndarray, samples: int, purpose: int
) -> dict[str, np.ndarray]:
    """KS distances of log|f|^2 to each law, (widths, depths)."""
    ks = {law: np.empty((len(widths), len(depths))) for law in LAWS}
    for i, n in enumerate(map(int, widths)):
        key = jax.random.fold_in(jax.random.key(0), purpose + i)
        x = _log_outputs(KINDS[kind], n, int(depths[-1]), samples, key)
        for j, d in enumerate(map(int, depths)):
            sample = Sample.of(x[d])
            laws = norm_laws(n, d, HALF, HALF, N_OUT, kind == "Balanced").log_output
            for law in LAWS:
                ks[law][i, j] = agreement(sample, laws[law]).ks
    return ks


def _log_outputs(
    kind: type[ResNet], n: int, depth: int, samples: int, key: jax.Array
) -> np.ndarray:
    """log|f|^2 with a head behind every layer l <= d, (d + 1, samples)."""
    branch = BranchScaling.fixed(HALF, HALF)
    shape, scales = describe(kind(width=n, depth=depth, branch=branch))
    parts = stream(_heads, key, shape, scales, samples, batch=batch_size(n))
    outputs = [x.swapaxes(0, 1).reshape(depth + 1, -1) for _, x in parts]
    return np.concatenate(outputs, axis=1)[:, :samples]


def _heads(key, shape, scales, batch, counted, shared):
    """log|f|^2 = log(|z_l|^2/n) + log chi^2, one head for all l, (d + 1, batch)."""
    seen = forward(key, shape, scales, batch, each=lambda layer: layer.log_norm[0])
    log_norm = jnp.concatenate([seen.each, seen.last.log_norm])
    # Layers take keys 0, ..., d and the head of `forward` takes d + 1.
    g, _ = normal_and_sign(jax.random.fold_in(key, shape.depth + 2), (batch, N_OUT))
    log_chi2 = jnp.log(jnp.sum(g**2, -1))
    return log_norm + seen.log_input + log_chi2[None]
