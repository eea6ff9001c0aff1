"""Whole jobs in this process, over the settings that change what is computed."""

import numpy as np

from testbed.config import preset
from testbed.programs import train
from testbed.runs.console import Console
from testbed.runs.folder import RunFolder
from testbed.settings import override
from testbed.validation import validate

TINY = {
    "data.name": "mixture",
    "data.train_size": 16,
    "data.test_size": 8,
    "data.n_in": 6,
    "data.n_out": 3,
    "model.width": 16,
    "model.depth": 2,
    "train.steps": 12,
    "train.lr_fraction": 0.2,
    "kernel.probes": 4,
    "measure.times": 5,
    "wandb.mode": "disabled",
    "run.report": False,
}


def job(tmp_path, **values):
    settings = {**TINY, "run.dir": str(tmp_path / "run"), **values}
    config = validate(override(preset("smoke"), settings))
    summary = train(config, Console())
    return summary, RunFolder(tmp_path / "run").rows()


def finite(rows):
    keep = [k for k in rows[-1] if "/loss/" in k or "distance/" in k]
    return all(np.isfinite(np.array(rows[-1][k], float)).all() for k in keep)


def test_cross_entropy_with_minibatches_and_momentum(tmp_path):
    """The infinite predictor follows drawn functions; all three train."""
    summary, rows = job(
        tmp_path,
        **{
            "train.loss": "cross_entropy",
            "train.optimizer": "momentum",
            "train.batch_size": 4,
            "train.steps": 24,
        },
    )
    assert summary["status"] == "done" and finite(rows)
    for who in ("finite", "linearized", "infinite"):
        losses = [np.median(row[f"{who}/loss/train"]) for row in rows]
        assert losses[-1] < losses[0]
    # Centred: the law has no variance, and nothing is measured in units of it.
    assert rows[-1]["infinite/spread/test"] == 0
    assert rows[-1]["ensemble/variance_ratio/test"] is None


def test_adam_has_no_infinite_predictor_and_says_so(tmp_path, capsys):
    """Rows hold finite and linearized only."""
    values = {"train.optimizer": "adam", "train.lr": 0.01, "kernel.probes": 0}
    summary, rows = job(tmp_path, **values)
    assert summary["status"] == "done" and finite(rows)
    silent = ("infinite", "ensemble/var", "kernel/")
    assert not any(k.startswith(silent) for k in rows[-1])
    assert "no kernel describes adam" in capsys.readouterr().out


def test_readout_training_never_departs(tmp_path):
    """What is linear in its parameters stays with its linearization: `never`."""
    values = {"train.trained": "readout", "data.name": "linear", "data.n_out": 2}
    summary, rows = job(tmp_path, **values)
    assert summary["departure"]["test"]["text"] == "never"
    assert "stayed within 10% of its linearization" in summary["reading"]
    assert "finite/accuracy/test" not in rows[-1]  # regression
    assert rows[-1]["parameters/movement/head"][0] > 0


def test_centred_outputs_start_at_zero(tmp_path):
    """f - f_0 of all three is 0 at t = 0, and the law has no variance."""
    _, rows = job(tmp_path, **{"train.center": True, "model.kind": "mlp"})
    assert rows[0]["distance/finite_infinite/test/rms"] == [0, 0]
    assert min(rows[1]["distance/finite_infinite/test/rms"]) > 0
    assert rows[-1]["ensemble/variance_ratio/test"] is None


def test_standard_parameterization_and_kernels_every_other_time(tmp_path):
    """The standard kernel is that of the width; skipped kernels leave no metric."""
    values = {"model.parameterization": "standard", "kernel.every": 2}
    _, rows = job(tmp_path, **values)
    measured = ["kernel/drift" in row for row in rows]
    assert measured[0] and measured[-1] and not all(measured)
    assert max(rows[0]["kernel/error_infinite"]) < 1.5  # the scale is n's, not 1's
    assert "kernel/velocity" in rows[-1] and "kernel/velocity" not in rows[0]
