"""The half-angle recursion against the textbook recursion in 50 digits."""

import math
from decimal import Decimal, localcontext

import jax.numpy as jnp
import numpy as np
import pytest

from models import ResNet
from models.scaling import BranchScaling
from testbed.kernels import infinite_kernel
from testbed.kernels.recursion import relu_recursion

pytestmark = pytest.mark.float64

DIGITS = 50
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230782")


def _sin_cos(x):
    """Taylor series of both, in the precision of the context."""
    sums, term, k = [Decimal(0), Decimal(1)], Decimal(1), 0
    while abs(term) > Decimal(10) ** -(DIGITS + 5):
        k += 1
        term = term * x / k
        sums[k % 2 == 0] += -term if k % 4 in (2, 3) else term
    return sums


def _arccos(r):
    """Newton's iteration from the float64 value."""
    if abs(r) >= 1:
        return Decimal(0) if r > 0 else PI
    if abs(r) > Decimal("0.99"):
        theta = (2 * (1 - abs(r))).sqrt()
        theta = theta if r > 0 else PI - theta
    else:
        theta = Decimal(math.acos(r))
    for _ in range(5):  # 1e-3 -> 1e-6 -> ... -> 1e-96
        sin, cos = _sin_cos(theta)
        theta += (cos - r) / sin
    return theta


def reference(x1, x2, alpha, lam, head="linear", bias_variance=0.0):
    """(K, Theta) of one pair, from S -> a^2 S + l^2 (q kappa_1 + b) and that of T."""
    with localcontext() as context:
        context.prec = DIGITS
        a, b = ([Decimal(float(v)) for v in x] for x in (x1, x2))
        bias, n = Decimal(bias_variance), len(a)
        dot = lambda u, v: sum(p * q for p, q in zip(u, v, strict=True)) / n + bias
        q1, q2, s = dot(a, a), dot(b, b), dot(a, b)
        t = s
        blocks = [(Decimal(float(u)), Decimal(float(v)))
                  for u, v in zip(alpha, lam, strict=True)]  # fmt: skip
        for u, v in [*blocks, *([(Decimal(0), Decimal(1))] if head == "relu" else [])]:
            p = (q1 * q2).sqrt()
            theta = _arccos(s / p) if p else Decimal(0)
            sin, cos = _sin_cos(theta)
            kappa_0 = 1 - theta / PI
            kappa_1 = (sin + (PI - theta) * cos) / PI
            s, t = (
                u * u * s + v * v * (p * kappa_1 + bias),
                u * u * t + v * v * (kappa_0 * t + p * kappa_1 + bias),
            )
            q1, q2 = (u * u * q + v * v * (q + bias) for q in (q1, q2))
        if head == "linear":
            return float(s + bias), float(t + s + bias)
        return float(s), float(t)


X = np.array([1.0, 0.0, 0.5, -2.0])
PAIRS = {
    "equal": (X, X),
    "angle 1e-3": (X, X + 1e-3 * np.array([0.0, 1.0, 0.0, 0.0])),
    "angle 1e-6": (X, X + 1e-6 * np.array([0.0, 1.0, 0.0, 0.0])),
    "angle 1e-8": (X, X + 1e-8 * np.array([0.0, 1.0, 0.0, 0.0])),
    "angle 1e-10": (X, X + 1e-10 * np.array([0.0, 1.0, 0.0, 0.0])),
    "collinear": (X, 3 * X),
    "collinear and near": (X, 3 * X + 1e-9 * np.array([0.0, 1.0, 1.0, 0.0])),
    "opposite": (X, -2 * X),
    "nearly opposite": (X, -X + 1e-8 * np.array([0.0, 1.0, 0.0, 0.0])),
    "series joins sine": (X, X + 0.11 * np.array([0.0, 1.0, 0.0, 0.0])),
    "generic": (X, np.array([0.3, 1.0, -1.0, 0.2])),
    "orthogonal": (X, np.array([2.0, 1.0, 0.0, 1.0])),
    "zero": (X, 0 * X),
}
SCALES = {
    "depth-scaled": (np.ones(10), np.full(10, 10**-0.5)),
    "per layer": (np.linspace(1, 0.3, 6), np.linspace(0.2, 1, 6)),
    "mlp": (np.zeros(5), np.ones(5)),
    "weak": (np.ones(4), np.full(4, 1e-4)),
}


@pytest.mark.parametrize(("head", "bias_variance"), [("linear", 0.09), ("relu", 0.0)])
@pytest.mark.parametrize("scales", SCALES)
def test_all_digits_for_every_pair(scales, head, bias_variance):
    """K and Theta are exact to 1e-14 of their scale, however collinear the inputs."""
    alpha, lam = SCALES[scales]
    x1 = jnp.asarray(np.stack([pair[0] for pair in PAIRS.values()]))
    x2 = jnp.asarray(np.stack([pair[1] for pair in PAIRS.values()]))
    options = {"head": head, "bias_variance": bias_variance}
    nngp, ntk, _ = relu_recursion(
        x1, x2, jnp.asarray(alpha), jnp.asarray(lam), **options
    )
    for i, (name, (a, b)) in enumerate(PAIRS.items()):
        k, theta = reference(a, b, alpha, lam, **options)
        # Off zero by round-off of the scale sqrt(q q'), not of a cancelling sum.
        scale = reference(a, a, alpha, lam, **options)[1] * (1 + np.linalg.norm(b))
        assert abs(float(nngp[i, i]) - k) < 1e-14 * scale, name
        assert abs(float(ntk[i, i]) - theta) < 1e-14 * scale, name


def test_arccos_would_lose_half_the_digits():
    """At angle 1e-8 the usual route errs by 1e-10 and more; the recursion does not."""
    x = np.stack(PAIRS["angle 1e-8"])
    net = ResNet(depth=10, branch=BranchScaling.fixed(1.0, 10**-0.5))
    _, theta = reference(*x, np.ones(10), np.full(10, 10**-0.5))
    errors = {
        route: abs(float(infinite_kernel(net, route=route)(x).ntk[0, 1]) / theta - 1)
        for route in ("recursion", "neural_tangents")
    }
    assert errors["recursion"] < 1e-14
    assert errors["neural_tangents"] > 1e-10


def test_deep_network_forgets_no_angle():
    """theta_l mu l / (3 pi) -> 1 and t / (mu l) -> 1/4 at fixed mu, l = 2e5.

    Where theta is taken from arccos it freezes at 1e-8, and both are off by 5 to 20 %.
    """
    depth, mu = 200_000, 0.5
    scales = [jnp.full(depth, v**0.5) for v in (1 - mu, mu)]
    x = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    nngp, ntk, _ = relu_recursion(x, x, *scales, head="linear")
    # With theta = 5e-5, 1 - cos(theta) = 1e-9 keeps 7 digits of K.
    angle = math.sqrt(2 * (1 - float(nngp[0, 1] / nngp[0, 0])))
    assert angle * mu * depth / (3 * math.pi) == pytest.approx(0.99985, abs=2e-5)
    tangent = float((ntk[0, 1] - nngp[0, 1]) / nngp[0, 0])
    assert tangent / (mu * depth) == pytest.approx(0.25004, abs=1e-5)


def test_depth_limit():
    """With lam^2 = c^2 / d the kernel tends to its limit, error O(1/d)."""
    # Golden (rho_1, tt_1) at c = 1, from the flow theta' = -(1 - theta cot theta) / pi,
    # tt' = -(theta / pi) tt + kappa_1(cos theta), integrated to 1e-10.
    golden = {
        -0.9: (-0.25635034, -0.36872128),
        -0.3: (0.07078399, 0.04306475),
        0.0: (0.25385910, 0.31977693),
        0.5: (0.59322967, 0.91899086),
        0.9: (0.90889505, 1.63513247),
    }
    for rho, (rho_1, tangent_1) in golden.items():
        x = jnp.asarray([[1.0, 0.0], [rho, (1 - rho**2) ** 0.5]]) * 2**0.5
        errors = []
        for depth in (500, 1000):
            nngp, ntk, _ = relu_recursion(
                x, x, jnp.ones(depth), jnp.full(depth, depth**-0.5), head="linear"
            )
            growth = float(nngp[0, 0])
            k, theta = float(nngp[0, 1]) / growth, float(ntk[0, 1]) / growth
            errors.append((k - rho_1, theta - rho_1 - tangent_1))
        assert np.abs(errors[1]).max() < 2e-3
        # Halved by doubling the depth; the next order is 1e-3 of it.
        np.testing.assert_allclose(np.divide(*errors), 2, rtol=1e-2)


@pytest.mark.parametrize("room", [1, 40, 10**6])
def test_rows_at_a_time_change_nothing(monkeypatch, room):
    """Inputs one after another, as on a CPU, or many at once, as on a card: equal."""
    x = np.random.default_rng(0).standard_normal((7, 3))
    scales = jnp.full(3, 0.7)
    one = relu_recursion(x, x[:5], scales, scales, head="relu")
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.setattr("testbed.kernels.recursion._NUMBERS_AT_A_TIME", room)
    many = relu_recursion(x, x[:5], scales, scales, head="relu")
    for a, b in zip(one[:2], many[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
