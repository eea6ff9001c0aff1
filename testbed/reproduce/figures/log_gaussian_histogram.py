"""The log-norm of deep ResNets is Gaussian, with a width that grows like d/n.

Question: which law do the outputs of networks with d comparable to n follow at
  initialization, the Gaussian one of infinite width or a log-Gaussian one?
Source: Li, Nica & Roy 2021, arXiv:2106.04013, Theorems 1 and 4 and Figure 1.
Parameters: vanilla and Balanced, alpha = lam = 1/sqrt(2), n = 100, d = 10 and 100,
  10 outputs, |x|^2 = n_in; 100 000 networks each.
Quick: n = 32, d = 4 and 32; 4000 networks each.
Expected: log|f|^2 lies on the log-Gaussian curve (Balanced to the noise or nearly so,
  vanilla up to corrections of relative order 1/n) and far from the Gaussian one.
Time: 40 s on 2 CPU cores; quick: 3 s.
"""

import jax
import numpy as np

from models import BalancedResNet, BranchScaling, ResNet
from testbed.laws.agreement import Sample, agreement
from testbed.laws.norms import GAUSSIAN, LOG_GAUSSIAN, norm_laws
from testbed.reports.toolkit import Caption, blank, histogram, style
from testbed.reproduce.claim import Result, above, below
from testbed.sampling import LayerSampler

HALF = 0.5**0.5
N_OUT = 10


def reproduce(quick: bool) -> Result:
    """Draws the histograms and measures KS distances to both laws."""
    width, depths = (32, (4, 32)) if quick else (100, (10, 100))
    samples = 4000 if quick else 100_000
    figure, axes = blank(2, 2, 6.0)
    claims = []
    for row, (kind, label) in enumerate(
        ((BalancedResNet, "Balanced"), (ResNet, "vanilla"))
    ):
        for column, depth in enumerate(depths):
            balanced = kind is BalancedResNet
            branch = BranchScaling.fixed(HALF, HALF)
            net = kind(width=width, depth=depth, out_features=N_OUT, branch=branch)
            key = jax.random.fold_in(jax.random.key(0), 2 * row + column)
            chunks = LayerSampler(net).chunks(key, samples)
            x = np.concatenate([ends["log_output"] for _, _, ends in chunks])
            laws = norm_laws(width, depth, HALF, HALF, N_OUT, balanced).log_output
            ax = axes[row, column]
            histogram(ax, x, color=style.START)
            low, high = (float(q) for q in np.quantile(x, [5e-4, 1 - 5e-4]))
            grid = np.linspace(low, high, 400)
            grid = np.union1d(grid, np.linspace(-0.5, 4, 200))
            for law in (LOG_GAUSSIAN, GAUSSIAN):
                ax.plot(grid, laws[law].pdf(grid), label=law, **style.LAWS[law])
            ax.set(title=f"{label}, n = {width}, d = {depth}", xlabel=r"$\log |f|^2$")
            ax.set_ylabel("density")
            ax.legend(loc="best")
            sample = Sample.of(x)
            near = agreement(sample, laws[LOG_GAUSSIAN])
            far = agreement(sample, laws[GAUSSIAN])
            what = f"{label}, d/n = {depth / width:.2g}"
            # The law is a limit: measured corrections are below 1.2/n (Balanced) and
            # 2/n (vanilla, d <= n) in KS.
            bound = near.ks_noise + (1.2 if balanced else 2.0) / width
            reason = f"noise {near.ks_noise:.2g}; the term in 1/n was measured"
            claims.append(
                below(f"{what}: KS to the log-Gaussian", near.ks, bound, reason)
            )
            least = 0.1 if depth < width else 0.3
            claims.append(above(f"{what}: KS to the Gaussian", far.ks, least))
    caption = Caption(
        "Bars: sampled outputs. Solid: the log-Gaussian law convolved with log of a "
        "chi-squared of 10, nothing fitted. Dashed: the law of infinite width, the "
        "same at every depth.",
        look_for="Bars on the solid curve, away from the dashed one as d/n grows.",
    )
    return Result(figure, claims, caption)
