"""Moments that merge, and batches that add up, on one device or several."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import MLP, BranchScaling, ResNet
from testbed.errors import UserError
from testbed.sampling import LayerSampler, sample_log_norm
from testbed.sampling import stream as streaming
from testbed.sampling.architecture import describe
from testbed.sampling.log_norm import merge_layers
from testbed.sampling.moments import Moments, merge, moments_of, stack

pytestmark = pytest.mark.float64

KEY = jax.random.key(10)
NET = ResNet(width=64, depth=5, branch=BranchScaling.fixed(0.5**0.5, 0.5**0.5))
NETWORKS = 10_000  # two full batches of 4096 and a rest


def on_host(x, counted) -> Moments:
    return Moments(*map(np.asarray, moments_of(jnp.asarray(x), jnp.asarray(counted))))


def close(a: Moments, b: Moments, rtol=1e-12):
    for name, x, y in zip(Moments._fields, a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-9, err_msg=name)


def test_moments_are_numpys():
    """Count, mean, variance, skewness and kurtosis of what is counted."""
    rng = np.random.default_rng(0)
    x, counted = rng.gamma(2.0, size=(1, 1000)), rng.random((1, 1000)) < 0.7
    x[~counted] = -np.inf  # never looked at
    seen, kept = on_host(x, counted), x[counted]
    z = (kept - kept.mean()) / kept.std()
    assert seen.count == seen.groups == len(kept)
    np.testing.assert_allclose(seen.mean, kept.mean(), rtol=1e-12)
    np.testing.assert_allclose(seen.var, kept.var(ddof=1), rtol=1e-12)
    np.testing.assert_allclose(seen.skewness, np.mean(z**3), rtol=1e-12)
    np.testing.assert_allclose(seen.kurtosis, np.mean(z**4), rtol=1e-12)
    np.testing.assert_allclose(seen.mean_se**2, kept.var(ddof=1) / len(kept))
    np.testing.assert_allclose(
        seen.var_se**2,
        (np.mean((kept - kept.mean()) ** 4) - kept.var() ** 2) / 700,
        0.1,
    )


@pytest.mark.parametrize("copies", [1, 2])
def test_merged_moments_are_those_of_the_whole(copies):
    """Parts of any size, empty ones too, in any order, far from 0, to 1e-12."""
    rng = np.random.default_rng(1)
    x = 1e3 + rng.gamma(0.5, size=(copies, 1000)) * rng.choice([1, 30], (copies, 1000))
    counted = rng.random(x.shape) < 0.9
    whole = on_host(x, counted)
    cuts, place = [0, 0, 1, 400, 402, 1000], np.arange(1000)
    parts = [
        on_host(x, counted & (place >= a) & (place < b))
        for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    ]
    close(merge(stack(*parts)), whole, rtol=1e-12)
    left = merge(stack(merge(stack(*parts[3:])), merge(stack(*parts[:3][::-1]))))
    close(left, whole, rtol=1e-12)
    wrong = merge(stack(*parts[1:], parts[2]))
    assert abs(wrong.mean / whole.mean - 1) > 1e-6


def test_nothing_to_count():
    """No network left: counts of 0, a mean of nan, and more networks may follow."""
    empty = on_host(np.full((1, 5), -np.inf), np.zeros((1, 5), bool))
    both = merge(stack(empty, empty))
    assert both.count == both.groups == 0
    assert np.isnan(both.mean) and np.isnan(both.mean_se)
    some = on_host(np.arange(5.0)[None], np.ones((1, 5), bool))
    close(merge(stack(both, some, empty)), some, rtol=1e-12)


def test_standard_errors_are_honest():
    """Means lie within 1 and 2 of their standard errors as often as Gaussian ones do.

    With pairs whose halves share most of their noise, the error of networks taken for
    independent is too small, and with antithetic ones it is too large.
    """
    rng, runs, n = np.random.default_rng(2), 4000, 100
    for mix, seldom in ((0.9, True), (-0.9, False)):
        g = rng.standard_normal((runs, 2, n))
        x = np.stack([g[:, 0], mix * g[:, 0] + (1 - mix**2) ** 0.5 * g[:, 1]], 1)
        seen = jax.vmap(moments_of)(jnp.asarray(x), jnp.ones(x.shape, bool))
        seen = Moments(*map(np.asarray, seen))
        z = seen.mean / seen.mean_se
        naive = seen.mean / np.sqrt(seen.var / seen.count)
        for limit, share in ((1, 0.6803), (2, 0.9518)):  # Student's t, 99 degrees
            noise = (share * (1 - share) / runs) ** 0.5
            assert abs(np.mean(np.abs(z) < limit) - share) < 4 * noise
            inside = np.mean(np.abs(naive) < limit)
            assert (inside < share - 10 * noise) == seldom
            assert (inside > share + 5 * noise) != seldom


def test_antithetic_errors_of_networks():
    """The spread of means over repetitions is the standard error that each reports."""
    sampler = LayerSampler(ResNet(width=32, depth=4), antithetic=True)
    found = [sampler.moments(jax.random.key(i), 64) for i in range(300)]
    for name in ("activation_ratio", "active_fraction", "log_norm"):
        kept = [getattr(one, name) for one in found]
        spread = np.std([one.mean[3] for one in kept])
        reported = np.mean([one.mean_se[3] ** 2 for one in kept]) ** 0.5
        # A standard deviation from 300 is known to 1 / sqrt(600).
        assert abs(spread / reported - 1) < 4 / 600**0.5
        naive = np.mean([one.var[3] / one.count[3] for one in kept]) ** 0.5
        if name != "log_norm":
            assert naive > 1.5 * spread


def test_counts_are_exact(monkeypatch):
    """Every network counts once, though the last batch is drawn in full."""
    monkeypatch.setitem(streaming._CALL_NUMBERS, "cpu", 1)  # a batch a call
    so_far, total, ends = [], None, []
    for done, part, end in LayerSampler(NET).chunks(KEY, NETWORKS):
        so_far.append(done)
        total = part if total is None else merge_layers(total, part)
        ends.append(end)
    assert so_far == [4096, 8192, NETWORKS]
    assert total is not None
    for moments in total:
        assert (moments.count == NETWORKS).all()
        assert (moments.groups == NETWORKS).all()
    log_norm = np.concatenate([end["log_norm"] for end in ends])
    assert log_norm.shape == (NETWORKS,)
    np.testing.assert_allclose(total.log_norm.mean[-1], log_norm.mean(), rtol=1e-10)
    np.testing.assert_allclose(total.log_norm.var[-1], log_norm.var(ddof=1), rtol=1e-10)
    settings = dict(width=64, depth=5, alpha=0.5**0.5, lam=0.5**0.5)
    x = sample_log_norm(KEY, NETWORKS, **settings)
    np.testing.assert_allclose(log_norm, x, atol=1e-5)  # the same networks

    later = list(LayerSampler(NET).chunks(KEY, NETWORKS, start=4096))
    assert [done for done, *_ in later] == so_far[1:]
    np.testing.assert_array_equal(later[-1][2]["log_norm"], ends[-1]["log_norm"])
    assert list(LayerSampler(NET).chunks(KEY, NETWORKS, start=NETWORKS)) == []


def _tally(key, shape, scales, batch, counted, shared):
    return {"counted": counted, "number": jax.random.uniform(key)}


@pytest.mark.parametrize("room", [1, 64, 2**20])
def test_calls_resume_where_they_stopped(monkeypatch, room):
    """Batches from `start` on are the later ones of the whole; after all, none."""
    monkeypatch.setitem(streaming._CALL_NUMBERS, "cpu", room)
    shape, scales = describe(MLP(width=4, depth=1))

    def of(samples, start=0):
        arguments = (_tally, KEY, shape, scales, samples)
        calls = list(streaming.stream(*arguments, batch=8, start=start))
        numbers = [n for _, out in calls for n in out["number"]]
        counted = sum(out["counted"].sum() for _, out in calls)
        return [done for done, _ in calls], numbers, counted

    done, numbers, counted = of(29)
    assert (done[-1], len(numbers), counted) == (29, 4, 29)
    later, rest, counted = of(29, start=16)
    np.testing.assert_array_equal(rest, numbers[2:])
    assert (later[-1], counted) == (29, 13)
    assert of(29, start=29)[0] == of(5, start=5)[0] == []
    assert of(5)[2] == 5


PROGRAM = """
import sys
import jax, numpy as np
from models import BalancedResNet
from testbed.sampling import LayerSampler

key = jax.random.key(3)
net = BalancedResNet(width=64, depth=2, out_features=2)
moments = LayerSampler(net, antithetic=True).moments(key, 5000)
flat = {f"{i}/{j}": a for i, m in enumerate(moments) for j, a in enumerate(m)}
np.savez(sys.argv[1], devices=len(jax.devices()), **flat)
"""


def test_four_devices_give_the_networks_of_one(tmp_path):
    """Batches go round the devices and change nothing; 3 batches, 4 devices."""
    found = []
    for devices in (1, 4):
        path = tmp_path / f"{devices}.npz"
        flags = f"--xla_force_host_platform_device_count={devices}"
        env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", PROGRAM, str(path)]
        subprocess.run(command, env=env, check=True)
        with np.load(path) as stored:
            found.append(dict(stored))
    one, four = found
    assert (one.pop("devices"), four.pop("devices")) == (1, 4)
    assert one["0/0"][0] == 10_000
    for name in one:
        np.testing.assert_allclose(four[name], one[name], rtol=1e-5, atol=1e-6)


def test_too_few_samples_are_refused():
    """A variance needs two networks."""
    with pytest.raises(
        UserError, match="^samples=1: must be a whole number of at least 2"
    ):
        LayerSampler(NET).moments(KEY, 1)
