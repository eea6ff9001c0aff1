"""What scripts are asked for besides a config, in frozen dataclasses.

`testbed.settings.made` reads them and checks each number and path by its bound.
"""

import dataclasses
from pathlib import Path

from testbed.settings import POSITIONAL


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """The options of scripts/sweep.py."""

    dir: Path
    """Folder of the sweep."""
    file: Path | None = dataclasses.field(default=None, metadata={POSITIONAL: "[FILE]"})
    """A file of sweeps/; left out, the sweep of the folder goes on."""
    jobs: int = 1
    """Workers on this machine; with --submitit, shards."""
    index: str | None = None
    """Run only these points: 3, or 0-7, or 0,4,8."""
    shard: str | None = None
    """Run only shard I of N: I/N."""
    quick: bool = False
    """Make the sweep small, for a trial."""
    seed: int | None = None
    """Seed of a random or bayes sweep; 0 unless it is given."""
    yes: bool = False
    """Run more than a million points."""
    list: bool = False
    """Say which points there are, and stop."""
    print_slurm: bool = False
    """Print an sbatch script, and stop."""
    cpus: int = 2
    """Processors of a job of that script."""
    mem: str = "4G"
    """Memory of a job."""
    time: str = "01:00:00"
    """Time that a job may take."""
    gres: str | None = None
    """What else a job asks for, e.g. gpu:1."""
    partition: str | None = None
    """Partition of the cluster."""
    throttle: int | None = None
    """Jobs at a time."""
    submitit: tuple[str, ...] | None = None
    """Submit shards by submitit, with KEY=VALUE of its executor."""


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """The options of scripts/report.py."""

    dirs: tuple[Path, ...] = dataclasses.field(metadata={POSITIONAL: "DIR [DIR ...]"})
    """Folders of runs or sweeps."""
    out: Path | None = None
    """Where to write; the first of the folders unless it is given."""


@dataclasses.dataclass(frozen=True)
class BoundaryOptions:
    """The options of scripts/boundary.py: None where one of the plan is not given."""

    dir: Path
    """Folder of the search; started again, it goes on."""
    networks: str | None = None
    """Names with commas between, of resnet,balanced,balanced_scaled (all)."""
    widths: str | None = None
    """Widths with commas between (8,16,32,64)."""
    depths: str | None = None
    """LOW-HIGH: from the one to the other, two depths a doubling (1-64)."""
    measure: str | None = None
    """What passes the threshold (relative_distance)."""
    threshold: float | None = None
    """What the measure passes (0.3)."""
    seeds: int | None = None
    """Networks of one run (4)."""
    most_seeds: int | None = None
    """Networks at one depth, at most (16)."""
    set: tuple[str, ...] | None = None
    """Settings of every run, as NAME=VALUE."""
    reuse: tuple[Path, ...] = ()
    """Further folders whose finished runs are used."""
    jobs: int = 1
    """Runs at a time, each a process."""
    dry: bool = False
    """Say what the search costs, and stop."""


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """The options of scripts/reproduce.py."""

    name: str | None = dataclasses.field(default=None, metadata={POSITIONAL: "[NAME]"})
    """Name of a figure, or all."""
    list: bool = False
    """Say which figures there are, and stop."""
    quick: bool = False
    """Draw small variants, in seconds."""
    dir: Path = Path("reproductions")
    """Where to draw."""
