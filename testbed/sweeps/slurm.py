"""A sweep on a cluster through submitit."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.errors import RunError, UserError, in_a_line, one_line
from testbed.settings import count_of
from testbed.sweeps.queue.sweep_store import SweepStore, open_store
from testbed.sweeps.queue.work import Programs, finish, shard_filter


def submit(
    store: SweepStore,
    session: str,
    programs: Programs,
    shards: int,
    parameters: Sequence[str],
) -> list[str]:
    """Submits `shards` shards of the sweep through submitit and waits for them.

    Args:
      store: of the sweep.
      session: name of this start.
      programs: what runs a config, by the sweep's `program`.
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
        given[key] = value if (number := count_of(value)) is None else number
    try:
        import submitit

        cluster = given.pop("cluster", None)
        executor = submitit.AutoExecutor(folder=store.path / "logs", cluster=cluster)
        executor.update_parameters(name=store.name, **given)
    except ImportError:
        rule = "is not installed"
        raise UserError("submitit", "-", rule, "pip install -e '.[slurm]'") from None
    except (NameError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        rule = f"is refused by submitit ({one_line(error, 200)})"
        raise UserError("submitit", parameters, rule, "correct it") from None
    jobs = [
        executor.submit(Shard(programs), str(store.path), session, shard, shards)
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

    def __init__(self, programs: Programs):
        self._programs = programs

    def __call__(self, path: str, session: str, shard: int, shards: int) -> None:
        """Runs shard `shard` of `shards` in this process."""
        store, only = open_store(None, Path(path)), shard_filter(shard, shards)
        try:
            finish(store, session, self._programs, only)
        except (UserError, RunError):
            raise
        except Exception as error:  # a defect: the job's last line tells its cause
            traceback.print_exc()
            raise RunError(in_a_line(error)) from None

    def checkpoint(self, *args: Any) -> Any:
        """The same again, for submitit: what is done is on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *args)


def check_independent(store: SweepStore) -> None:
    """Raises UserError for a sweep whose points depend on one another."""
    if not store.proposer.independent:
        rule = "its points depend on the results of earlier ones"
        raise UserError(
            "method", store.sweep.method, rule, "run it with --jobs on one machine"
        )
