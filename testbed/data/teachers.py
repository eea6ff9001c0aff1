"""Synthetic data: targets from a function or a law that is known exactly."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from testbed.config import DataConfig
from testbed.data.dataset import Dataset
from testbed.data.prepare import encode, normalize
from testbed.errors import RunError, UserError, check_name
from testbed.families import family
from testbed.kinds import KINDS, of_vectors
from testbed.numerics import in_float64
from testbed.sources import SYNTHETIC_NAMES

WIDTH, DEPTH = 64, 4  # of the network behind `network` and `gp`
SEPARATION = 3.0  # distance of a mixture component's mean from the origin
JITTER = 1e-8  # added to the diagonal of the GP's covariance, whose mean is 1


@in_float64
def teach(config: DataConfig) -> Dataset:
    """Draws inputs from a standard Gaussian in n_in dimensions, and targets for them.

    Inputs are normalised first (`normalize`), so that targets are functions of what a
    student sees:

    - ``linear``: f(x) = W x / sqrt(n_in), W of (n_out, n_in) standard Gaussians.
    - ``network``: f(x) of a random `config.teacher` of width 64 and depth 4.
    - ``gp``: n_out independent draws from N(0, K), jointly over training and test
      inputs, K the NNGP of the same network in the limit of infinite width.
    - ``mixture``: n_out classes in equal numbers; x = mu_c + a standard
      Gaussian, |mu_c| = 3 in a random direction; targets as for any labelled set.

    The scale is 1 in the mean square: `linear` and `network` are divided, each output
    by itself, by their root mean square over the training set, and K by the mean of its
    diagonal.  Means are not removed.  Then `noise` times a standard Gaussian is added
    to the training targets; test targets stay clean, so that test loss measures the
    distance to the teacher.

    Raises:
      UserError: an unknown teacher, a mixture of one class, or inputs that cannot
        be normalised.
    """
    check_name("data.name", config.name, SYNTHETIC_NAMES)
    check_name("data.teacher", config.teacher, of_vectors())
    if config.name == "mixture":
        return _mixture(config)
    x_train, x_test = (
        _gaussian(config, f"x_{split}", size)
        for split, size in (("train", config.train_size), ("test", config.test_size))
    )
    x_train, x_test = normalize(x_train, x_test, config.normalize)
    x = np.concatenate([x_train, x_test]).astype(np.float64)
    y = {"linear": _linear, "network": _network, "gp": _gp}[config.name](config, x)
    n = len(x_train)
    if config.name != "gp":
        y = y / np.sqrt(np.mean(y[:n] ** 2, axis=0))
    return Dataset(
        name=config.name,
        classes=(),
        input_shape=(config.n_in,),
        x_train=x_train,
        y_train=_noisy(config, y[:n]),
        x_test=x_test,
        y_test=y[n:].astype(np.float32),
    )


def network(config: DataConfig):
    """The Flax module behind `network` and `gp`, in float64."""
    kind = family(config.teacher)
    model = KINDS[config.teacher](config.teacher, WIDTH, DEPTH, head=kind.head)
    net = kind.network(model, config.n_out)
    return net.clone(dtype=jnp.float64)


def _linear(config, x):
    return x @ _gaussian(config, "teacher", config.n_out).T / np.sqrt(config.n_in)


def _network(config, x):
    return np.asarray(_random_outputs(network(config), _key(config.seed, "teacher"), x))


@functools.partial(jax.jit, static_argnums=0)
def _random_outputs(net, key, x):
    return net.apply(net.init(key, x[:1]), x)


def _gp(config, x):
    from testbed.kernels import infinite_kernel

    covariance = np.asarray(infinite_kernel(network(config))(x).nngp, np.float64)
    covariance = covariance / np.mean(np.diag(covariance))
    try:
        root = np.linalg.cholesky(covariance + JITTER * np.eye(len(x)))
    except np.linalg.LinAlgError as error:
        raise RunError(
            f"the NNGP of {len(x)} inputs is not positive definite to {JITTER:g} of "
            "its diagonal, so no Gaussian process can be drawn; use fewer inputs"
        ) from error
    shape = (len(x), config.n_out)
    return root @ np.asarray(
        jax.random.normal(_key(config.seed, "teacher"), shape, jnp.float64)
    )


def _mixture(config) -> Dataset:
    k = config.n_out
    if k < 2:
        rule = "a mixture needs at least two classes"
        raise UserError("data.n_out", k, rule, "set data.n_out to their number")
    means = _gaussian(config, "teacher", k)
    means *= SEPARATION / np.linalg.norm(means, axis=1, keepdims=True)
    labels, x = [], []
    for split, size in (("train", config.train_size), ("test", config.test_size)):
        labels.append(np.arange(size, dtype=np.int32) % k)
        x.append(means[labels[-1]] + _gaussian(config, f"x_{split}", size))
    x_train, x_test = normalize(x[0], x[1], config.normalize)
    return Dataset(
        name=config.name,
        classes=tuple(map(str, range(k))),
        input_shape=(config.n_in,),
        x_train=x_train,
        y_train=_noisy(config, encode(labels[0], k)),
        x_test=x_test,
        y_test=encode(labels[1], k),
        labels_train=labels[0],
        labels_test=labels[1],
    )


def _noisy(config, y):
    noise = jax.random.normal(_key(config.seed, "noise"), y.shape, jnp.float64)
    return (y + config.noise * np.asarray(noise)).astype(np.float32)


def _gaussian(config, purpose: str, rows: int) -> np.ndarray:
    shape = (rows, config.n_in)
    return np.array(jax.random.normal(_key(config.seed, purpose), shape, jnp.float64))


def _key(seed: int, purpose: str) -> jax.Array:
    # Folded by a name of our own: a student of the same seed must not be the teacher.
    root = jax.random.key(seed)
    return jax.random.fold_in(root, zlib.crc32(f"testbed.data/{purpose}".encode()))
