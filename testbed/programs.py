"""What scripts/train.py and scripts/simulate.py run, here and in a sweep's workers.

The floor below the scripts: runs, and above them the reports that are drawn at a run's
end.
"""

from collections.abc import Callable, Mapping
from typing import Any

from testbed.compiled import keep_compiled
from testbed.config import Config, SimulateConfig
from testbed.numerics import use_float64
from testbed.reports import write_report
from testbed.reports.simulation import write_simulation_report
from testbed.runs.console import Console
from testbed.runs.job import run_job
from testbed.runs.simulation import run_simulation


def train(config: Config, console: Console | None = None) -> dict[str, Any]:
    """Runs, or resumes, the main job and draws its report; returns its summary.

    Raises:
      UserError: a setting that cannot be honoured.
      RunError: the run had to stop; everything recorded is kept.
    """
    keep_compiled(config.run.compile_cache)
    use_float64()
    return run_job(config, console or Console(), write_report)


def simulate(config: SimulateConfig, console: Console | None = None) -> dict[str, Any]:
    """Draws networks at initialization beside their laws, likewise."""
    keep_compiled(config.run.compile_cache)
    use_float64()
    return run_simulation(config, console or Console(), write_simulation_report)


PROGRAMS: Mapping[str, Callable[[Any], Any]] = {
    "scripts/train.py": train,
    "scripts/simulate.py": simulate,
}
"""By the `program` of a sweep file."""
