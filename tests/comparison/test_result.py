"""What a comparison gives: tables, figures, a folder, a page; and what it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import testbed
from testbed import compare
from testbed.errors import NotFinite, UserError
from testbed.reports import load_record

X = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
Y = np.sin(X[:, :1])
F = lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"]


def init(key):
    """A little network."""
    w, v = jax.random.split(key)
    draw = lambda key, *shape: jax.random.normal(key, shape, jnp.float32)
    return {"w": draw(w, 3, 16) / 3**0.5, "v": draw(v, 16, 1) / 4}


@pytest.fixture(scope="module")
def both():
    """With a test set, and without one."""
    options = {"seeds": 2, "steps": 30, "times": 5, "probes": 2, "tolerance": 1e-3}
    whole = compare(F, init, X[:6], Y[:6], X[6:], Y[6:], **options)
    return whole, compare(F, init, X, Y, **options)


def test_the_rate_is_a_tenth_of_the_stiffest_network_s_critical_one(both):
    """2N / lambda_max of J J^T on the training set, all outputs coupled."""
    key, largest = jax.random.fold_in(jax.random.key(0), 0), []
    for i in (0, 1):
        params = init(jax.random.fold_in(key, i))
        jacobian = jax.jacobian(F)(params, X[:6])
        flat = [j.reshape(6, -1) for j in jax.tree.leaves(jacobian)]
        largest.append(np.linalg.eigvalsh(sum(j @ j.T for j in flat))[-1])
    want = 0.1 * 2 * 6 / max(largest)
    # 50 power iterations find lambda_max from below; float32.
    assert 0.999 * want < both[0].summary["lr"] < 1.01 * want
    assert max(largest) > 1.02 * min(largest)  # the stiffest is not any of them


def test_the_table_is_metrics_jsonl(both, tmp_path):
    """Same columns, same numbers; a row a network and time, whatever is one for all."""
    for i, result in enumerate(both):
        folder = result.save(tmp_path / str(i))
        rows = [json.loads(line) for line in open(folder / "metrics.jsonl")]
        table = result.table()
        assert list(table.columns) == list(dict.fromkeys(k for r in rows for k in r))
        assert len(table) == 2 * len(rows) and table.index.name == "seed"
        for seed in (0, 1):
            one = table.loc[seed]
            for name in ("t", "finite/loss/train", "kernel/drift"):
                cells = [np.atleast_1d(row[name]) for row in rows]
                want = [float(cell[min(seed, len(cell) - 1)]) for cell in cells]
                np.testing.assert_array_equal(one[name], want)
        assert list(json.loads((folder / "config.json").read_text()))[:-1] == list(
            result.settings
        )
    assert "finite/loss/test" not in both[1].table().columns


def test_xarray_has_what_was_observed(both):
    """Metrics and arrays over time and seed; the departure time follows from them."""
    data = both[0].to_xarray()
    f, g = data["finite/outputs/test"], data["linearized/outputs/test"]
    assert f.dims == ("time", "seed", "test", "output") and f.shape == (6, 2, 3, 1)
    rms = lambda a: np.sqrt((a.astype(np.float64) ** 2).mean(("test", "output")))
    relative = (rms(f - g) / rms(g)).values[1:]
    name = "distance/finite_linearized/test/relative"
    np.testing.assert_allclose(relative, data[name][1:], rtol=1e-6)
    first = (relative > 1e-3).argmax(0)
    np.testing.assert_array_equal(both[0].departure_time, data["time"][1:][first])
    assert data["ensemble/spread/test"].dims == ("time",)
    assert data["finite/kernel"].dims == ("time", "seed", "probe", "other_probe")


def test_its_page_is_that_of_a_run(both, tmp_path):
    """Figures, numbers, reasons; nothing of another network's depth or law."""
    for i, result in enumerate(both):
        page = result.report(tmp_path / str(i)).read_text()
        assert "no kernel_fn was given" in page
        assert "The layers of a network that is not ours are not known" in page
        assert "64 parameters" in page and "testbed.compare" in page
        for word in ("depth", "log-Gaussian", "adam", "residual", "scripts/train.py"):
            assert word not in page.split("What the words")[0], word
        names = {p.stem for p in (tmp_path / str(i) / "figures").iterdir()}
        assert names == set(result.figures())
        assert {"losses", "distances", "kernel", "movement"} <= names
        record = load_record(tmp_path / str(i))
        assert record.checked and record.seeds == 2
        result.report(tmp_path / str(i))  # it is there already
        with pytest.raises(UserError, match="already holds a run"):
            both[1 - i].report(tmp_path / str(i))
    assert "ensemble" not in both[1].figures()


WEIGHT = {"w": jnp.ones((3, 1))}
LINEAR = lambda p, x: x @ p["w"]


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        ((F, {"w": 1}), {}, "params_or_init=dict: holds no array of floating-point"),
        ((F, lambda key: 1 / 0), {}, r"params_or_init=fails \(ZeroDivisionError"),
        ((LINEAR, {"w": jnp.ones((3, 1)) * 1j}), {}, r"params\['w'\]=complex64"),
        ((lambda p, c, x: x, WEIGHT), {}, r"must be or give \(params, constants\)"),
        ((lambda p, x: 1 / 0, WEIGHT), {}, r"apply_fn=fails \(ZeroDivisionError"),
        ((lambda p, x: x[:, 0], WEIGHT), {}, r"apply_fn=returns \(9,\): must return"),
        ((lambda p, x: LINEAR(p, x - x.mean(0)[None]), WEIGHT), {}, "rows must not"),
        ((LINEAR, {"w": jnp.full((3, 1), jnp.nan)}), {}, r"initialization \(seed 0\)"),
        ((lambda p, x: x[:, :1] + 0 * p["w"][:1], WEIGHT), {}, "lr=None: is a tenth"),
        (
            (LINEAR, WEIGHT),
            {"seeds": 3},
            "seeds=3: params_or_init gives the parameters",
        ),
        ((LINEAR, WEIGHT), {"steps": 0}, "steps=0: must be at least 1"),
        ((LINEAR, WEIGHT), {"steps": 1.5}, "steps=1.5: must be a whole number"),
        ((LINEAR, WEIGHT), {"times": 10**6}, "times=1000000: must be at most 10000"),
        ((LINEAR, WEIGHT), {"tolerance": float("nan")}, "tolerance=nan: must be fin"),
        ((LINEAR, WEIGHT), {"lr": -1.0}, "lr=-1.0: must be positive"),
        ((LINEAR, WEIGHT), {"optimizer": "sdg"}, "did you mean 'sgd'"),
        ((LINEAR, WEIGHT), {"optimizer": "sgd"}, "optimizer=sgd: needs a batch size"),
        ((LINEAR, WEIGHT), {"optimizer": "adam"}, "give lr, e.g. 1e-3"),
        ((LINEAR, WEIGHT), {"batch_size": 10}, "batch_size=10: must be at most"),
        ((LINEAR, WEIGHT), {"momentum": 0.5}, "momentum=0.5: has no effect"),
        ((LINEAR, WEIGHT), {"loss": "cross_entropy"}, "of one output takes -1 and"),
        ((LINEAR, WEIGHT), {"y_train": Y[:, 0]}, r"y_train.shape=\(9,\): must be \(N"),
        ((LINEAR, WEIGHT), {"y_train": np.arange(9)}, "labels must be 0 to 1"),
        ((LINEAR, WEIGHT), {"y_train": Y[:4]}, "must have the 9 examples of x_train"),
        ((LINEAR, WEIGHT), {"x_train": X * np.nan}, "x_train=an array: must be finite"),
        ((LINEAR, WEIGHT), {"x_test": X}, "y_test=None: x_test is given"),
        ((LINEAR, WEIGHT), {"x_test": X[:, :2], "y_test": Y}, "must be like x_train"),
        ((LINEAR, WEIGHT), {"kernel_fn": lambda x: x}, "kernel_fn=fails"),
        ((LINEAR, WEIGHT), {"key": -1}, "key=-1: must be at least 0"),
    ],
)
def test_a_mistake_is_one_line(given, options, told):
    """Field, value, rule and remedy, before anything is trained."""
    arguments = {"x_train": X, "y_train": Y, "steps": 2, "times": 1, "probes": 0}
    with pytest.raises(UserError, match=told) as error:
        compare(*given, **arguments | options)
    assert "\n" not in str(error.value)


def test_a_network_that_diverges_is_told():
    """A warning beforehand, the step at which it is not finite, and what was before."""
    with pytest.warns(UserWarning, match="lr=1000 is above the stability bound"):
        with pytest.raises(NotFinite, match="not finite at step .*; lower lr") as told:
            compare(F, init, X, Y, lr=1000.0, steps=200, times=2, probes=0)
    kept = told.value.comparison
    assert len(kept.table()) and kept.summary["status"] == "failed"
    assert kept.summary["diverged"]["seeds"] == [0]


def test_the_name_is_there_and_the_package_is_light():
    """`testbed.compare` is found when it is asked for; other names are not."""
    assert testbed.compare is compare
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = testbed.other
    with pytest.raises(UserError, match="cannot be traced"):
        jax.jit(lambda x: compare(LINEAR, WEIGHT, x, Y))(X)
