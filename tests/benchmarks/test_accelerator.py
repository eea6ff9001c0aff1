"""benchmarks/accelerator.py, small and on a CPU, as on a machine with a card."""

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("wandb", "tensorflow_datasets", "neural_tangents", "tyro", "tensorflow")
PARTS = ["floor", "job", "training", "ensembles", "kernels", "sampling", "precision",
         "map"]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Starts the command where some packages are absent; (process, its folder)."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    names = "import sys\n" + "".join(f"sys.modules[{n!r}] = None\n" for n in ABSENT)
    (hidden / "sitecustomize.py").write_text(names)

    def start(*words, **variables):
        command = [sys.executable, ROOT / "benchmarks/accelerator.py", "--quick"]
        environment = os.environ | {
            "PYTHONPATH": str(hidden),
            "JAX_PLATFORMS": "cpu",
            "TFDS_DATA_DIR": str(tmp_path / "data"),
        }
        out = tmp_path / "out"
        process = subprocess.Popen(
            [*map(str, command), "--out", str(out), *words],
            env=environment | variables,
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return process, out

    return start


def numbers(results):
    """Every number of every row."""
    rows = [row for part in results["parts"].values() for row in part["rows"]]
    return [v for row in rows for v in row.values() if isinstance(v, float)]


def test_all_parts_without_the_absent_packages(run):
    """Each part is done, in the order of importance, in at most eight files."""
    process, out = run("--minutes", "20")
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "Traceback" not in printed + errors
    results = json.loads((out / "accelerator.json").read_text())
    states = {name: part["state"] for name, part in results["parts"].items()}
    assert states == dict.fromkeys(PARTS, "done")
    # All that a CPU cannot do is a product in TF32.
    skipped = {
        row["case"]: row["skipped"]
        for part in results["parts"].values()
        for row in part["rows"]
        if "skipped" in row
    }
    assert set(skipped) == {"matrix product, tf32", "tf32"}, skipped
    assert len(numbers(results)) > 100 and all(map(math.isfinite, numbers(results)))
    assert len(list(out.iterdir())) <= 8
    page, text = ((out / f"accelerator.{e}").read_text() for e in ("html", "md"))
    for part in results["parts"].values():
        assert f"## {part['title']}" in text and part["why"] in text
        assert part["title"] in page
    assert 'href="../' not in (out / "map.html").read_text()  # of runs, which are gone
    assert page.count("<img") == 2 and "largest gap to the floor" in page
    check_precision(results["parts"]["precision"]["rows"])
    check_sampling(results["parts"]["sampling"]["rows"])


def check_precision(rows):
    """float32 errs by 1e-7 in the kernel, bfloat16 by 1e-3 or more: the table tells."""
    off = {row["case"]: row.get("kernel off by") for row in rows}
    assert off["float64"] == 0
    assert 1e-9 < off["highest"] < 1e-5 < 1e-3 < off["bf16 parameters"] < 0.1


def check_sampling(rows):
    """The mean of the networks drawn is that of the law, within 5 standard errors."""
    (row,) = (row for row in rows if "law's mean" in row)
    mean, error = map(float, row["mean"].split(" ± "))
    assert abs(mean - float(row["law's mean"])) < 5 * error < 0.5


def test_a_killed_part_is_named_and_the_others_go_on(run):
    """SIGKILL of the measuring process costs the part that it was at, and no other."""
    process, out = run("--minutes", "20", "--only", "ensembles,sampling")
    path, killed = out / "accelerator.json", False
    while process.poll() is None and not killed:
        time.sleep(0.05)
        parts = json.loads(path.read_text())["parts"] if path.exists() else {}
        if parts.get("ensembles", {}).get("state") == "running":
            (child,) = _children(process.pid)
            os.kill(child, signal.SIGKILL)
            killed = True
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0 and "Traceback" not in printed + errors, errors
    parts = json.loads(path.read_text())["parts"]
    states = {name: part["state"] for name, part in parts.items()}
    assert states == {"floor": "done", "ensembles": "cut off", "sampling": "done"}
    assert "its process ended by signal 9" in parts["ensembles"]["notes"][-1]


def test_more_parts_are_added_on_the_same_device_alone(run):
    """Parts of before stay as they are, in order; elsewhere --add changes no byte."""
    process, out = run("--minutes", "20", "--only", "sampling")
    assert process.wait(600) == 0
    path = out / "accelerator.json"
    before = json.loads(path.read_text())
    process, out = run("--minutes", "20", "--only", "ensembles", "--add")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    added = json.loads(path.read_text())
    assert list(added["parts"]) == ["floor", "ensembles", "sampling"]
    new = {"ensembles": added["parts"]["ensembles"]}
    assert new["ensembles"]["rows"] and added["parts"] == before["parts"] | new
    assert added["command"].startswith(before["command"] + "; then python ")
    page = (out / "accelerator.html").read_text()
    assert all(part["title"] in page for part in added["parts"].values())

    added["card"]["device"] = "another card"
    path.write_text(json.dumps(added))
    text = path.read_text()
    process, out = run("--minutes", "20", "--only", "sampling", "--add")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2, errors
    assert "the folder is of another card; give another --out" in errors
    assert path.read_text() == text


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_time_that_is_over_is_said(run):
    """What there is no time for is skipped with a word; the command ends in time."""
    start = time.time()
    process, out = run("--minutes", "0.3")
    printed, errors = process.communicate(timeout=600)
    assert "Traceback" not in printed + errors
    assert time.time() - start < 18 + 20  # the last page, on a machine that is busy
    parts = json.loads((out / "accelerator.json").read_text())["parts"]
    words = json.dumps(parts)
    assert "out of time" in words or "time was over" in words
    assert (out / "accelerator.html").exists()


def test_what_is_known_is_recorded_when_time_is_over(tmp_path, monkeypatch):
    """A case is skipped then; numbers that are there already are not."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    recorder = importlib.import_module("accelerator_parts.recorder")
    empty = {"quick": True, "minutes": 1, "began": time.time(), "parts": {}}
    (tmp_path / "accelerator.json").write_text(json.dumps(empty))
    record = recorder.Recorder(tmp_path / "accelerator.json", time.time() - 1)
    record.begin("job", "Title", "Why.", 10.0)
    assert record.case("to be measured", lambda: {"s": 1.0}) is None
    record.row({"case": "measured before", "s": 2.0})
    stored = json.loads((tmp_path / "accelerator.json").read_text())
    skipped, known = stored["parts"]["job"]["rows"]
    assert skipped["skipped"].startswith("out of time") and "s" not in skipped
    assert known == {"case": "measured before", "s": 2.0}


def test_interrupted_it_says_so_in_a_line(run):
    """Ctrl-C: one line, no traceback, and what was measured is there."""
    process, out = run("--minutes", "20", "--only", "ensembles")
    path = out / "accelerator.json"
    while not path.exists() or '"TFLOP/s"' not in path.read_text():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in printed + errors, errors
    assert "interrupted; what was measured is in the folder" in errors


@pytest.mark.parametrize(
    "words, told",
    [
        (("--only", "flor"), "--only flor: must be of floor, job, training"),
        (("--minutes", "0"), "--minutes 0: must lie above 0, up to 1440"),
        (("--out", __file__), "cannot be made a folder (File exists); give another"),
    ],
)
def test_mistakes_are_one_line(run, words, told):
    """An unknown part or no time: one line, exit code 2."""
    process, _ = run(*words)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and told in errors and "Traceback" not in errors
