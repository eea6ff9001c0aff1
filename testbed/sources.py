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

SHAPES: dict[str, tuple[int, ...]] = {
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
    "svhn_cropped": (32, 32, 3),
}
"""Of an image, as published: height, width, channels."""
