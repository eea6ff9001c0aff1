"""Generated settings, sweep files and options, thrown at every command.

Each ends with exit code 0, 1 or 2 and at most one line that begins with "error:":
no traceback, no hang, no line break or control code in a message.  What would compute
is replaced by a stop, so that all that comes before it is what people run.
"""

import os
import random
import runpy
import signal
import sys
import time
import warnings
from pathlib import Path

import pytest
import yaml

from testbed.config import Config, SimulateConfig
from testbed.errors import RunError
from testbed.options import BoundaryOptions, ReproduceOptions, SweepOptions
from testbed.reproduce.registry import NAMES
from testbed.settings import field_types, pairs
from testbed.sweeps.boundary import NETWORKS
from testbed.sweeps.fixed_arguments import USUAL
from testbed.sweeps.gather import MEASURES
from testbed.sweeps.parameter import DISTRIBUTIONS

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CASES = 300  # of each command
MOST_SECONDS = 5.0  # of processor time, in one case

NUMBERS = (
    "0 1 2 3 8 16 0.5 -1 2.5 1e-5 1.0e-5 1e300 1e308 -1e308 1e400 1e-320 nan inf -inf "
    "4294967296 1000000000000 1_000 0x10 0b1 1:30 ² ١٢ 10^20 + - . 1e 1.0e+5"
).split() + ["9" * 5000, "-" + "9" * 500, "1" + "0" * 18]
TEXTS = [
    "", " ", "None", "null", "True", "false", "a\nb", "a\r\nb", "\x1b[31mred", "\x9b1m",
    "\0", "\x07", "\u202egpj", "\u2028", "\ud800", "\udcff", "x" * 5000, "é", "данные",
    "a/../" * 60 + "x", "a/" * 400, "a/" * 3000, "n" * 300, "{", "[1, 2", "[]", "{}",
    "(" * 400, "{'a': " * 200, "1,2,3", "1,x", "0-10", "5-1", "0/2", "--", "=", "#",
    "javascript:alert(1)", "%s%n", "{0}", "[bold]", "'", '"', "&a", "*a", "!!int x",
    "<<", "2001-04-31", "~", "${args}", "C:\\new", "{'width': 3}", "{1: 2}", ".",
    "/proc",
]  # fmt: skip
WORDS = """mlp resnet balanced fixed depth_scaled relu tanh linear digits mnist gp
mixture network gd sgd adam momentum mse cross_entropy smoke gpu default vmap all
readout image offline disabled""".split()


def value(rng):
    return rng.choice(rng.choice((NUMBERS, TEXTS, WORDS)))


def setting(rng, types):
    """--name=value in one of its forms, the name misspelt at times."""
    name = rng.choice([*types, "preset"])
    if rng.random() < 0.1:
        name = rng.choice([name[:-1], name.upper(), name + "\n", name * 40, value(rng)])
    plain = {int: "8", int | None: "4", float: "0.5", float | None: "0.5", bool: "1"}
    text = value(rng)
    if rng.random() < 0.5 and types.get(name) in plain:
        text = plain[types[name]]
    if rng.random() < 0.1:
        return [f"--{name}"]
    return [f"--{name}", text] if rng.random() < 0.1 else [f"--{name}={text}"]


def settings(rng, types):
    return [word for _ in range(rng.randint(1, 4)) for word in setting(rng, types)]


def scalar(rng):
    """A value of YAML, of a number, a text, or what else YAML may make."""
    text = value(rng)
    if rng.random() < 0.5:
        return text
    with_type = [1, 2, 4, 8, 0.5, 1.5, -1, True, None, 10**30, 1e308, [0, 1], [], {}]
    return rng.choice(with_type)


MILD = {
    "model.depth": {"values": [2, 4]},
    "model.width": {"distribution": "q_log_uniform_values", "min": 5, "max": 99},
    "model.kind": {"values": ["resnet", "balanced"], "probabilities": [0.3, 0.7]},
    "model.c": {"distribution": "log_normal", "sigma": 0.3},
    "model.normalized": {"value": False},
    "run.report": {"values": [False, True]},
    "wandb.group": {"value": "a\nb"},
}


def spec(rng):
    """What stands below a setting of a sweep file."""
    kind = rng.random()
    if kind < 0.1:
        return scalar(rng)
    if kind < 0.3:
        return {"value": scalar(rng)}
    if kind < 0.5:
        values = [scalar(rng) for _ in range(rng.randint(0, 4))]
        if rng.random() < 0.3:
            chances = [rng.choice([0.5, 0.25, 1, "0.5", -1]) for _ in values]
            return {"values": values, "probabilities": chances}
        return {"values": values}
    found = {"distribution": rng.choice([*DISTRIBUTIONS, "log_uniform", "x"])}
    for key in rng.sample(("min", "max", "mu", "sigma", "q", "a", "b"), 3):
        found[key] = scalar(rng)
    if rng.random() < 0.5:
        found |= {"min": rng.choice([1, 2, 0.5]), "max": rng.choice([4, 8, 1e3])}
    return found


def sweep_text(rng):
    """A sweep file: most of its parts right, one or another not; then cut and mixed."""
    program = rng.choice(["scripts/train.py", "scripts/simulate.py"])
    config = Config if "train" in program else SimulateConfig
    names = [*field_types(config), "preset", "model", "x\ny", 3]
    parameters = dict(rng.sample(list(MILD.items()), rng.randint(0, 4)))
    hostile = rng.random() < 0.6
    if hostile:
        parameters |= {rng.choice(names): spec(rng) for _ in range(rng.randint(0, 3))}
    if rng.random() < 0.1:
        inner = {"depth": spec(rng), "width": spec(rng)}
        parameters["model"] = rng.choice([inner, {"parameters": inner}])
    document = {
        "program": program,
        "method": rng.choice(["grid", "random", "bayes"]),
        "parameters": parameters,
        "run_cap": rng.choice([None, 10**12, scalar(rng)]) if hostile else 3,
        "metric": {"name": "x"},
    }
    if hostile and rng.random() < 0.3:
        fixed = [" ".join(setting(rng, field_types(config))) for _ in range(2)]
        document["command"] = [*USUAL[:3], *fixed[: rng.randint(0, 2)], "${args}"]
    if hostile and rng.random() < 0.2:
        document[rng.choice(["method", "program", "metric", "command"])] = scalar(rng)
    if hostile and rng.random() < 0.1:
        document[rng.choice(["x-a", "_b", "names", "run_caps"])] = scalar(rng)
    text = yaml.safe_dump(document, allow_unicode=rng.random() < 0.5)
    for _ in range(rng.choice([0, 0, 0, 1, 3]) if hostile else 0):
        lines = text.splitlines(keepends=True)
        at = rng.randrange(len(lines) or 1)
        kind = rng.random()
        if kind < 0.3:
            lines[at:at] = lines[at : at + rng.randint(1, 4)]  # twice
        elif kind < 0.6:
            lines[at:at] = [value(rng)]
        elif kind < 0.8:
            lines[at : at + 1] = []
        else:
            depth = rng.choice([5, 40, 3000])
            lines[at:at] = [rng.choice(["[", "{a: ", "- "]) * depth]
        text = "".join(lines)
    return text


def sweep_bytes(rng):
    """Not always in UTF-8."""
    errors = "surrogatepass" if rng.random() < 0.3 else "replace"
    return sweep_text(rng).encode("utf-8", errors)


def sweep(rng):
    file = Path(f"s{rng.randrange(10**6)}.yaml")
    file.write_bytes(sweep_bytes(rng))
    few = settings(rng, field_types(SweepOptions)) if rng.random() < 0.3 else []
    flags = rng.choice([["--list"], ["--print-slurm"], ["--quick", "--list"], []])
    folder = value(rng) if rng.random() < 0.1 else f"d{rng.randrange(10**6)}"
    return [str(file), f"--dir={folder}", *flags, *few]


def boundary(rng):
    words = settings(rng, field_types(BoundaryOptions))
    if rng.random() < 0.5:
        words = [f"--networks={','.join(rng.sample(list(NETWORKS), 2))}"]
        words += [f"--measure={rng.choice(list(MEASURES))}"]
    given = [word.removeprefix("--") for word in settings(rng, field_types(Config))]
    words += rng.choice([[], ["--set", *given]])
    return [f"--dir={rng.choice(['d', 'd', value(rng)])}", *words]


def report(rng):
    folders = [value(rng) for _ in range(rng.randint(1, 2))]
    folders = [name for name in folders if name != "/proc"]  # many files, not ours
    if rng.random() < 0.5:
        folders.append(f"r{rng.randrange(10**6)}")
        os.makedirs(folders[-1], exist_ok=True)
        Path(folders[-1], "sweep.yaml").write_bytes(sweep_bytes(rng))
    return [*folders, *rng.choice([[], ["--out", value(rng)]])]


def reproduce(rng):
    name = rng.choice([*NAMES, "all", value(rng)])
    return [name, *rng.choice([[], settings(rng, field_types(ReproduceOptions))])]


COMMANDS = {
    "train.py": lambda rng: settings(rng, field_types(Config)),
    "simulate.py": lambda rng: settings(rng, field_types(SimulateConfig)),
    "sweep.py": sweep,
    "boundary.py": boundary,
    "report.py": report,
    "reproduce.py": reproduce,
}


def stop(*args, **options):
    raise RunError("stopped before anything is computed")


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """Nothing computes, and what is written lies below a folder of its own.

    No path of the cases leads out of it, but one where nothing can be written.
    """
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    monkeypatch.setattr("testbed.runs.job._run_in", stop)
    monkeypatch.setattr("testbed.runs.simulation._run_in", stop)
    # Else 60 processes look for a device; tests/cli/test_surroundings.py has them.
    for command in ("run", "boundary_run"):
        monkeypatch.setattr(f"testbed.sweeps.{command}.check_elsewhere", lambda: None)
    monkeypatch.setattr("testbed.sweeps.run._run_workers", lambda *args: None)
    monkeypatch.setattr("testbed.sweeps.run.finish", lambda *args: None)
    monkeypatch.setattr("testbed.sweeps.run.slurm.submit", lambda *args: [])
    monkeypatch.setattr("testbed.sweeps.boundary_run.keep_working", stop)
    monkeypatch.setattr("testbed.reproduce.run.reproduce", stop)
    monkeypatch.setattr("testbed.reports.sweeps.write.write_tables", stop)


def too_long(*args):
    raise TimeoutError("this case does not end")


def run(script, words, monkeypatch, capsys):
    """Exit code and what was said; whatever else is raised fails the test."""
    monkeypatch.setattr(sys, "argv", [script, *words])
    code, began = 0, time.process_time()
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    assert time.process_time() - began < MOST_SECONDS
    return code, capsys.readouterr()


@pytest.mark.parametrize("script", COMMANDS)
def test_whatever_is_asked_the_answer_is_a_line(script, stopped, monkeypatch, capsys):
    """Every generated case of this command, from a fixed seed."""
    codes = {0: 0, 1: 0, 2: 0}
    for case in range(CASES):
        words = COMMANDS[script](random.Random(f"{script} {case}"))
        try:
            code, said = run(script, words, monkeypatch, capsys)
            assert code in codes, code
            lines = said.err.splitlines()
            told = [line for line in lines if line.startswith("error: ")]
            assert len(told) == (code != 0), lines
            for line in lines:
                assert line.startswith(("error: ", "warning: ")), line
                assert line.isprintable() and len(line) < 2000, line
            assert "Traceback" not in said.out and "\x1b" not in said.out
        except BaseException as error:
            files = [Path(word) for word in words if word.endswith(".yaml")]
            texts = [f.read_bytes()[:2000] for f in files if os.path.isfile(f)]
            shown = [word[:300] for word in words]
            raise AssertionError(f"case {case}: {shown} {texts}") from error
        codes[code] += 1
    # Of hostile cases most are refused; some pass, but for folders that hold no run.
    assert codes[2] > CASES / 8, codes
    assert codes[0] + codes[1] > CASES / 40 or script == "report.py", codes


def test_the_generator_reaches_every_option():
    """Among the cases each setting is there, and each is read by its own name."""
    rng, seen = random.Random(0), set()
    types = field_types(Config)
    for _ in range(2000):
        for word in setting(rng, types):
            if word.startswith("--") and "=" in word:
                name = word[2:].partition("=")[0]
                if name in types:
                    seen |= set(pairs([word], Config, "preset"))
    assert seen == set(types)
