"""How far predictors part, and when: pure functions of outputs, kernels, parameters.

Nothing here trains, reads or writes; outputs are (..., N, C) for N examples and C
outputs, kernels (..., M, M), and leading axes (times, seeds) broadcast.
"""

from testbed.divergence.departure import Departure, departure_time
from testbed.divergence.distances import accuracy, relative_distance, rms_distance
from testbed.divergence.ensemble import GaussianAgreement, gaussian_agreement, spread
from testbed.divergence.kernel_metrics import (
    alignment,
    kernel_distance,
    kernel_drift,
    kernel_error,
    kernel_velocity,
    top_eigenvalues,
)
from testbed.divergence.layers import log_norm, movement

__all__ = [
    "Departure",
    "GaussianAgreement",
    "accuracy",
    "alignment",
    "departure_time",
    "gaussian_agreement",
    "kernel_distance",
    "kernel_drift",
    "kernel_error",
    "kernel_velocity",
    "log_norm",
    "movement",
    "relative_distance",
    "rms_distance",
    "spread",
    "top_eigenvalues",
]
