"""Settings of vanilla residual networks."""

from testbed.kinds.branches import BranchConfig

SETTINGS = BranchConfig
