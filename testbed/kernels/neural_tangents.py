"""The one door to neural-tangents: `nt` and `nt.stax` on the jax of today.

    from testbed.kernels.neural_tangents import lenient, load
    nt = load()

neural-tangents 0.6.5 is its last release and was written for jax 0.4.  This module

1. lends jax the names that it has since moved or dropped *while neural_tangents is
   being imported*, and takes them back: jax is left as it was found;
2. puts an empty module in the place of `neural_tangents.experimental`, the only part
   that needs TensorFlow, so that neither disk nor process has to hold it;
3. rewrites on jax's public API the private functions that were copied from jax's
   internals: `NtkImplementation.STRUCTURED_DERIVATIVES` and `.AUTO` work again;
4. lets `nt.predict` take traced kernels (`vmap` over seeds, `jit`) and SciPy >= 1.14.

`lenient` is a context (or decorator) for calls into nt: it permits the implicit rank
promotion and silences the warnings that the testbed forbids in its own code.
`tests/kernels/test_neural_tangents.py` fails when either library moves.
"""

import contextlib
import functools
import importlib
import math
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.core
import jax.extend.core as jex_core
import jax.extend.linear_util  # noqa: F401  (nt: `from jax.extend import linear_util`)
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.extend import source_info_util
from jax.interpreters import ad

EXPERIMENTAL = "neural_tangents.experimental"
# Private functions of nt that are replaced here, by module of neural_tangents._src.
REPLACED = {
    "empirical": (
        "_get_primals_out_and_pullback",
        "_eqn_vjp_fn",
        "_write_cotangent",
        "_read_primal",
        "_std_basis",
        "_get_fx_axis_and_dtype",
        "_get_flops",
    ),
    "predict": ("_get_cho_solve", "_get_fns_in_eigenbasis"),
}


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Permits rank promotion and silences warnings for calls into neural-tangents."""
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        yield


# ------------------------------------------------------------- names lent to jax
def _safe_map(f, *xs):
    xs = [list(x) for x in xs]
    if len({len(x) for x in xs}) > 1:
        raise ValueError(f"lengths differ: {[len(x) for x in xs]}")
    return [f(*row) for row in zip(*xs, strict=True)]


def _safe_zip(*xs):
    return _safe_map(lambda *row: row, *xs)


def _missing_names() -> Iterator[tuple[types.ModuleType, str, Any]]:
    wanted = [
        # In jax.core up to 0.5.
        *((jax.core, n, lambda n=n: getattr(jex_core, n))
          for n in ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")),
        # Still there in 0.12, private in all but name.
        (jax.core, "ShapedArray", lambda: type(jax.typeof(1.0))),
        (jax.core, "AbstractValue", lambda: type(jax.typeof(1.0)).__mro__[-2]),
        (jax.core, "Value", lambda: object),
        (jax.core, "eval_context", lambda: jax.ensure_compile_time_eval),
        # Gone since 0.9; nt uses it as the key of a dict.
        (ad, "zeros_like_p", lambda: jex_core.Primitive("zeros_like")),
    ]  # fmt: skip
    for module, name, make in wanted:
        if not hasattr(module, name):
            yield module, name, make()


@contextlib.contextmanager
def _lend_names() -> Iterator[None]:
    lent = list(_missing_names())
    for module, name, value in lent:
        module.__dict__[name] = value
    found = sys.modules.get("jax.util")
    lacks_util = not hasattr(found, "safe_map")  # attributes gone in 0.7, module in 0.8
    if found is None:
        with contextlib.suppress(ImportError):
            found = importlib.import_module("jax.util")
            lacks_util = not hasattr(found, "safe_map")
    if lacks_util:
        util = types.ModuleType("jax.util")
        util.__dict__.update(safe_map=_safe_map, safe_zip=_safe_zip)
        sys.modules["jax.util"] = util
    try:
        yield
    finally:
        for module, name, _ in lent:
            del module.__dict__[name]
        if lacks_util:
            del sys.modules["jax.util"]
            if found is not None:
                sys.modules["jax.util"] = found


# --------------------------------------- neural_tangents._src.empirical, rewritten
def _bind(eqn, *args):
    """Evaluates one equation of a jaxpr."""
    got = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = got if isinstance(got, tuple) else ((), got)
    return eqn.primitive.bind(*subfuns, *args, **params)


def _is_literal(v) -> bool:
    return isinstance(v, jex_core.Literal)


def _linear_part(closed):
    """Evaluates what does not depend on the inputs; returns the rest, and constants."""
    jaxpr = closed.jaxpr
    env = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    linear, eqns = set(jaxpr.invars), []
    for eqn in jaxpr.eqns:
        if any(not _is_literal(v) and v in linear for v in eqn.invars):
            linear.update(eqn.outvars)
            eqns.append(eqn)
            continue
        args = [v.val if _is_literal(v) else env[v] for v in eqn.invars]
        out = _bind(eqn, *args)
        out = out if eqn.primitive.multiple_results else [out]
        env.update(zip(eqn.outvars, out, strict=True))
    # No `Jaxpr`: its constructor differs between versions, and nt only reads it.
    rest = types.SimpleNamespace(
        constvars=list(env), invars=jaxpr.invars, outvars=jaxpr.outvars, eqns=eqns
    )
    return rest, list(env.values())


def _empirical_replacements(empirical):
    def _get_primals_out_and_pullback(fn, mode, _j_rules, _s_rules, _fwd, *primals_in):
        flat_in, in_tree = jax.tree.flatten(primals_in)
        trees = []

        def fn_flat(*flat):
            flat_out, tree = jax.tree.flatten(fn(*jax.tree.unflatten(in_tree, flat)))
            trees.append(tree)
            return flat_out

        with jax.disable_jit():
            primals_out, jvp = jax.linearize(fn_flat, *flat_in)
            jaxpr, consts = _linear_part(jax.make_jaxpr(jvp)(*flat_in))

        def pullback(*cotangents):
            out = empirical._backward_pass(
                jaxpr,
                mode=mode,
                consts=consts,
                primals_in=[ad.UndefinedPrimal(v.aval) for v in jaxpr.invars],
                cotangents_in=tuple(jax.tree.leaves(cotangents)),
                _j_rules=_j_rules,
                _s_rules=_s_rules,
                _fwd=_fwd,
            )
            return jax.tree.unflatten(in_tree, out)

        return jax.tree.unflatten(trees[0], primals_out), pullback

    def _eqn_vjp_fn(eqn, cotangent, *invals):
        if eqn is None:
            return (cotangent,)
        linear = [i for i, v in enumerate(invals) if ad.is_undefined_primal(v)]
        out: list[Any] = [None] * len(invals)
        if isinstance(cotangent, ad.Zero):
            for i in linear:
                out[i] = ad.Zero(invals[i].aval)
            return tuple(out)

        def f(*values):
            args = list(invals)
            for i, value in zip(linear, values, strict=True):
                args[i] = value
            return _bind(eqn, *args)

        shapes = [
            jax.ShapeDtypeStruct(invals[i].aval.shape, invals[i].aval.dtype)
            for i in linear
        ]
        pulled = jax.linear_transpose(f, *shapes)(cotangent)
        for i, value in zip(linear, pulled, strict=True):
            out[i] = value
        return tuple(out)

    def _write_cotangent(prim, env, v, cotangent):
        if cotangent is None or _is_literal(v) or isinstance(cotangent, ad.Zero):
            return
        env[v] = ad.add_tangents(env[v], cotangent) if v in env else cotangent

    def _read_primal(env, v):
        return v.val if _is_literal(v) else env.get(v, ad.UndefinedPrimal(v.aval))

    def _std_basis(pytree):
        leaves = jax.tree.leaves(pytree)
        size = sum(math.prod(leaf.shape) for leaf in leaves)
        eye = jnp.eye(size, dtype=jnp.result_type(*(leaf.dtype for leaf in leaves)))
        return empirical._unravel_array_into_pytree(pytree, 1, eye)

    def _get_fx_axis_and_dtype(fx, fx_axis, params):
        if fx_axis is None:
            fx_axis = jax.tree.map(lambda _: None, fx)
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
        dtype = functools.reduce(jnp.promote_types, dtypes) if dtypes else None
        return fx_axis, dtype

    def _get_flops(f, optimize, *args, **kwargs):
        lowered = jax.jit(f).lower(*args, **kwargs)
        cost: Any = (lowered.compile() if optimize else lowered).cost_analysis()
        return (cost[0] if isinstance(cost, (list, tuple)) else cost)["flops"]

    new = locals()
    return {name: new[name] for name in REPLACED["empirical"]}


# ----------------------------------------- neural_tangents._src.predict, rewritten
def _predict_replacements(predict):
    """Decompositions of concrete kernels are made outside a surrounding trace.

    nt caches them, so a tracer must not get in; it enters `eval_context` for that.
    In today's jax no tracer may be *used* there either, which breaks predictions from
    a traced kernel.  Enter it for concrete kernels only.
    """

    def outside_trace(decompose):
        @functools.wraps(decompose)
        def wrapped(kernel, *args, **kwargs):
            if isinstance(kernel, jax.core.Tracer):
                return decompose(kernel, *args, **kwargs)
            with jax.ensure_compile_time_eval():
                return decompose(kernel, *args, **kwargs)

        return wrapped

    return {name: outside_trace(getattr(predict, name)) for name in REPLACED["predict"]}


def _eigvalsh(kernel, eigvals):  # `eigvals=` is gone in SciPy 1.14
    return scipy.linalg.eigvalsh(np.asarray(kernel), subset_by_index=list(eigvals))


# ---------------------------------------------------------------------------- load
def _load() -> Any:
    if "neural_tangents" in sys.modules:
        raise ImportError(
            "neural_tangents was imported before testbed.kernels.neural_tangents; "
            "import this module first, or use its `nt` everywhere"
        )
    stub = types.ModuleType(EXPERIMENTAL, "Stub: needs TensorFlow.")
    stub.__path__ = []
    sys.modules[EXPERIMENTAL] = stub
    with lenient(), _lend_names():
        module = importlib.import_module("neural_tangents")

    source = "neural_tangents._src."
    for part, names in REPLACED.items():
        for name in names:
            if not hasattr(sys.modules[source + part], name):
                raise ImportError(f"{source}{part} has no {name}: unknown version")
    empirical, predict = (sys.modules[source + m] for m in ("empirical", "predict"))
    for name, new in _empirical_replacements(empirical).items():
        setattr(empirical, name, new)
    for name, new in _predict_replacements(predict).items():
        setattr(predict, name, new)
    # What these modules still look up in jax's namespaces when they run.
    empirical.__dict__["ad"] = types.SimpleNamespace(
        source_info_util=source_info_util,
        primitive_jvps=ad.primitive_jvps,
        is_undefined_primal=ad.is_undefined_primal,
    )
    predict.__dict__["jax"] = types.SimpleNamespace(
        core=types.SimpleNamespace(eval_context=contextlib.nullcontext),
        default_backend=jax.default_backend,
    )
    predict.__dict__["sp"] = types.SimpleNamespace(
        linalg=types.SimpleNamespace(eigvalsh=_eigvalsh)
    )
    return module


nt = _load()


def load() -> Any:
    """neural-tangents on today's jax, for whoever wants just that.

    jax and its configuration are as they were; TensorFlow is neither needed nor
    imported.  `lenient` is a context for calls under strict settings of jax.

    Example:
      >>> stax = load().stax
      >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))
      >>> kernel_fn(jnp.ones((2, 3)), None, "ntk").shape
      (2, 2)
    """
    return nt
