"""A stranger's process: 64-bit types off, code of others in it, and nothing changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

STRANGER = '''
import importlib, json, logging, os, pkgutil, sys, warnings

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import matplotlib
import optax
# These change filters and environment themselves when they are imported.
import scipy.sparse, scipy.special, sklearn, threadpoolctl


class Theirs(nn.Module):
    """With random signs, whose draws depend on 64-bit types."""

    @nn.compact
    def __call__(self, x):
        s = self.variable("signs", "s", lambda: jax.random.rademacher(
            self.make_rng("params"), (8,), jnp.float32)).value
        return nn.Dense(2)(nn.tanh(s * nn.Dense(8)(x)))


def draws():
    """What code of others draws and computes, as plain lists with their dtypes."""
    key = jax.random.key(7)
    x = jax.random.normal(key, (4, 3))
    variables = Theirs().init(key, x)
    mlp = eqx.nn.MLP(3, 2, 8, 2, key=key)
    loss = lambda m: jnp.mean(jax.vmap(m)(x) ** 2)
    tx = optax.adam(0.1)
    state = tx.init(eqx.filter(mlp, eqx.is_array))
    updates, _ = tx.update(eqx.filter_grad(loss)(mlp), state)
    seen = [
        x, jax.random.uniform(key, (3,)), jax.random.key_data(jax.random.split(key)),
        jax.random.randint(key, (3,), 0, 10), jax.random.bernoulli(key, 0.3, (5,)),
        jax.random.permutation(key, 6), variables, Theirs().apply(variables, x),
        eqx.filter(updates, eqx.is_array), x @ x.T, jnp.arange(3), jnp.zeros(2) + 1.0,
    ]
    return [(str(a.dtype), np.asarray(a).tolist()) for a in jax.tree.leaves(seen)]


def surroundings():
    """What a library may have changed."""
    return {
        "jax": {k: repr(v) for k, v in jax.config.values.items()},
        "filters": [repr(f) for f in warnings.filters],
        "showwarning": repr(warnings.showwarning),
        "logging": {n: logging.getLogger(n).level for n in (None, "absl", "jax")},
        "numpy": repr(np.geterr()) + repr(np.get_printoptions()),
        "figures": repr(matplotlib.rcParams) if "matplotlib" in sys.modules else "",
        "environment": dict(os.environ),
        "excepthook": repr(sys.excepthook),
    }


before = draws(), surroundings()
import models, testbed
for package in (models, testbed):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
imported = draws(), surroundings()
'''

COMPARE = """
told = {"draws": before[0] == after[0]}
told |= {name: before[1][name] == after[1][name] for name in before[1]}
changed = {k: (v, after[1]["jax"].get(k)) for k, v in before[1]["jax"].items()
           if after[1]["jax"].get(k) != v}
print(json.dumps({"same": told, "changed": changed, "extra": extra}))
"""

USE = """
from testbed.config import DataConfig
from testbed.data import load
from testbed.dynamics import Clock, Finite, Infinite, Linearized
from testbed.dynamics.infinite import LimitKernels
from testbed.dynamics.linen import linen_network
from testbed.dynamics.problem import Problem
from testbed.divergence import movement
from testbed.errors import UserError
from testbed.kernels import eigensystem, empirical_ntk, infinite_kernel, linearize
from testbed.kernels.neural_tangents import load as load_nt
from testbed.sampling import sample_log_norm

key = jax.random.key(0)
x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
net = models.BalancedResNet(width=16, depth=4, out_features=2)
variables = dict(net.init(key, x))
params = variables.pop("params")
f = lambda p, x: net.apply({**variables, "params": p}, x)
limit = infinite_kernel(net)(x)
ntk = empirical_ntk(f, params, x)
jacobian = jax.jacobian(f)(params, x)
plain = sum(np.einsum("icp,jcp->ij", *[np.asarray(j, np.float64).reshape(6, 2, -1)] * 2)
            for j in jax.tree.leaves(jacobian)) / 2
clock = Clock(0.1, 4, (0, 3))
y = np.ones((4, 2), np.float32)
init, apply, layers = linen_network(net, x)
problem = Problem(init, apply, x[:4], y, x[4:], clock, key, layers)
finite = Finite(problem, probes=2)
linear = Linearized(finite)
infinite = Infinite(LimitKernels.of(limit.nngp, limit.ntk, 4), y, clock)
seen = [p.observe(p.advance(p.start(), 0, 3), 3) for p in (finite, linear, infinite)]
moved = movement(params, params)
theirs = lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"]
draw = jax.random.normal
init = lambda key: {"w": draw(key, (3, 4)), "v": draw(key, (4, 2))}
compared = testbed.compare(
    theirs, init, x, np.ones((6, 2)), steps=3, times=2, probes=2)
assert compared.observed[0]["finite/kernel"].dtype == np.float64
assert compared.observed[0]["finite/outputs/train"].dtype == jnp.zeros(()).dtype
drawn = sample_log_norm(key, 100, width=8, depth=4, alpha=0.7, lam=0.7)
gp = load(DataConfig(name="gp", train_size=8, test_size=4, n_in=3))
nt = load_nt()
system = eigensystem(limit.ntk, 0.1)
solved = system.solve(np.ones(6))
float64 = [limit.nngp, limit.ntk, ntk, seen[0]["kernel"], seen[2]["outputs/test"],
           *moved.values(), drawn, solved]
extra = {
    "dtypes": sorted({str(np.asarray(a).dtype) for a in float64}),
    "types": sorted({type(a).__name__ for a in (limit.ntk, ntk, solved, drawn)}),
    "ntk": float(np.abs(ntk - plain).max() / plain.max()),
    "kernel": float(np.abs(seen[0]["kernel"]).max()),
    "outputs": str(seen[0]["outputs/train"].dtype),
    "gp": gp.checksum,
    "drawn": drawn.tolist(),
    "limit": limit.ntk.tolist(),
    "refused": [],
}
traced = (
    lambda x: infinite_kernel(net)(x).ntk,
    lambda x: empirical_ntk(f, params, x),
    lambda x: system.apply(jnp.exp, x[:, 0]),
)
for function in traced:
    for trace in (jax.jit(function), lambda x: jax.vmap(function)(x[None])):
        try:
            trace(x)
        except UserError as error:
            extra["refused"].append(str(error))
        except Exception as error:
            extra["refused"].append(repr(error))
after = draws(), surroundings()
"""


def run(program, **environment):
    """Runs a program in a process of its own; returns what it prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_everything_changes_nothing():
    """Draws, dtypes, jax's configuration, filters, logging, environment: as before."""
    told = run(STRANGER + "after, extra = imported, None\n" + COMPARE)
    assert all(told["same"].values()), (told["same"], told["changed"])


@pytest.fixture(scope="module")
def used():
    """What a stranger gets with 64-bit types off, and with them on."""
    program = STRANGER + USE + COMPARE
    return run(program), run(program, JAX_ENABLE_X64="1")


def test_using_it_changes_nothing(used):
    """Nor does calling kernels, samplers, predictors and data."""
    for told in used:
        assert all(told["same"].values()), (told["same"], told["changed"])


def test_kernels_are_in_float64_all_the_same(used):
    """NumPy arrays in float64, of a network that is traced in float32."""
    told = used[0]["extra"]
    assert told["dtypes"] == ["float64"] and told["types"] == ["ndarray"]
    assert told["outputs"] == "float32" and told["kernel"] > 0
    assert told["ntk"] < 1e-6  # against Jacobians of the stranger's own network


def test_numbers_do_not_depend_on_64_bit_types(used):
    """Samples, kernels and data are the same to the bit, on or off."""
    for name in ("drawn", "limit", "gp"):
        assert used[0]["extra"][name] == used[1]["extra"][name], name


def test_traced_kernels_say_what_to_switch_on(used):
    """One line where 64-bit types are off; with them on they are traced."""
    off, on = (told["extra"]["refused"] for told in used)
    assert len(off) == 6 and not on
    for line in off:
        assert line.startswith("jax_enable_x64=False: is off"), line
        assert 'jax.config.update("jax_enable_x64", True)' in line and "\n" not in line
