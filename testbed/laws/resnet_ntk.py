"""Mean and dispersion of a Balanced ReLU ResNet's tangent kernel, exact at any size.

    z_0 = W_in x / sqrt(n_in),   z_{l+1} = alpha z_l + lam sqrt(2/n) W_l phi(s_l z_l),
    f = w . z_d / sqrt(n)  (head "linear")  or  sqrt(2/n) w . phi(s_d z_d)  ("relu")

phi = ReLU, s_l fresh random signs, all weights N(0, 1) and trained, no biases.  As
s_l z_l is positive with probability 1/2 whatever z_l is, and W_l's columns may change
their signs, the network on one input has the law of the linear one with

    z_{l+1} = (alpha + lam sqrt(2/n) W_l B_l) z_l,   B_l = diag of fair coins in {0, 1},

W_l and B_l independent of everything.  Its kernel on the diagonal, |x|^2 = n_in,

    K = |df/dz_0|^2 + sum_l lam^2 (2/n) |B_l z_l|^2 |df/dz_{l+1}|^2 + |h|^2,

h what the head's weights see, is therefore a sum over pairs of paths, and K^2 over
fours, whose expectation passes from layer to layer as a I_12 I_34 + b (I_13 I_24 +
I_14 I_23): a transfer of two numbers.

Source: derived here from the model; the question is that of Hanin & Nica 2019,
arXiv:1909.05989, for fully connected networks (`testbed.laws.ntk_moments`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from testbed.arguments import branch_weights, whole, wholes
from testbed.errors import check_name


class KernelMoments(NamedTuple):
    """Of K(x, x) over networks.

    Attributes:
      mean: E K, (); it does not depend on the width.
      ratio: E[K^2] / E[K]^2, the shape of width.
    """

    mean: np.ndarray
    ratio: np.ndarray

    @property
    def dispersion(self) -> np.ndarray:
        """Var K / E[K]^2."""
        return self.ratio - 1


def resnet_ntk_moments(
    width: ArrayLike, depth: int, alpha: float, lam: float, head: str = "linear"
) -> KernelMoments:
    """E K and E[K^2] / E[K]^2 of a Balanced ResNet's tangent kernel at one input.

    In units of r = sqrt(alpha^2 + lam^2), with c = alpha / r and s = lam^2 / r^2,

        E K = r^{2d} (2 + s d)
        plain layer:   a' = (c^4 + s^2 (1 + 1/n) + 2 c^2 s) a + (4/n) (s^2 + c^2 s) b
                       b' = (2/n) (s^2 + c^2 s) a
                            + (c^4 + s^2 (1 + 3/n) + 2 c^2 s (1 + 1/n)) b
        one of two kernels has its weight here:
                       a' = (s^2 (1 + 1/n) + c^2 s) a + (2/n) (2 s^2 + c^2 s) b,  b' = 0
        both have:     a' = s^2 [(1 + 1/n) a + (4/n) b],                          b' = 0

    alpha = 0 is a fully connected network, with or without random signs.  A vanilla
    ResNet differs from its Balanced one at the same order, 1/n, because its layers'
    activations are correlated; no such law is known for it.

    Args:
      width: n, of any shape.
      depth: d, residual blocks; 0 is the input layer and the head alone.
      alpha: weight of the skip.
      lam: weight of the branch.
      head: "linear" or "relu".

    Returns:
      `KernelMoments`.

    Raises:
      UserError: width < 1, depth < 0, one that is not whole, a weight that is not
        finite, alpha = lam = 0, or an unknown head.

    Source: derived here from the model (see the top of this file).

    Example:
      >>> law = resnet_ntk_moments([64, 128], depth=64, alpha=1.0, lam=1 / 8)
      >>> print(f"{law.mean:.4f} {law.dispersion.round(4)}")
      8.0505 [0.0628 0.0306]
    """
    n = wholes("width", width, remedy="give the layers' units").astype(np.float64)
    depth = whole("depth", depth, 0, remedy="count residual blocks")
    check_name("head", head, ("linear", "relu"))
    alpha, lam = branch_weights(alpha, lam)
    r = float(np.hypot(alpha, lam))
    c2, s = (alpha / r) ** 2, (lam / r) ** 2
    coins = lambda t: (1 + 1 / n) * t[0] + 4 / n * t[1]  # a branch in both pairs
    skip = lambda t: t[0] + 2 / n * t[1]  # in one pair, the other skips

    def plain(t):
        crossed = 2 / n * t[0] + (1 + 3 / n) * t[1]
        crossed_skip = t[0] / n + (1 + 1 / n) * t[1]
        return np.stack(
            [
                c2**2 * t[0] + 2 * c2 * s * skip(t) + s**2 * coins(t),
                c2**2 * t[1] + 2 * c2 * s * crossed_skip + s**2 * crossed,
            ]
        )

    one_here = lambda t: np.stack([c2 * s * skip(t) + s**2 * coins(t), 0 * n])
    both_here = lambda t: np.stack([s**2 * coins(t), 0 * n])
    # Fours by how many of their two kernels have had their weight; after the input.
    none = np.stack([1 + 0 * n, 1 + 0 * n])
    one = both = np.stack([1 + 0 * n, 0 * n])
    for _ in range(depth):
        both = plain(both) + 2 * one_here(one) + both_here(none)
        one = plain(one) + one_here(none)
        none = plain(none)
    last, ends = (skip, 1 + 2 / n) if head == "linear" else (coins, 1 + 5 / n)
    square = ends * (both[0] + 2 * both[1]) + 2 * last(one) + last(none)
    with np.errstate(over="ignore"):
        mean = np.float64(r) ** (2 * depth) * (2 + s * depth)
    return KernelMoments(np.asarray(mean), square / (2 + s * depth) ** 2)
