"""Mean, dispersion and first change of a deep ReLU network's tangent kernel.

    f(x) = W_L x_{L-1},   x_i = phi(W_i x_{i-1} + b_i),      i = 1, ..., L - 1,

x_0 = x, phi = ReLU, W_i of shape (n_i, n_{i-1}) with independent N(0, sigma_w2/n_{i-1})
entries, n_L = 1, b_i = 0 at initialization but trained.  The kernel at one input is the
sum over its parameters, with x_{i-1} as the layer's input and delta_i = df/d(z_i),

    K = K_w + K_b
    K_w = sum_i omega_i |x_{i-1}|^2 |delta_i|^2,     K_b = sum_i |delta_i|^2

where omega_i is 1 in standard parametrization and sigma_w2/n_{i-1} in NTK
parametrization, whose parameters are weights of variance 1.  Everything here depends on
the input through |x|^2 alone.  Left out, |x|^2 is n_0/2 for "ntk", so that weights and
biases have equal shares of the mean at sigma_w2 = 2, and 1 for "standard".  With head
"relu" and |x|^2 = n_in, `models.MLP` has the weights' kernel of "ntk" at that default:
its first layer's variance is 1, not 2.

K^2 is a sum over four paths through the network.  Its mean is a transfer recursion over
layers, exact where units are on with probability 1/2 independently of one another: for
Gaussian weights unless a whole layer is off, which has probability 2^-n_i.

Source: Hanin & Nica 2019, "Finite depth and width corrections to the neural tangent
kernel", arXiv:1909.05989, for the dependence on depth over width, and Seleznova &
Kutyniok 2022, "Neural tangent kernel beyond the infinite-width limit",
arXiv:2202.00553, for the three phases.  The recursion and the constants are derived
here from the model.  Their limits are in `testbed.laws.ntk_limits`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from testbed.arguments import number
from testbed.errors import UserError, check_name
from testbed.laws.products import check_widths

# Four paths at one layer: paired at two units as 12|34, 13|24, 14|23, or all at one.
# Rows are where they arrive, columns where they come from.  PLAIN: expectation of four
# equal weights' product.  SHARED: the edges of one pair are one fixed weight, differ-
# entiated, and the other pair runs along with it.
_PLAIN = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 3]], float)
_SHARED_12 = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], float)
_SHARED_23 = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], float)
_INPUT = np.array([0.0, 0, 0, 1])  # a fixed input acts like a single unit
_PAIRS_12 = np.array([1.0, 0, 0, 1])


class _Layer(NamedTuple):
    """variance of a weight, omega_i, and sums over units: one pair's, four paths'."""

    variance: float
    omega: float
    pair: float
    units: np.ndarray


def ntk_mean(
    widths: Sequence[int],
    sigma_w2: float,
    weights: bool = True,
    biases: bool = True,
    parameterization: str = "ntk",
    input_norm2: float | None = None,
) -> float:
    """E K(x, x) at initialization.

        E K_w = |x|^2 a^{L-1} sum_i omega_i n_{i-1} / n_0
        E K_b = sum_i a^{L-i},                                     a = sigma_w2 / 2

    Args:
      widths: (n_0, ..., n_L) with n_L = 1.
      sigma_w2: variance of a weight times its fan-in; 2 is critical.
      weights: whether K counts the weights.
      biases: whether K counts the biases.
      parameterization: "ntk" or "standard".
      input_norm2: |x|^2; None is n_0/2 for "ntk" and 1 for "standard".

    Returns:
      E K.

    Raises:
      UserError: an argument outside of its range, or a mean beyond float64.

    Source: derived here from the model (see the top of this file).

    Example:
      >>> print(f"{ntk_mean([64, 64, 64, 1], sigma_w2=2.0):.3f}")
      6.000
    """
    layers, norm2 = _layers(widths, sigma_w2, parameterization, input_norm2)
    sizes = check_widths(widths)
    _check_counted(weights, biases)
    with np.errstate(over="ignore"):
        a = np.float64(number("sigma_w2", sigma_w2)) / 2
        later = a ** np.arange(len(layers))[::-1]
        edges = sum(layer.omega * n for layer, n in zip(layers, sizes, strict=False))
        mean = weights * norm2 * later[0] * edges / sizes[0] + biases * later.sum()
    return _finite(float(mean), sigma_w2)


def ntk_second_moment_ratio(
    widths: Sequence[int],
    sigma_w2: float,
    weights: bool = True,
    biases: bool = True,
    parameterization: str = "ntk",
    input_norm2: float | None = None,
) -> float:
    """E[K^2] / E[K]^2 of the kernel K(x, x) at initialization, at finite widths.

    Two pairs of paths, each from the input or a bias to f, each of which owns one
    differentiated parameter.  Four paths in state (a_1, a_2, a_3, c), paired at two
    units as 12|34, 13|24, 14|23 or all at one unit, pass a layer of m units by

        a_s' = v^2 m(m-1)/4 (a_s + c),     c' = v^2 m/2 (a_1 + a_2 + a_3 + 3 c)

    with v = sigma_w2/n_{i-1}.  Where the weight of one pair, 12, is differentiated,

        a_1' = omega_i v m(m-1)/4 (a_1 + c),   c' = omega_i v m/2 (a_1 + c)

    and a_2' = a_3' = 0; omega_i^2 instead of omega_i v where both are.  A bias starts a
    pair, of value m/2.  At the output m(m-1)/4 and m/2 become 0 and 1.  The states are
    kept in units of the mean, so depth costs time only, linearly.

    The arguments are those of `ntk_mean`.

    Returns:
      The ratio, at least 1.

    Raises:
      UserError: an argument outside of its range, or a ratio beyond float64.

    Source: derived here from the model (see the top of this file); the quantity is that
    of Hanin & Nica 2019, arXiv:1909.05989, and Seleznova & Kutyniok 2022,
    arXiv:2202.00553.

    Example:
      >>> widths = [16] * 4 + [1]
      >>> print(f"{ntk_second_moment_ratio(widths, sigma_w2=2.0):.3f}")
      1.462
    """
    layers, norm2 = _layers(widths, sigma_w2, parameterization, input_norm2)
    _check_counted(weights, biases)
    # Pairs and fours by how many of their parameters are differentiated already; of
    # the fours with one, those where it is that of the pair 12.
    unit = norm2  # of `pair`; fours are in units of its square
    pair, pair_done = 1.0, 0.0
    none, one, both = _INPUT, 0 * _INPUT, 0 * _INPUT
    with np.errstate(over="ignore", invalid="ignore"):
        for v, omega, pair_sum, units in layers:
            edge, bias = weights * omega, 1 / unit if biases else 0.0
            shared = edge * v * _SHARED_12
            joined = 2 * v * pair_done + 2 * edge * pair + bias
            both = v**2 * _PLAIN @ both + 2 * shared @ one
            both += edge**2 * _SHARED_12 @ none + bias * joined * _PAIRS_12
            one = v**2 * _PLAIN @ one + shared @ none + bias * v * pair * _PAIRS_12
            none = v**2 * _PLAIN @ none
            pair_done = pair_sum * (v * pair_done + edge * pair + bias)
            pair = pair_sum * v * pair

            scale = max(pair, pair_done)
            pair, pair_done, unit = pair / scale, pair_done / scale, unit * scale
            none, one, both = (units / scale**2 * x for x in (none, one, both))
    return _finite(float(both[3] / pair_done**2), sigma_w2)


def first_step_change(
    widths: Sequence[int],
    sigma_w2: float,
    parameterization: str = "ntk",
    input_norm2: float | None = None,
) -> float:
    """E[f <grad f, grad K>], K and the gradients over the weights alone.

    One step of gradient descent of size eta on (f - y)^2 / 2, one sample, y independent
    with mean 0, has E[Delta K] = -eta E[f <grad f, grad K>] + O(eta^2).  With the
    Hessian H, f <grad f, grad K> = 2 f grad f' H grad f: four paths, the edge
    differentiated in the second and third being one weight, that in the third and
    fourth another, of another layer.  The recursion is that of
    `ntk_second_moment_ratio`, with one layer where the pair 23 shares its edge and a
    later one where 34 does; 12|34 is one state, whichever pair shares.

    The arguments are those of `ntk_mean`.

    Returns:
      The expectation.

    Raises:
      UserError: an argument outside of its range, or a result beyond float64.

    Source: derived here from the model; Hanin & Nica 2019, arXiv:1909.05989, show that
    it grows like depth times beta exp(5 beta), beta the sum of 1 / widths.

    Example:
      >>> print(f"{first_step_change([16] * 4 + [1], sigma_w2=2.0):.3f}")
      7.453
    """
    layers, norm2 = _layers(widths, sigma_w2, parameterization, input_norm2)
    none, one, both = norm2**2 * _INPUT, 0 * _INPUT, 0 * _INPUT
    with np.errstate(over="ignore", invalid="ignore"):
        for v, omega, _, units in layers:
            both = units * (v**2 * _PLAIN @ both + omega * v * _SHARED_12 @ one)
            one = units * (v**2 * _PLAIN @ one + omega * v * _SHARED_23 @ none)
            none = units * (v**2 * _PLAIN @ none)
    # Either edge may come first, and the derivative of K has a factor 2.
    return _finite(float(4 * both[3]), sigma_w2)


def _layers(
    widths: Sequence[int],
    sigma_w2: float,
    parameterization: str,
    input_norm2: float | None,
) -> tuple[list[_Layer], float]:
    """The checked arguments as layers 1, ..., L, and |x|^2."""
    widths = check_widths(widths, least=2)
    if widths[-1] != 1:
        rule = "must end with 1, the kernel being that of one output"
        raise UserError("widths", widths, rule, "append 1")
    sigma_w2 = number("sigma_w2", sigma_w2, above=0, remedy="2 is critical")
    check_name("parameterization", parameterization, ("ntk", "standard"))
    ntk = parameterization == "ntk"
    if input_norm2 is None:
        input_norm2 = widths[0] / 2 if ntk else 1.0
    input_norm2 = number("input_norm2", input_norm2, above=0, remedy="give |x|^2")
    return list(_each_layer(widths, sigma_w2, ntk)), input_norm2


def _each_layer(
    widths: tuple[int, ...], sigma_w2: float, ntk: bool
) -> Iterator[_Layer]:
    for fan_in, m in zip(widths[:-2], widths[1:-1], strict=True):
        v, apart, pair = sigma_w2 / fan_in, m * (m - 1) / 4, m / 2
        yield _Layer(v, v if ntk else 1.0, pair, np.array([apart] * 3 + [pair]))
    v = sigma_w2 / widths[-2]
    yield _Layer(v, v if ntk else 1.0, 1.0, _INPUT)  # one unit, linear: state c


def _check_counted(weights: bool, biases: bool) -> None:
    if not (weights or biases):
        rule = "cannot be False together with biases"
        raise UserError("weights", weights, rule, "count one of the two")


def _finite(value: float, sigma_w2: float) -> float:
    if not math.isfinite(value):
        rule = "gives a result beyond the range of float64 at these widths"
        raise UserError("sigma_w2", sigma_w2, rule, "use wider or fewer layers")
    return value
