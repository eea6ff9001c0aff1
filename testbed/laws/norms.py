"""The laws that compete for the norms of one network at initialization."""

import dataclasses

from testbed.arguments import whole
from testbed.laws.gaussian import gaussian_log_norm, gaussian_log_output
from testbed.laws.law import Law
from testbed.laws.log_gaussian import resnet_log_norm, resnet_log_output
from testbed.laws.products import mlp_log_norm

LOG_GAUSSIAN, GAUSSIAN, EXACT = "log-Gaussian", "Gaussian", "exact product"


@dataclasses.dataclass(frozen=True, eq=False)
class NormLaws:
    """Laws by name, the expected one first.

    Attributes:
      log_norm: of log(|z_d|^2 / |z_0|^2).
      log_output: of log|f|^2, for |x|^2 = n_in and a linear head.
    """

    log_norm: dict[str, Law]
    log_output: dict[str, Law]


def norm_laws(
    width: int,
    depth: int,
    alpha: float,
    lam: float,
    n_out: int,
    balanced: bool = False,
) -> NormLaws:
    """The log-Gaussian and the Gaussian law; the exact one where alpha = 0.

    Args:
      width: n.
      depth: d.
      alpha: weight of the skip; 0 is the fully connected network.
      lam: weight of the branch.
      n_out: number of outputs.
      balanced: random signs, drawn afresh for every layer and unit.

    Raises:
      UserError: a width or number of outputs below 1, a depth below 0, one that is not
        whole, a weight that is not finite, or alpha = lam = 0.
    """
    width, depth = whole("width", width), whole("depth", depth, 0)
    n_out = whole("n_out", n_out)
    log_norm: dict[str, Law] = {
        LOG_GAUSSIAN: resnet_log_norm(width, depth, alpha, lam, balanced),
        GAUSSIAN: gaussian_log_norm(width, depth, alpha, lam),
    }
    if alpha == 0 and lam == 1 and width > 1:
        log_norm[EXACT] = mlp_log_norm(width, depth)
    log_output: dict[str, Law] = {
        LOG_GAUSSIAN: resnet_log_output(width, depth, alpha, lam, n_out, balanced),
        GAUSSIAN: gaussian_log_output(depth, alpha, lam, n_out),
    }
    return NormLaws(log_norm, log_output)
