"""What the laws at initialization have for each cell of a sweep."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.config import ModelConfig
from testbed.laws.log_gaussian import resnet_log_norm
from testbed.laws.resnet_ntk import resnet_ntk_moments
from testbed.networks import branch_weights
from testbed.sweeps.gather import text

BETA = "beta (log-Gaussian)"
DISPERSION = "NTK dispersion"
INTERLAYER = "interlayer part of beta"
_NEEDED = ("kind", "branch", "alpha", "lam", "c", "exponent", "normalized", "head")


def at_initialization(
    settings: dict[str, Any], widths: Sequence[int], depths: Sequence[int]
) -> dict[str, np.ndarray]:
    """The laws' numbers over a grid of cells; nothing is fitted.

        beta            variance of log(|z_d|^2 / |z_0|^2), Li, Nica & Roy 2021
        NTK dispersion  Var K / (E K)^2 of the tangent kernel K(x, x), of the Balanced
                        network of the same sizes and weights, exact
        interlayer part of beta: what correlations between layers add to it in a
                        vanilla network; 0 in a Balanced one and without a skip

    Args:
      settings: of the networks, by dotted name.
      widths: n, (W,).
      depths: d, (D,).

    Returns:
      {name: (D, W)}: of networks with ReLU and no biases, else {}; the dispersion only
      in NTK parameterization; the interlayer part only where it is not 0.
    """
    if settings.get("model.activation") != "relu" or settings.get("model.bias_std"):
        return {}
    if any(text(settings.get(f"model.{name}")) == "not set" for name in _NEEDED):
        return {}  # of an older version
    balanced = settings["model.kind"] == "balanced"
    shape = len(depths), len(widths)
    beta, without, dispersion = np.empty(shape), np.empty(shape), np.empty(shape)
    for i, depth in enumerate(depths):
        alpha, lam = _weights(settings, depth)
        beta[i] = resnet_log_norm(widths, depth, alpha, lam, balanced).var()
        without[i] = resnet_log_norm(widths, depth, alpha, lam, balanced=True).var()
        head = settings["model.head"]
        dispersion[i] = resnet_ntk_moments(widths, depth, alpha, lam, head).dispersion
    found = {BETA: beta}
    if settings.get("model.parameterization") == "ntk":
        found[DISPERSION] = dispersion
    if np.any(beta > without):
        found[INTERLAYER] = beta - without
    return found


def _weights(settings: dict[str, Any], depth: int) -> tuple[float, float]:
    given = {name: settings[f"model.{name}"] for name in _NEEDED if name != "head"}
    return branch_weights(ModelConfig(depth=int(depth), **given))
