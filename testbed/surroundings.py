"""What a command finds around it: environment variables of jax, matplotlib and wandb,
and how many threads may be started.

A run's numbers are decided by its settings alone, and figures are files; so variables
that would change either have no effect.  What cannot be honoured is one line.
"""

import logging
import os
import re
import subprocess
import sys
import threading
from types import TracebackType

from testbed.errors import UserError

NO_EFFECT = (
    # They would change numbers, or which numbers are random.
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_ENABLE_CUSTOM_PRNG",
    "JAX_ENABLE_X64",
    "JAX_EXPLICIT_X64_DTYPES",
    "JAX_LEGACY_PRNG_KEY",
    "JAX_RANDOM_SEED_OFFSET",
    "JAX_THREEFRY_PARTITIONABLE",
    # They ask code to be written otherwise, this project's and its libraries'.
    "JAX_ARRAY_GARBAGE_COLLECTION_GUARD",
    "JAX_DEBUG_KEY_REUSE",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_NUMPY_RANK_PROMOTION",
    "JAX_THREAD_GUARD",
    "JAX_TRANSFER_GUARD",
    "JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE",
    "JAX_TRANSFER_GUARD_DEVICE_TO_HOST",
    "JAX_TRANSFER_GUARD_HOST_TO_DEVICE",
)
WANDB_MODES = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
    "shared": "shared",
}
"""What wandb knows as WANDB_MODE, and what it means."""


def settle() -> None:
    """Makes this process, and those it starts, what the commands expect.

    Call it in a script, before jax and matplotlib are imported.

    Raises:
      UserError: too few threads can be started; jax and BLAS would abort, or hang.
    """
    for name in NO_EFFECT:
        os.environ.pop(name, None)
    os.environ["MPLBACKEND"] = "agg"  # a notebook's shell names one that is not here
    # Without a home its cache of fonts lies in a temporary folder: two log lines.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    _check_threads()


def wandb_mode() -> str | None:
    """What WANDB_MODE means, in any case and with blanks; None where it is not set.

    Raises:
      UserError: it is unknown.  Who misspelt offline wants nothing uploaded.
    """
    given = os.environ.get("WANDB_MODE", "")
    if not given.strip():
        return None
    try:
        return WANDB_MODES[given.strip().lower()]
    except KeyError:
        rule = f"must be one of {', '.join(WANDB_MODES)}"
        remedy = "unset it, or give --wandb.mode"
        raise UserError("WANDB_MODE", given, rule, remedy) from None


def check_device() -> None:
    """Starts jax on the device that its variables name.

    Raises:
      UserError: there is none, or jax does not take a variable.
    """
    try:
        import jax

        jax.devices()
    except Exception as error:
        refused = refused_by_jax(error)
        if refused is None:
            raise
        raise refused from None


def check_elsewhere() -> None:
    """What `check_device` does, for a process that must not hold a device itself.

    It exits with the line and the code of the process that looked; nothing is started
    where no variable names a device.
    """
    wandb_mode()
    named = (os.environ.get(f"JAX_PLATFORM{end}", "") for end in ("S", "_NAME"))
    if all(name in ("", "cpu") for name in named) and "XLA_FLAGS" not in os.environ:
        return
    program = (
        "from testbed.cli import guarded\n"
        "from testbed.surroundings import check_device\n"
        "with guarded(): check_device()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
        sys.exit(2)


def refused_by_jax(error: Exception) -> UserError | None:
    """The variable of the environment that jax could not honour, as a user's mistake.

    Returns:
      None if the error is none of jax's about its variables or devices.
    """
    where = _last_file(error.__traceback__)
    if where.endswith("jax/_src/xla_bridge.py"):
        for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
            if os.environ.get(name):
                value, rule = os.environ[name], "no such device here"
                return UserError(name, value, rule, "unset it, or set cpu")
    if where.endswith("jax/_src/config.py"):
        # As "for JAX flag jax_num_cpu_devices", "for environment 'JAX_DEBUG_NANS'".
        for name in re.findall(r"jax_\w+", str(error).lower()) + ["jax_default_device"]:
            if (value := os.environ.get(name.upper())) is not None:
                rule = "is none of the values that jax takes"
                return UserError(name.upper(), value, rule, "unset it")
    return None


def _last_file(trace: TracebackType | None) -> str:
    """The file in which an error was raised, jax's own helpers for errors aside."""
    name = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return name.replace(os.sep, "/")


def _check_threads() -> None:
    """Starts as many threads as BLAS and XLA will at their imports, and ends them.

    A pool of each has one a processor; where a thread cannot be started, OpenBLAS
    interrupts its own process, as Ctrl-C would, and XLA aborts it.
    """
    needed = 2 * (os.cpu_count() or 1) + 8
    done, started = threading.Event(), []
    try:
        for _ in range(needed):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        rule = f"of the {needed} threads that jax needs, no more can be started here"
        remedy = "raise `ulimit -u` (or -v), or end other processes"
        raise UserError("threads", len(started), rule, remedy) from None
    finally:
        done.set()
        for thread in started:
            thread.join()
