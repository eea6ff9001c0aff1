"""Claims: which process works on a point, so that no two do.

claims/NAME.json holds the machine, the process, the session and a random token, and is
touched every few seconds.  On the machine of its process, the process alone decides
whether a claim holds.  Elsewhere the age of the last touch does, by the clock of the
file system, which all machines share.
"""

import contextlib
import errno
import functools
import json
import math
import os
import secrets
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from testbed.runs import digests, parsing
from testbed.runs.parsing import Damaged

STALE_SECONDS = 60.0
TOUCH_SECONDS = 5.0


class Claims:
    """The claims of one sweep; what changes them is called under the sweep's lock.

    Args:
      path: their folder.
    """

    def __init__(self, path: Path):
        self._path = path
        self._mine: dict[str, tuple[str, int]] = {}  # token and open file, by name
        self._clock = (0.0, -math.inf)  # the file system's time, and when it was read

    def take(self, name: str, session: str) -> bool:
        """Makes a claim, by exclusive creation; returns whether it is now this one's.

        Raises:
          OSError: it cannot be written.
        """
        token, path = secrets.token_hex(8), self._file(name)
        who = _process(os.getpid()) | {"session": session, "token": token}
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(handle, json.dumps(digests.sealed(who)).encode())
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        self._mine[name] = token, handle
        return True

    def touch(self, name: str) -> None:
        """Says that this one's claim is alive.

        It is touched through the open file: if another process has taken the point
        over meanwhile, the path is another file's, which is left as it is.
        """
        with contextlib.suppress(OSError):
            os.utime(self._mine[name][1])

    def release(self, name: str) -> None:
        """Gives a claim up, unless another process has taken the point over."""
        token, handle = self._mine.pop(name)
        os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            if self._read(name)[0].get("token") == token:
                self.clear(name)

    @property
    def mine(self) -> list[str]:
        """Names that are claimed here."""
        return list(self._mine)

    def exists(self, name: str) -> bool:
        """Whether there is a claim, alive or not."""
        return self._file(name).exists()

    def clear(self, name: str) -> None:
        """Removes a claim, whosever it is."""
        self._file(name).unlink(missing_ok=True)

    def held(self, name: str) -> bool:
        """Whether there is a claim of someone alive."""
        try:
            who, touched = self._read(name)
        except OSError as error:  # one that cannot be read may be held
            return error.errno != errno.ENOENT
        if all(who.get(key) == value for key, value in _machine().items()):
            return _alive(int(who.get("pid", 0)), who.get("started"))
        return self._now() - touched <= STALE_SECONDS

    def _file(self, name: str) -> Path:
        return self._path / f"{name}.json"

    def _read(self, name: str) -> tuple[dict[str, Any], float]:
        """What the claim says ({} if damaged), and when it was touched."""
        path = self._file(name)
        with open(path, "rb") as file:  # opening asks a network's server anew
            touched = os.fstat(file.fileno()).st_mtime
            try:
                return digests.unsealed(path, parsing.parse(path, file.read())), touched
            except Damaged:  # its age decides
                return {}, touched

    def _now(self) -> float:
        """The file system's time, read anew every few seconds."""
        then, read = self._clock
        passed = time.monotonic() - read
        if passed < TOUCH_SECONDS:
            return then + passed
        now = time.time()  # of a folder that can only be read, ours will do
        with (
            contextlib.suppress(OSError),
            tempfile.TemporaryFile(dir=self._path) as file,
        ):
            os.utime(file.fileno())
            now = os.fstat(file.fileno()).st_mtime
        self._clock = now, time.monotonic()
        return now


@functools.cache
def _machine() -> dict[str, str | None]:
    """What two processes share that see one another's numbers."""
    boot = space = None
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "boot": boot, "namespace": space}


def _process(pid: int) -> dict[str, Any]:
    return {**_machine(), "pid": pid, "started": _stat(pid)[1]}


def _alive(pid: int, started: str | None) -> bool:
    """Whether the process runs: the same one, not a later one of its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    state, began = _stat(pid)
    # A killed child that nobody has waited for yet still has its number.
    return state != "Z" and (began is None or began == started)


def _stat(pid: int) -> tuple[str | None, str | None]:
    """State and start time of a process, where the system tells them."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None, None
    return fields[0], fields[19]
