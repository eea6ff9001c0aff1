"""The default run as a user starts it, and whether a CPU's numbers come out."""

import tempfile
import time

from accelerator_parts.recorder import Recorder, Silent
from testbed.config import Config
from testbed.programs import train
from testbed.settings import override
from testbed.validation import validate

TITLE = "The default run"
WHY = (
    "python scripts/train.py, its report included, beside the numbers that "
    "docs/experiments.md has of it, from a CPU. Rounding differs from device to device "
    "and training amplifies it a little: losses and distances should agree to 1 %."
)
# Median over networks at the end of the default run, on two CPU cores.
ON_CPU = {
    "finite/loss/train": 0.17060,
    "linearized/loss/train": 0.17337,
    "infinite/loss/train": 0.11037,
    "distance/finite_linearized/train/relative": 0.11739,
    "distance/finite_linearized/test/relative": 0.12560,
    "distance/finite_infinite/test/relative": 0.34787,
    "kernel/drift": 0.029600,
    "kernel/error_infinite": 0.202,
}
DEPARTED_ON_CPU = "9.449 [3.826, 21.5], 4 of 4"
QUICK = {
    "data.train_size": 64,
    "data.test_size": 64,
    "model.depth": 4,
    "kernel.probes": 8,
    "train.steps": 10,
    "measure.times": 4,
    "train.seeds": 2,
}


def run(record: Recorder) -> None:
    """How long it takes, then a row a number."""
    seen = {}

    def job():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            given = {"run.dir": f"{folder}/run", "wandb.mode": "disabled"}
            given |= QUICK if record.quick else {}
            summary = train(validate(override(Config(), given)), Silent())
        seen.update(summary)
        parts = {f"of them {name} s": s for name, s in summary["seconds"].items()}
        return {"s": time.perf_counter() - start, **parts, "status": summary["status"]}

    if not record.case("the whole", job):
        return
    for name, before in ON_CPU.items():
        here = seen["final"][name]
        beside = {"here": here, "on a CPU": before, "relative": here / before - 1}
        record.row({"case": name, **beside})
    departed = {"here": seen["departure"]["test"]["text"], "on a CPU": DEPARTED_ON_CPU}
    record.row({"case": "departure time, test set", **departed})
