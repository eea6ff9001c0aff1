"""A depth x width map of vanilla and Balanced networks, in what time is left."""

import re
import shutil
import tempfile
import time
from pathlib import Path

from accelerator_parts.recorder import Recorder, Silent
from testbed.config import Config
from testbed.programs import train
from testbed.reports.sweeps.write import write_sweep_report
from testbed.runs.memory import training_bytes
from testbed.settings import override
from testbed.sweeps.gather import gather
from testbed.validation import validate

TITLE = "A map: depth and width, vanilla and Balanced"
WHY = (
    "Four networks a point on digits, 512 examples, 500 steps, branches scaled by "
    "d^(-1/2): when they left their kernel and how far they went. The cheapest points "
    "come first. map.html has the figures, map.csv the networks."
)
WIDTHS, DEPTHS = (64, 128, 256, 512, 1024), (4, 16, 64)
SETTINGS = {
    "train.steps": 500,
    "measure.times": 20,
    "kernel.every": 100,  # at the start and at the end
    "run.report": False,
    "wandb.mode": "disabled",
    "run.checkpoint_seconds": 600.0,
}
QUICK = {
    "data.train_size": 64,
    "data.test_size": 64,
    "kernel.probes": 8,
    "train.steps": 10,
    "measure.times": 4,
    "train.seeds": 2,
}


def run(record: Recorder) -> None:
    """A row a point; the report anew after each."""
    widths, depths = ((8,), (2,)) if record.quick else (WIDTHS, DEPTHS)
    kinds = ("resnet",) if record.quick else ("resnet", "balanced")
    points = [
        (width * width * depth, kind, width, depth)
        for width in widths
        for depth in depths
        for kind in kinds
    ]
    with tempfile.TemporaryDirectory() as folder:
        for cost, kind, width, depth in sorted(points):
            settings = {
                "model.kind": kind,
                "model.width": width,
                "model.depth": depth,
                "run.dir": f"{folder}/runs/{kind}-{width}-{depth}",
                **SETTINGS,
                **(QUICK if record.quick else {}),
            }
            config = validate(override(Config(), settings))
            steps, examples = config.train.steps, config.data.train_size
            flops = 7 * 2.0 * examples * cost * steps * config.train.seeds

            def point(config=config):
                start = time.time()
                summary = train(config, Silent())
                return _row(summary, time.time() - start)

            row = record.case(
                f"{kind}, width {width}, depth {depth}",
                point,
                predicted=flops / record.floor.get("highest", float("inf")),
                needed=training_bytes(config, (64,), 10),
            )
            if row:
                _report(Path(folder), record.folder)


def _row(summary: dict, seconds: float):
    final, left = summary["final"], summary["departure"]["test"]
    return {
        "departure time": left["text"],
        "final distance": final["distance/finite_linearized/test/relative"],
        "kernel drift": final["kernel/drift"],
        "s": seconds,
        "of them setup s": summary["seconds"]["setup"],
    }


def _report(folder: Path, out: Path) -> None:
    gathered = gather([folder / "runs"])
    write_sweep_report(gathered, folder / "report", {"question": TITLE}, {}, {})
    shutil.copyfile(folder / "report" / "divergence.csv", out / "map.csv")
    page = (folder / "report" / "report.html").read_text()
    # The runs themselves are not kept: links to them would lead nowhere.
    page = re.sub(r'<a href="(?!#)[^"]*">(.*?)</a>', r"\1", page)
    (out / "map.html").write_text(page)
