"""What a run ran on: versions, commit, device."""

import importlib.metadata
import platform
import subprocess
import warnings
from pathlib import Path
from typing import Any

import jax

from testbed.runs.folder import RunFolder

PACKAGES = (
    "depthwidth",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "neural-tangents",
    "tensorflow-datasets",
    "wandb",
    "numpy",
    "scipy",
)


def machine() -> dict[str, Any]:
    """Returns versions, git commit (with whether files differ from it) and device."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "devices": jax.device_count(),
    }


def note_environment(folder: RunFolder, found: dict[str, Any]) -> None:
    """Records where a run runs; a resumed run keeps the record of its first part.

    Warns when what may change bits (packages, Python, device) differs.
    """
    first = folder.salvage("environment.json")
    if first is None:
        folder.write_json("environment.json", found)
        return
    names = ("python", "packages", "backend", "device", "devices")
    changed = [name for name in names if first.get(name) != found[name]]
    if changed:
        folder.write_json("environment_resumed.json", found)
        warnings.warn(
            f"resumed with other {', '.join(changed)} than the run began with: metrics "
            "may differ in their last bits; see environment_resumed.json",
            stacklevel=2,
        )


def _git(*words: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
