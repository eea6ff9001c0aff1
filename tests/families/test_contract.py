"""What every family promises, run over all of them, and what one without laws says."""

import math
import subprocess
import sys
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from models import BranchScaling
from testbed.config import Config, SimulateConfig
from testbed.errors import UserError
from testbed.families import Counts, Family, NoLaw, family
from testbed.families.family import BETA
from testbed.kernels import infinite_kernel, structured_ntk
from testbed.kernels.readout import readout_ntk
from testbed.kinds import KINDS
from testbed.kinds.common import ModelConfig
from testbed.programs import simulate, train
from testbed.reports.sweeps.laws import at_initialization
from testbed.reports.sweeps.write import write_sweep_report
from testbed.runs.console import Console
from testbed.runs.memory import check_training_memory
from testbed.sampling.architecture import describe
from testbed.sampling.log_norm import LayerSampler
from testbed.sampling.weights import layers_with_weights
from testbed.settings import flatten, override
from testbed.sweeps.gather import gather
from testbed.validation import validate, validate_simulation

pytestmark = pytest.mark.float64

HALF = 0.5**0.5
FIXED = {"branch": "fixed", "alpha": HALF, "lam": HALF}
each = pytest.mark.parametrize("kind", KINDS)


def model(kind, **settings):
    """The model part of a config, with a depth."""
    kind_class = KINDS[kind]
    known = {n: v for n, v in settings.items() if hasattr(kind_class, n)}
    return kind_class(**({"kind": kind, "width": 16, "depth": 8} | known))


def shape(kind):
    """Of an example: a vector, or a small image."""
    return (4, 4, 2) if KINDS[kind].images else (5,)


def pixels(kind):
    """How many of them a hidden layer has, at stride 1."""
    return 16 if KINDS[kind].images else 1


def examples(kind, count):
    """Inputs on the sphere, in float64."""
    x = np.random.default_rng(0).standard_normal((count, *shape(kind)))
    rows = x.reshape(count, -1)
    rows *= (rows.shape[1] / np.sum(rows**2, 1, keepdims=True)) ** 0.5
    return x


class Quiet(Console):
    """Says nothing."""

    def __init__(self):
        super().__init__()
        self.rich.quiet = True


@each
@pytest.mark.parametrize("bias_std", [0.0, 0.1])
def test_counts_are_those_of_the_network(kind, bias_std):
    """Parameters to the last one; activations are width times depth of one example."""
    m = model(kind, bias_std=bias_std)
    net = family(kind).network(m, 3)
    x = jnp.ones((1, *shape(kind)))
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    found = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    told = family(kind).counts(m, shape(kind), 3)
    assert told == Counts(found, 16 * 8 * pixels(kind))


@each
def test_the_program_does_not_grow_with_depth(kind):
    """Depth is a scan: the traced program at depth 400 has the length of depth 4's."""

    def length(depth):
        net = family(kind).network(model(kind, depth=depth), 3)
        x = jnp.ones((2, *shape(kind)))
        variables = jax.eval_shape(net.init, jax.random.key(0), x)
        return len(str(jax.make_jaxpr(net.apply)(variables, x)).splitlines())

    assert length(4) == length(400)


@each
def test_kernel_is_the_mean_of_empirical_ones(kind):
    """Theta of infinite width, from 256 networks of width 64; two layers less is not.

    Theta's mean at width n is that of infinite width up to O(1/n) of it, 2 %.
    """
    m = model(kind, width=64, depth=3, **FIXED)
    net = family(kind).network(m, 1)
    x = examples(kind, 2)

    def ntk(key):
        variables = net.init(key, jnp.asarray(x, jnp.float32))
        params = variables.pop("params")
        apply = lambda p, x: net.apply({**variables, "params": p}, x)
        return structured_ntk(apply)(params, jnp.asarray(x, jnp.float32))

    drawn = np.asarray(
        jax.jit(lambda k: jax.lax.map(ntk, k))(jax.random.split(jax.random.key(1), 256))
    )
    mean, error = drawn.mean(0), drawn.std(0) / 16
    limit = np.asarray(infinite_kernel(net)(x).ntk)
    off = lambda kernel: np.abs(mean - kernel) / (4 * error + 0.02 * limit.max())
    assert off(limit).max() < 1
    other = family(kind).network(model(kind, width=64, depth=1, **FIXED), 1)
    assert off(np.asarray(infinite_kernel(other)(x).ntk)).max() > 2


@each
def test_sampler_draws_what_real_weights_give(kind):
    """Mean log-norm of those alive, within 4 standard errors; one layer less is not."""
    m = model(kind, width=8, depth=8, **FIXED)
    net = family(kind).network(m, 1)
    if isinstance(family(kind).layer_law(m, 8), NoLaw):
        with pytest.raises(UserError, match=f"model={type(net).__name__}: "):
            describe(net)  # it has no sampler either, and says so
        return
    moments = LayerSampler(net).moments(jax.random.key(0), 20_000).log_norm
    real = layers_with_weights(jax.random.key(1), 4000, net).log_norm
    real = np.asarray(real)[np.isfinite(real).all(1)][:, [-1, -2]]
    error = np.hypot(moments.mean_se[-1], real.std(0) / len(real) ** 0.5)
    z = np.abs(real.mean(0) - moments.mean[-1]) / error
    assert z[0] < 4 < z[1]


@each
def test_law_is_that_of_the_sampler(kind):
    """Variance of the log-norm, to O(1/n) of itself; that of half the depth is not."""
    m = model(kind, width=128, depth=64, **FIXED)
    net, law = family(kind).network(m, 1), family(kind).layer_law(m, 64)
    if isinstance(law, NoLaw):
        asked = (
            family(kind).norm_laws(m, 1),
            family(kind).width_law(m, np.arange(3)),
            family(kind).variables(m, [128], 64),
        )
        assert law.reason and all(one == law for one in asked)
        return
    moments = LayerSampler(net).moments(jax.random.key(2), 20_000).log_norm
    allowed = 4 * moments.var_se[-1] + 10 / 128 * moments.var[-1]
    assert abs(law.log_norm_var[-1] - moments.var[-1]) < allowed
    assert abs(law.log_norm_var[32] - moments.var[-1]) > 2 * allowed
    beta = family(kind).variables(m, [128], 64)
    norms = family(kind).norm_laws(m, 1)
    assert not isinstance(beta, NoLaw) and not isinstance(norms, NoLaw)
    (first, *_) = norms.log_norm.values()
    np.testing.assert_allclose(beta[BETA], first.var(), rtol=1e-12)


def test_vanilla_and_balanced_are_told_apart():
    """The law of one is not that of the other: nobody is given the wrong one."""
    laws = [family(k).layer_law(model(k, **FIXED), 8) for k in ("resnet", "balanced")]
    assert abs(laws[0].log_norm_var[-1] / laws[1].log_norm_var[-1] - 1) > 0.2


@each
def test_weights_agree_with_the_network(kind):
    """alpha and lam of the settings are those that the network multiplies by."""
    for settings in (FIXED, {"c": 0.7, "exponent": 0.3, "normalized": True}, {}):
        m = model(kind, **settings)
        net = family(kind).network(m, 1)
        branch = getattr(net, "branch", BranchScaling.fixed(0.0, 1.0))
        found = dict(
            zip(("alpha", "lam"), branch.at_depth(8, jnp.float64), strict=True)
        )
        for name, value in family(kind).weights(m).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6)
        assert family(kind).formula(m).startswith("z' = ")


TINY = {
    "data.train_size": 16,
    "data.test_size": 16,
    "model.width": 8,
    "model.depth": 2,
    "train.seeds": 2,
    "train.steps": 4,
    "kernel.probes": 4,
    "measure.times": 2,
    "wandb.mode": "disabled",
}


@each
def test_trains_and_reports(kind, tmp_path):
    """A run of each kind ends, with its report."""
    given = TINY | {"model.kind": kind, "run.dir": str(tmp_path / "run")}
    summary = train(validate(override(Config(), given)), Quiet())
    assert summary["status"] == "done" and (tmp_path / "run/report.html").exists()


@each
def test_simulates_and_reports(kind, tmp_path):
    """A simulation of each kind ends, with its report."""
    given = {
        "model.kind": kind,
        "model.width": 8,
        "model.depth": 4,
        "samples": 2000,
        "run.dir": str(tmp_path / "run"),
        "wandb.mode": "disabled",
    }
    config = validate_simulation(override(SimulateConfig(), given))
    law = family(kind).norm_laws(config.model, config.n_out)
    if isinstance(law, NoLaw):
        with pytest.raises(UserError, match=law.reason[:30]):
            simulate(config, Quiet())
        return
    summary = simulate(config, Quiet())
    assert summary["status"] == "done" and (tmp_path / "run/report.html").exists()


def test_a_sweep_over_all_kinds(tmp_path):
    """Every kind is a point, and the report has them all; no law of another's."""
    text = yaml.safe_dump(
        {
            "program": "scripts/train.py",
            "method": "grid",
            "parameters": {
                "model.kind": {"values": list(KINDS)},
                "model.c": {"value": 0.5},
                **{k: {"value": v} for k, v in TINY.items()},
            },
        }
    )
    (tmp_path / "sweep.yaml").write_text(text)
    command = [sys.executable, "scripts/sweep.py", str(tmp_path / "sweep.yaml")]
    command += ["--dir", str(tmp_path / "map")]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(KINDS)} of {len(KINDS)} points done" in done.stdout
    gathered = gather([tmp_path / "map"])
    assert gathered.varied == ["model.kind"] and not gathered.problems
    write_sweep_report(gathered, tmp_path / "report", {"question": "?"}, {}, {})
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(kind in page for kind in KINDS)


class Toy(nn.Module):
    """A network of a kind of which nothing is known."""

    width: int = 8
    depth: int = 2
    out_features: int = 1

    @nn.compact
    def __call__(self, x):
        """Maps (batch, n_in) to (batch, out_features)."""
        return nn.Dense(self.out_features)(jnp.sin(nn.Dense(self.width)(x)))


WHY = NoLaw("nobody has derived the laws of toys")


class ToyFamily(Family):
    """Has a network and its size, and no laws."""

    def network(self, m, n_out):
        return Toy(m.width, m.depth, n_out)

    def arrange(self, x):
        return x.reshape(len(x), -1)

    def counts(self, m, shape, n_out):
        return Counts(m.width * (math.prod(shape) + n_out + 1) + n_out, m.width)

    def formula(self, m):
        return "f = V sin(W x)"

    def weights(self, m):
        return {}

    norm_laws = layer_law = width_law = variables = lambda self, *arguments: WHY


@pytest.fixture
def toy(monkeypatch):
    """The toys as a kind, in this process."""
    module = types.ModuleType("testbed.families.toy")
    module.FAMILY = ToyFamily()  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(KINDS, "toy", ModelConfig)
    return family("toy")


def test_what_a_family_lacks_is_said_and_never_borrowed(toy, tmp_path):
    """Without laws, sampler or kernel: the reason, and nobody else's."""
    given = {"model.kind": "toy", "run.dir": str(tmp_path / "run")}
    config = validate_simulation(override(SimulateConfig(), given))
    with pytest.raises(UserError, match="model.kind=toy: .*nobody has derived"):
        simulate(config, Quiet())
    assert not (tmp_path / "run").exists()
    net = toy.network(config.model, 1)
    for refuse in (describe, infinite_kernel, lambda n: readout_ntk(n, np.eye(2))):
        with pytest.raises(UserError, match="model=Toy: "):
            refuse(net)
    assert at_initialization(flatten(Config()) | {"model.kind": "toy"}, [8], [2]) == {}
    with pytest.raises(UserError, match="Toy: has no infinite-width kernel"):
        train(validate(override(Config(), TINY | given)), Quiet())


def test_memory_is_told_from_the_familys_own_counts(toy):
    """A toy of 10^6 units has no square weights: it fits where a ResNet does not."""
    large = TINY | {"model.width": 1_000_000, "model.depth": 1000, "kernel.probes": 0}
    check_training_memory(validate(override(Config(), large | {"model.kind": "toy"})))
    with pytest.raises(UserError, match="training takes"):
        check_training_memory(validate(override(Config(), large)))


def test_an_unknown_kind_is_refused():
    """In one line, with what there is."""
    with pytest.raises(UserError, match="model.kind=resne: .*did you mean 'resnet'"):
        family("resne")
