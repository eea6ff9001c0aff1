"""Small made-up runs, written as a run writes them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from testbed.config import Config, flatten, override, validate
from testbed.divergence.table import Targets, divergence_row
from testbed.runs.folder import RunFolder, arrays_name

N, M, DEPTH, WIDTH = 12, 10, 3, 8


@dataclasses.dataclass(frozen=True)
class MadeUp:
    """A run's folder and what went into it."""

    path: Path
    rows: list[dict]
    seen: list[dict]
    targets: Targets


def write_run(
    path: Path,
    *,
    seeds: int = 3,
    steps: tuple[int, ...] = (0, 1, 2, 4, 8),
    classes: int | None = 10,
    probes: int = 4,
    infinite: bool = True,
    every: int = 1,
    status: str | None = "done",
    error: str | None = None,
    settings: dict | None = None,
) -> MadeUp:
    """Writes a run of made-up networks; its metrics are computed from its arrays."""
    rng = np.random.default_rng(3)
    lr = 0.25
    config = override(
        Config(),
        {
            "data.name": "linear" if classes is None else "digits",
            "data.train_size": N,
            "data.test_size": M,
            "data.classes": (3, 7) if classes == 2 else (),
            "model.width": WIDTH,
            "model.depth": DEPTH,
            "train.seeds": seeds,
            "train.steps": max(steps) or 1,
            "train.lr": lr,
            "train.optimizer": "gd" if infinite else "adam",
            "kernel.probes": probes,
            "kernel.every": every,
            **(settings or {}),
        },
    )
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    folder.write_json("config.json", flatten(validate(config)))
    folder.write_json(
        "environment.json",
        {
            "python": "3.11",
            "platform": "test",
            "packages": {"jax": "0.10", "wandb": None},
            "commit": "abc123",
            "modified": False,
            "backend": "cpu",
            "device": "cpu",
            "devices": 1,
        },
    )
    targets = _targets(rng, classes, probes, config.train.loss)
    folder.write_arrays("limits.npz", _limits(rng, targets))
    start = _start(rng, seeds, targets, probes)
    rows, seen, previous = [], [], None
    for place, step in enumerate(steps):
        t = lr * step
        kernels = place % every == 0 or step == steps[-1]
        now = _at(start, t, targets, infinite, kernels)
        row = {"step": step, "t": t}
        row |= divergence_row(targets, now, (seen or [now])[0], previous, t)
        for group, speed in (("blocks", 0.01), ("head", 0.1), ("input", 0.05)):
            moved = speed * t * np.linspace(1, 2, seeds)
            row[f"parameters/movement/{group}"] = moved
        if "kernel" in now["finite"]:
            previous = (t, now["finite"]["kernel"])
        arrays = {f"{w}/{k}": v for w, obs in now.items() for k, v in obs.items()}
        folder.write_arrays(arrays_name(step), arrays)
        folder.append_row(row)
        rows.append(row)
        seen.append(now)
    if status is not None:
        folder.write_json("summary.json", _summary(status, error, lr))
    return MadeUp(path, rows, seen, targets)


def _targets(rng, classes, probes, loss) -> Targets:
    y, labels = {}, {}
    for split, size in (("train", N), ("test", M)):
        if classes is None:
            y[split] = rng.standard_normal((size, 2))
            continue
        labels[split] = np.arange(size, dtype=np.int32) % classes
        if classes == 2:
            y[split] = 2.0 * labels[split][:, None] - 1
        else:
            y[split] = np.eye(classes)[labels[split]] - 1 / classes
    kernel = None
    if probes:
        a = rng.standard_normal((2 * probes, 40))
        kernel = a @ a.T / 20
    return Targets(y, labels or None, loss, kernel)


def _limits(rng, targets: Targets) -> dict[str, np.ndarray]:
    kept = {f"y/{split}": y for split, y in targets.y.items()}
    for split, labels in (targets.labels or {}).items():
        kept[f"labels/{split}"] = labels
    kept["eigenvalues"] = np.sort(rng.random(N))
    if targets.kernel is not None:
        kept["ntk"], kept["nngp"] = targets.kernel, targets.kernel / 2
    return kept


def _start(rng, seeds, targets: Targets, probes: int) -> dict[str, np.ndarray]:
    drawn = lambda *shape: rng.standard_normal((seeds, *shape))
    start = {
        "train": drawn(*targets.y["train"].shape),
        "test": drawn(*targets.y["test"].shape),
        "gradient": np.exp(drawn(DEPTH)),
        "speed": 1 + 0.2 * drawn(1, 1),
    }
    if probes:
        features = drawn(2 * probes, 30)
        start["kernel"] = features @ np.swapaxes(features, 1, 2) / 15
        start["squared"] = np.exp(0.3 * drawn(DEPTH + 1, 2 * probes))
        start["active"] = rng.random((seeds, DEPTH, 2 * probes))
    return start


def _at(start, t, targets, infinite, kernels) -> dict[str, dict[str, np.ndarray]]:
    """Exponential approach to the targets; finite networks speed up."""
    seen: dict[str, dict] = {"finite": {}, "linearized": {}}
    if infinite:
        seen["infinite"] = {}
    for split, y in targets.y.items():
        for who, bend in (("finite", 0.3), ("linearized", 0.0)):
            left = np.exp(-t * start["speed"] * (1 + bend * t))
            f = y + (start[split] - y) * left
            seen[who][f"outputs/{split}"] = f.astype(np.float32)
        if infinite:
            seen["infinite"][f"outputs/{split}"] = y * (1 - np.exp(-t))
            seen["infinite"][f"variance/{split}"] = np.full(len(y), np.exp(-2 * t))
    finite = seen["finite"]
    finite["layers/gradient_norm"] = start["gradient"] * np.exp(-t)
    if "kernel" in start:
        finite["layers/squared_norm"] = start["squared"] * (1 + t)
        finite["layers/active_fraction"] = start["active"] / (1 + t)
        if kernels:
            scale = (1 + 0.1 * t) * start["kernel"]
            finite["kernel"] = (scale + 0.1 * t * np.eye(scale.shape[-1])[None]).astype(
                np.float32
            )
    return seen


def _summary(status: str, error: str | None, lr: float) -> dict:
    return {
        "status": status,
        "error": error,
        "width": WIDTH,
        "depth": DEPTH,
        "train_size": N,
        "test_size": M,
        "data_checksum": "c0ffee",
        "lr": lr,
        "critical_lr": 0.5,
        "stability_bound": 0.6,
        "condition_number": 12.0,
        "nngp_posterior": {"loss": 0.2, "accuracy": 0.7},
        "reading": "The network left its kernel at t = 1 (made up).",
        "seconds": {"setup": 1.0, "run": 2.0},
    }


@pytest.fixture(scope="session")
def usual(tmp_path_factory) -> MadeUp:
    """Three networks, ten classes, everything measured."""
    return write_run(tmp_path_factory.mktemp("runs") / "usual")


@pytest.fixture
def make_run(tmp_path):
    """Writes a run with the options of `write_run`."""
    return lambda **options: write_run(tmp_path / "run", **options)
