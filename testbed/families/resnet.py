"""Vanilla residual networks."""

from models import ResNet
from testbed.families.residual import ResidualFamily

FAMILY = ResidualFamily(ResNet, signed=False)
