"""Subsets, targets and normalisation."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.data.dataset import Dataset, RawImages, digest
from testbed.data.prepare import balanced_order, encode, normalize, prepare
from testbed.errors import UserError

labels_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def raw():
    """Five classes, unequally many; a pixel's value tells the class."""
    rng = np.random.default_rng(1)
    splits = []
    for counts in ([40, 30, 20, 10, 5], [6, 6, 6, 6, 6]):
        labels = np.repeat(np.arange(5), counts)
        images = rng.integers(1, 256, (len(labels), 4, 4, 1))
        images[:, 0, 0, 0] = 10 * (labels + 1)
        splits.append((images, labels))
    return RawImages.from_splits(*splits, "abcde")


def _worst_lag(labels):
    """The most by which, in any prefix, a class not yet exhausted lags another."""
    total = np.bincount(labels, minlength=5)
    worst = 0
    for m in range(len(labels)):
        counts = np.bincount(labels[:m], minlength=5)
        worst = max(worst, counts.max() - counts[counts < total].min())
    return worst


@given(labels_lists, st.integers(0, 5))
def test_every_prefix_is_balanced(labels, seed):
    """In every prefix, a class lags another by at most 1 unless it is exhausted."""
    labels = np.array(labels)
    order = balanced_order(labels, (seed, 0))
    assert sorted(order) == list(range(len(labels)))
    assert _worst_lag(labels[order]) <= 1


def test_plain_shuffle_is_not_balanced():
    """The balance test above rejects a plain shuffle."""
    labels = np.repeat(np.arange(5), 20)
    assert _worst_lag(np.random.RandomState(0).permutation(labels)) > 3


def test_seed_chooses_the_subset(raw, config):
    """Another seed draws other examples; the same seed the same ones."""
    sets = [
        prepare(raw, config(train_size=20, test_size=10, seed=s)) for s in (0, 0, 1)
    ]
    assert sets[0].checksum == sets[1].checksum != sets[2].checksum
    assert (sets[0].x_train != sets[2].x_train).any()


def test_smaller_subset_is_head_of_larger(raw, config):
    """The m examples at a seed are the first m of any larger draw."""
    small, large = (
        prepare(raw, config(train_size=n, test_size=n // 2)) for n in (20, 40)
    )
    np.testing.assert_array_equal(small.x_train, large.x_train[:20])
    np.testing.assert_array_equal(small.labels_test, large.labels_test[:10])


def test_images_keep_their_labels(raw, config):
    """Every selected image still carries the label it had."""
    data = prepare(raw, config(train_size=60, test_size=30, normalize="none"))
    marked = np.rint(data.x_train[:, 0] * 255 / 10 - 1)
    np.testing.assert_array_equal(marked, data.labels_train)
    assert data.classes == tuple("abcde")


def test_two_classes_become_signs(raw, config):
    """Classes (3, 1): label 0 and target -1 for class 3, label 1 and +1 for class 1."""
    data = prepare(
        raw, config(train_size=20, test_size=12, classes=(3, 1), normalize="none")
    )
    marked = np.rint(data.x_train[:, 0] * 255 / 10 - 1)
    assert data.classes == ("d", "b")
    assert data.y_train.shape == (20, 1) and data.n_out == 1
    np.testing.assert_array_equal(data.y_train[:, 0], np.where(marked == 3, -1, 1))
    np.testing.assert_array_equal(data.labels_train, np.where(marked == 3, 0, 1))
    assert abs(data.y_train.sum()) == 0


@given(labels_lists)
def test_one_hot_is_centred(labels):
    """k > 2 columns: 1 - 1/k at the label, -1/k elsewhere, rows sum to 0."""
    y = encode(np.array(labels), 5)
    assert y.dtype == np.float32 and y.shape == (len(labels), 5)
    np.testing.assert_allclose(y.sum(1), 0, atol=5 * 2**-24)
    np.testing.assert_array_equal(y.argmax(1), labels)
    np.testing.assert_array_equal(np.unique(y), np.float32([-0.2, 0.8]))


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(0, 100))
def test_image_normalisation_is_exact(n_in, seed):
    """|x|^2 = n_in for each input, to float32 rounding, and directions are kept."""
    x = np.random.RandomState(seed).randint(1, 256, (7, n_in)).astype(float)
    scaled, _ = normalize(x, x[:2], "image")
    # Each square errs by at most 2 half-ulps (2^-23), hence so does their mean.
    norm2 = np.sum(scaled.astype(np.float64) ** 2, 1)
    np.testing.assert_allclose(norm2, n_in, rtol=2**-22)
    np.testing.assert_allclose(scaled / scaled[:, :1], x / x[:, :1], rtol=1e-6)


def test_image_normalisation_refuses_zero():
    """An input of norm 0 has no direction, and the message says what to do."""
    x = np.ones((3, 4))
    with pytest.raises(UserError, match="data.normalize=image.*zero.*feature"):
        normalize(x, 0 * x, "image")


def test_feature_normalisation_uses_training_statistics():
    """Each varying feature has mean 0, equal variance; the mean |x|^2 is n_in."""
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (50, 6)) * np.arange(1, 7)
    x[:, 2] = 7.0  # constant in training, not in the test set
    x_test = rng.normal(0, 5, (20, 6))
    z, z_test = normalize(x, x_test, "feature")
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    expected = np.where(np.arange(6) == 2, 0, np.sqrt(6 / 5))
    np.testing.assert_allclose(z.std(0), expected, atol=1e-6)
    np.testing.assert_allclose(np.mean(np.sum(z**2, 1)), 6, rtol=1e-6)
    np.testing.assert_array_equal(z_test[:, 2], 0)
    # The test set goes through the same affine map, found here from two points.
    slope = (z[1] - z[0]) / np.where(x[1] == x[0], 1, x[1] - x[0])
    np.testing.assert_allclose(z_test, z[0] + slope * (x_test - x[0]), atol=1e-4)


def test_feature_normalisation_refuses_a_constant_set():
    """With no varying feature there is no scale to divide by."""
    with pytest.raises(UserError, match="data.normalize=feature.*no coordinate"):
        normalize(np.ones((3, 4)), np.ones((2, 4)), "feature")


def test_none_maps_white_to_one(raw, config):
    """`none` keeps grey levels, scaled to [0, 1]."""
    data = prepare(raw, config(train_size=60, test_size=30, normalize="none"))
    grey = data.x_train * 255
    np.testing.assert_allclose(grey, np.rint(grey), atol=1e-4)
    assert 0 <= data.x_train.min() and 0.9 < data.x_train.max() <= 1


def test_flatten_only_reshapes(raw, config):
    """Flat and image-shaped data hold the same numbers."""
    flat, shaped = (
        prepare(raw, config(train_size=20, test_size=10, flatten=f))
        for f in (True, False)
    )
    assert flat.input_shape == (16,) and shaped.input_shape == (4, 4, 1)
    assert flat.n_in == shaped.n_in == 16
    np.testing.assert_array_equal(flat.x_train, shaped.x_train.reshape(20, 16))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(train_size=106), "data.train_size=106: .* has 105 train examples"),
        (dict(train_size=16, classes=(3, 4)), "has 15 train .*3, 4.*at most 15"),
        (dict(test_size=31), "data.test_size=31: .* has 30 test"),
        (dict(classes=(1, 5)), "data.classes=.1, 5.: .*from 0 to 4"),
        (dict(classes=(1, 1)), "data.classes=.1, 1.: .*two different"),
        (dict(classes=(-1, 1)), "data.classes=.-1, 1.: "),
    ],
)
def test_impossible_requests_are_explained(raw, config, fields, message):
    """A request beyond the set names field, value, rule and remedy in one line."""
    fields = dict(train_size=10, test_size=10) | fields
    with pytest.raises(UserError, match=message) as caught:
        prepare(raw, config(**fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_without_examples_is_named(raw, config, split):
    """Every class that is asked for has an example in both whole splits."""
    y = getattr(raw, f"y_{split}").copy()
    y[y == 3] = 2
    without = dataclasses.replace(raw, **{f"y_{split}": y})
    sizes = dict(train_size=10, test_size=10)
    rule = f"data.classes=.*no {split} example of class 3; e.g. data.classes=0,1,2,4$"
    with pytest.raises(UserError, match=rule):
        prepare(without, config(**sizes))
    assert prepare(without, config(classes=(0, 1, 2, 4), **sizes)).n_out == 4


def _own(raw, config):
    data = prepare(raw, config(train_size=20, test_size=10))
    return {f.name: getattr(data, f.name) for f in dataclasses.fields(data) if f.init}


def _with_nan(x):
    x = x.copy()
    x[3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("x_test", lambda x: x[:, :9], r"x_test.shape=\(10, 9\): must be \(10, 16\)"),
        ("x_train", lambda x: x[0], r"x_train.shape=\(16,\): must be \(16, 16\)"),
        ("x_train", _with_nan, "x_train=nan or inf: 1 of 20 examples are not finite"),
        ("y_test", _with_nan, "y_test=nan or inf: 1 of 10"),
        ("y_train", lambda y: y[:7], r"y_train.shape=\(7, 5\): must be \(20, 5\)"),
        ("y_train", lambda y: y[:, 0], r"y_train.shape=\(20,\): must have an axis"),
        ("y_test", lambda y: y[:, :2], r"y_test.shape=\(10, 2\): must be \(10, 5\)"),
        (
            "labels_train",
            lambda k: k[1:],
            r"labels_train.shape=\(19,\): must be \(20,\)",
        ),
        ("labels_train", lambda k: k + 1, "labels_train=5: must lie from 0 to 4"),
        ("labels_test", lambda k: k - 1, "labels_test=-1: must lie from 0 to 4"),
        ("labels_test", lambda k: k * 1.0, "labels_test.dtype=float64: must be whole"),
    ],
)
def test_own_arrays_that_do_not_go_together_are_refused(
    raw, config, name, change, message
):
    """Shapes of both splits, finite numbers, labels that are indices: or one line."""
    arrays = _own(raw, config)
    with pytest.raises(UserError, match=f"^{message}") as caught:
        Dataset(**arrays | {name: change(arrays[name])})
    assert "\n" not in str(caught.value)


def test_checksum_sees_every_array(raw, config):
    """Changing one number of any array, or its shape, changes the checksum."""
    data = prepare(raw, config(train_size=20, test_size=10))
    arrays = {
        f.name: getattr(data, f.name) for f in dataclasses.fields(Dataset) if f.init
    }
    seen = {data.checksum}
    for name, value in arrays.items():
        if isinstance(value, np.ndarray):
            changed = value.copy()
            changed.flat[-1] -= 1
            seen.add(Dataset(**arrays | {name: changed}).checksum)
    assert len(seen) == 7
    assert digest(np.zeros((2, 3))) != digest(np.zeros((3, 2)))
    assert Dataset(**arrays).checksum == data.checksum


def test_arrays_are_read_only(raw, config):
    """A `Dataset` cannot be changed under its checksum."""
    data = prepare(raw, config(train_size=20, test_size=10))
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 0


def test_raw_images_forget_their_order():
    """The same examples in another order are the same set."""
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 256, (30, 2, 2, 1)), np.arange(30) % 3
    order = rng.permutation(30)
    sets = [
        RawImages.from_splits(pair, (images[:3], labels[:3]), "abc")
        for pair in ((images, labels), (images[order], labels[order]))
    ]
    assert sets[0].checksum == sets[1].checksum
    relabelled = RawImages.from_splits(
        (images, labels[order]), (images[:3], labels[:3]), "abc"
    )
    assert relabelled.checksum != sets[0].checksum
