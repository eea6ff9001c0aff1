"""Every line in a figure is the number that was recorded."""

import dataclasses

import matplotlib.colors
import numpy as np
import pytest

from testbed.families import NoLaw
from testbed.laws import layer_law
from testbed.reports import load_record
from testbed.reports.figures import draw
from testbed.reports.network import initial_law
from testbed.reports.predictions import expected_losses
from testbed.reports.time_axis import TimeAxis
from testbed.reports.toolkit import style
from testbed.reports.toolkit.axes import round_numbers

DEPTH, WIDTH = 3, 8


@pytest.fixture(scope="module")
def record(usual):
    """The usual run, read."""
    return load_record(usual.path)


@pytest.fixture(scope="module")
def figures(record):
    """Its figures by name."""
    return {d.name: d.figure for d in draw(record)}


def lines(ax, label):
    """The lines of a panel with this label."""
    return [line for line in ax.lines if line.get_label() == label]


def y_of(ax, label):
    """The heights of the one line with this label."""
    (line,) = lines(ax, label)
    return np.asarray(line.get_ydata())


def test_losses_are_medians_over_networks(figures, record):
    """Line: median over networks at t > 0; dot: at t = 0; band: lowest to highest."""
    axes = figures["losses"].axes
    for panel, metric in enumerate(
        f"{m}/{s}" for m in ("loss", "accuracy") for s in ("train", "test")
    ):
        for who in ("finite", "linearized"):
            values = np.median(record.metrics[f"{who}/{metric}"], 1)
            np.testing.assert_allclose(y_of(axes[panel], who), values[1:])
            dots = [tuple(line.get_ydata()) for line in axes[panel].lines]
            assert any(np.allclose(d, values[:1]) for d in dots if len(d) == 1)
        mean = record.metrics[f"infinite/{metric}"][:, 0]
        np.testing.assert_allclose(
            y_of(axes[panel], "infinite, mean prediction"), mean[1:]
        )
    (level,) = lines(axes[1], "infinite, exact NNGP regression")
    assert level.get_ydata()[0] == record.summary["nngp_posterior"]["loss"]
    band = axes[0].collections[0].get_paths()[0].vertices[:, 1]
    values = record.metrics["finite/loss/train"][1:]
    assert np.isclose(band.max(), values.max()) and np.isclose(band.min(), values.min())


def test_expected_loss_of_one_wide_network(record):
    """It is the average loss of functions drawn from the process, not of its mean."""
    expected = expected_losses(record)
    assert expected is not None
    rng, place = np.random.default_rng(0), 2
    mean = record.at(place, "infinite/outputs/test")
    variance = record.at(place, "infinite/variance/test")
    y = record.limits["y/test"]
    noise = rng.standard_normal((20_000, *mean.shape))
    f = mean[None] + np.sqrt(variance)[None, :, None] * noise
    each = 0.5 * ((f - y[None]) ** 2).sum(-1).mean(-1)
    error = each.std() / 20_000**0.5
    assert abs(expected["test"][place] - each.mean()) < 4 * error
    of_mean = record.metrics["infinite/loss/test"][place, 0]
    assert abs(of_mean - each.mean()) > 4 * error


def test_distances_and_departures(figures, record):
    """Medians of the recorded distances; triangles where they pass the tolerance."""
    axes = figures["distances"].axes
    for panel, split in enumerate(("train", "test")):
        for row, pairs in enumerate(
            (("finite_linearized",), ("finite_infinite", "linearized_infinite"))
        ):
            for pair in pairs:
                values = record.metrics[f"distance/{pair}/{split}/relative"][1:]
                label = " to ".join(pair.split("_")) + (" mean" if row else "")
                found = y_of(axes[2 * row + panel], label)
                np.testing.assert_allclose(found, np.median(values, 1))
        relative = record.metrics[f"distance/finite_linearized/{split}/relative"]
        first = [record.times[np.flatnonzero(r > 0.1)[0]] for r in relative.T]
        (marks,) = lines(axes[panel], "a network departs")
        np.testing.assert_array_equal(marks.get_xdata(), first)
        np.testing.assert_array_equal(marks.get_ydata(), [0.1] * 3)
        (rule,) = lines(axes[panel], "tolerance, 0.1")
        assert rule.get_ydata()[0] == 0.1


def test_single_outputs(figures, usual):
    """Each panel: every network's output of the true class, the process, the target."""
    axes = figures["ensemble"].axes
    assert len(axes) == 6
    classes = []
    for ax in axes:
        example = int(ax.get_title().split()[2].rstrip(","))
        label = int(usual.labels["test"][example])
        assert ax.get_title().endswith(f"class {label}")
        classes.append(label)
        for who in ("finite", "linearized"):
            outputs = [s[who]["outputs/test"] for s in usual.seen[1:]]
            wanted = np.array(outputs)[:, :, example, label].T
            color = style.PREDICTORS[who]["color"]
            own = [x for x in ax.lines if x.get_color() == color]
            drawn = [x.get_ydata() for x in own if len(x.get_ydata()) > 1]
            np.testing.assert_allclose(np.sort(drawn, 0), np.sort(wanted, 0))
        infinite = [s["infinite"] for s in usual.seen[1:]]
        mean = [s["outputs/test"][example, label] for s in infinite]
        np.testing.assert_allclose(y_of(ax, "Gaussian process, mean"), mean)
        sd = np.sqrt([s["variance/test"][example] for s in infinite])
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose(band.max(), (np.array(mean) + 2 * sd).max())
        (target,) = lines(ax, "target")
        assert target.get_ydata()[0] == usual.y["test"][example, label]
    assert len(set(classes)) == 6


def test_kernel_over_time(figures, record):
    """Four panels of recorded metrics; the limit's own values as lines."""
    axes = figures["kernel"].axes
    middle = lambda name: np.median(record.metrics[name], 1)[1:]
    change = [np.asarray(x.get_ydata()) for x in axes[0].lines]
    assert any(len(c) == 4 and np.allclose(c, middle("kernel/drift")) for c in change)
    error = middle("kernel/error_infinite")
    assert any(len(c) == 4 and np.allclose(c, error) for c in change)
    shape = np.asarray(axes[1].lines[0].get_ydata())
    np.testing.assert_allclose(shape, middle("kernel/distance"))
    for ax, name in ((axes[2], "alignment"), (axes[3], "top_eigenvalue")):
        np.testing.assert_allclose(y_of(ax, r"$\Theta_t$"), middle(f"kernel/{name}"))
    limit = r"$\Theta_\infty$, infinite width"
    ntk, y = record.limits["ntk"], record.limits["y/train"]
    half = len(ntk) // 2
    k, g = ntk[:half, :half], y[:half] @ y[:half].T
    cosine = (k * g).sum() / np.sqrt((k**2).sum() * (g**2).sum())
    np.testing.assert_allclose(y_of(axes[2], limit), cosine)
    top = np.linalg.eigvalsh(ntk)[-1]
    np.testing.assert_allclose(y_of(axes[3], limit), top)


def test_spectra(figures, usual):
    """Medians over networks of the eigenvalues, start and end, and their ratio."""
    left, right = figures["spectrum"].axes
    reference = np.linalg.eigvalsh(usual.ntk)[::-1]
    for place, label in ((0, "at t = 0"), (-1, "at t = 2")):
        kernels = usual.seen[place]["finite"]["kernel"].astype(np.float64)
        values = np.median(np.linalg.eigvalsh(kernels)[:, ::-1], 0)
        np.testing.assert_allclose(y_of(left, label), values, rtol=1e-6)
        np.testing.assert_allclose(y_of(right, label), values / reference, rtol=1e-6)
    found = y_of(left, r"$\Theta_\infty$, infinite width")
    np.testing.assert_allclose(found, reference)


def test_layers_and_their_law(figures, usual):
    """Means over networks and probes, and the law of this width, depth and branch."""
    norms, active, gradient = figures["layers"].axes
    for place, label in ((0, "at t = 0"), (-1, "at t = 2")):
        finite = usual.seen[place]["finite"]
        log = np.log(finite["layers/squared_norm"])
        wanted = (log - log[:, :1]).mean((0, 2))
        np.testing.assert_allclose(y_of(norms, label), wanted, atol=1e-12)
        wanted = finite["layers/active_fraction"].mean((0, 2))
        np.testing.assert_allclose(y_of(active, label), wanted)
        wanted = np.median(finite["layers/gradient_norm"], 0)
        np.testing.assert_allclose(y_of(gradient, label), wanted)
    law = layer_law(WIDTH, DEPTH, 1.0, DEPTH**-0.5, balanced=True)
    found = y_of(norms, "theory at t = 0, mean")
    np.testing.assert_allclose(found, law.log_norm_mean, atol=1e-6)  # float32 branch
    band = [c for c in norms.collections if c.get_label() == "theory, ± 1 sd"]
    top = band[0].get_paths()[0].vertices[:, 1].max()
    wanted = (law.log_norm_mean + np.sqrt(law.log_norm_var)).max()
    np.testing.assert_allclose(top, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model.kind": "mlp"}, (0.0, 1.0, False)),
        ({"model.kind": "resnet"}, (1.0, DEPTH**-0.5, False)),
        (
            {"model.branch": "fixed", "model.alpha": 0.6, "model.lam": 0.8},
            (0.6, 0.8, True),
        ),
        ({"model.activation": "tanh"}, "it is known for ReLU, and the activation is"),
        ({"model.bias_std": 0.1}, "it is known for networks without biases"),
    ],
)
def test_which_law_belongs_to_a_run(make_run, settings, expected):
    """The law is that of kind and branch; where there is none, the figure says why."""
    record = load_record(make_run(steps=(0,), settings=settings).path)
    law = initial_law(record)
    if isinstance(expected, str):
        assert isinstance(law, NoLaw) and expected in law.reason
        (drawing,) = (d for d in draw(record) if d.name == "layers")
        assert f"No theory is drawn: {law.reason}" in drawing.caption.shown
        assert not lines(drawing.figure.axes[0], "theory at t = 0, mean")
        return
    wanted = layer_law(WIDTH, DEPTH, *expected)
    assert not isinstance(law, NoLaw)
    np.testing.assert_allclose(law.log_norm_mean, wanted.log_norm_mean, atol=1e-6)
    np.testing.assert_allclose(law.log_norm_var, wanted.log_norm_var, rtol=1e-6)


def test_a_kind_of_another_version_has_no_law(record):
    """A run of a kind that is not known here is given no law of those that are."""
    config = record.config | {"model.kind": "of_tomorrow"}
    law = initial_law(dataclasses.replace(record, config=config))
    assert isinstance(law, NoLaw) and "no networks of kind of_tomorrow" in law.reason


def test_parameters(figures, record):
    """Medians of the recorded movement, one line a group."""
    (ax,) = figures["movement"].axes
    for group in ("input", "blocks", "head"):
        values = record.metrics[f"parameters/movement/{group}"][1:]
        np.testing.assert_allclose(y_of(ax, group), np.median(values, 1))


def test_one_colour_for_each_predictor(figures):
    """A predictor's colour is the same wherever its name stands in a legend."""
    used: dict[str, set] = {}
    for figure in figures.values():
        for ax in figure.axes:
            for line in ax.lines:
                label = str(line.get_label())
                for who in style.PREDICTORS:
                    if label == who or label.startswith(f"{who},"):
                        if "NNGP" not in label:
                            color = matplotlib.colors.to_hex(line.get_color())
                            used.setdefault(who, set()).add(color)
    assert used["finite"] == {style.FINITE.lower()}
    assert used["linearized"] == {style.LINEARIZED.lower()}
    assert used["infinite"] == {style.INFINITE.lower()}


def test_zero_has_a_place_on_a_logarithmic_axis():
    """t = 0 lies left of the first time and is named 0; ticks are round."""
    times = np.array([0.0, 0.2, 1.0, 80.0])
    axis = TimeAxis(times)
    np.testing.assert_array_equal(axis.x[1:], times[1:])
    assert 0 < axis.x[0] < 0.2
    assert TimeAxis(np.array([0.0])).x[0] > 0
    assert round_numbers(0.15, 90.0) == pytest.approx([0.3, 1, 3, 10, 30])
    assert round_numbers(0.086, 0.46) == pytest.approx([0.1, 0.2, 0.3])
    assert round_numbers(366, 381) == pytest.approx([370, 375, 380])
    assert len(round_numbers(1e-3, 1e29)) <= 10
