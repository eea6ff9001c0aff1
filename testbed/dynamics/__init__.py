"""Three predictors on one time axis: finite, linearized, infinite."""

from testbed.dynamics.clock import Clock
from testbed.dynamics.finite import Finite
from testbed.dynamics.infinite import Infinite
from testbed.dynamics.linearized import Linearized
from testbed.dynamics.trajectory import Trajectory, trace

__all__ = ["Clock", "Finite", "Infinite", "Linearized", "Trajectory", "trace"]
