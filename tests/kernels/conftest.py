"""Shared by the tests of kernels."""

import jax
import pytest


@pytest.fixture
def quick_compile():
    """Compiles without most optimizations, in half the time; for many small programs.

    Not for tests of precision or memory: those are of the optimized program.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
