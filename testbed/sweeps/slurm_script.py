"""The sbatch script of a sweep: an array job whose job I runs point I."""

import os
import re
import shlex
import sys
from pathlib import Path

from testbed.errors import UserError
from testbed.options import SweepOptions
from testbed.sweeps.queue.sweep_store import SweepStore

MOST_TASKS = 1001  # of an array: Slurm's MaxArraySize, unless it was raised
SHARDS = 1000  # of a sweep with more points
_ASKED = ("mem", "time", "gres", "partition")
_WORD = re.compile(r"[A-Za-z0-9_.,:=@%+-]{1,80}")
_ROOT = Path(__file__).resolve().parents[2]


def script(store: SweepStore, options: SweepOptions) -> str:
    """An sbatch script whose array job I runs point I, or shard I of many points.

    It works in today's folder, with the environment that printed it.

    Args:
      store: of the sweep, whose points do not depend on one another.
      options: cpus, mem, time, gres, partition and throttle of scripts/sweep.py.

    Raises:
      UserError: an option that is not a word, or a path that does not fit a line.
    """
    asked = {name: getattr(options, name) for name in _ASKED}
    for name, value in asked.items():
        if value is not None and not _WORD.fullmatch(value):
            rule = "must be a word, as sbatch takes it"
            raise UserError(name, value, rule, "see the manual of sbatch")
    here = os.getcwd()
    texts = {"dir": str(store.path), "sweep": store.name, "python": sys.prefix}
    for field, text in (texts | {"folder": here}).items():
        if not text.isprintable():
            rule = "holds characters that have no place in a script"
            raise UserError(field, text, rule, "rename it")
    count, task = len(store.points()), '"$SLURM_ARRAY_TASK_ID"'
    piece = f"--index {task}"
    if count > MOST_TASKS:
        count, piece = SHARDS, f"--shard {task}/{SHARDS}"
    throttle = f"%{options.throttle}" if options.throttle else ""
    logs = f"{store.path}/logs/".replace("%", "%%")  # else sbatch would fill it in
    directives = {
        "job-name": shlex.quote(store.name),
        "array": f"0-{count - 1}{throttle}",
        "cpus-per-task": options.cpus,
        **{name: value for name, value in asked.items() if value is not None},
        "chdir": shlex.quote(here),
        "output": shlex.quote(f"{logs}slurm-%A_%a.out"),
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in directives.items()]
    start, python = _environment()
    program = str(_ROOT / "scripts" / "sweep.py")
    command = shlex.join([python, program, f"--dir={store.path}"])
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            *start,
            "export XLA_PYTHON_CLIENT_PREALLOCATE=false  # jobs may share a card",
            # srun does not take the number from sbatch, since Slurm 22.05.
            f"srun --cpus-per-task={options.cpus} {command} {piece}",
        ]
    )


def _environment() -> tuple[list[str], str]:
    """Lines that make this Python's environment the job's, and how it is called."""
    prefix = Path(sys.prefix)
    activate = prefix / "bin" / "activate"
    if sys.prefix != sys.base_prefix and activate.exists():
        return [f"source {shlex.quote(str(activate))}"], "python"
    conda = os.environ.get("CONDA_EXE")
    if conda and (prefix / "conda-meta").is_dir():
        hook = Path(conda).parent.parent / "etc" / "profile.d" / "conda.sh"
        named = shlex.quote(str(prefix))
        return [f"source {shlex.quote(str(hook))}", f"conda activate {named}"], "python"
    return [], sys.executable
