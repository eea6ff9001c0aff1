"""Train finite networks beside their linearizations and their infinite-width limit.

python scripts/train.py
python scripts/train.py --model.kind=resnet --model.width=128 --model.depth=16
python scripts/train.py --preset smoke
"""

from testbed.cli import main
from testbed.config import Config


def run(config: Config) -> None:
    """Runs the main job; heavy imports come only now."""
    from testbed.programs import train

    train(config)


if __name__ == "__main__":
    main(run, __doc__ or "")
