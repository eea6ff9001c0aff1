"""Measures on one accelerator what this testbed does there, most important first.

    python benchmarks/accelerator.py [--minutes 5] [--only PART,PART] [--add]
                                     [--out FOLDER]

Parts, in their order: floor (what the card can do: products, memory, loops), job (the
default run, and whether a CPU's numbers come out), training (--preset gpu, or the
largest that fits: compilation, steps, memory, a checkpoint, a whole run), ensembles (4
to 64 networks, batched or in turn), kernels (empirical and infinite), sampling (10^7
networks in law), precision (what TF32 and bfloat16 do to kernels and predictions), map
(width and depth, in what time is left).  The floor is measured in any case; times stand
beside it.  --add keeps the parts that FOLDER has from before and measures those of
--only, or those that it lacks, on the same device.

FOLDER (default: accelerator) holds accelerator.json, complete after every measurement,
and accelerator.html, accelerator.md and figures, anew after every part; the map adds
map.html and map.csv.  A case that there is no time or memory for is skipped with a
word, one that fails is named, and the others go on.  It needs no installation: jax,
flax, optax, orbax-checkpoint, numpy, scipy, pandas, scikit-learn, rich, threadpoolctl
and matplotlib are enough.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a machine with a card may have no installation of this

from accelerator_parts import PARTS  # noqa: E402

PAGE_SECONDS = 6.0  # of the whole, kept for the last page
LEAST_SECONDS = 10.0  # in which another part is begun after one has broken down
UNKNOWN = {"device": "unknown", "backend": "none", "versions": {}}


def main() -> None:
    """Reads the options, measures in a process of its own, writes pages meanwhile."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=5.0, help="for everything")
    parser.add_argument("--only", default="", metavar="PART,PART", help="these parts")
    parser.add_argument("--add", action="store_true", help="to what is in FOLDER")
    parser.add_argument("--out", type=Path, default=Path("accelerator"))
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    from testbed.cli import guarded

    if options.worker:
        with guarded("what was measured is in the folder"):
            return work(options.out / "accelerator.json", options.worker)
    chosen = [name for name in options.only.split(",") if name]
    for name in chosen:
        if name not in PARTS:
            parser.error(f"--only {name}: must be of {', '.join(PARTS)}")
    if not 0 < options.minutes <= 24 * 60:
        parser.error(f"--minutes {options.minutes:g}: must lie above 0, up to 1440")
    with guarded("what was measured is in the folder"):
        sys.exit(supervise(options, chosen))


def supervise(options: argparse.Namespace, chosen: list[str]) -> int:
    """Starts the process that measures, again if it breaks down; 1 if nothing was done.

    The process is ended when the time is over; what it has measured is on disk.
    """
    from accelerator_parts import page

    from testbed.errors import UserError
    from testbed.files import write_whole

    began = time.time()
    until = began + 60 * options.minutes - PAGE_SECONDS
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        rule = f"cannot be made a folder ({error.strerror})"
        raise UserError("out", options.out, rule, "give another one") from None
    path = options.out / "accelerator.json"
    given = f"--minutes {options.minutes:g}"
    given += f" --only {options.only}" if options.only else ""
    given += " --add" if options.add else ""
    given += " --quick" if options.quick else ""
    text = path.read_text() if options.add and path.is_file() else "{}"
    before = json.loads(text)
    old = before.get("parts", {})
    kept = {name: part for name, part in old.items() if name not in chosen}
    command = f"python benchmarks/accelerator.py {given}"
    results = {
        "command": f"{before['command']}; then {command}" if before else command,
        "date": time.strftime("%Y-%m-%d"),
        "began": began,
        "minutes": options.minutes,
        "quick": options.quick,
        "wanted": [k for k in PARTS if k in {"floor", *(chosen or PARTS)} - {*kept}],
        "card": before.get("card", UNKNOWN),
        "floor": before.get("floor", {}),
        "parts": kept,
    }
    write_whole(path, json.dumps(results, indent=1).encode())
    command = [sys.executable, __file__, "--worker", str(until)]
    command += ["--out", str(options.out)]
    ended, begun = len(kept), len(kept) or -1
    compiled = tempfile.TemporaryDirectory()
    while True:
        child = subprocess.Popen(command, env=_environment(options, compiled.name))
        try:
            while child.poll() is None and time.time() < until:
                time.sleep(0.2)
                done = _ended(path)
                if done > ended:
                    ended = done
                    page.write(json.loads(path.read_text()), options.out)
            late = child.poll() is None
        finally:  # also on Ctrl-C, which is this process's matter
            child.kill()
            child.wait()
        results = json.loads(path.read_text())
        if not late and child.returncode == 0:
            break
        _broken(results, "time was over" if late else _reason(child.returncode))
        write_whole(path, json.dumps(results, indent=1).encode())
        new = len(results["parts"]) > begun
        if late or not new or until - time.time() < LEAST_SECONDS:
            break
        begun = len(results["parts"])
    compiled.cleanup()
    new = {k: p for k, p in results["parts"].items() if k not in kept and p["rows"]}
    if before:  # what could not be measured again stays
        parts = results["parts"] | old | new
        results["parts"] = {name: parts[name] for name in PARTS if name in parts}
        whole = json.dumps(results, indent=1) if new else text
        write_whole(path, whole.encode())
    if new or not before:
        page.write(results, options.out)
    if not new:
        return child.returncode or 1
    print(f"\n{page.largest_gap(results)}".rstrip())
    print(f"Page: {options.out / 'accelerator.html'}")
    return 0


def _environment(options: argparse.Namespace, compiled: str) -> dict[str, str]:
    """Of the measuring process: nearly all memory of the card, and nothing said.

    Compiled programs are kept in a folder that was empty at the beginning: each is
    compiled once, in sight of the clock.  In a test they are those of before.
    """
    kept = {} if options.quick else {"JAX_COMPILATION_CACHE_DIR": compiled}
    given = {
        **kept,
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MPLBACKEND": "agg",
    }
    return {**given, **os.environ}


def _ended(path: Path) -> int:
    parts = json.loads(path.read_text())["parts"].values()
    return sum(part["state"] != "running" for part in parts)


def _broken(results: dict, why: str) -> None:
    """Says of the part that was at work why it ended."""
    for part in results["parts"].values():
        if part["state"] == "running":
            part["state"] = "cut off"
            part["notes"].append(f"The part was cut off: {why}.")


def _reason(code: int) -> str:
    return f"its process ended by signal {-code}" if code < 0 else f"exit code {code}"


def work(path: Path, until: float) -> None:
    """Measures the parts that are wanted and have not begun, one after another."""
    import importlib
    import signal

    import jax
    from accelerator_parts.recorder import Recorder

    from testbed.compiled import keep_compiled
    from testbed.errors import UserError
    from testbed.numerics import use_float64

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    use_float64()
    keep_compiled()

    record = Recorder(path, until)
    results = record.results
    found, before = card(), results["card"]["device"]
    if before not in (UNKNOWN["device"], found["device"]):
        rule = f"the folder is of {before}"
        raise UserError("add", found["device"], rule, "give another --out")
    results["card"] = found
    record.write()
    parts = [name for name in results["wanted"] if name not in results["parts"]]
    for place, name in enumerate(parts):
        module = importlib.import_module(f"accelerator_parts.{name}")
        share = PARTS[name] / sum(PARTS[other] for other in parts[place:])
        # Everything else stands beside the floor.
        seconds = (1.0 if name == "floor" else share) * (until - time.time())
        record.begin(name, module.TITLE, module.WHY, seconds)
        record.protect(lambda m=module: m.run(record))
        jax.clear_caches()


def card() -> dict:
    """What it runs on."""
    import jax

    from testbed.runs.environment import machine

    found = machine()
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    stats = jax.devices()[0].memory_stats() or {}
    return {
        "device": found["device"],
        "backend": found["backend"],
        "memory GiB": stats.get("bytes_limit", 0) / 2**30,
        "versions": {"Python": found["python"]}
        | {name: found["packages"][name] for name in names},
        "commit": found["commit"],
        "modified": found["modified"],
    }


if __name__ == "__main__":
    main()
