"""Settings of Balanced residual networks."""

from testbed.kinds.branches import BranchConfig

SETTINGS = BranchConfig
