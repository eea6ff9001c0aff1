"""The wandb mirror of a run, held by a process of its own (`testbed.runs.mirror`).

The run's folder is the record of truth.  Whatever goes wrong here is one warning, and
costs a run seconds: an online mirror whose server refuses, is silent or vanishes is
given up, and all rows are written anew to an offline one, for `wandb sync`.
"""

import json
import netrc
import os
import secrets
import select
import shlex
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from testbed.runs.folder import RunFolder
from testbed.settings import flatten
from testbed.surroundings import wandb_mode

START_SECONDS = 3.0  # at the end of a run, since the server was asked
FINISH_SECONDS = 20.0  # for the upload of what is left, mostly figures
OFFLINE_SECONDS = 60.0  # for an offline mirror: a busy machine, a slow disk
SEND_SECONDS = 10.0


def resolve_mode(mode: str) -> str:
    """The mode to start in: online only with a key or login, so nothing ever asks.

    Raises:
      UserError: WANDB_MODE decides, and is unknown.
    """
    if mode != "auto":
        return mode
    if named := wandb_mode():
        return named
    return "online" if os.environ.get("WANDB_API_KEY") or _logged_in() else "offline"


def _logged_in() -> bool:
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1]
    try:
        file = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return file.authenticators(host.split("/")[0].split(":")[0]) is not None


class Tracker:
    """Mirrors config, metrics, figures and summary of a run.

    Args:
      config: of the run; logged under flat dotted names.
      folder: of the run; wandb's own files go there, and its run id is kept there,
        so that a resumed run goes on in the same wandb run.
      axis: the metric that others are drawn against.

    Raises:
      UserError: WANDB_MODE decides, and is unknown.
    """

    def __init__(self, config: Any, folder: RunFolder, axis: str = "t"):
        self._mirror: _Mirror | None = None
        self._why = ""  # the online mirror was given up
        self._sent: list[dict[str, Any]] = []
        self._folder = folder.path
        self.mode = resolve_mode(config.wandb.mode)
        if self.mode == "disabled":
            return
        known = folder.salvage("wandb.json") or {"id": secrets.token_hex(4)}
        agent = os.environ.get("WANDB_RUN_ID")  # set by a sweep's agent
        run_id = agent or known["id"]
        folder.write_json("wandb.json", {"id": run_id})
        init = dict(
            id=run_id,
            project=config.wandb.project,
            entity=config.wandb.entity or None,
            group=config.wandb.group or None,
            name=folder.path.name,
            dir=str(folder.path.resolve()),
            config=flatten(config),
        )
        self._start = {"argv": sys.argv, "axis": axis, "init": init}
        self._begin()

    def log(self, row: Mapping[str, Any], again: bool = False) -> None:
        """Mirrors one row; a metric of several seeds as its median.

        Args:
          row: of the metrics.
          again: the row was recorded by an earlier process, so that wandb may have it.
        """
        row = {name: _scalar(value) for name, value in row.items()}
        self._send({"row": row, "again": again})

    def finish(self, summary: Mapping[str, Any], figures: Iterable[Path] = ()) -> None:
        """Mirrors figures and summary, and ends the wandb run, all in bounded time."""
        images = {f"figures/{path.stem}": str(path.resolve()) for path in figures}
        code = 0 if summary.get("status") == "done" else 1
        last = {"summary": dict(summary), "images": images, "exit_code": code}
        self._send({"finish": last})
        while self._mirror is not None and not self._mirror.finished:
            self._follow(wait=True)
        if self._mirror is not None:
            self._mirror.leave()
            self._mirror = None

    def _send(self, message: dict[str, Any]) -> None:
        mirror = self._mirror
        if mirror is None:
            return
        if self.mode != "offline":
            self._sent.append(message)
        try:
            mirror.send(message)
            self._follow()
        except OSError as error:
            self._follow()  # to what it said before it ended
            if self._mirror is mirror:
                self._give_up(str(error))

    def _begin(self) -> None:
        """Starts a mirror, and tells it everything from the beginning."""
        start = self._start | {"init": self._start["init"] | {"mode": self.mode}}
        try:
            self._mirror = _Mirror.take()
            for message in ({"start": start}, *self._sent):
                self._mirror.send(message)
        except OSError as error:
            self._give_up(str(error))

    def _follow(self, wait: bool = False) -> None:
        """Reads what the mirror says; with `wait`, its next word or the last."""
        assert self._mirror is not None
        mirror, before = self._mirror, self._mirror.started
        seconds, why = self._patience(mirror)
        heard = mirror.listen(seconds if wait else 0.0)
        if mirror.started and not before:
            self._tell_of_offline(mirror.started)
        if mirror.failed:
            self._give_up(mirror.failed)
        elif wait and not heard:
            self._give_up(why)

    def _patience(self, mirror: "_Mirror") -> tuple[float, str]:
        """How long to wait at the end of a run, and what it means to have waited."""
        if self.mode == "offline" or not mirror.asked:
            return OFFLINE_SECONDS, "its process is stuck"
        if mirror.started:
            return FINISH_SECONDS, "the server did not take everything"
        until = mirror.asked + START_SECONDS
        return until - time.monotonic(), "the server has not answered"

    def _give_up(self, why: str) -> None:
        """Goes on with an offline mirror, or with none."""
        if self._mirror is not None:
            self._mirror.end()
            self._mirror = None
        why = " ".join(why.split())[:160]
        if self.mode != "offline":
            self.mode, self._why = "offline", why
            self._begin()
            return
        also = f"{self._why}; offline: " if self._why else ""
        _warn(f"wandb failed ({also}{why}); the run goes on without it")

    def _tell_of_offline(self, made: str) -> None:
        """Says, once it has begun, where the mirror is that took an online one's place.

        Without a reason it is what was asked for.
        """
        if self._why:
            path, here = Path(made), self._folder.resolve()
            if path.is_relative_to(here):  # as it was given
                path = self._folder / path.relative_to(here)
            command = f"wandb sync {shlex.quote(str(path))}"
            _warn(f"wandb: {self._why}; mirrored offline, to upload later: {command}")


class _Mirror:
    """The process that talks to wandb.

    Attributes:
      asked: when it turned to the server, by the monotonic clock.
      started: the wandb run's own folder, once there is one.
      finished: whether everything is written, and uploaded if it is online.
      failed: why it could not, or ''.
    """

    asked, started, finished, failed = 0.0, "", False, ""
    _idle: "_Mirror | None" = None  # has finished, and has imported wandb

    def __init__(self, environment: dict[str, str]):
        self.environment, self._heard = environment, b""
        # -P: what happens to be in the current folder is not imported.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "testbed.runs.mirror"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is the job's matter
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)

    @classmethod
    def take(cls) -> "_Mirror":
        """One that is idle, or a new one."""
        here = Path(__file__).resolve().parents[2]
        paths = [str(here), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment.setdefault("WANDB_SILENT", "true")
        environment.setdefault("WANDB_ERROR_REPORTING", "false")
        environment.pop("WANDB_MODE", None)  # the message says it
        environment.pop("WANDB_SERVICE", None)  # one of its own, which ends with it
        idle, cls._idle = cls._idle, None
        if idle is not None and idle.environment == environment:
            idle.asked, idle.started, idle.finished = 0.0, "", False
            return idle
        if idle is not None:
            idle.end()
        return cls(environment)

    def leave(self) -> None:
        """Keeps the process for the next run of this one."""
        _Mirror._idle = self

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message.

        Raises:
          OSError: the process has gone, or takes nothing.
        """
        data = json.dumps(message, default=lambda value: value.tolist()).encode()
        data, until = data + b"\n", time.monotonic() + SEND_SECONDS
        while data:
            if not _ready(self._in, select.POLLOUT, until - time.monotonic()):
                raise OSError("its process takes no messages")
            data = data[os.write(self._in.fileno(), data) :]

    def listen(self, seconds: float) -> bool:
        """Reads what has been said; waits for at most so long for something new."""
        while _ready(self._out, select.POLLIN, seconds):
            heard = os.read(self._out.fileno(), 65536)
            *lines, self._heard = (self._heard + heard).split(b"\n")
            for line in lines:
                for name, value in json.loads(line).items():
                    setattr(self, name, value)
            if not heard and not self.failed:
                self.failed = f"its process ended, exit code {self._process.wait()}"
            if not heard or lines:
                return True
        return False

    def end(self) -> None:
        """Ends the process, at once; wandb's service sees that, and ends as well."""
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()


def _ready(stream: IO[bytes], event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(stream, event)
    return bool(poll.poll(1000 * max(seconds, 0.0)))


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def _scalar(value: Any) -> Any:
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        known = [v for v in value if v is not None and v == v]
        return statistics.median(known) if known else float("nan")
    return float("nan") if value is None else value
