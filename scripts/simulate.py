"""Draw networks at initialization and put them beside the laws of their norms.

python scripts/simulate.py
python scripts/simulate.py --model.kind balanced --model.width 64 --model.depth 64 --samples 100000
python scripts/simulate.py --model.kind=resnet --model.ratio=0.5 --model.width=128
"""  # noqa: E501

from testbed.cli import main
from testbed.commands import SIMULATE
from testbed.config import SimulateConfig


def run(config: SimulateConfig) -> None:
    """Runs the simulation; heavy imports come only now."""
    from testbed.programs import simulate

    simulate(config)


if __name__ == "__main__":
    main(run, __doc__ or "", SIMULATE)
