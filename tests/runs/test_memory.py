"""What a run is said to take of memory, against what its programs ask for."""

import jax
import pytest

from testbed.config import Config
from testbed.runs.experiment import prepare
from testbed.runs.memory import training_bytes
from testbed.settings import override
from testbed.validation import validate

pytestmark = pytest.mark.float64

SHAPES = {
    "activations": {"model.width": 32, "model.depth": 16, "data.train_size": 512},
    "weights": {"model.width": 256, "model.depth": 8, "data.train_size": 16},
}


@pytest.mark.parametrize("seed_axis", ["vmap", "map"])
@pytest.mark.parametrize("optimizer", ["gd", "momentum", "adam"])
@pytest.mark.parametrize("shape", SHAPES)
def test_estimate_is_what_the_compiler_says(shape, optimizer, seed_axis, monkeypatch):
    """Told from the config: 0.9 to 1.3 times what a step of training takes.

    Activations that are not counted for every seed of a batch are half of it at most.
    """
    more = {"train.lr": 1e-3} if optimizer == "adam" else {}
    settings = {
        "data.name": "mixture",
        "data.n_in": 16,
        "data.n_out": 4,
        "data.test_size": 16,
        "train.optimizer": optimizer,
        "train.seeds": 3,
        "kernel.probes": 0,
        "run.seed_axis": seed_axis,
    }
    config = validate(override(Config(), settings | SHAPES[shape] | more))
    predictors = prepare(config, lambda text: None).predictors
    states = {name: predictors[name].start() for name in ("finite", "linearized")}
    program, analyses = predictors["linearized"]._advance, []

    def ask(*arguments):
        analyses.append(program.lower(*arguments).compile().memory_analysis())

    monkeypatch.setattr(predictors["linearized"], "_advance", ask)
    predictors["linearized"].advance(states["linearized"], 0, 1)
    (asked,) = analyses
    size = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    # theta_0, both states before the step, the displacements after it, what is made.
    needed = size(predictors["finite"].initial) + size(states)
    needed += asked.output_size_in_bytes + asked.temp_size_in_bytes
    told = training_bytes(config, (16,), 4)
    assert 0.9 * needed < told < 1.3 * needed, told / needed
