"""Strict numerics in every test: x64, warnings as errors, no rank promotion.

Compiled programs are kept for the session, in a folder that all its processes share;
nobody's own cache is read or written.
"""

import os
import shutil
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # which inherit it
    _KEPT = tempfile.mkdtemp(prefix="depthwidth-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _KEPT
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jax
import pytest
from threadpoolctl import threadpool_limits

from testbed.numerics import use_float64

use_float64()  # as the scripts do
threadpool_limits(1, user_api="blas")  # several tests share the cores
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled():
    """Frees compiled programs after each file; the suite would otherwise hoard them."""
    yield
    jax.clear_caches()


def pytest_unconfigure():
    """Removes what was compiled, at the very end."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(_KEPT, ignore_errors=True)
