"""Euler-Maruyama: its orders, against another solver, and the networks' diffusions."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from testbed.errors import UserError
from testbed.laws.diffusion import (
    IDENTITY,
    SWISH,
    TANH,
    Branch,
    jacobian_second_moment,
    log_determinant_law,
)
from testbed.laws.doubly_infinite import moments, overlaps
from testbed.sampling.diffusions import (
    fixed_width,
    inverse_jacobian,
    jacobian,
    smooth_branch,
    with_identity,
)
from testbed.sampling.sde import SDE, euler_maruyama

pytestmark = pytest.mark.float64

KEY = jax.random.key(7)
BATCHES = 40
STEPS = (16, 32, 64, 128, 256)
BROWNIAN = SDE(lambda t, x: jnp.zeros_like(x), lambda t, x, dw: dw)
GEOMETRIC = SDE(lambda t, x: 0.5 * x, lambda t, x, dw: 0.8 * x * dw)
PULLED = SDE(lambda t, x: -x, lambda t, x, dw: 0.8 * dw)
CURVED = SDE(lambda t, x: -x, lambda t, x, dw: jnp.sqrt(1 + x**2) * dw)


def run(sde, x0, steps, *, key=KEY, time=1.0, **settings) -> np.ndarray:
    return np.asarray(euler_maruyama(key, *sde, x0, time=time, steps=steps, **settings))


def within(sample, law, errors=4.0) -> bool:
    """The sample's mean, over its first axis, is the law's within standard errors."""
    sample = np.asarray(sample, np.float64)
    off = np.abs(sample.mean(axis=0) - law)
    return bool(np.all(off < errors * sample.std(axis=0, ddof=1) / len(sample) ** 0.5))


def strong_order(sde, exact, paths=20_000, fine=1024):
    """Slope of log rms error at time 1 against log h, and its standard error."""
    steps = np.array(STEPS)
    start = jnp.ones(paths)
    ends = [run(sde, start, s, refine=fine // s)[0] for s in steps.tolist()]
    squares = ((np.stack(ends) - exact) ** 2).reshape(len(steps), BATCHES, -1)
    log_rms = np.log(squares.mean(axis=-1)) / 2
    slopes = np.polyfit(-np.log(steps), log_rms, 1)[0]
    return slopes.mean(), slopes.std(ddof=1) / BATCHES**0.5


def test_strong_order_is_one_half():
    """Root mean square error on the same Brownian path falls like h^{1/2}."""
    brownian = run(BROWNIAN, jnp.zeros(20_000), 1024)[0]
    exact = np.exp(0.5 - 0.8**2 / 2 + 0.8 * brownian)
    slope, error = strong_order(GEOMETRIC, exact)
    assert abs(slope - 0.5) < 4 * error
    assert abs(slope - 1.0) > 20 * error
    # On another path there is no convergence: only the scheme's own variance moves.
    slope, error = strong_order(GEOMETRIC, np.roll(exact, 1))
    assert abs(slope) < 0.03


def test_additive_noise_has_strong_order_one():
    """With noise free of X the same measurement gives order 1, not 1/2."""
    fine, paths = 2048, 4000
    reference = run(PULLED, jnp.ones(paths), fine)[0]
    slope, error = strong_order(PULLED, reference, paths, fine)
    h = 1 / np.array(STEPS)
    gap = h - 1 / fine  # the reference has an error too
    order_one = np.polyfit(np.log(h), np.log(gap), 1)[0]
    assert abs(slope - order_one) < 4 * error + h[0]  # and there are terms in h^2
    assert abs(slope - order_one / 2) > 20 * error


def test_weak_order_is_one():
    """E X_T^2 errs by a multiple of h, the one that the scheme's own moments give."""
    paths, steps = 40_000, np.array([4, 8, 16, 32])
    brownian = run(BROWNIAN, jnp.zeros(paths), 32)[0]
    exact = np.exp(0.5 - 0.8**2 / 2 + 0.8 * brownian)
    gaps = np.stack(
        [
            run(GEOMETRIC, jnp.ones(paths), s, refine=32 // s)[0] ** 2 - exact**2
            for s in steps.tolist()
        ]
    )
    h = 1 / steps
    scheme = ((1 + 0.5 * h) ** 2 + 0.8**2 * h) ** steps
    assert within(gaps.T, scheme - np.exp(2 * 0.5 + 0.8**2))
    means = gaps.reshape(len(steps), BATCHES, -1).mean(axis=-1)
    slope = np.polyfit(np.log(h), np.log(-means.mean(axis=1)), 1)[0]
    left_out = [
        np.polyfit(np.log(h), np.log(-np.delete(means, i, 1).mean(axis=1)), 1)[0]
        for i in range(BATCHES)
    ]
    error = np.std(left_out) * (BATCHES - 1) ** 0.5  # jackknife
    # Terms in h^2 flatten the scheme's own slope at these steps.
    own = np.polyfit(np.log(h), np.log(np.exp(1.64) - scheme), 1)[0]
    assert abs(slope - own) < 4 * error
    assert abs(own - 1) < 0.15
    assert slope - 0.5 > 4 * error


def test_brownian_path_does_not_depend_on_the_steps():
    """Increments have variance h and add up to the same path on every grid."""
    fine = run(BROWNIAN, jnp.zeros(4000), 64, save=(0, 16, 32, 48, 64))
    coarse = run(BROWNIAN, jnp.zeros(4000), 4, refine=16, save=range(5))
    np.testing.assert_allclose(fine, coarse, atol=1e-13)
    steps = np.diff(fine, axis=0)
    assert within((steps**2).T, 0.25)
    assert within((steps[1:] * steps[:-1]).T, 0.0)
    assert not within((steps**2).T, 0.25 * 1.2)
    other = run(BROWNIAN, jnp.zeros(4000), 64, key=jax.random.key(8))
    assert abs(np.corrcoef(other[0], fine[-1])[0, 1]) < 4 / 4000**0.5


def test_diffrax_euler_on_the_same_path():
    """Step by step the same numbers as diffrax's Euler, with drift, noise and time."""
    sde = SDE(lambda t, x: jnp.cos(t) - x, lambda t, x, dw: (t + jnp.sin(x)) * dw)
    steps, save = 32, tuple(range(0, 33, 4))
    x0 = jnp.linspace(-1.0, 1.0, 6)
    grid = jnp.linspace(0.0, 2.0, steps + 1)
    brownian = run(BROWNIAN, jnp.zeros(6), steps, time=2.0, save=range(steps + 1))
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda t, x, _: sde.drift(t, x)),
        diffrax.ControlTerm(
            lambda t, x, _: jnp.diag(t + jnp.sin(x)),
            diffrax.LinearInterpolation(grid, jnp.asarray(brownian)),
        ),
    )
    theirs = diffrax.diffeqsolve(
        terms,
        diffrax.Euler(),
        0.0,
        2.0,
        None,
        x0,
        stepsize_controller=diffrax.StepTo(grid),
        saveat=diffrax.SaveAt(ts=grid[np.array(save)]),
    ).ys
    ours = run(sde, x0, steps, time=2.0, save=save)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def diffrax_ends(solver, *rates, paths=3000, steps=32):
    """Ends at time 1 of dX = -rate X dt + sqrt(1 + X^2) dB from 1, for every rate."""

    def end(key, rate):
        path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (), key)
        noise = diffrax.ControlTerm(lambda t, x, _: jnp.sqrt(1 + x**2), path)
        terms = diffrax.MultiTerm(diffrax.ODETerm(lambda t, x, _: -rate * x), noise)
        out = diffrax.diffeqsolve(terms, solver, 0.0, 1.0, 1 / steps, jnp.ones(()))
        assert out.ys is not None
        return out.ys[0]

    solve = jax.jit(jax.vmap(end, (0, None)))
    keys = jax.random.split(KEY, paths)
    return [np.asarray(solve(keys, rate)) for rate in rates]


def test_diffrax_agrees_in_law():
    """Milstein, and Heun with Stratonovich's drift, have Euler-Maruyama's moments."""
    ours = run(CURVED, jnp.ones(40_000), 128)[0]

    def agree(theirs):
        """Means of X, |X|, log(1 + X^2) and sin X within 4 standard errors."""
        for f in (np.copy, np.abs, lambda x: np.log(1 + x**2), np.sin):
            a, b = f(ours), f(theirs)
            error = np.hypot(a.std() / len(a) ** 0.5, b.std() / len(b) ** 0.5)
            if abs(a.mean() - b.mean()) > 4 * error:
                return False
        return True

    (milstein,) = diffrax_ends(diffrax.ItoMilstein(), 1.0)
    assert agree(milstein)
    # g g'/2 = x/2 turns Ito's drift into Stratonovich's.
    heun, uncorrected = diffrax_ends(diffrax.Heun(), 1.5, 1.0)
    assert agree(heun)
    assert not agree(uncorrected)


def test_one_relu_unit_is_geometric_brownian_motion():
    """n = 1, ReLU: log(X_t/X_0) ~ N(-t/2, t); a negative unit stays where it is."""
    x0 = jnp.ones((20_000, 1, 1), jnp.float32)
    paths = run(fixed_width(jax.nn.relu), x0, 500, save=(0, 250, 500))[..., 0, 0]
    assert paths.dtype == np.float32
    np.testing.assert_array_equal(paths[0], 1)
    for t, x in ((0.5, paths[1]), (1.0, paths[2])):
        log = np.log(x)
        assert stats.kstest(log, stats.norm(-t / 2, t**0.5).cdf).pvalue > 1e-3
        for wrong in (stats.norm(-t / 2 * 1.2, t**0.5), stats.norm(-t / 2, 1.1 * t)):
            assert stats.kstest(log, wrong.cdf).pvalue < 1e-6
    dead = run(fixed_width(jax.nn.relu), -x0[:5], 50)
    np.testing.assert_array_equal(dead[0], -1)


def test_identity_is_geometric_at_every_width():
    """phi = identity: log(|X_t|/|X_0|) ~ N((1/2 - 1/n) t, t/n), less a known 1/L."""
    for n in (1, 3, 8):
        x0 = jnp.ones((10_000, 1, n))
        x = run(fixed_width(lambda x: x), x0, 200)[0, :, 0]
        log = np.log(np.linalg.norm(x, axis=1) / n**0.5)
        mean = 0.5 - 1 / n - (n - 2) * (n - 4) / (4 * n**2 * 200)
        assert within(log, mean)
        assert within((log - log.mean()) ** 2, 1 / n)
        assert not within(log, mean + 0.25 / n)
        assert stats.kstest(log, stats.norm(mean, n**-0.5).cdf).pvalue > 1e-3


def test_two_inputs_share_their_noise():
    """E <X(a), X(b)> = <a, b> (1 + 1/L)^L at every width; equal inputs stay equal."""
    a, b = jnp.array([1.0, -1.0, 2.0]), jnp.array([0.5, 1.0, 1.0])
    x0 = jnp.broadcast_to(jnp.stack([a, b, a, 0 * a]), (20_000, 4, 3))
    x = run(fixed_width(lambda x: x), x0, 20)[0]
    np.testing.assert_allclose(x[:, 0], x[:, 2], rtol=1e-12)
    np.testing.assert_array_equal(x[:, 3], 0)
    inner = (x[:, 0] * x[:, 1]).mean(axis=-1)
    start = float(a @ b) / 3
    assert within(inner, start * (1 + 1 / 20) ** 20)
    assert not within(inner, start)  # independent noise
    # More inputs than units: a singular Gram matrix is factored too.
    many = jax.random.normal(KEY, (2, 5, 4))
    dw = jnp.broadcast_to(jnp.eye(5), (2, 5, 5))
    factor = fixed_width(lambda x: x).noise(jnp.zeros(()), many, dw)
    gram = jnp.einsum("pid,pjd->pij", many, many) / 4
    np.testing.assert_allclose(
        jnp.einsum("pid,pjd->pij", factor, factor), gram, atol=1e-13
    )


def test_smooth_branch_has_the_second_moments_of_its_law():
    """phi''(0) = 0: E <x^i, x^j>/D grows as in the limit, at D = 3, with E^L for E."""
    branch, steps = Branch(TANH, 0.8, 0.6), 32
    x0 = jnp.broadcast_to(jnp.array([[0.0, 0, 0], [1.0, -1, 2]]), (30_000, 2, 3))
    x = run(smooth_branch(branch), x0, steps)[0]
    start = np.asarray(x0[0] @ x0[0].T) / 3
    growth = (1 + branch.strength() / steps) ** steps
    law = start + (start + branch.ratio) * (growth - 1)
    products = np.einsum("pid,pjd->pij", x, x) / 3
    assert within(products, law)
    assert not within(products, np.diag(np.diag(law)))  # a noise of its own each
    assert not within(products, start + (start + branch.ratio) * (growth**1.1 - 1))
    limit = overlaps(branch, np.asarray(x0[0]).mean(axis=1), start)
    np.testing.assert_allclose(law, limit, rtol=branch.strength() / steps)


def test_smooth_branch_with_curvature_nears_the_wide_limit():
    """swish: units' mean and mean square in wide diffusions follow the closed forms."""
    branch, steps, width = Branch(SWISH), 100, 400
    start = jnp.ones((300, 1, width), jnp.float32)
    x = run(smooth_branch(branch), start, steps)[0, :, 0].astype(np.float64)
    measured = np.stack([x.mean(axis=1), (x**2).mean(axis=1)], axis=1)

    def euler(curvature):
        m, q, h = 1.0, 1.0, 1 / steps
        for _ in range(steps):
            s = 1.0 + q
            change = curvature / 2 * s * h
            m, q = m + change, q + 2 * m * change + change**2 + s * h / 4
        return np.array([m, q])

    assert within(measured, euler(0.5))
    assert not within(measured, euler(0.45))
    np.testing.assert_allclose(euler(0.5), moments(branch, 1.0, 1.0), rtol=0.02)


@pytest.mark.parametrize("phi", [TANH, SWISH])
def test_jacobian_is_the_derivative_of_the_flow(phi):
    """g_T equals autodiff through the discretized states, weights held fixed."""
    sde = jacobian(Branch(phi, 0.9, 0.7), jnp.tanh)
    start = jnp.array([0.3, -1.0, 0.5, 2.0])

    def end(x):
        state = with_identity(x[None])
        return euler_maruyama(KEY, *sde, state, time=1.0, steps=12)[0, 0]

    derivative = jax.jacfwd(lambda x: end(x)[:, 0])(start)
    np.testing.assert_allclose(end(start)[:, 1:], derivative, atol=1e-13)
    assert np.abs(derivative - np.eye(4)).max() > 0.1


@pytest.mark.parametrize("phi", [TANH, SWISH])
def test_inverse_jacobian_inverts(phi):
    """g g^{-1} -> I on the same path as h -> 0; without the correction it does not."""
    branch = Branch(phi, 0.9, 0.7)
    start = with_identity(jnp.ones((200, 3)))
    forward, backward = jacobian(branch, jnp.tanh), inverse_jacobian(branch, jnp.tanh)
    size, g = [], start
    for steps in (8, 128):
        g, inverse = run(forward, start, steps)[0], run(backward, start, steps)[0]
        np.testing.assert_allclose(g[..., 0], inverse[..., 0], atol=1e-12)
        gap = g[..., 1:] @ inverse[..., 1:] - np.eye(3)
        size.append(np.sqrt((gap**2).mean()))
    # Order 1/2 or better: 16 times the steps, at most a quarter of the gap.
    assert size[1] < 0.3 * size[0]

    def uncorrected(t, state):
        square = jax.grad(lambda x: jnp.tanh(x).sum())(state[..., 0])[:, None] ** 2
        scale = branch.phi.slope**2 * branch.sigma_w**2 / 3
        change = scale * square * state[..., 1:]
        return backward.drift(t, state).at[..., 1:].add(-change)

    wrong = run(SDE(uncorrected, backward.noise), start, 128)[0]
    gap = g[..., 1:] @ wrong[..., 1:] - np.eye(3)
    assert np.sqrt((gap**2).mean()) > 3 * size[1]


def test_jacobian_moments_and_determinant():
    """E tr(g g^T)/D = e^C and log|det g| ~ N(-C/2, C), here at D = 3."""
    branch, steps = Branch(IDENTITY, 0.8, 0.5), 100
    g = run(jacobian(branch), with_identity(jnp.ones((8000, 3))), steps)[0][..., 1:]
    size = (g**2).sum(axis=(1, 2)) / 3
    assert within(size, (1 + branch.strength() / steps) ** steps)
    assert not within(size, jacobian_second_moment(branch) ** 0.5)
    log_det = np.linalg.slogdet(g)[1]
    assert stats.kstest(log_det, log_determinant_law(branch).cdf).pvalue > 1e-3
    wrong = stats.norm(0.0, branch.strength() ** 0.5)
    assert stats.kstest(log_det, wrong.cdf).pvalue < 1e-6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"x0": jnp.ones(3, jnp.int32)}, "x0"),
        ({"x0": jnp.ones(())}, "x0"),
        ({"time": -1.0}, "time"),
        ({"time": float("nan")}, "time"),
        ({"steps": 0}, "steps"),
        ({"refine": 0}, "refine"),
        ({"steps": 2**20, "refine": 2**12}, "refine"),
        ({"save": (5,)}, "save"),
        ({"save": (2, 1)}, "save"),
        ({"save": ()}, "save"),
    ],
)
def test_mistakes_are_named(change, field):
    """A run that cannot be made is refused by name."""
    settings = {"x0": jnp.ones(3), "time": 1.0, "steps": 4} | change
    x0 = settings.pop("x0")
    with pytest.raises(UserError) as caught:
        euler_maruyama(KEY, *BROWNIAN, x0, **settings)
    assert caught.value.field == field
