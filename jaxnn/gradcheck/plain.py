"""A function without the rules that somebody wrote for it: what autodiff makes of its values."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.extend.core.primitives import closed_call_p, custom_jvp_call_p, custom_vjp_call_p

from jaxnn.gradcheck.precision import all_jaxprs


def without_rules(
    function: Callable[[Any], Any], operand: Any, *, jvp_too: bool
) -> Callable[[Any], Any]:
    """The function of one tree with each `custom_vjp` replaced by its forward pass; with `jvp_too`
    each `custom_jvp`, too, of which JAX's own functions have many (relu, log_softmax).

    Raises what tracing raises where the function cannot be traced.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(operand)
    replaced = {custom_vjp_call_p, custom_jvp_call_p} if jvp_too else {custom_vjp_call_p}
    program = jaxpr_as_fun(_closed(closed, replaced))
    structure = jax.tree.structure(shapes)
    return lambda operand: jax.tree.unflatten(structure, program(*jax.tree.leaves(operand)))


def without_stops(function: Callable[[Any], Any], operand: Any) -> Callable[[Any], Any] | None:
    """The function of one tree as if there were no `stop_gradient` in it; None if there is none."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(operand)
    if not _stops(closed.jaxpr):
        return None
    program = jaxpr_as_fun(_closed(closed, {custom_jvp_call_p}, passed=True))
    structure = jax.tree.structure(shapes)
    return lambda operand: jax.tree.unflatten(structure, program(*jax.tree.leaves(operand)))


def _stops(program: Any) -> bool:
    return any(e.primitive.name == "stop_gradient" for j in all_jaxprs(program) for e in j.eqns)


def _closed(closed: ClosedJaxpr, replaced: set[Any], passed: bool = False) -> ClosedJaxpr:
    return ClosedJaxpr(_open(closed.jaxpr, replaced, passed), closed.consts)


def _open(jaxpr: Jaxpr, replaced: set[Any], passed: bool) -> Jaxpr:
    equations = []
    for equation in jaxpr.eqns:
        params = {name: _param(value, replaced, passed) for name, value in equation.params.items()}
        if passed and equation.primitive.name == "stop_gradient":
            equations.append(equation.replace(primitive=jax.lax.copy_p, params={}))
        elif (
            passed and equation.primitive in replaced and not _stops(equation.params["call_jaxpr"])
        ):
            equations.append(equation)  # Its rule is another convention at a kink, and no stop.
        elif equation.primitive in replaced:
            inner = {"call_jaxpr": params["call_jaxpr"]}
            equations.append(equation.replace(primitive=closed_call_p, params=inner))
        else:
            equations.append(equation.replace(params=params))
    plain: Jaxpr = jaxpr.replace(eqns=equations)
    return plain


def _param(value: Any, replaced: set[Any], passed: bool) -> Any:
    """A parameter of an equation; the bodies of loops and branches are programs, too."""
    if isinstance(value, ClosedJaxpr):
        return _closed(value, replaced, passed)
    if isinstance(value, Jaxpr):
        return _open(value, replaced, passed)
    if isinstance(value, tuple):
        return tuple(_param(one, replaced, passed) for one in value)
    return value
