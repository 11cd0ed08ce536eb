"""What can be said of a hand-written rule before its numbers are compared: form and linearity."""

import re

import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck.compare import epsilon, largest
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.pullback import Leaves, Misshapen, Pullback
from jaxnn.gradcheck.reference import floating
from jaxnn.gradcheck.report import Finding


def forward_misfit(error: Exception) -> Finding | None:
    """What is wrong with the form of a forward rule, or of a `custom_jvp`; None for other errors.

    JAX looks at that when the rule is first used, unless the function itself has not run before.
    """
    told = str(error)
    name = re.match(r"Custom (VJP fwd|JVP) rule (\S+) for function (\S+)", told)
    if isinstance(error, Misshapen):
        text = f"The forward rule returns another result than the function: {told}"
    elif told.startswith("Custom JVP rule"):
        rule = f" {name[2]}" if name else ""
        text = (
            f"The JVP rule{rule} must return two results of one form, the function's value and "
            "its tangent; one is missing or has another structure, shape or dtype"
        )
    elif name and "instead of a pair" in told:
        text = (
            f"The forward rule {name[2]} must return a pair: the result of {name[3]}, and what "
            "the backward rule needs. It returns something else"
        )
    elif name:
        forms = re.findall(r"^    (.*?)\.?$", told, re.MULTILINE)
        found = f": {forms[0]} where {name[3]} returns {forms[1]}" if len(forms) == 2 else ""
        text = (
            f"The first of the two things that the forward rule {name[2]} returns must have the "
            f"form of {name[3]}'s own result{found}"
        )
    else:
        return None
    return Finding("structure", "", f"{text}.")


def backward_misfit(pullback: Pullback) -> Finding | None:
    """The product must be a tree of real arrays like the arguments. JAX itself looks at that,
    when the rule is first used."""
    try:
        product = pullback.rule(jnp.asarray(pullback.u, pullback.outputs.dtype))[0]
    except (TypeError, ValueError) as error:
        told = " ".join(str(error).split())
        form = re.match(r"Custom VJP bwd rule must produce .*? (structure|type) ", told)
        if form is None:
            raise
        if form[1] == "structure":
            trees = re.findall(r"PyTreeDef\((.*?)\)(?= for |\.$)", told)
            detail = f": {trees[0]} where the arguments are {trees[1]}" if len(trees) == 2 else ""
            text = (
                "The backward rule must return a tuple with one product for each argument, in the "
                f"form of that argument. It returns another structure{detail}."
            )
            return Finding("structure", "", text)
        types = re.search(r"at (output\S*) .* of type (\S+) .* of type (\S+?)[,.]", told)
        detail = (
            f"{types[1]} is {types[2]} where the argument is {types[3]}"
            if types is not None
            else told
        )
        return Finding("shape", "", sentence("shape", "The product", detail=detail))
    for path, value in product.items():
        if not floating(value):
            text = sentence("dtype", path, detail=f"dtype {value.dtype}")
            return Finding("dtype", path, text)
    return None


def linearity(pullback: Pullback) -> list[Finding]:
    """bwd(u), bwd(u) again, bwd(v), bwd(−u), bwd(2u + v), bwd(1000 u) and bwd(0) must fit."""
    u, again, v = pullback.pull(pullback.u), pullback.pull(pullback.u), pullback.pull(pullback.v)
    minus, both = pullback.pull(-pullback.u), pullback.pull(2 * pullback.u + pullback.v)
    zero, large = pullback.pull(0 * pullback.u), pullback.pull(1000 * pullback.u)
    rounding = pullback.short_eps if pullback.short_eps > epsilon(np.float64) else 0.0
    for path in pullback.point:
        size = largest(u[path], v[path], both[path])
        exact = 1e3 * epsilon(np.float64) * size
        floor = exact + 16 * rounding * size
        if not all(np.isfinite(a[path]).all() for a in (u, v, both, large)):
            continue
        if not _same(u, again, path, exact):
            return [Finding("nondeterministic", path, sentence("nondeterministic", path))]
        if u[path].any() and _same(u, v, path, exact) and _same(u, minus, path, exact):
            return [Finding("ignores_cotangent", path, sentence("ignores_cotangent", path))]
        sums = (
            2 * u[path] + v[path] - both[path],
            u[path] + minus[path],
            zero[path],
            u[path] - large[path] / 1000,
        )
        if any(np.any(np.abs(wrong) > floor) for wrong in sums):
            return [
                Finding("nonlinear_in_cotangent", path, sentence("nonlinear_in_cotangent", path))
            ]
    return []


def _same(a: Leaves, b: Leaves, path: str, floor: float) -> bool:
    return bool((np.abs(a[path] - b[path]) <= floor).all())
