"""Vanilla convolutional residual networks."""

from models import ConvResNet
from testbed.families.convolution import ConvFamily

FAMILY = ConvFamily(ConvResNet, signed=False)
