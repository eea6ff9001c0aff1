"""Numerical ground rules, in force once any numerical part of the testbed is imported.

64-bit types are switched on, so that kernels, laws and solves run in float64; networks
and data stay float32 because they say so themselves.  Matrix products run at precision
``highest``: the default of recent accelerators (TF32, bfloat16) errs by 1e-3, the size
of the finite-width effects measured here.  Training may opt out (`train.precision`).
"""

import contextlib

import jax
from threadpoolctl import threadpool_limits

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")

_ONE_THREAD_BELOW = 1500


def lapack(size: int) -> contextlib.AbstractContextManager:
    """Context for a dense decomposition of a matrix of this size on the CPU.

    Below 1500 rows one thread is used: OpenBLAS's threads spin while they wait for each
    other, and on cores that are shared a decomposition of 512 rows then takes 4 s
    instead of 0.04 s.
    """
    limit = 1 if size < _ONE_THREAD_BELOW else None
    return threadpool_limits(limit, user_api="blas")
