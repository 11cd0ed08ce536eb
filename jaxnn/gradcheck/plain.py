"""A function without the rules that somebody wrote for it: what autodiff makes of its values."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.extend.core.primitives import closed_call_p, custom_jvp_call_p, custom_vjp_call_p


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


def _closed(closed: ClosedJaxpr, replaced: set[Any]) -> ClosedJaxpr:
    return ClosedJaxpr(_open(closed.jaxpr, replaced), closed.consts)


def _open(jaxpr: Jaxpr, replaced: set[Any]) -> Jaxpr:
    equations = []
    for equation in jaxpr.eqns:
        params = {name: _param(value, replaced) for name, value in equation.params.items()}
        if equation.primitive in replaced:
            inner = {"call_jaxpr": params["call_jaxpr"]}
            equations.append(equation.replace(primitive=closed_call_p, params=inner))
        else:
            equations.append(equation.replace(params=params))
    plain: Jaxpr = jaxpr.replace(eqns=equations)
    return plain


def _param(value: Any, replaced: set[Any]) -> Any:
    """A parameter of an equation; the bodies of loops and branches are programs, too."""
    if isinstance(value, ClosedJaxpr):
        return _closed(value, replaced)
    if isinstance(value, Jaxpr):
        return _open(value, replaced)
    if isinstance(value, tuple):
        return tuple(_param(one, replaced) for one in value)
    return value
