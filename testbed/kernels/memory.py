"""How much memory there is, asked before any is taken."""

import os
from pathlib import Path

import jax

from testbed.errors import UserError

# Share of the available memory that may be planned for.
USABLE = 0.9


def available_bytes() -> int:
    """Bytes that can be allocated now on the device that computes.

    On an accelerator, what its allocator has left; on the CPU, what the operating
    system calls available, or less where the process runs under a cgroup's limit.
    """
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return min(_system_bytes(), _cgroup_bytes())


def check_memory(
    field: str,
    needed: int,
    value: object,
    *,
    available: int | None = None,
    remedy: str = "lower it",
) -> None:
    """Raises a `UserError` when `needed` bytes cannot be had.

    Args:
      field: the setting that decides how much is needed.
      needed: bytes.
      value: of the setting.
      available: bytes there are; None asks `available_bytes`.
      remedy: what to do instead.
    """
    available = available_bytes() if available is None else available
    if needed > USABLE * available:
        rule = f"needs {readable(needed)}, and {readable(available)} are available"
        raise UserError(field, value, rule, remedy)


def readable(n_bytes: int) -> str:
    """'1.5 GiB' for 1610612736."""
    size, unit = float(n_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    whole = 1000 <= size < 100_000
    return f"{size:.0f} {unit}" if whole else f"{size:.3g} {unit}"


def _system_bytes() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    # Elsewhere: half of the installed memory, an estimate on the safe side.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _cgroup_bytes(folder: Path = Path("/sys/fs/cgroup")) -> int:
    unlimited = 2**63
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return unlimited
    return unlimited if limit == "max" else max(int(limit) - used, 0)
