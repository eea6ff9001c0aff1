"""Numerical ground rules, in force once any numerical part of the testbed is imported.

64-bit types are switched on, so that kernels, laws and solves run in float64; networks
and data stay float32 because they say so themselves.  Matrix products run at precision
``highest``: the default of recent accelerators (TF32, bfloat16) errs by 1e-3, the size
of the finite-width effects measured here.  Training may opt out (`train.precision`).
"""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")
