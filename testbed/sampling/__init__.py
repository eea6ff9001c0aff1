"""Networks drawn exactly in law, and the diffusions that they converge to."""

from testbed.sampling.gradients import sample_gradients
from testbed.sampling.gram import sample_gram
from testbed.sampling.log_norm import LayerSampler, sample_log_norm

__all__ = ["LayerSampler", "sample_gradients", "sample_gram", "sample_log_norm"]
