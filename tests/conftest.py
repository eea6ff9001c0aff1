"""Strict numerics in every test: x64, warnings as errors, no rank promotion."""

import jax
import pytest
from threadpoolctl import threadpool_limits

from testbed import numerics as _numerics  # noqa: F401

threadpool_limits(1, user_api="blas")  # several tests share the cores
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled():
    """Frees compiled programs after each file; the suite would otherwise hoard them."""
    yield
    jax.clear_caches()
