"""What a run learns from: real images through TFDS, and synthetic teachers.

`load` is the whole interface.  Importing this package costs nothing, so that command
lines can name the sets; numpy is imported with `load`, and TFDS, scikit-learn and jax
when a set is built or drawn.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.data.dataset import Dataset
    from testbed.data.loading import load

__all__ = ["Dataset", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from testbed.data import dataset, loading

    return {"Dataset": dataset.Dataset, "load": loading.load}[name]
