"""The commands that take a config: its class, presets and rules."""

import dataclasses
from collections.abc import Callable
from typing import Any

from testbed.config import PRESETS, SIMULATE_PRESETS, Config, SimulateConfig
from testbed.validation import (
    unused,
    unused_simulation,
    validate,
    validate_simulation,
)


@dataclasses.dataclass(frozen=True)
class Command:
    """The settings that a script takes.

    Attributes:
      config: their class.
      presets: name -> dotted values.
      validate: checks a config and completes it.
      unused: lines about settings without effect.
      accelerated: presets that are made for an accelerator.
    """

    config: type
    presets: dict[str, dict[str, Any]]
    validate: Callable[[Any], Any]
    unused: Callable[[Any], list[str]]
    accelerated: tuple[str, ...] = ()


TRAIN = Command(Config, PRESETS, validate, unused, ("gpu",))
SIMULATE = Command(
    SimulateConfig, SIMULATE_PRESETS, validate_simulation, unused_simulation
)
