"""Settings of fully connected networks."""

from testbed.kinds.common import ModelConfig

SETTINGS = ModelConfig
