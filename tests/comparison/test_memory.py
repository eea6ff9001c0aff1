"""What a comparison is said to take of memory, against what its programs ask for."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from testbed.errors import UserError
from testbed.runs import foreign_memory
from testbed.runs.foreign import Options, prepare_foreign
from testbed.runs.foreign_data import Examples
from testbed.runs.foreign_memory import training_bytes

OPTIONS = Options(
    lr=1e-3, steps=4, times=2, seeds=3, optimizer="gd", batch_size=0, momentum=0.0,
    loss="mse", center=False, tolerance=0.1, probes=0,
)  # fmt: skip


def mlp(width, activation):
    return nn.Sequential(
        [nn.Dense(width), activation, nn.Dense(width), activation, nn.Dense(3)]
    )


def test_estimate_is_what_the_compiler_says(monkeypatch):
    """0.9 to 2 times what the larger of the two programs of a step takes.

    The compiler keeps less on the way back than the derivative names, where it can.
    """
    net, examples = mlp(16, nn.tanh), 1024
    x = np.random.default_rng(0).standard_normal((examples, 8)).astype(np.float32)
    data = Examples.of(x, np.arange(examples) % 3, None, None)
    init = lambda key: net.init(key, x[:1])
    made = prepare_foreign(net.apply, init, data, OPTIONS, None, jax.random.key(0))
    predictors, size = made.course.predictors, lambda tree: sum(
        leaf.nbytes for leaf in jax.tree.leaves(tree)
    )  # fmt: skip
    states = {name: p.start() for name, p in predictors.items()}
    needed = []
    for name, predictor in predictors.items():
        program, asked = predictor._advance, []
        ask = lambda *a, program=program, asked=asked: asked.append(
            program.lower(*a).compile().memory_analysis()
        )
        monkeypatch.setattr(predictor, "_advance", ask)
        predictor.advance(states[name], 0, 1)
        taken = asked[0].output_size_in_bytes + asked[0].temp_size_in_bytes
        needed.append(size(made.course.finite.initial) + size(states) + taken)
    problem = made.course.finite.problem
    one = jax.eval_shape(problem.init, jax.random.key(0))
    told = training_bytes(problem, one, data.coded(3, np.float32, "mse"), OPTIONS)
    assert 0.9 * max(needed) < told < 2 * max(needed), told / max(needed)


def test_what_cannot_fit_is_refused(monkeypatch):
    """By the argument that decides, with what there is."""
    monkeypatch.setattr(foreign_memory, "available_bytes", lambda: 10**5)
    net, x = mlp(64, nn.relu), np.ones((64, 8), np.float32)
    data = Examples.of(x, np.arange(64) % 3, None, None)
    with pytest.raises(UserError, match="seeds=3: training takes .* of 97.7 KiB"):
        prepare_foreign(
            net.apply, lambda key: net.init(key, x), data, OPTIONS, None,
            jax.random.key(0),
        )  # fmt: skip
