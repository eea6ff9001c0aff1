"""The table of edges of docs/theory.md, held by every public function of the laws.

Functions are collected from the package: one that is new fails `test_all_are_here`
until it has an entry, which gives each of its arguments a value and a kind.
"""

import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

import testbed.laws
from testbed.errors import UserError
from testbed.laws.agreement import Sample
from testbed.laws.characteristic import CharacteristicLaw
from testbed.laws.diffusion import TANH, Branch, Nonlinearity
from testbed.laws.law import Law, Point
from testbed.laws.ornstein_uhlenbeck import OrnsteinUhlenbeckActivation


class Argument(NamedTuple):
    """A value that is taken, its kind, and the field that errors name."""

    value: Any
    kind: str
    field: str = ""


def of_kind(kind):
    return lambda value, field="": Argument(value, kind, field)


count, count0, counts, counts0, widths_inf = map(
    of_kind, ("count", "count0", "counts", "counts0", "widths_inf")
)
integers, real, reals, nonneg, nonnegs, positive, positives, free = map(
    of_kind,
    ("integers", "real", "reals", "nonneg", "nonnegs", "positive", "positives", "free"),
)
NETWORK = dict(width=count(6), depth=count0(3), alpha=real(0.8), lam=real(0.7))
BROADCAST = NETWORK | dict(width=counts(6), depth=counts0(3))
SIGNED = dict(balanced=free(False))
BRANCH = dict(branch=free(Branch(TANH, 1.1, 0.3)))
WIDTHS = dict(widths=free([6, 4, 5]))
NTK = dict(
    widths=free([6, 4, 1]), sigma_w2=positive(2.0), parameterization=free("ntk")
) | dict(input_norm2=positive(3.0))
COUNTED = dict(weights=free(True), biases=free(True))
LIMIT = dict(active=positive(0.5), fourth_moment=positive(3.0), quartic=positive(1.0))
PAIR = dict(q_aa=positives(1.0), q_ab=reals(0.2), q_bb=positives(1.5))
HAYOU = dict(width=widths_inf(6), time=nonnegs(0.7))
SHAPED = dict(x=free([0.1, 0.2]), psi=free(np.tanh))
EYE, IMAGE = free(np.eye(2)), free(np.eye(3))
SAMPLE = Sample.of(np.arange(9.0))

TABLE = {
    "agreement.agreement": dict(sample=free(SAMPLE), law=free(stats.norm(4, 2))),
    "agreement.compare": dict(sample=free(SAMPLE), laws=free({"a": stats.norm(4, 2)})),
    "agreement.second_moment": dict(
        log_r=free(np.linspace(0, 1e-3, 999)), reference=positive(1.1)
    ),
    "characteristic.normal_plus_log_chi2": dict(
        mean=real(0.1), var=nonneg(0.5), dof=positive(4.0)
    ),
    "convolution.conv_coefficients": BRANCH
    | dict(inner=IMAGE, kernel=count(3), padding=free("zero")),
    "convolution.conv_second_moments": BRANCH
    | dict(initial=IMAGE, kernel=count(3), padding=free("zero"), time=nonneg(0.5)),
    "depth_covariance.angle_flow": dict(angle=nonnegs(0.4), times=nonneg(0.5)),
    "depth_covariance.covariance_flow": PAIR | dict(times=nonneg(0.5)),
    "depth_covariance.covariance_recursion": PAIR | dict(squares=free([0.1, 0.2])),
    "depth_covariance.elapsed_time": dict(squares=free([0.1, 0.2])),
    "depth_covariance.gaussian_limit": dict(variance=positive(1.2), time=nonneg(0.5)),
    "depth_covariance.relu_correlation": dict(c=reals(0.4)),
    "depth_covariance.variance_flow": dict(
        phi=free(np.tanh), variance=positive(1.2), times=nonneg(0.5)
    ),
    "diffusion.general_coefficients": SHAPED
    | dict(phi=free(TANH), weight_mean=EYE, bias_mean=free([0.1, 0.1]))
    | dict(weight_cov=free(np.ones((2, 2, 2, 2))), bias_cov=EYE),
    "diffusion.iid_coefficients": BRANCH | SHAPED | dict(x=EYE),
    "diffusion.matrix_gaussian_coefficients": SHAPED
    | dict(phi=free(TANH), x=EYE, output_cov=EYE, input_cov=EYE, bias_cov=EYE),
    "diffusion.jacobian_second_moment": BRANCH | dict(time=nonnegs(0.5)),
    "diffusion.log_determinant_law": BRANCH | dict(time=nonnegs(0.5)),
    "diffusion.never_explodes": dict(phi=free(TANH), growth=nonneg(0.5)),
    "doubly_infinite.depth_bias": BRANCH
    | dict(lam=reals(0.1), q=nonnegs(0.2), q_other=free(0.3), depth=count(5))
    | dict(time=nonnegs(0.5)),
    "doubly_infinite.explosion_time": BRANCH
    | dict(mean=reals(0.5), square=nonnegs(1.0)),
    "doubly_infinite.moments": BRANCH
    | dict(mean=reals(0.5), square=nonnegs(1.0), time=nonnegs(0.5)),
    "doubly_infinite.output_correlation": BRANCH
    | dict(z=reals(0.5), z_other=reals(0.4)),
    "doubly_infinite.overlaps": BRANCH
    | dict(mean=free([0.1, 0.2]), overlap=EYE, time=nonneg(0.5)),
    "doubly_infinite.unit_law": BRANCH
    | dict(x0=free([0.1, 0.2]), unit=count0(0), time=nonneg(0.5)),
    "doubly_infinite_kernels.completed_kernels": BRANCH
    | dict(inner=reals(0.4), input_std=positive(1.1), output_std=positive(0.9))
    | dict(time=nonnegs(0.5)),
    "doubly_infinite_kernels.increment_kernels": BRANCH
    | dict(overlap=reals(0.4), time=nonnegs(0.5)),
    "gaussian.gaussian_log_hidden": BROADCAST,
    "gaussian.gaussian_log_norm": BROADCAST,
    "gaussian.gaussian_log_output": dict(
        depth=counts0(3), alpha=real(0.8), lam=real(0.7), n_out=counts(2)
    ),
    "gaussian.log_ratio_var": dict(width=counts(6), apart=nonnegs(0.5)),
    "infinite_depth.hayou_time": dict(branch=reals(0.4)),
    "infinite_depth.identity_layer_law": dict(
        width=count(6), depth=count(3), time=nonneg(0.5)
    ),
    "infinite_depth.identity_log_law": dict(width=count(6), time=nonneg(0.5)),
    "infinite_depth.identity_log_moments": dict(
        width=count(6), depth=count(3), time=nonneg(0.5)
    ),
    "infinite_depth.inactive_units": dict(time=nonnegs(0.5)),
    "infinite_depth.initial_log_drift": dict(width=widths_inf(6)),
    "infinite_depth.log_norm_bounds": HAYOU | dict(noise=reals(0.1)),
    "infinite_depth.log_norm_from_active": dict(
        width=count(6), times=free([0.0, 0.5]), active=free([3.0, 2.9])
    ),
    "infinite_depth.log_norm_mean": HAYOU,
    "infinite_depth.output_power": dict(
        width=widths_inf(6), depth=counts(3), branch=reals(0.4), balanced=free(False)
    ),
    "infinite_depth.relu_log_law": dict(time=nonneg(0.5)),
    "infinite_depth.second_moment": HAYOU,
    "infinite_depth.second_moment_correction": dict(time=nonnegs(0.5)),
    "law.with_points": dict(law=free(None), certain=free([True]), at=free(1.0)),
    "log_gaussian.interlayer_covariance": dict(
        lags=integers(2), alpha=real(0.8), lam=real(0.7)
    ),
    "log_gaussian.layer_law": NETWORK | SIGNED,
    "log_gaussian.output_moments": NETWORK | SIGNED,
    "log_gaussian.rates": dict(alpha=real(0.8), lam=real(0.7)),
    "log_gaussian.resnet_log_norm": BROADCAST | SIGNED,
    "log_gaussian.resnet_log_output": NETWORK | SIGNED | dict(n_out=count(2)),
    "log_gaussian.sign_correlation": dict(rho=reals(0.4)),
    "log_gaussian.square_correlation": dict(rho=reals(0.4)),
    "norms.norm_laws": NETWORK | SIGNED | dict(n_out=count(2)),
    "ntk_limits.limit_biases": dict(T=nonnegs(0.5)),
    "ntk_limits.limit_first_step": dict(T=nonnegs(0.5)),
    "ntk_limits.limit_mixed": dict(T=nonnegs(0.5)),
    "ntk_limits.limit_ratio": dict(
        T=nonnegs(0.5), sigma_w2=positive(2.0), weight_share=nonneg(0.5)
    ),
    "ntk_limits.limit_weights": dict(T=nonnegs(0.5)),
    "ntk_moments.first_step_change": NTK,
    "ntk_moments.ntk_mean": NTK | COUNTED,
    "ntk_moments.ntk_second_moment_ratio": NTK | COUNTED,
    "products.check_widths": WIDTHS | dict(least=free(1)),
    "products.dead_probability": WIDTHS,
    "products.gaussian_limit": WIDTHS | LIMIT,
    "products.layer_moments": dict(width=count(6)),
    "products.log_variance": WIDTHS | LIMIT,
    "products.mlp_log_norm": dict(width=count(6), depth=count0(3)),
    "products.relu_log_norm": WIDTHS,
    "products.second_moment_ratio": WIDTHS,
    "resnet_ntk.resnet_ntk_moments": NETWORK
    | dict(width=counts(6), head=free("linear")),
}
OU = OrnsteinUhlenbeckActivation(0.7, 0.1)
METHODS = {
    "ornstein_uhlenbeck.OrnsteinUhlenbeckActivation": (
        OrnsteinUhlenbeckActivation,
        dict(a=positive(0.7), b=real(0.1)),
    ),
    "ornstein_uhlenbeck.law": (OU.law, dict(start=real(0.5), time=nonneg(0.5))),
    "ornstein_uhlenbeck.transformed_law": (
        OU.transformed_law,
        dict(start=real(0.5), time=nonneg(0.5)),
    ),
    "diffusion.Branch": (
        Branch,
        dict(phi=free(TANH), sigma_w=positive(1.1), sigma_b=nonneg(0.3)),
    ),
    "diffusion.Nonlinearity": (
        Nonlinearity,
        dict(slope=real(1.1), curvature=real(0.0), third=real(0.0)),
    ),
    "diffusion.growth": (Branch(TANH).growth, dict(time=nonnegs(0.5))),
}


def public_functions():
    for info in pkgutil.iter_modules(testbed.laws.__path__):
        module = importlib.import_module(f"testbed.laws.{info.name}")
        for name, value in vars(module).items():
            own = getattr(value, "__module__", "") == module.__name__
            if own and inspect.isfunction(value) and not name.startswith("_"):
                yield f"{info.name}.{name}", value


FUNCTIONS = dict(public_functions())
ENTRIES = {n: (FUNCTIONS[n], a) for n, a in TABLE.items() if n in FUNCTIONS} | METHODS


def call(name, **changes):
    function, arguments = ENTRIES[name]
    return function(**{k: a.value for k, a in arguments.items()} | changes)


def numbers(result) -> list:
    """All numbers of a result; of a law, what it says of itself."""
    if hasattr(result, "ppf"):
        x = np.asarray(result.mean())
        values = [result.mean(), result.var(), result.cdf(x + 0.1), result.ppf(0.3)]
        return list(map(np.asarray, values))
    if dataclasses.is_dataclass(result):
        result = [getattr(result, f.name) for f in dataclasses.fields(result)]
    if hasattr(result, "mean") and hasattr(result, "cov"):  # a multivariate normal
        result = (result.mean, result.cov)
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, tuple | list):
        return [x for part in result for x in numbers(part)]
    return [result] if isinstance(result, str) else [np.asarray(result)]


def test_all_are_here():
    """Every public function of the laws is in the table, with all its arguments."""
    assert set(TABLE) == set(FUNCTIONS)
    for name, (function, arguments) in ENTRIES.items():
        assert set(arguments) == set(inspect.signature(function).parameters), name


ARGUMENTS = [
    (name, argument)
    for name, (_, arguments) in ENTRIES.items()
    for argument, of in arguments.items()
    if of.kind != "free"
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_one_number_has_many_spellings(name, argument):
    """8.0, a NumPy number and an array of one are 8; arrays of two where they may."""
    value, kind, _ = ENTRIES[name][1][argument]
    one = np.asarray(value)
    as_float = float(value)
    same = [as_float, np.float64(value), one, one.reshape(1)]
    if kind in LEAST or kind == "integers":
        same += [np.int64(value), np.int32(value), np.float32(value)]
    if kind.endswith("s") or kind == "widths_inf":
        same += [[value, value], np.array([[as_float], [value]])]
    expected = numbers(call(name))
    for spelling in same:
        for got, wanted in zip(
            numbers(call(name, **{argument: spelling})), expected, strict=True
        ):
            if isinstance(wanted, np.ndarray) and wanted.dtype.kind == "f":
                behind = (1,) * (got.ndim - wanted.ndim)  # after an axis of layers
                wanted = wanted.reshape(wanted.shape + behind)
                wanted = np.broadcast_to(wanted, got.shape)
                np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


LEAST = {"count": 1, "counts": 1, "widths_inf": 1, "count0": 0, "counts0": 0}


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_what_is_no_such_number_is_refused_in_a_line(name, argument):
    """nan, infinity, text, None, bool, complex; 8.5; below the least."""
    value, kind, field = ENTRIES[name][1][argument]
    wrong = [np.nan, -np.inf, str(value), True, 1j * value, 10**400, object()]
    wrong += [None] * (argument not in ("input_norm2",))
    wrong += [np.inf] * (kind != "widths_inf")
    if kind in LEAST:
        wrong += [value + 0.5, LEAST[kind] - 1, -value - 1]
    wrong += [value + 0.5] * (kind == "integers")
    wrong += [-1e-3] * (kind in ("nonneg", "nonnegs", "positive", "positives"))
    wrong += [0.0] * (kind in ("positive", "positives"))
    wrong += [[value, np.nan]] * (kind.endswith("s") or kind == "widths_inf")
    for bad in wrong:
        with pytest.raises(UserError) as caught:
            call(name, **{argument: bad})
        assert caught.value.field == (field or argument), (bad, str(caught.value))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


EDGES = {
    "lam = 0": dict(lam=0.0),
    "alpha = 0": dict(alpha=0.0),
    "alpha < 0": dict(alpha=-0.8),
    "depth = 0": dict(depth=0),
    "depth = 1": dict(depth=1),
    "width = 1": dict(width=1),
    "width = 1, depth = 1": dict(width=1, depth=1),
    "width = 1, alpha = 0": dict(width=1, alpha=0.0),
    "time = 0": dict(time=0.0),
    "times = 0": dict(times=0.0),
    "both = 0": dict(alpha=0.0, lam=0.0),
}
# Where there is no law; everywhere else there are numbers.
REFUSED = {("log_gaussian.rates", "lam = 0")} | {
    (name, "depth = 0")
    for name in (
        "doubly_infinite.depth_bias",
        "infinite_depth.identity_layer_law",
        "infinite_depth.identity_log_moments",
        "infinite_depth.output_power",
    )
}
AT_EDGES = [
    (name, edge)
    for name, (_, arguments) in ENTRIES.items()
    for edge, changes in EDGES.items()
    if set(changes) <= {k for k, a in arguments.items() if a.kind != "free"}
]


@pytest.mark.parametrize(("name", "edge"), AT_EDGES)
def test_edges_have_numbers_or_a_line(name, edge):
    """Never nan: a refusal where the table says so, else finite numbers."""
    changes = EDGES[edge]
    if edge == "both = 0" or (name, edge) in REFUSED:
        with pytest.raises(UserError) as caught:
            call(name, **changes)
        assert caught.value.field in changes
        return
    result = call(name, **changes)
    for value in numbers(result):
        assert isinstance(value, str) or np.isfinite(value).all()
    if hasattr(result, "ppf"):
        assert np.all(np.asarray(result.var()) >= 0)
        certain = edge in ("lam = 0", "depth = 0", "time = 0")
        free_noise = ("log_output", "log_hidden", "gaussian_limit")
        assert isinstance(result, Point) == (certain and not name.endswith(free_noise))


LAWS = [
    (name, edge)
    for name, edge in [*((n, None) for n in ENTRIES), *AT_EDGES]
    if edge != "both = 0" and (name, edge) not in REFUSED
    if inspect.signature(ENTRIES[name][0]).return_annotation in (Law, CharacteristicLaw)
]
MIXED = ("log_gaussian.resnet_log_norm", "gaussian.gaussian_log_norm")


@pytest.mark.parametrize(("name", "edge"), LAWS)
def test_laws_behave_like_scipys_frozen_ones(name, edge):
    """Pickles; ends and nan of ppf; shapes of all methods and of rvs; sf = 1 - cdf."""
    law = call(name, **EDGES.get(edge, {}))
    x = float(law.mean()) + np.array([[-0.2, 0.0, 0.3]])
    q = np.array([0.0, 0.2, 0.5, 1.0])
    copy = pickle.loads(pickle.dumps(law))
    for method, at in (("pdf", x), ("cdf", x), ("sf", x), ("ppf", q)):
        value = getattr(law, method)(at)
        assert value.shape == at.shape and not np.isnan(value).any()
        np.testing.assert_array_equal(value, getattr(copy, method)(at))
        single = getattr(law, method)(at.flat[1])
        assert np.ndim(single) == 0 and isinstance(single, float)
        np.testing.assert_allclose(single, value.flat[1], rtol=1e-9, atol=1e-12)
        assert np.isnan(getattr(law, method)(np.nan))
    assert np.isnan(law.ppf([-0.1, 1.1, np.nan])).all()
    low, high = law.ppf(0), law.ppf(1)
    assert low <= law.ppf(0.5) <= high
    np.testing.assert_array_equal(law.cdf([-np.inf, np.inf, high]), [0, 1, 1])
    np.testing.assert_array_equal(law.sf([-np.inf, np.inf, high]), [1, 0, 0])
    assert law.cdf(low) == (1 if isinstance(law, Point) else 0)
    np.testing.assert_allclose(law.sf(x), 1 - law.cdf(x), atol=1e-12)
    np.testing.assert_allclose(law.std() ** 2, law.var(), rtol=1e-12)

    assert np.ndim(law.rvs()) == 0 and isinstance(law.rvs(), float)
    for size, shape in ((1, (1,)), (5, (5,)), ((2, 3), (2, 3)), (np.int64(4), (4,))):
        assert law.rvs(size).shape == shape
    seeds = (3, np.random.default_rng(3), np.random.RandomState(3))
    for seed, again in zip(seeds, pickle.loads(pickle.dumps(seeds)), strict=True):
        draws = law.rvs(7, random_state=seed)
        np.testing.assert_array_equal(draws, copy.rvs(7, random_state=again))
        assert ((draws >= low) & (draws <= high)).all()


@pytest.mark.parametrize("name", MIXED)
def test_a_law_over_depths_may_be_certain_at_some(name):
    """Of depths 0 and 3, the first is the point 0 and the second what it is alone."""
    law, alone = call(name, depth=[[0], [3]], width=[6, 9]), call(name, width=9)
    law = pickle.loads(pickle.dumps(law))
    assert law.mean().shape == law.rvs().shape == (2, 2)
    assert law.rvs((5, 2, 2)).shape == (5, 2, 2)
    for method, at in (("cdf", 0.1), ("sf", 0.1), ("pdf", 0.1), ("ppf", 0.2)):
        point, law_of = getattr(law, method)(at)[:, 1]
        assert point == getattr(Point(0.0), method)(at)
        np.testing.assert_allclose(law_of, getattr(alone, method)(at), rtol=1e-12)
    np.testing.assert_array_equal(law.var()[0], 0)
    np.testing.assert_allclose(law.std()[1, 1], alone.std(), rtol=1e-12)
    assert (law.rvs()[0] == 0).all() and (law.rvs()[1] != 0).all()
