"""Files that are written whole or not at all, several of them together or none.

What is written goes into a file beside its place, ``.NAME.SOME.PID@HOST``, and takes
the place when it is whole.  A killed writer leaves such a file behind; the next start
removes it.
"""

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

_PARTIAL = re.compile(r"^\..+\.(\d+)(?:@(.*))?$")
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
_DAY_SECONDS = 86400.0


class Together:
    """Files that appear together; make one with `together`."""

    def __init__(self):
        self._partial: dict[Path, Path] = {}
        self._old: list[Path] = []

    def write(self, path: Path, data: bytes | memoryview) -> None:
        """Writes what `path` is to hold."""
        self.partial(path).write_bytes(data)

    def partial(self, path: Path) -> Path:
        """Where to write what `path` is to hold, for libraries that write files."""
        path.parent.mkdir(parents=True, exist_ok=True)
        some = secrets.token_hex(3)  # threads of a process may write the same file
        name = f".{path.name}.{some}.{os.getpid()}@{_HOST}"
        self._partial[path] = path.with_name(name)
        return self._partial[path]

    def remove(self, path: Path) -> None:
        """Removes `path` when the others appear, unless it is one of them."""
        self._old.append(path)

    def _appear(self) -> None:
        for partial in self._partial.values():
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        for path, partial in self._partial.items():
            os.replace(partial, path)
        for path in self._old:
            if path not in self._partial:
                path.unlink(missing_ok=True)

    def _forget(self) -> None:
        for partial in self._partial.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def together() -> Iterator[Together]:
    """Collects files to be written; they take their places at the end of the block.

    If anything is raised in the block, as on a full disk, none does.

    Raises:
      OSError: they cannot be written.
    """
    files = Together()
    try:
        yield files
        files._appear()
    finally:
        files._forget()


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Writes one file, whole or not at all, and sees it onto the disk.

    Raises:
      OSError: it cannot be written; what was there before still is.
    """
    with together() as files:
        files.write(path, data)


def clear_partial(folder: Path, alone: bool = False) -> None:
    """Removes what killed writers left in `folder`.

    A writer of this machine is known by its process; one of another machine, which may
    share the disk, counts as killed after a day.

    Args:
      folder: looked into, not below; nothing happens if it is not there.
      alone: whether nobody else writes there, so that all is left over.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            found = _PARTIAL.match(path.name)
            if found and (alone or _abandoned(path, int(found[1]), found[2] or _HOST)):
                with contextlib.suppress(OSError):
                    path.unlink()


def _abandoned(path: Path, pid: int, host: str) -> bool:
    if host != _HOST:
        return time.time() - path.stat().st_mtime > _DAY_SECONDS
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False
