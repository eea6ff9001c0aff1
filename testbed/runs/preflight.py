"""Whether a run made for an accelerator can run here, asked before it begins."""

import os

import jax

from testbed.config import Config
from testbed.data import load
from testbed.errors import UserError
from testbed.runs.memory import check_training_memory


def check_accelerated(config: Config) -> None:
    """Refuses a preset that is made for an accelerator where it cannot run.

    JAX_PLATFORMS=cpu says that the processor is meant: many cores can do it.

    Raises:
      UserError: there is no accelerator, too little memory, or no data.
    """
    if jax.default_backend() == "cpu" and os.environ.get("JAX_PLATFORMS") != "cpu":
        rule = "is made for an accelerator, and JAX finds none here"
        remedy = "use --preset default, or set JAX_PLATFORMS=cpu to run it all the same"
        raise UserError("preset", "gpu", rule, remedy)
    dataset = load(config.data)
    check_training_memory(config, n_out=dataset.n_out)
