"""Settings of vanilla convolutional residual networks."""

from testbed.kinds.convolution import ConvConfig

SETTINGS = ConvConfig
