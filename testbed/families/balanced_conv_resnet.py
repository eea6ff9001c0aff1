"""Balanced convolutional residual networks: a random sign for each channel."""

from models import BalancedConvResNet
from testbed.families.convolution import ConvFamily

FAMILY = ConvFamily(BalancedConvResNet, signed=True)
