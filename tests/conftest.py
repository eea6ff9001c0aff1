"""Strict numerics in every test: warnings as errors, no rank promotion.

64-bit types are off, as in a process of the user's, but for files with the mark
`float64`: their own references are computed by jax in float64.

Compiled programs are kept for the session, in a folder that all its processes share;
nobody's own cache is read or written.
"""

import os
import shutil
import tempfile
from importlib.metadata import version

if "PYTEST_XDIST_WORKER" not in os.environ:  # which inherit it
    _KEPT = tempfile.mkdtemp(prefix="depthwidth-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _KEPT
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    # Compiling takes most of the suite.  With XLA's older emitters and level 1 of LLVM
    # programs are as right, not as fast, and there in half the time.
    if version("jaxlib").startswith("0.10."):  # an unknown flag would end the process
        quick = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
        os.environ["XLA_FLAGS"] = f"{quick} {os.environ.get('XLA_FLAGS', '')}"

import jax
import pytest
from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")  # several tests share the cores
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled():
    """Frees compiled programs after each file; the suite would otherwise hoard them."""
    yield
    jax.clear_caches()


def _configure(module: pytest.Module) -> None:
    """64-bit types and full precision as scripts have them, or off as for users."""
    marked = module.get_closest_marker("float64") is not None
    jax.config.update("jax_enable_x64", marked)
    precision = "highest" if marked else None
    jax.config.update("jax_default_matmul_precision", precision)


@pytest.fixture(autouse=True, scope="module")
def _types_of_module(request):
    """For fixtures of the module."""
    _configure(request.node)


@pytest.fixture(autouse=True)
def _types_of_test(request):
    """Programs of scripts switch 64-bit types on; the next test finds them reset."""
    _configure(request.node.getparent(pytest.Module))


def pytest_unconfigure():
    """Removes what was compiled, at the very end."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(_KEPT, ignore_errors=True)
