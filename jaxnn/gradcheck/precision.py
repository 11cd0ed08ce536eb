"""The loss that is meant where a loss computes in short dtypes: the same, all in float64.

A cast to bfloat16 makes a staircase of the loss and puts rounding into autodiff's own answer; what
a gradient is held to is the derivative without that rounding.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxnn.gradcheck.program import UNTRACEABLE

WIDE = np.dtype(np.float64)


def widened(
    function: Callable[..., Any], *operands: Any
) -> tuple[Callable[..., Any], frozenset[Any]]:
    """The function without casts to short dtypes, and the short dtypes that it computes in.

    It is the function itself where there are none, or where it cannot be widened.
    """
    short: frozenset[Any] = frozenset()
    try:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*operands)
        short = frozenset(
            v.aval.dtype
            for program in all_jaxprs(closed.jaxpr)
            for equation in program.eqns
            for v in equation.outvars
            if _short(v.aval)
        )
        if not short:
            return function, short

        def wide(*operands: Any) -> Any:
            results = _run(closed.jaxpr, closed.consts, [_up(v) for v in jax.tree.leaves(operands)])
            return jax.tree.unflatten(jax.tree.structure(shape), results)

        jax.eval_shape(wide, *operands)
    except (*UNTRACEABLE, TypeError, ValueError, NotImplementedError):
        return function, short
    return wide, short


def _short(value: Any) -> bool:
    """Is it a real number, or a type of one, of fewer bits than float64's?"""
    dtype = getattr(value, "dtype", value)
    return bool(jnp.issubdtype(dtype, jnp.floating)) and np.dtype(dtype).itemsize < WIDE.itemsize


def _up(value: Any) -> Any:
    short = isinstance(value, jax.Array | np.ndarray | np.generic) and _short(value)
    return jnp.asarray(value, WIDE) if short else value


def _run(jaxpr: Any, constants: list[Any], arguments: list[Any]) -> list[Any]:
    known = dict(zip(jaxpr.invars, arguments, strict=True))
    known |= {v: _up(c) for v, c in zip(jaxpr.constvars, constants, strict=True)}

    def read(atom: Any) -> Any:
        return _up(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        results = _step(equation, [read(atom) for atom in equation.invars])
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _step(equation: Any, given: list[Any]) -> list[Any]:
    """One equation in float64; what cannot be widened gets its own dtypes back."""
    params: Mapping[str, Any] = equation.params
    name = equation.primitive.name
    atoms = (*equation.invars, *equation.outvars)
    within = [program for inner in inner_jaxprs(params) for program in all_jaxprs(inner)]
    if not any(_short(atom.aval) for atom in atoms) and not any(map(_computes_short, within)):
        return _bind(equation, given, params)
    if name == "reduce_precision":
        return given
    if name in ("jit", "pjit", "closed_call", "remat2", "checkpoint", "custom_jvp_call"):
        inner = params.get("call_jaxpr") or params["jaxpr"]
        return _run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", []), given)
    if name == "scan":
        return _scan(params, given)
    if within or name == "bitcast_convert_type":
        own = [
            jnp.asarray(v, atom.aval.dtype) if _short(atom.aval) else v
            for v, atom in zip(given, equation.invars, strict=True)
        ]
        return [_up(v) for v in _bind(equation, own, params)]
    wide = {key: _wide_dtype(value) for key, value in params.items()}
    if name in ("dot_general", "conv_general_dilated"):
        wide["precision"] = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
    return _bind(equation, given, wide)


def inner_jaxprs(params: Mapping[str, Any]) -> list[Any]:
    """The programs that an equation calls, without their constants."""
    kinds = (Jaxpr, ClosedJaxpr)
    leaves = jax.tree.leaves(list(params.values()), is_leaf=lambda v: isinstance(v, kinds))
    return [getattr(v, "jaxpr", v) for v in leaves if isinstance(v, kinds)]


def all_jaxprs(jaxpr: Any) -> list[Any]:
    """A program and those that it calls, at any depth."""
    inner = [program for e in jaxpr.eqns for program in inner_jaxprs(e.params)]
    return [jaxpr, *(deeper for program in inner for deeper in all_jaxprs(program))]


def _computes_short(jaxpr: Any) -> bool:
    return any(_short(v.aval) for equation in jaxpr.eqns for v in equation.outvars)


def _wide_dtype(value: Any) -> Any:
    try:
        return WIDE if isinstance(value, np.dtype | type) and _short(value) else value
    except TypeError:
        return value


def _scan(params: Mapping[str, Any], given: list[Any]) -> list[Any]:
    n, k, body = params["num_consts"], params["num_carry"], params["jaxpr"]

    def turn(carry: Any, row: Any) -> Any:
        results = _run(body.jaxpr, body.consts, [*given[:n], *carry, *row])
        return results[:k], results[k:]

    carry, rows = jax.lax.scan(
        turn, given[n : n + k], given[n + k :], length=params["length"], reverse=params["reverse"]
    )
    return [*carry, *rows]


def _bind(equation: Any, given: list[Any], params: Mapping[str, Any]) -> list[Any]:
    found = equation.primitive.get_bind_params(dict(params))
    functions, found = found if isinstance(found, tuple) else ((), found)
    results = equation.primitive.bind(*functions, *given, **found)
    return list(results) if equation.primitive.multiple_results else [results]
