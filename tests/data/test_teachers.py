"""Synthetic data has the law that it is said to have."""

import numpy as np
import pytest

from testbed.data import load
from testbed.data.teachers import SEPARATION
from testbed.errors import UserError
from testbed.kinds import of_vectors
from testbed.sources import SYNTHETIC_NAMES

VECTORS = of_vectors()


def _small(config, **fields):
    return load(config(**dict(train_size=24, test_size=12, n_in=8, n_out=2) | fields))


@pytest.mark.parametrize("name", SYNTHETIC_NAMES)
def test_seed_is_everything(config, name):
    """The same seed draws the same data, another seed other inputs and targets."""
    first, again, other = (_small(config, name=name, seed=s) for s in (0, 0, 1))
    assert first.checksum == again.checksum != other.checksum
    assert not np.isclose(first.x_train, other.x_train).any()
    assert first.x_train.shape == (24, 8) and first.y_test.shape == other.y_test.shape
    assert first.x_train.dtype == first.y_train.dtype == np.float32


@pytest.mark.parametrize("name", SYNTHETIC_NAMES)
def test_test_set_is_another_draw(config, name):
    """No input is in both splits, whatever the sizes; normalised to |x|^2 = n_in."""
    data = _small(config, name=name)
    distances = np.linalg.norm(data.x_train[:, None] - data.x_test, axis=-1)
    assert distances.min() > 0.1
    norms2 = np.sum(np.concatenate([data.x_train, data.x_test]) ** 2, 1)
    np.testing.assert_allclose(norms2, 8, rtol=1e-6)


def _relative_residual(data):
    x = np.concatenate([data.x_train, data.x_test]).astype(float)
    y = np.concatenate([data.y_train, data.y_test])
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return np.linalg.norm(y - fitted) / np.linalg.norm(y)


def test_linear_teacher_is_linear(config):
    """Least squares leaves nothing of a linear teacher, and much of a network."""
    assert _relative_residual(_small(config, name="linear")) < 1e-6  # float32 targets
    for teacher in VECTORS:
        assert _relative_residual(_small(config, name="network", teacher=teacher)) > 0.1


@pytest.mark.parametrize("name", ["linear", "network"])
def test_teachers_have_unit_scale(config, name):
    """Each output of a teacher has mean square 1 over the training set."""
    data = _small(config, name=name, train_size=50, n_out=3)
    np.testing.assert_allclose(np.mean(data.y_train**2, 0), 1, rtol=1e-6)


def test_linear_teacher_is_gaussian(config):
    """Outputs of a linear teacher at x and x' agree in sign like Gaussians of the
    correlation x.x'/(|x||x'|): E sign(y y') = (2/pi) arcsin of it (Grothendieck)."""
    data = _small(config, name="linear", n_out=4000)
    cosines = np.triu(data.x_train @ data.x_train.T / 8, 1)
    i, j = np.unravel_index(np.argmax(cosines), cosines.shape)
    measured = np.mean(np.sign(data.y_train[i] * data.y_train[j]))
    expected = 2 / np.pi * np.arcsin(cosines[i, j])
    error = np.sqrt((1 - expected**2) / 4000)
    assert abs(measured - expected) < 4 * error
    assert abs(measured - cosines[i, j]) > 4 * error  # the correlation itself is not it


def test_teacher_kinds_differ(config):
    """Models are as many teachers, on the same inputs; those of images are none."""
    sets = [_small(config, name="network", teacher=t) for t in VECTORS]
    assert len({d.x_train.tobytes() for d in sets}) == 1
    assert len({d.y_train.tobytes() for d in sets}) == len(VECTORS) == 3
    with pytest.raises(UserError, match="data.teacher=conv_resnet: must be one of"):
        _small(config, name="network", teacher="conv_resnet")


def test_noise_is_on_training_targets_only(config):
    """Noise is Gaussian of the stated deviation; test targets stay clean."""
    clean, noisy = (
        _small(config, name="linear", train_size=500, noise=s) for s in (0.0, 0.3)
    )
    np.testing.assert_array_equal(clean.x_train, noisy.x_train)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)
    noise = (noisy.y_train - clean.y_train) / 0.3
    # 1000 numbers: standard errors 0.032 of the mean and 0.022 of the deviation.
    assert abs(noise.mean()) < 4 * 0.032 and abs(noise.std() - 1) < 4 * 0.022


def _relu_nngp(x, layers):
    """rho -> kappa_1(rho), once a layer: (arXiv:1806.07572), for |x|^2 = n_in."""
    rho = np.clip(x @ x.T / x.shape[1], -1, 1)
    for _ in range(layers):
        angle = np.arccos(rho)
        rho = (np.sin(angle) + (np.pi - angle) * rho) / np.pi
        np.fill_diagonal(rho, 1)
    return rho


def _whiteness(y, covariance):
    """Chi-square distance, in standard deviations, of y's columns from N(0, cov)."""
    z = np.linalg.solve(np.linalg.cholesky(covariance), y)
    p, n = z.shape
    excess = z @ z.T / n - np.eye(p)
    # Var S_ij = (1 + delta_ij) / n for independent standard Gaussians.
    chi2 = n * np.sum(np.triu(excess**2 / (1 + np.eye(p))))
    degrees = p * (p + 1) / 2
    return (chi2 - degrees) / np.sqrt(2 * degrees)


def test_gp_has_the_nngp_covariance(config):
    """Draws have the covariance of the infinite MLP jointly over both splits; a
    kernel of one layer fewer is rejected."""
    data = _small(
        config, name="gp", teacher="mlp", train_size=7, test_size=5, n_out=4000
    )
    x = np.concatenate([data.x_train, data.x_test]).astype(float)
    y = np.concatenate([data.y_train, data.y_test]).astype(float)
    layers = 5  # depth 4 and the head's own activation
    assert abs(_whiteness(y, _relu_nngp(x, layers))) < 4
    assert _whiteness(y, _relu_nngp(x, layers - 1)) > 20


def test_gp_is_gaussian(config):
    """Draws have kurtosis 3, which a network of width 64 does not."""
    data = _small(config, name="gp", train_size=4, test_size=4, n_out=4000)
    y = np.concatenate([data.y_train, data.y_test])
    standard = y / np.sqrt(np.mean(y**2, 1, keepdims=True))
    # Standard error of a kurtosis whose variance is estimated too: sqrt(24 / 4000).
    assert np.abs(np.mean(standard**4, 1) - 3).max() < 4 * 0.077


def test_mixture_has_its_means(config):
    """Class c is N(mu_c, 1) with |mu_c| as stated, in equal numbers, any prefix."""
    data = _small(
        config, name="mixture", train_size=3000, n_out=3, normalize="none", noise=0.0
    )
    np.testing.assert_array_equal(data.labels_train, np.arange(3000) % 3)
    assert data.classes == ("0", "1", "2") and data.y_train.shape == (3000, 3)
    for c in range(3):
        x = data.x_train[data.labels_train == c]
        # The squared mean of 1000 points exceeds 9 by n_in/1000 = 0.008 +- 0.19.
        assert abs(np.sum(x.mean(0) ** 2) - SEPARATION**2) < 4 * 0.19
        np.testing.assert_allclose(np.cov(x.T), np.eye(8), atol=5 * np.sqrt(2 / 1000))


def test_two_component_mixture_is_signed(config):
    """Two components have targets -1 and +1 in one column."""
    data = _small(config, name="mixture", n_out=2)
    np.testing.assert_array_equal(data.y_train[:, 0], 2 * data.labels_train - 1)
