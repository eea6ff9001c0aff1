"""What a run learns from: real images through TFDS, and synthetic teachers.

`load` is the whole interface.  Importing this package costs no more than numpy; TFDS,
scikit-learn and jax are imported when a set is built or drawn.
"""

from testbed.data.dataset import Dataset
from testbed.data.loading import load

__all__ = ["Dataset", "load"]
