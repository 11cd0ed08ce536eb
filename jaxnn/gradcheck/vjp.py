"""`check_vjp`: the backward pass of a `jax.custom_vjp` function, against all of its Jacobian."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck import witness
from jaxnn.gradcheck.causes import diagnose_leaves
from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    as_real,
    compare_leaf,
    epsilon,
    incomparable,
    largest,
)
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.hypotheses import BATCH
from jaxnn.gradcheck.jacobian import Table, by_autodiff, by_differences
from jaxnn.gradcheck.pullback import Leaves, Pullback
from jaxnn.gradcheck.reference import float64_rules, floating
from jaxnn.gradcheck.report import Finding, GradientReport


def check_vjp(
    function: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> GradientReport:
    """Examine the vector-Jacobian product that jax.grad uses for `function` at `args`.

    The truth is autodiff of `reference`, the same function without a rule of its own, where one is
    given; else central differences of `function` itself, extrapolated. All in float64. Every entry
    of the Jacobian is compared, of every output by every real argument; above COMPLETE entries
    random rows and columns of it, and the report's notes say how many.

    Also: has it the form of the arguments, is it the same twice, does it scale with its cotangent,
    and is it the same in the caller's dtype?

    Raises JaxnnError where no argument or no result is a real number, or a result is not finite.
    """
    title = getattr(function, "__name__", "the function's backward pass")
    with float64_rules(), np.errstate(all="ignore"):
        pullback = Pullback(function, args, np.random.default_rng(seed))
        misfit = _misfit(pullback)
        if misfit:
            nothing = tuple(
                incomparable(path, as_real(value), "not compared")
                for path, value in pullback.point.items()
            )
            return GradientReport(False, nothing, (misfit,), title=title)
        findings = _values_differ(pullback, reference) or _linearity(pullback)
        table = by_differences(pullback) if reference is None else by_autodiff(pullback, reference)
        leaves = _compare(pullback, table)
        if not findings and not all(leaf.ok for leaf in leaves):
            findings = _diagnose(pullback, table)
        right = not findings
        testimony = _testimony(pullback, table)
    if right and pullback.complete:
        findings = _in_the_callers_dtype(pullback, table, function, args)
    return GradientReport(
        not findings,
        leaves,
        tuple(findings),
        testimony,
        (pullback.coverage,),
        title=title,
    )


def _misfit(pullback: Pullback) -> Finding | None:
    """The product must be a tree of real arrays like the arguments. JAX itself looks at that,
    when the rule is first used."""
    try:
        product = pullback.rule(jnp.asarray(pullback.u, pullback.outputs.dtype))[0]
    except (TypeError, ValueError) as error:
        told = re.match(r"Custom VJP bwd rule must produce .*? (structure|type) ", str(error))
        if told is None:
            raise
        code = "structure" if told[1] == "structure" else "shape"
        detail = " ".join(str(error).split())
        return Finding(code, "", sentence(code, "The product", detail=detail))
    for path, value in product.items():
        if not floating(value):
            text = sentence("dtype", path, detail=f"dtype {value.dtype}")
            return Finding("dtype", path, text)
    return None


def _values_differ(pullback: Pullback, reference: Callable[..., Any] | None) -> list[Finding]:
    """The function must have the values of its reference."""
    if reference is None:
        return []
    expected = as_real(pullback.vector(reference)(pullback.point))
    found = as_real(pullback.outputs)
    floor = 1e3 * pullback.eps * largest(expected, found)
    if expected.shape == found.shape and not np.any(np.abs(expected - found) > floor):
        return []
    told = sentence("feed_forward", "the function", detail="its values are not the reference's")
    return [Finding("feed_forward", "", told)]


def _linearity(pullback: Pullback) -> list[Finding]:
    """bwd(u), bwd(u) again, bwd(v), bwd(−u), bwd(2u + v) and bwd(0) must fit together."""
    u, again, v = pullback.pull(pullback.u), pullback.pull(pullback.u), pullback.pull(pullback.v)
    minus, both = pullback.pull(-pullback.u), pullback.pull(2 * pullback.u + pullback.v)
    zero = pullback.pull(0 * pullback.u)
    for path in pullback.point:
        floor = 1e3 * pullback.eps * largest(u[path], v[path], both[path])
        if not all(np.isfinite(a[path]).all() for a in (u, v, both)):
            continue
        if not _same(u, again, path, floor):
            return [Finding("nondeterministic", path, sentence("nondeterministic", path))]
        if u[path].any() and _same(u, v, path, floor) and _same(u, minus, path, floor):
            return [Finding("ignores_cotangent", path, sentence("ignores_cotangent", path))]
        sums = 2 * u[path] + v[path] - both[path], u[path] + minus[path], zero[path]
        if any(np.any(np.abs(wrong) > floor) for wrong in sums):
            return [
                Finding("nonlinear_in_cotangent", path, sentence("nonlinear_in_cotangent", path))
            ]
    return []


def _compare(pullback: Pullback, table: Table) -> tuple[Any, ...]:
    """Each argument's Jacobian, entry by entry."""
    return tuple(
        compare_leaf(path, pullback.given[path], true, table.floor[path], table.interval.get(path))
        for path, true in table.true.items()
    )


def _diagnose(pullback: Pullback, table: Table) -> list[Finding]:
    """The cause, looked for in the product with one random cotangent."""
    widths = table.widths()
    floors = {path: 2 * table.floor[path] + 2 * widths[path] for path in table.true}
    if not pullback.complete:
        return diagnose_leaves(pullback.given, table.true, floors, {}, {}, lambda: None)
    results = jax.tree.leaves(pullback.function(*pullback.tree.with_values({})))
    lead = np.shape(results[0])[:1]
    m = lead[0] if lead and pullback.n_out % lead[0] == 0 and len(results) == 1 else 0

    def examples() -> Leaves | None:
        masks = (
            np.eye(m).repeat(pullback.n_out // m, axis=1) if m else np.zeros((0, pullback.n_out))
        )
        parts = [pullback.contracted(table.true, mask * pullback.u) for mask in masks]
        return {p: np.stack([part[p] for part in parts]) for p in pullback.point} if m else None

    return diagnose_leaves(
        pullback.pull(pullback.u),
        pullback.contracted(table.true, pullback.u),
        pullback.contracted(floors, np.abs(pullback.u)),
        {path: as_real(value) for path, value in pullback.point.items()},
        {BATCH: m} if m else {},
        examples,
    ) or [Finding("unknown", path, sentence("unknown", path)) for path in list(pullback.point)[:1]]


def _in_the_callers_dtype(
    pullback: Pullback, table: Table, function: Callable[..., Any], args: tuple[Any, ...]
) -> list[Finding]:
    """The product with one cotangent, in the dtype and under the settings of the caller."""
    named = pullback.tree._replace(values=tuple(jax.tree.leaves(list(args))))
    real = named.real()
    outputs, pull = jax.vjp(pullback.vector(function, named), real)
    eps = max(epsilon(v.dtype) for v in (outputs, *real.values()))
    given = pull(jnp.asarray(pullback.u, outputs.dtype))[0]
    expected = pullback.contracted(table.true, pullback.u)
    size = pullback.contracted({p: np.abs(j) for p, j in table.true.items()}, np.abs(pullback.u))
    for path, true in expected.items():
        value = as_real(given[path])
        floor = NOISE_FACTOR * eps * largest(*size.values(), as_real(outputs))
        width = pullback.contracted(table.widths(), np.abs(pullback.u))[path]
        if not np.isfinite(value).all():
            detail = f"in {outputs.dtype}"
            return [Finding("non_finite", path, sentence("non_finite", path, detail=detail))]
        if np.any(np.abs(value - true) > floor + 2 * width + table.floor[path].max(initial=0.0)):
            detail = f"in {outputs.dtype}; in float64 it is right"
            return [Finding("unknown", path, sentence("unknown", path, detail=detail))]
    return []


def _testimony(pullback: Pullback, table: Table) -> Any:
    """Central differences and Taylor slope of ⟨f, u⟩ along a random direction."""
    if not pullback.complete:
        return None
    vector = jax.jit(pullback.vector(pullback.function))
    return witness.examine(
        lambda at: float(as_real(vector(at)) @ pullback.u),
        pullback.point,
        pullback.contracted(table.true, pullback.u),
        pullback.pull(pullback.u),
    )


def _same(a: Leaves, b: Leaves, path: str, floor: float) -> bool:
    return bool((np.abs(a[path] - b[path]) <= floor).all())
