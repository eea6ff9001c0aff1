"""One row of the divergence table: everything measured at one recorded time."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from testbed.divergence.distances import accuracy, relative_distance, rms_distance
from testbed.divergence.ensemble import gaussian_agreement, spread
from testbed.divergence.kernel_metrics import (
    alignment,
    kernel_distance,
    kernel_drift,
    kernel_error,
    kernel_velocity,
    top_eigenvalues,
)
from testbed.divergence.layers import log_norm
from testbed.dynamics.losses import LOSSES
from testbed.dynamics.trajectory import Observation

SPLITS = ("train", "test")
PAIRS = (
    ("finite", "linearized"),
    ("finite", "infinite"),
    ("linearized", "infinite"),
)


@dataclasses.dataclass(frozen=True)
class Targets:
    """What predictors are measured against.

    Attributes:
      y: {"train": (N, C), "test": (M, C)}, centred targets; test may be missing.
      labels: the same as integers, or None for regression.
      loss: name of the training loss.
      kernel: Theta_inf on the kernel probes, training ones first, (m, m), or None.
    """

    y: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] | None
    loss: str
    kernel: np.ndarray | None = None


def divergence_row(
    targets: Targets,
    seen: Mapping[str, Observation],
    first: Mapping[str, Observation],
    previous_kernel: tuple[float, np.ndarray] | None,
    t: float,
) -> dict[str, Any]:
    """Measures the predictors' observations at one time.

    Args:
      targets: see `Targets`.
      seen: {"finite", "linearized", and if there is one "infinite"}: observations at t.
      first: the same at t = 0.
      previous_kernel: time and empirical kernels (E, m, m) measured last before t.
      t: time.

    Returns:
      {metric: number, or one number a seed}.  Metrics are grouped by who and what,
      e.g. ``finite/loss/train``; docs/notation.md lists them all.
    """
    row: dict[str, Any] = {}
    splits = [split for split in SPLITS if split in targets.y]
    for split in splits:
        outputs = {who: seen[who][f"outputs/{split}"] for who in seen}
        for who, f in outputs.items():
            f = np.asarray(f, np.float64)
            y = np.broadcast_to(targets.y[split], f.shape)
            row[f"{who}/loss/{split}"] = np.asarray(LOSSES[targets.loss](f, y))
            if targets.labels is not None:
                right = accuracy(f, targets.labels[split])
                row[f"{who}/accuracy/{split}"] = right
        for one, other in PAIRS:
            if one in outputs and other in outputs:
                f, g = outputs[one], outputs[other]
                start = first[other][f"outputs/{split}"]
                name = f"distance/{one}_{other}/{split}"
                row[f"{name}/rms"] = rms_distance(f, g)
                rounding = seen["finite"]["outputs/rounding"]
                relative = relative_distance(f, g, start, rounding)
                row[f"{name}/relative"] = relative
        row[f"ensemble/spread/{split}"] = spread(outputs["finite"])
        if "infinite" in seen:
            limit = seen["infinite"]
            mean, variance = limit[f"outputs/{split}"], limit[f"variance/{split}"]
            agreement = gaussian_agreement(outputs["finite"], mean, variance)
            row[f"infinite/spread/{split}"] = np.sqrt(variance.mean())
            row[f"ensemble/mean_z/{split}"] = agreement.mean_z_rms
            row[f"ensemble/variance_ratio/{split}"] = agreement.variance_ratio
            row[f"ensemble/variance_ratio_se/{split}"] = agreement.variance_ratio_se
    finite = seen["finite"]
    if "layers/gradient_norm" in finite:
        norms = finite["layers/gradient_norm"]
        row["layers/gradient_norm"] = np.linalg.norm(norms, axis=-1)
    if "layers/squared_norm" in finite:
        logs = log_norm(finite["layers/squared_norm"])[..., -1, :]
        row["layers/log_norm"] = logs.mean(-1)
        active = finite["layers/active_fraction"]
        row["layers/active_fraction"] = active.mean((-2, -1), dtype=np.float64)
    if "kernel" in finite:
        row |= _kernel_metrics(targets, finite["kernel"], first, previous_kernel, t)
    return row


def _kernel_metrics(targets, kernel, first, previous, t) -> dict[str, Any]:
    on_train = kernel.shape[-1] // len(targets.y)  # probes: as many of each split
    start = first["finite"]["kernel"]
    metrics = {
        "kernel/drift": kernel_drift(kernel, start),
        "kernel/distance": kernel_distance(kernel, start),
        "kernel/alignment": alignment(
            kernel[..., :on_train, :on_train], targets.y["train"][:on_train]
        ),
    }
    largest = top_eigenvalues(kernel, min(3, kernel.shape[-1]))
    metrics["kernel/top_eigenvalue"] = largest[..., 0]
    for k in range(1, largest.shape[-1]):
        metrics[f"kernel/eigenvalue_{k + 1}"] = largest[..., k]
    if previous is not None:
        then, before = previous
        metrics["kernel/velocity"] = kernel_velocity(kernel, before, t - then)
    if targets.kernel is not None:
        metrics["kernel/error_infinite"] = kernel_error(kernel, targets.kernel)
    return metrics
