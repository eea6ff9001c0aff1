"""A sweep on a cluster: a job array by hand, or through submitit."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.errors import UserError
from testbed.sweeps.store import Store

MOST_TASKS = 1001  # of an array: Slurm's MaxArraySize, unless it was raised
SHARDS = 1000  # of a sweep with more points


def script(store: Store) -> str:
    """An sbatch script whose array job I runs point I, or shard I of many points.

    Raises:
      UserError: a bayes sweep, whose points depend on one another.
    """
    check_independent(store)
    count, task = len(store.points()), '"$SLURM_ARRAY_TASK_ID"'
    piece = f"--index {task}"
    if count > MOST_TASKS:
        count = SHARDS
        piece = f"--shard {task}/{SHARDS}"
    command = shlex.join(["python", "scripts/sweep.py", "--dir", str(store.path)])
    name = shlex.quote(store.name)
    return (
        "#!/bin/bash\n"
        f"#SBATCH --job-name={name}\n"
        f"#SBATCH --array=0-{count - 1}\n"
        "#SBATCH --cpus-per-task=2\n"
        "#SBATCH --time=01:00:00\n"
        f"#SBATCH --output={shlex.quote(f'{store.path}/logs/slurm-%A_%a.out')}\n"
        "export XLA_PYTHON_CLIENT_PREALLOCATE=false  # jobs may share a card\n"
        f"srun {command} {piece}"
    )


def submit(
    store: Store, session: str, shards: int, parameters: Sequence[str]
) -> list[str]:
    """Submits `shards` shards of the sweep through submitit and waits for them.

    Args:
      store: of the sweep.
      session: name of this start.
      shards: jobs.
      parameters: KEY=VALUE of submitit's executor, e.g. slurm_partition=cpu,
        timeout_min=60, cluster=local.

    Returns:
      One line for each job that failed.

    Raises:
      UserError: submitit is not installed, or refuses a parameter.
    """
    given: dict[str, Any] = {}
    for text in parameters:
        key, equals, value = text.partition("=")
        if not equals:
            rule = "must be KEY=VALUE"
            raise UserError("submitit", text, rule, "e.g. slurm_partition=cpu")
        given[key] = int(value) if value.isdigit() else value
    try:
        import submitit

        cluster = given.pop("cluster", None)
        executor = submitit.AutoExecutor(folder=store.path / "logs", cluster=cluster)
        executor.update_parameters(name=store.name, **given)
    except ImportError:
        rule = "is not installed"
        raise UserError("submitit", "-", rule, "pip install -e '.[slurm]'") from None
    except (NameError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        rule = f"is refused by submitit ({str(error).splitlines()[0]})"
        raise UserError("submitit", parameters, rule, "correct it") from None
    jobs = [
        executor.submit(Shard(), str(store.path), session, shard, shards)
        for shard in range(shards)
    ]
    print(f"submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}")
    errors = [(job.job_id, job.exception()) for job in jobs]
    return [
        f"job {name} failed: {str(error).strip().splitlines()[-1]}"
        for name, error in errors
        if error is not None
    ]


class Shard:
    """Runs one shard, as a job that goes on when it is preempted and queued again."""

    def __call__(self, path: str, session: str, shard: int, shards: int) -> None:
        """Runs shard `shard` of `shards` in this process."""
        from testbed.sweeps.store import open_store
        from testbed.sweeps.work import finish, shard_filter

        finish(open_store(None, Path(path)), session, shard_filter(shard, shards))

    def checkpoint(self, *args: Any) -> Any:
        """The same again, for submitit: what is done is on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *args)


def check_independent(store: Store) -> None:
    """Raises UserError for a sweep whose points depend on one another."""
    if store.sweep.method == "bayes":
        rule = "its points depend on the results of earlier ones"
        raise UserError("method", "bayes", rule, "run it with --jobs on one machine")
