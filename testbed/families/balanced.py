"""Balanced residual networks: a random sign for every hidden unit and layer."""

from models import BalancedResNet
from testbed.families.residual import ResidualFamily

FAMILY = ResidualFamily(BalancedResNet, signed=True)
