"""States to resume from, two kept, each with a digest that tells a damaged one."""

import hashlib
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from testbed.errors import RunError

logging.getLogger("absl").setLevel(logging.CRITICAL)  # what it says is said here


class Checkpoints:
    """Saves and restores pytrees of arrays, atomically, through Orbax.

    Args:
      path: folder of the checkpoints; made if need be.
      seconds: least time between two saves of `save_if_due`.
    """

    def __init__(self, path: Path, seconds: float = 0.0):
        self._seconds, self._cost, self._saved = seconds, 0.0, time.perf_counter()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False
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
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        arrays = {f"{i:04d}": leaf for i, leaf in enumerate(leaves)}
        item = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays),
            digest=ocp.args.JsonSave({"sha256": _digest(leaves)}),
        )
        try:
            self._manager.save(step, args=item, force=True)
        except Exception as error:  # whatever a full disk provokes in its libraries
            reason = str(error).split("\n")[0][:160]
            raise RunError(
                f"checkpoint of step {step}: cannot be written ({reason}); everything "
                "recorded before is kept; make room and continue with --run.resume"
            ) from None

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest whole checkpoint as (step, state), or None.

        Args:
          like: a state of the same structure.

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
                if stored["digest"]["sha256"] != _digest(leaves):
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
            return step, jax.tree.unflatten(structure, leaves)
        return None

    def close(self) -> None:
        """Finishes what is being written."""
        self._manager.close()


def _digest(leaves: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
