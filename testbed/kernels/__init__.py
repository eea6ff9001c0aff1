"""Kernels of infinitely wide and of finite networks, and solving with them.

`infinite_kernel` gives NNGP and NTK of a model of `models`; `empirical_ntk` the NTK of
any network `f(params, x)`, and `structured_ntk` the same to be traced; `linearize` its
first-order model; `eigensystem` what predictors solve with; `check_memory` refuses what
cannot fit.  neural-tangents is reached through `testbed.kernels.neural_tangents` alone.
"""

from testbed.kernels import convolutional as _convolutional  # noqa: F401
from testbed.kernels.empirical import empirical_ntk
from testbed.kernels.infinite import Kernel, infinite_kernel
from testbed.kernels.linearize import linearize
from testbed.kernels.memory import check_memory
from testbed.kernels.readout import readout_ntk
from testbed.kernels.solve import Eigensystem, critical_learning_rate, eigensystem
from testbed.kernels.structured import structured_ntk

__all__ = [
    "Eigensystem",
    "Kernel",
    "check_memory",
    "critical_learning_rate",
    "eigensystem",
    "empirical_ntk",
    "infinite_kernel",
    "linearize",
    "readout_ntk",
    "structured_ntk",
]
