"""A network that is not ours, as the functions that training is made of.

Whatever it is written with, parameters are the real floating-point arrays of a pytree.
All else is held fixed: other collections of Flax variables (batch_stats), other
variables of an nnx module (BatchStat, RngState), constants that are given as such,
whole numbers, random keys, functions.  No library but jax is imported here.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from numbers import Number
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from testbed.dynamics.problem import Network
from testbed.errors import UserError, in_a_line
from testbed.kernels.rows import check_outputs

Tree = Any
_NAMED = 5  # leaves that are named among those that are held fixed
_INITIALIZER = "e.g. lambda key: net.init(key, x)"


class Foreign(NamedTuple):
    """A network of the user's own.

    Attributes:
      network: its functions.
      given: (params, constants) where they were given; None where an initializer was.
      fixed: names of what is held fixed.
    """

    network: Network
    given: tuple[Tree, Tree] | None
    fixed: tuple[str, ...]


class _Parts(NamedTuple):
    """A network's variables, taken apart.

    Attributes:
      params: {group: {name: array}}, what is trained.
      constants: the other arrays.
      join: (params, constants) -> the arguments of the user's function before x.
      fixed: names of what is not trained.
    """

    params: dict[str, dict[str, Any]]
    constants: list[Any]
    join: Callable[[Tree, Tree], tuple]
    fixed: tuple[str, ...]


def foreign_network(apply_fn: Callable, params_or_init: Any, key: jax.Array) -> Foreign:
    """Takes apart what the user gives.

    Args:
      apply_fn: (params, x) -> outputs (N, C), or (params, constants, x), if it cannot
        be called with two arguments.
      params_or_init: what `apply_fn` takes before x: a pytree of arrays, Flax
        variables, an Equinox or nnx module, (params, constants); or a function that
        makes such a thing of a random key, which is traced.
      key: with which an initializer is tried, abstractly.

    Raises:
      UserError: there is nothing to train, or a function that fails.
    """
    if not callable(apply_fn):
        rule = "must be a function (params, x) -> outputs (N, C)"
        raise UserError("apply_fn", type(apply_fn).__name__, rule, "give a function")
    takes_constants = _takes_constants(apply_fn)
    if not _is_initializer(params_or_init):
        parts = _apart(params_or_init, takes_constants)
        given = jax.tree.map(jnp.asarray, (parts.params, parts.constants))
        init = lambda key: given
        apply = _apply(apply_fn, parts.join)
        return Foreign(Network(init, apply), given, parts.fixed)

    found: list[_Parts] = []  # how it is joined is known once it has been traced

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        parts = _apart(params_or_init(key), takes_constants)
        found[:] = [parts._replace(params={}, constants=[])]
        return parts.params, parts.constants

    try:
        jax.eval_shape(init, key)
    except UserError:
        raise
    except Exception as error:  # of other people's code, whatever it is
        raise _failed(
            "params_or_init",
            error,
            "must give parameters, or make them of a random key under jit",
            _INITIALIZER,
        ) from error
    apply = _apply(apply_fn, found[0].join)
    return Foreign(Network(init, apply), None, found[0].fixed)


def check_applied(network: Network, params: Tree, constants: Tree, x: Any) -> Any:
    """Shape and dtype of the outputs on `x`, evaluated abstractly.

    Raises:
      UserError: a function that fails, or outputs that are not real numbers (N, C).
    """
    try:
        out = jax.eval_shape(network.apply, params, constants, x)
    except UserError:
        raise
    except Exception as error:
        rule = "must take (params, x), or (params, constants, x)"
        remedy = "call it with what is given here"
        raise _failed("apply_fn", error, rule, remedy) from error
    shape = getattr(out, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != len(x) or not shape[1]:
        rule = f"must return outputs (N, C), with N = {len(x)} here"
        remedy = "wrap it, e.g. lambda p, x: f(p, x).reshape(len(x), -1)"
        value = f"returns {type(out).__name__ if shape is None else shape}"
        raise UserError("apply_fn", value, rule, remedy)
    check_outputs(out)
    return out


def _apply(apply_fn: Callable, join: Callable[[Tree, Tree], tuple]) -> Callable:
    def apply(params: Tree, constants: Tree, x: jax.Array) -> Any:
        f = apply_fn(*join(params, constants), x)
        # A loss in half precision would say little.
        if not hasattr(f, "dtype") or not jnp.issubdtype(f.dtype, jnp.floating):
            return f
        return f.astype(jnp.promote_types(f.dtype, jnp.float32))

    return apply


def _takes_constants(apply_fn: Callable) -> bool:
    """Whether it needs three arguments."""
    try:
        signature = inspect.signature(apply_fn)
    except (TypeError, ValueError):
        return False
    return not _binds(signature, 2) and _binds(signature, 3)


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_initializer(value: Any) -> bool:
    """A function; modules may be called too, but they hold arrays."""
    return callable(value) and not _is_nnx(value) and jax.tree.leaves(value) == [value]


def _is_nnx(value: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")  # whoever has such a module has imported it
    return nnx is not None and isinstance(value, nnx.Module)


def _apart(value: Any, takes_constants: bool) -> _Parts:
    if takes_constants:
        if not isinstance(value, tuple) or len(value) != 2:
            rule = "must be or give (params, constants): apply_fn takes three arguments"
            remedy = "give both, or a function (params, x)"
            raise UserError("params_or_init", type(value).__name__, rule, remedy)
        return _split(*value, lambda params, constants: (params, constants))
    if _is_nnx(value):
        nnx = sys.modules["flax.nnx"]
        graph, params, rest = nnx.split(value, nnx.Param, ...)
        return _split(params, rest, lambda p, c: (nnx.merge(graph, p, c),))
    if isinstance(value, Mapping) and "params" in value:
        rest = {name: of for name, of in value.items() if name != "params"}
        return _split(value["params"], rest, lambda p, c: ({**c, "params": p},))
    return _split(value, {}, lambda params, constants: (params,))


def _split(trained: Tree, rest: Tree, join: Callable[[Tree, Tree], tuple]) -> _Parts:
    """Sorts leaves into what is trained, other arrays, and what is no array."""
    paths, trained_tree = jax.tree_util.tree_flatten_with_path(trained)
    others, rest_tree = jax.tree_util.tree_flatten_with_path(rest)
    names = [_names(path) for path, _ in paths]
    groups = _groups([n for n, (_, leaf) in zip(names, paths, strict=True)
                      if _is_parameter(leaf)])  # fmt: skip
    params: dict[str, dict[str, Any]] = {}
    constants, places, fixed = [], [], []
    for name, (path, leaf) in zip(names, paths, strict=True):
        if _is_parameter(leaf):
            _check_real(path, leaf)
            key = jax.tree_util.keystr(path)
            params.setdefault(groups[name], {})[key] = leaf
            places.append(("params", groups[name], key))
        else:
            places.append(_place(leaf, constants))
            fixed += ["/".join(name)] * (_is_array(leaf) or isinstance(leaf, Number))
    for path, leaf in others:
        places.append(_place(leaf, constants))
        fixed += ["/".join(_names(path))] * _is_array(leaf)
    if not params:
        rule = "holds no array of floating-point numbers, so there is nothing to train"
        remedy = f"give arrays, or a function that makes them, {_INITIALIZER}"
        raise UserError("params_or_init", type(trained).__name__, rule, remedy)

    def joined(params: Tree, constants: Tree) -> tuple:
        look = {
            "params": lambda g, n: params[g][n],
            "constants": lambda i: constants[i],
        }
        leaves = [look[k](*at) if k in look else at[0] for k, *at in places]
        count = trained_tree.num_leaves
        one = jax.tree.unflatten(trained_tree, leaves[:count])
        return join(one, jax.tree.unflatten(rest_tree, leaves[count:]))

    return _Parts(params, constants, joined, tuple(fixed))


def _place(leaf: Any, constants: list[Any]) -> tuple:
    """Where a leaf that is not trained is found again; arrays join `constants`."""
    if not _is_array(leaf):
        return "static", leaf
    constants.append(leaf)
    return "constants", len(constants) - 1


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape")


def _is_parameter(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _check_real(path: tuple, leaf: Any) -> None:
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        name = "params" + jax.tree_util.keystr(path)
        remedy = "give real and imaginary parts as parameters of their own"
        raise UserError(name, str(leaf.dtype), "must be real", remedy)


def _names(path: tuple) -> tuple[str, ...]:
    """A leaf's place, e.g. ("layers", "0", "weight")."""
    return tuple(jax.tree_util.keystr((k,), simple=True) for k in path) or ("params",)


def _groups(names: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Parameters by the first part of their names in which they differ."""
    depth = 1
    while len({n[:depth] for n in names}) == 1 and any(len(n) > depth for n in names):
        depth += 1
    return {name: "/".join(name[:depth]) for name in names}


def _failed(field: str, error: Exception, rule: str, remedy: str) -> UserError:
    return UserError(field, f"fails ({in_a_line(error)[:160]})", rule, remedy)


def named(fixed: tuple[str, ...]) -> str:
    """What is held fixed, in words; "" if nothing is."""
    more = f" and {len(fixed) - _NAMED} more" if len(fixed) > _NAMED else ""
    return ", ".join(fixed[:_NAMED]) + more
