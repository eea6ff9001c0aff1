"""The wandb mirror of a run; the only module that imports wandb.

The run's folder is the record of truth.  Whatever goes wrong here is one warning.
"""

import contextlib
import importlib
import netrc
import os
import secrets
import statistics
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from testbed.runs.folder import RunFolder
from testbed.settings import flatten


def resolve_mode(mode: str) -> str:
    """The mode to start in: online only with a key or login, so nothing ever asks."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled", "shared"):
        return os.environ["WANDB_MODE"]
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
    """

    def __init__(self, config: Any, folder: RunFolder, axis: str = "t"):
        self._run, self._axis = None, axis
        self.mode = resolve_mode(config.wandb.mode)
        if self.mode == "disabled":
            return
        with self._guard("start"):
            self._run = self._start(config, folder)

    def _start(self, config: Any, folder: RunFolder):
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb = wandb = importlib.import_module("wandb")
        settings = wandb.Settings(
            console="off", init_timeout=15, x_disable_stats=True, disable_code=True
        )
        agent = os.environ.get("WANDB_RUN_ID")  # set by a sweep's agent
        known = folder.read_json("wandb.json") or {"id": secrets.token_hex(4)}
        run_id = agent or known["id"]
        folder.write_json("wandb.json", {"id": run_id})
        common = dict(
            id=run_id,
            resume="allow",
            project=config.wandb.project,
            entity=config.wandb.entity or None,
            group=config.wandb.group or None,
            name=folder.path.name,
            dir=str(folder.path),
            config=flatten(config),
            settings=settings,
        )
        try:
            run = wandb.init(mode=self.mode, **common)
        except wandb.errors.Error as error:
            if self.mode == "offline":
                raise
            warnings.warn(f"wandb: {_line(error)}; going on offline", stacklevel=2)
            self.mode = "offline"
            run = wandb.init(mode="offline", **common)
        run.define_metric(self._axis)
        run.define_metric("*", step_metric=self._axis)
        return run

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirrors one row; a metric of several seeds as its median."""
        if self._run is None:
            return
        with self._guard("log"):
            self._run.log({k: _scalar(v) for k, v in row.items()})

    def finish(self, summary: Mapping[str, Any], figures: Iterable[Path] = ()) -> None:
        """Mirrors figures and summary, and ends the wandb run."""
        if self._run is None:
            return
        run = self._run
        with self._guard("finish"):
            images = {f"figures/{p.stem}": self._wandb.Image(str(p)) for p in figures}
            if images:
                run.log(images)
            run.summary.update(dict(summary))
            run.finish(exit_code=0 if summary.get("status") == "done" else 1)

    @contextlib.contextmanager
    def _guard(self, what: str):
        try:
            yield
        except Exception as error:  # wandb must never stop a run
            warnings.warn(
                f"wandb: {what} failed ({_line(error)}); the run goes on without it",
                stacklevel=3,
            )
            self._run = None


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:160] or type(error).__name__


def _scalar(value: Any) -> Any:
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        known = [v for v in value if v is not None and v == v]
        return statistics.median(known) if known else float("nan")
    return float("nan") if value is None else value
