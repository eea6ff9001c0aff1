"""What the data settings may be named; imports nothing, so any command line can."""

TFDS_NAMES = (
    "digits",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "svhn_cropped",
)
"""Real data, all of it through tensorflow-datasets."""

SYNTHETIC_NAMES = ("linear", "network", "gp", "mixture")
"""Data that `testbed.data.teachers` draws."""

SOURCES = TFDS_NAMES + SYNTHETIC_NAMES
"""Values of `data.name`."""

N_CLASSES = {
    "digits": 10,
    "mnist": 10,
    "fashion_mnist": 10,
    "cifar10": 10,
    "cifar100": 100,
    "svhn_cropped": 10,
}

N_IN = {
    "digits": 64,
    "mnist": 784,
    "fashion_mnist": 784,
    "cifar10": 3072,
    "cifar100": 3072,
    "svhn_cropped": 3072,
}
"""Pixels of an image, as published."""
