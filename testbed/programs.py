"""What scripts/train.py and scripts/simulate.py run, here and in workers.

The floor below the scripts: runs, and above them the reports that are drawn at a run's
end.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testbed.compiled import keep_compiled
from testbed.config import Config, SimulateConfig
from testbed.errors import NotFinite
from testbed.numerics import use_float64
from testbed.reports import write_report
from testbed.reports.simulation import write_simulation_report
from testbed.runs.console import Console
from testbed.runs.folder import RunFolder
from testbed.runs.job import run_job
from testbed.runs.simulation import run_simulation
from testbed.sweeps.boundary_runs import WARNINGS


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


def train_for_boundary(config: Config) -> None:
    """Trains the networks of one run of a boundary; that they diverge is a result.

    The run's warnings are kept in its folder, for whoever speaks for the search.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            train(config)
        except NotFinite as error:
            if not error.seeds:
                raise
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    RunFolder(Path(str(config.run.dir))).write_json(WARNINGS, {"warnings": said})


PROGRAMS: Mapping[str, Callable[[Any], Any]] = {
    "scripts/train.py": train,
    "scripts/simulate.py": simulate,
    "scripts/boundary.py": train_for_boundary,
}
"""By the `program` of a sweep file, or of another proposer of points."""
