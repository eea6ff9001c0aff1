"""What theory predicts of networks at initialization: pure functions, in float64."""

from testbed.laws.log_gaussian import (
    LayerLaw,
    layer_law,
    sign_correlation,
    square_correlation,
)

__all__ = ["LayerLaw", "layer_law", "sign_correlation", "square_correlation"]
