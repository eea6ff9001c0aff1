"""States to resume from, two kept, each with a digest that tells a damaged one.

With a state go the digests of what was recorded up to it: a state is worth something
only with its past.
"""

import hashlib
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from testbed.errors import RunError
from testbed.runs.digests import Records, sealed, unsealed


class Checkpoints:
    """Saves and restores pytrees of arrays, atomically, through Orbax.

    Args:
      path: folder of the checkpoints; made if need be.
      seconds: least time between two saves of `save_if_due`.
      records: digests of what the run has recorded; as they are when a state is saved,
        they go with it.
    """

    def __init__(
        self, path: Path, seconds: float = 0.0, records: Records | None = None
    ):
        self._seconds, self._cost, self._saved = seconds, 0.0, time.perf_counter()
        self._path, self._records = path, records or Records()
        logging.getLogger("absl").setLevel(
            logging.CRITICAL
        )  # what it says is said here
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,  # of a process that was killed
        )
        self._manager = ocp.CheckpointManager(path.resolve(), options=options)

    def save_if_due(self, step: int, state: Any) -> None:
        """Saves if the last save is long enough ago.

        That is `seconds`, or ten times what a save costs if that is longer, so that
        saving never takes more than a tenth of a run.
        """
        began = time.perf_counter()
        if began - self._saved > max(self._seconds, 10 * self._cost):
            self.save(step, state)
            self._saved = time.perf_counter()
            # A save that is asked for at every step is never spaced out.
            self._cost = self._saved - began if self._seconds else 0.0

    def save(self, step: int, state: Any) -> None:
        """Saves `state` as that of `step`; a kill leaves the ones before it whole."""
        if step in self._manager.all_steps():
            return
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        arrays = {f"{i:04d}": leaf for i, leaf in enumerate(leaves)}
        told = {"state": _digest(leaves), "records": self._records.as_json()}
        item = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays),
            digest=ocp.args.JsonSave(sealed(told)),
        )
        try:
            self._manager.save(step, args=item, force=True)
        except Exception as error:  # whatever a full disk provokes in its libraries
            reason = str(error).split("\n")[0][:160]
            raise RunError(
                f"checkpoint of step {step}: cannot be written ({reason}); everything "
                "recorded before is kept; make room and continue with --run.resume"
            ) from None

    def restore(
        self,
        like: Any,
        trusted: Callable[[int, Records | None], bool] = lambda step, records: True,
    ) -> tuple[int, Any] | None:
        """The newest whole checkpoint as (step, state), or None.

        Args:
          like: a state of the same structure.
          trusted: whether what was recorded up to a step is as these digests say; None
            are those of an older version.

        A damaged checkpoint is named in a warning and the one before it is used.
        """
        structure = jax.tree.structure(like)
        template = {
            f"{i:04d}": np.zeros(np.shape(leaf), np.asarray(leaf).dtype)
            for i, leaf in enumerate(jax.tree.leaves(like))
        }
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            item = ocp.args.Composite(
                state=ocp.args.StandardRestore(template), digest=ocp.args.JsonRestore()
            )
            try:
                stored = self._manager.restore(step, args=item)
                leaves = [np.asarray(stored["state"][key]) for key in template]
                digest, records = _told(self._path / str(step), stored["digest"])
                if digest != _digest(leaves):
                    raise ValueError("its digest does not match")
            except Exception as error:  # whatever a damaged file provokes
                reason = str(error).split("\n")[0][:120]
                warnings.warn(
                    f"checkpoint of step {step} is damaged ({reason}); "
                    + (
                        "starting over" if step == steps[-1] else "using the one before"
                    ),
                    stacklevel=2,
                )
                self._manager.delete(step)
                continue
            if not trusted(step, records):
                self._manager.delete(step)
                continue
            return step, jax.tree.unflatten(structure, leaves)
        return None

    def close(self) -> None:
        """Finishes what is being written."""
        self._manager.close()


def _told(path: Path, digest: dict[str, Any]) -> tuple[str, Records | None]:
    """Digest of the state, and those of the records; None of an older version's."""
    if "state" not in digest:
        return digest["sha256"], None
    told = unsealed(path, dict(digest))
    return told["state"], Records.read(told["records"])


def _digest(leaves: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
