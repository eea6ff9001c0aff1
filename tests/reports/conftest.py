"""Small made-up runs, written as a run writes them."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from testbed.config import Config
from testbed.runs.folder import RunFolder, arrays_name
from testbed.settings import flatten, override
from testbed.validation import validate

N, M, DEPTH, WIDTH = 12, 10, 3, 8


@dataclasses.dataclass(frozen=True)
class MadeUp:
    """A run's folder and what went into it."""

    path: Path
    rows: list[dict]
    seen: list[dict]
    y: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    ntk: np.ndarray | None


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
    """Writes a run of made-up networks, with made-up metrics."""
    rng = np.random.default_rng(3)
    lr = 0.25
    config = override(
        Config(),
        {
            "data.name": "linear" if classes is None else "digits",
            "data.train_size": N,
            "data.test_size": M,
            "data.classes": (3, 7) if classes == 2 else (),
            "train.center": False,
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
    y, labels = _targets(rng, classes)
    made = MadeUp(path, [], [], y, labels, _kernel(rng, (), 2 * probes))
    folder.write_arrays("limits.npz", _limits(made))
    start = _start(rng, seeds, made, probes)
    for place, step in enumerate(steps):
        t = lr * step
        kernels = place % every == 0 or step == steps[-1]
        now = _at(start, t, made, infinite, kernels)
        arrays = {f"{w}/{k}": v for w, obs in now.items() for k, v in obs.items()}
        folder.write_arrays(arrays_name(step), arrays)
        row = {"step": step, "t": t, **_metrics(rng, t, seeds, made, now)}
        folder.append_row(row)
        made.rows.append(row)
        made.seen.append(now)
    if status is not None:
        folder.conclude(_summary(status, error, lr))
    return made


def _targets(rng, classes):
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
    return y, labels


def _kernel(rng, shape, size) -> np.ndarray | None:
    if not size:
        return None
    features = rng.standard_normal((*shape, size, 30))
    return features @ np.swapaxes(features, -1, -2) / 15


def _limits(made: MadeUp) -> dict[str, np.ndarray]:
    kept = {f"y/{split}": y for split, y in made.y.items()}
    kept |= {f"labels/{split}": labels for split, labels in made.labels.items()}
    kept["eigenvalues"] = np.arange(1.0, N + 1)
    if made.ntk is not None:
        kept["ntk"], kept["nngp"] = made.ntk, made.ntk / 2
    return kept


def _start(rng, seeds, made: MadeUp, probes: int) -> dict[str, np.ndarray]:
    drawn = lambda *shape: rng.standard_normal((seeds, *shape))
    start = {
        "train": drawn(*made.y["train"].shape),
        "test": drawn(*made.y["test"].shape),
        "gradient": np.exp(drawn(DEPTH)),
        "speed": 1 + 0.2 * drawn(1, 1),
    }
    if probes:
        start["kernel"] = _kernel(rng, (seeds,), 2 * probes)
        start["squared"] = np.exp(0.3 * drawn(DEPTH + 1, 2 * probes))
        start["active"] = rng.random((seeds, DEPTH, 2 * probes))
    return start


def _at(start, t, made, infinite, kernels) -> dict[str, dict[str, np.ndarray]]:
    """Exponential approach to the targets; finite networks speed up."""
    seen: dict[str, dict] = {"finite": {}, "linearized": {}}
    if infinite:
        seen["infinite"] = {}
    for split, y in made.y.items():
        for who, bend in (("finite", 0.3), ("linearized", 0.0)):
            left = np.exp(-t * start["speed"] * (1 + bend * t))
            f = y[None] + (start[split] - y[None]) * left
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
            finite["kernel"] = (start["kernel"] * (1 + 0.1 * t)).astype(np.float32)
    return seen


def _metrics(rng, t, seeds, made, now) -> dict:
    """Numbers of the right kind, under the right names; the mean's loss is its own."""
    each = np.linspace(1, 2, seeds)
    metrics = {}
    for split, y in made.y.items():
        for who, observed in now.items():
            one = who == "infinite"
            loss = np.exp(-t) * (rng.random() if one else rng.random(seeds) + 0.1)
            if one:
                f = observed[f"outputs/{split}"]
                loss = 0.5 * ((f - y) ** 2).sum(-1).mean()
            metrics[f"{who}/loss/{split}"] = loss
            if made.labels:
                right = rng.random() if one else rng.random(seeds)
                metrics[f"{who}/accuracy/{split}"] = right
        pairs = [("finite", "linearized", 0.2 * t * each)]
        if "infinite" in now:
            far = each / t if t else each * np.inf
            pairs += [("finite", "infinite", far), ("linearized", "infinite", far / 2)]
            metrics[f"ensemble/variance_ratio/{split}"] = rng.random()
        for one, other, relative in pairs:
            unknown = np.full(seeds, np.nan)
            name = f"distance/{one}_{other}/{split}/relative"
            metrics[name] = relative if t else unknown
    for group, speed in (("blocks", 0.01), ("head", 0.1), ("input", 0.05)):
        metrics[f"parameters/movement/{group}"] = speed * t * each
    if "kernel" in now["finite"]:
        metrics["kernel/drift"] = 0.1 * t * each
        metrics["kernel/error_infinite"] = 0.5 + 0.1 * t * each
        metrics["kernel/distance"] = 0.01 * t**2 * each
        metrics["kernel/alignment"] = 0.1 + 0.1 * t * each
        metrics["kernel/top_eigenvalue"] = 9 + t * each
    return metrics


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
    """Writes a new run with the options of `write_run`."""
    number = itertools.count()
    return lambda **options: write_run(tmp_path / f"{next(number)}", **options)
