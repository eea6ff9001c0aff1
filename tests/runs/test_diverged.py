"""Networks that diverge while others of their ensemble go on."""

import numpy as np
import pytest

from testbed.config import preset
from testbed.divergence.distances import relative_distance
from testbed.errors import NotFinite
from testbed.programs import train
from testbed.runs import moments
from testbed.runs.console import Console
from testbed.runs.diverged import Diverged
from testbed.runs.folder import RunFolder, arrays_name
from testbed.settings import override
from testbed.validation import validate

SEEDS = 6
UNSTABLE = {
    "data.name": "mixture",
    "data.train_size": 16,
    "data.test_size": 8,
    "data.n_in": 6,
    "data.n_out": 3,
    "model.width": 4,
    "model.depth": 3,
    "train.steps": 400,
    "train.seeds": SEEDS,
    "train.lr_fraction": 0.8,  # above the bound of some linearizations
    "kernel.probes": 4,
    "measure.times": 12,
    "run.checkpoint_seconds": 0,
    "wandb.mode": "disabled",
}
RELATIVE = "distance/finite_linearized/test/relative"
pytestmark = pytest.mark.filterwarnings("ignore:.*(go on|stability bound)")


def job(path, **values):
    config = validate(override(preset("smoke"), {**UNSTABLE, **values}))
    summary = train(override(config, {"run.dir": str(path)}), Console())
    return summary, RunFolder(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return job(tmp_path_factory.mktemp("diverged") / "run")


def test_the_others_go_on_and_are_measured_as_ever(whole):
    """The run is done; survivors' distances are those of their recorded outputs."""
    summary, folder = whole
    lost = summary["diverged"]["seeds"]
    left = [seed for seed in range(SEEDS) if seed not in lost]
    assert summary["status"] == "done" and lost and left
    assert f"left out: {len(lost)} of {SEEDS} networks" in summary["reading"]
    last, first = folder.rows()[-1], folder.read_arrays(arrays_name(0))
    assert last["step"] == UNSTABLE["train.steps"]
    assert all(last[RELATIVE][seed] is None for seed in lost)
    arrays = folder.read_arrays(arrays_name(last["step"]))
    assert np.isnan(arrays["finite/outputs/test"][lost]).all()
    f, g = (arrays[f"{who}/outputs/test"][left] for who in ("finite", "linearized"))
    start = first["linearized/outputs/test"][left]
    rounding = arrays["finite/outputs/rounding"][left]
    want = relative_distance(f, g, start, rounding)
    np.testing.assert_array_equal([last[RELATIVE][seed] for seed in left], want)
    deviation = f.astype(np.float64).std(0, ddof=1)
    spread = np.sqrt(np.mean(deviation**2))
    assert last["ensemble/spread/test"] == pytest.approx(spread, rel=1e-6)
    assert (folder.path / "report.html").exists()


def test_before_they_diverged_networks_count(whole):
    """Every network is in the first rows; when a lost one departed, nobody knows."""
    summary, folder = whole
    lost, rows = summary["diverged"]["seeds"], folder.rows()
    early = [r for r in rows if 0 < r["t"] < summary["diverged"]["t"]]
    assert early and all(v is not None for row in early for v in row[RELATIVE])
    times = np.array(summary["departure"]["test"]["seeds"], float)
    assert np.isnan(times[lost]).all()
    assert summary["departure"]["test"]["of"] == SEEDS - len(lost)


def test_stopped_and_resumed_it_is_the_same_to_the_bit(whole, tmp_path, monkeypatch):
    """Stopped after networks were lost: the resumed run leaves out the same ones."""
    measured, real = [], moments.divergence_row

    def stop(*args):
        measured.append(real(*args))
        if len(measured) == 10:
            raise KeyboardInterrupt
        return measured[-1]

    with monkeypatch.context() as patch:
        patch.setattr(moments, "divergence_row", stop)
        with pytest.raises(KeyboardInterrupt):
            job(tmp_path / "run")
    assert len(measured[-1][RELATIVE]) < SEEDS  # some were lost before
    summary, folder = job(tmp_path / "run", **{"run.resume": True})
    want = (whole[1].path / "metrics.jsonl").read_bytes()
    assert (folder.path / "metrics.jsonl").read_bytes() == want
    assert summary["diverged"] == whole[0]["diverged"]


def test_a_run_without_a_network_left_fails():
    """The last one's divergence ends the run, and tells all that were lost."""
    networks = Diverged(2)
    clean = {"outputs": np.ones((2, 3))}
    seen = {"finite": clean, "linearized": {"outputs": np.array([[1.0], [np.nan]])}}
    with pytest.warns(UserWarning, match="of seed 1 .* 1 of 2 networks go on"):
        networks.check_seen(seen, 5, 0.5)
    assert list(networks.alive) == [True, False]
    networks.check_seen(seen, 6, 0.6)  # told once
    resumed = Diverged(2, [{"finite/loss/train": [0.3, None]}])
    assert list(resumed.alive) == [True, False]
    seen["finite"] = {"outputs": np.array([[np.inf], [1.0]])}
    with pytest.raises(NotFinite, match="finite/outputs of seed 0") as caught:
        networks.check_seen(seen, 7, 0.7)
    assert caught.value.seeds == [0, 1] and caught.value.t == 0.7


def test_at_the_start_and_in_the_limit_nothing_may_be_infinite():
    """A network that overflows at step 0 is a mistake in the model, not a departure."""
    seen = {"finite": {"outputs": np.array([[1.0], [np.inf]])}}
    with pytest.raises(NotFinite, match="not finite at step 0") as caught:
        Diverged(2).check_seen(seen, 0, 0.0)
    assert caught.value.seeds == [1]
    limit = {"infinite": {"outputs": np.array([np.nan])}}
    with pytest.raises(NotFinite, match="infinite/outputs") as caught:
        Diverged(2).check_seen(limit, 3, 0.3)
    assert caught.value.seeds == []  # no network is to blame
