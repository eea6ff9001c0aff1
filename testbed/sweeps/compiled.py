"""What XLA compiled, kept on disk for other processes and later starts."""

from pathlib import Path


def keep_compiled(path: Path) -> None:
    """Reads compiled programs from `path`, and keeps there what is compiled.

    Also the small ones: a run has dozens of them, and compiling them again took more
    time than the large ones did (benchmarks/sweeps.py).
    """
    import jax

    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
