"""A sweep on a cluster: a job array by hand, or through submitit."""

import shlex
from collections.abc import Sequence
from typing import Any

from testbed.errors import UserError
from testbed.sweeps.store import Store


def script(store: Store) -> str:
    """An sbatch script whose array job I runs point I; the command's folder is shared.

    Raises:
      UserError: a bayes sweep, whose points depend on one another.
    """
    check_independent(store)
    last = len(store.points()) - 1
    command = shlex.join(["python", "scripts/sweep.py", "--dir", str(store.path)])
    return (
        "#!/bin/bash\n"
        f"#SBATCH --job-name={store.sweep.path.stem}\n"
        f"#SBATCH --array=0-{last}\n"
        "#SBATCH --cpus-per-task=2\n"
        "#SBATCH --time=01:00:00\n"
        f"#SBATCH --output={store.path}/logs/slurm-%A_%a.out\n"
        f'srun {command} --index "$SLURM_ARRAY_TASK_ID"'
    )


def submit(store: Store, shards: int, parameters: Sequence[str]) -> list[Any]:
    """Submits `shards` shards of the sweep through submitit and waits for them.

    Args:
      store: of the sweep.
      shards: jobs.
      parameters: KEY=VALUE of submitit's executor, e.g. slurm_partition=cpu,
        timeout_min=60, cluster=local.

    Raises:
      UserError: submitit is not installed, or a bayes sweep.
    """
    check_independent(store)
    try:
        import submitit
    except ImportError:
        rule = "is not installed"
        raise UserError("submitit", "-", rule, "pip install -e '.[slurm]'") from None
    given: dict[str, Any] = {}
    for text in parameters:
        key, equals, value = text.partition("=")
        if not equals:
            rule = "must be KEY=VALUE"
            raise UserError("submitit", text, rule, "e.g. slurm_partition=cpu")
        given[key] = int(value) if value.isdigit() else value
    cluster = given.pop("cluster", None)
    executor = submitit.AutoExecutor(folder=store.path / "logs", cluster=cluster)
    executor.update_parameters(name=store.path.name, **given)
    jobs = [
        executor.submit(run_shard, str(store.path), i, shards) for i in range(shards)
    ]
    print(f"submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}")
    return [job.result() for job in jobs]


def run_shard(path: str, shard: int, shards: int) -> int:
    """Runs one shard in this process; returns how many points of it are done."""
    import secrets
    from pathlib import Path

    from testbed.sweeps.store import open_store
    from testbed.sweeps.work import shard_filter, work

    store, only = open_store(None, Path(path)), shard_filter(shard, shards)
    work(store, f"shard-{shard}-of-{shards}-{secrets.token_hex(4)}", only)
    return sum(store.state(p) == "done" for p in store.points() if only(p))


def check_independent(store: Store) -> None:
    """Raises UserError for a sweep whose points depend on one another."""
    if store.sweep.method == "bayes":
        rule = "its points depend on the results of earlier ones"
        raise UserError("method", "bayes", rule, "run it with --jobs on one machine")
