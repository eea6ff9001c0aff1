import os
import subprocess
import sys

import numpy as np

PROGRAM = """
import sys
import jax, numpy as np
from models import BalancedResNet
from testbed.dynamics import Clock, Finite, Linearized, trace
from testbed.devices import seed_devices
from testbed.dynamics.linen import linen_network
from testbed.dynamics.problem import Problem

x = np.asarray(jax.random.normal(jax.random.key(0), (12, 8)), np.float32)
y = np.sign(x[:, :1])
net = BalancedResNet(width=16, depth=3, out_features=1)
clock = Clock(0.05, 8, (0, 3, 20))
init, apply, layers = linen_network(net, x)
key = jax.random.key(1)
problem = Problem(init, apply, x[:8], y[:8], x[8:], clock, key, layers, seeds=4)
assert len(seed_devices(4)) == len(jax.devices())
assert len(seed_devices(3)) == min(3, len(jax.devices()))
finite = Finite(problem, probes=2)
state = finite.advance(finite.start(), 0, 3)
leaf = jax.tree.leaves(state["value"])[0]
assert len(leaf.sharding.device_set) == len(jax.devices()), leaf.sharding
a, b = trace(finite, clock), trace(Linearized(finite), clock)
np.savez(sys.argv[1], finite=a["outputs/test"], linearized=b["outputs/test"],
         kernel=a["kernel"])
"""


def run_with(devices, path):
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", PROGRAM, str(path)], env=env, check=True)
    with np.load(path) as stored:
        return dict(stored)


def test_four_devices_give_the_numbers_of_one(tmp_path):
    """Sharding the seed axis over 4 devices changes no output."""
    one = run_with(1, tmp_path / "one.npz")
    four = run_with(4, tmp_path / "four.npz")
    for name in one:
        # Every seed runs the same program on one device: equal up to float32 rounding.
        np.testing.assert_allclose(four[name], one[name], rtol=1e-5, atol=1e-6)
    assert np.abs(one["finite"] - one["linearized"]).max() > 1e-3
