"""What XLA compiled, kept for later starts in one folder of the user.

It holds native code, which is run when it is read back.  So it lies in the user's own
cache folder, which nobody else may write, and never beside results, which travel.
"""

import contextlib
import hashlib
import os
import platform
import stat
import warnings
from pathlib import Path

import jax
import jaxlib.version

_MOST_BYTES = 2**30
_MESSAGE = "Error (reading|writing) persistent compilation cache"
_TOLD: list[str] = []


def keep_compiled(wanted: bool = True) -> None:
    """Reads compiled programs from the user's cache folder, and keeps them there.

    Also the small ones: a run has dozens of them, and compiling them again took more
    time than the large ones did (benchmarks/sweeps.py).  It changes no number: a
    program that is read is the one that would be compiled; JAX's own key has its text,
    options and device.  Where JAX_COMPILATION_CACHE_DIR is set, that folder is used.

    Args:
      wanted: False: neither reads nor keeps.
    """
    from jax.experimental.compilation_cache import compilation_cache

    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    path = (given or _folder()) if wanted else None
    if path != jax.config.jax_compilation_cache_dir:  # pyright: ignore
        compilation_cache.reset_cache()  # JAX opens one, at the first compilation
        jax.config.update("jax_compilation_cache_dir", path)
    if path is None:
        return
    for name, value in (
        ("jax_persistent_cache_min_compile_time_secs", 0.0),
        ("jax_persistent_cache_min_entry_size_bytes", 0),
    ):
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    # A full disk, or a file that a kill left torn: it is compiled then.
    warnings.filterwarnings("ignore", _MESSAGE)


def cache_base() -> Path:
    """The user's folder for what this project keeps: under XDG_CACHE_HOME or ~/.cache.

    Raises:
      RuntimeError: the user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return base / "depthwidth"


def _folder() -> str | None:
    """A folder for these versions and this processor; None if there can be none."""
    try:
        base = cache_base() / "compiled"
        path = base / _key()
        base.parent.parent.mkdir(parents=True, exist_ok=True)
        if _open_to_all(base.parent.parent):
            return _refuse(base.parent.parent, "can be written by everybody")
        for one in (base.parent, base, path):
            one.mkdir(mode=0o700, exist_ok=True)
            if reason := _foreign(one):
                return _refuse(one, reason)
        if not os.access(path, os.W_OK):
            return None
        prune(base, _MOST_BYTES)
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return None
    return str(path)


def _foreign(path: Path) -> str:
    """Why what lies in a folder may be somebody else's; "" if it may not."""
    found = os.stat(path)
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by other users"
    return ""


def _open_to_all(path: Path) -> bool:
    """Whether anybody may put another folder in the place of one in it."""
    mode = os.stat(path).st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _refuse(path: Path, reason: str) -> None:
    line = f"{path} {reason}: compiled programs are not kept there"
    if line not in _TOLD:
        _TOLD.append(line)
        warnings.warn(line, stacklevel=4)


def _key() -> str:
    """Versions and processor: code for one may not run on another."""
    words = {platform.machine(), platform.processor()}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features", "model name"):
                words |= set(value.split())
    kind = hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()[:12]
    return f"jax-{jax.__version__}-jaxlib-{jaxlib.version.__version__}-{kind}"


def prune(base: Path, most: int) -> None:
    """Removes the programs longest unused until at most `most` bytes are left."""
    found = []
    for path in base.glob("*/*"):
        with contextlib.suppress(OSError):
            seen = path.lstat()
            found.append((max(seen.st_atime, seen.st_mtime), seen.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
