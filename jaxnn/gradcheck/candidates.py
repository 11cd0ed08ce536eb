"""A program run operation by operation, with a weight for each of several equal candidates.

A maximum, a minimum, an absolute value, a sorted or a selected value follows one of its candidates.
Where several are equal, its value is the same by any of them, and its derivative Σ w_i · that of
candidate i. `Walk` without weights finds where candidates are equal; with weights it has the same
values, and those derivatives.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxnn.gradcheck.precision import all_jaxprs

Weights = dict[int, Any]

#: Candidates as near to each other, relative to the largest of their row, count as equal: rounding
#: in float32 may take either.
EQUAL = 1e-7

#: How many shares of a sorted or a pooled array are followed at most, and how long a loop.
SHARES, LOOP = 4_000_000, 64

#: A step to both sides, and how far the two changes differ at a kink, relative to their sizes.
STEP, BEND = 1e-4, 1e-2

COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")
CHOOSING = (*COMPARISONS, "max", "min", "abs", "sign", "clamp", "sort", "reduce_max", "reduce_min",
            "reduce_window_max", "reduce_window_min")  # fmt: skip


class Value(NamedTuple):
    """A value on the way, whether the parameters move it, and both answers of a comparison whose
    sides are equal."""

    at: Any
    moves: bool
    either: tuple[Any, Any] | None = None


class Walk:
    """One pass through a program: without weights it records which candidates are equal."""

    def __init__(self, weights: Weights | None, through_rules: bool = False) -> None:
        self.weights, self.ties, self.count = weights, list[Any](), 0
        self.through_rules = through_rules

    def run(self, jaxpr: Any, constants: list[Any], arguments: list[Value]) -> list[Value]:
        """The results of a program, equation by equation."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        known |= {v: Value(c, False) for v, c in zip(jaxpr.constvars, constants, strict=True)}

        def read(atom: Any) -> Value:
            return Value(atom.val, False) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            results = self.step(equation, [read(atom) for atom in equation.invars])
            known |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def step(self, equation: Any, given: list[Value]) -> list[Value]:
        """One equation; a call is gone into where something in it chooses."""
        if not any(value.moves for value in given):
            return [Value(at, False) for at in _bind(equation, [v.at for v in given])]
        name = equation.primitive.name
        either = next((v.either for v in given if v.either), None)
        inner = _callee(equation, self.through_rules)
        if inner is not None and (either or self.chooses(inner.jaxpr)):
            results = self.run(inner.jaxpr, inner.consts, given)
            if name != "custom_jvp_call" or either:
                return results
            return [self.by_its_rule(equation, given, results[0]), *results[1:]]
        if name == "scan" and self.chooses(equation.params["jaxpr"].jaxpr):
            if equation.params["length"] <= LOOP:
                return self.unrolled(equation.params, given)
        elif all(_real(v.at) for v in given) and name in CHOOSING:
            return [self.choose(name, equation, [v.at for v in given])]
        at = _bind(equation, [v.at for v in given])
        if either is None:
            return [Value(x, True) for x in at]
        return self.undecided(equation, given, at)

    def by_its_rule(self, equation: Any, given: list[Value], inside: Value) -> Value:
        """A function with a rule of its own: its operations are followed only where it has a kink.

        The maximum and the absolute value in log(eᵃ + eᵇ) have their kinks where the function has
        none, and its rule says the derivative there.
        """
        values = [v.at for v in given]
        at = _bind(equation, values)[0]
        if not _real(at) or any(np.shape(v.at) != np.shape(at) for v in given if v.moves):
            return inside
        kink = jnp.zeros(np.shape(at), bool)
        for i, value in enumerate(given):
            if value.moves:
                step = STEP * jnp.maximum(1.0, jnp.abs(value.at)).astype(value.at.dtype)
                ahead, behind = (
                    _bind(equation, [*values[:i], value.at + t, *values[i + 1 :]])[0] - at
                    for t in (step, -step)
                )
                bend = jnp.abs(ahead + behind)
                kink |= ~(bend <= BEND * (jnp.abs(ahead) + jnp.abs(behind)))
        return Value(jnp.where(kink, inside.at, at), True)

    def chooses(self, jaxpr: Any) -> bool:
        """Is there something in a program that has to be followed operation by operation?"""
        names = {e.primitive.name for program in all_jaxprs(jaxpr) for e in program.eqns}
        rules = {"custom_vjp_call"} if self.through_rules else set()
        return not names.isdisjoint({*CHOOSING, *rules})

    def unrolled(self, params: Mapping[str, Any], given: list[Value]) -> list[Value]:
        """A loop of a known length, turn by turn."""
        n, k, length = params["num_consts"], params["num_carry"], params["length"]
        body, carry, rows = params["jaxpr"], given[n : n + k], []
        turns = range(length)
        for turn in reversed(turns) if params["reverse"] else turns:
            one = [Value(v.at[turn], v.moves) for v in given[n + k :]]
            results = self.run(body.jaxpr, body.consts, [*given[:n], *carry, *one])
            carry = [Value(v.at, True) for v in results[:k]]
            rows.append(results[k:])
        rows = rows[::-1] if params["reverse"] else rows
        return [*carry, *(Value(jnp.stack([v.at for v in row]), True) for row in zip(*rows))]  # noqa: B905

    def choose(self, name: str, equation: Any, given: list[Any]) -> Value:
        """An operation that follows one of several candidates."""
        at = _bind(equation, given)[0]
        if name in COMPARISONS:
            both = jnp.stack(jnp.broadcast_arrays(*given), -1)
            equal = _equal(both, both[..., :1]).all(-1)
            if equation.invars[0] is equation.invars[1]:  # x != x: is it NaN?
                return Value(at, True)
            return Value(at, True, (at & ~equal, at | equal))
        if name == "sign":
            equal = _equal(jnp.stack([given[0], 0 * given[0]], -1), 0.0).all(-1)
            return Value(
                self.constant(at, (jnp.where(equal, -1.0, at), jnp.where(equal, 1.0, at))), True
            )
        if name == "clamp":
            low, x, high = given
            above = self.among(jnp.stack(jnp.broadcast_arrays(x, low), -1), jnp.maximum(x, low))
            return Value(self.among(jnp.stack(jnp.broadcast_arrays(above, high), -1), at), True)
        candidates = _candidates(name, equation.params, given)
        return Value(at if candidates is None else self.among(candidates, at), True)

    def undecided(self, equation: Any, given: list[Value], at: list[Any]) -> list[Value]:
        """What follows from a comparison whose sides are equal."""
        if equation.primitive.name == "select_n" and jnp.issubdtype(at[0].dtype, jnp.floating):
            which, *cases = given
            if which.either and len(cases) == 2:
                first, second = (jnp.asarray(e, np.int32) for e in which.either)
                both = jnp.stack([c.at for c in cases], -1)
                tied = _equal(both, both[..., :1]).all(-1) & (first != second)
                return [
                    Value(
                        self.site(both, tied[..., None] | jnp.zeros(both.shape, bool), at[0]), True
                    )
                ]
            return [Value(at[0], True)]
        ends = [
            _bind(equation, [v.either[i] if v.either else v.at for v in given])[0] for i in (0, 1)
        ]
        if jnp.issubdtype(at[0].dtype, jnp.floating):
            return [Value(self.constant(at[0], (ends[0], ends[1])), True)]
        return [Value(at[0], True, (ends[0], ends[1])), *(Value(x, True) for x in at[1:])]

    # -- The weights ---------------------------------------------------------------------------

    def among(self, candidates: Any, at: Any) -> Any:
        """The candidate that equals the result; the last axis runs over the candidates."""
        return self.site(candidates, _equal(candidates, at[..., None]), at)

    def site(self, candidates: Any, equal: Any, at: Any) -> Any:
        """The same value; where candidates are equal, its derivative is Σ w_i · candidate_i's."""
        several = equal.sum(-1) > 1
        weights = self._of_this_site(equal & several[..., None])
        if weights is None:
            return at
        mixed = (weights * jnp.where(equal, candidates, 0.0)).sum(-1)
        stop = jax.lax.stop_gradient
        return jnp.where(several, stop(at) + mixed - stop(mixed), at)

    def constant(self, at: Any, ends: tuple[Any, Any]) -> Any:
        """A number that jumps here, as a mask does: any value between both."""
        both = jnp.stack(ends, -1)
        several = ends[0] != ends[1]
        weights = self._of_this_site(several[..., None] & jnp.ones(both.shape, bool))
        return at if weights is None else jnp.where(several, (weights * both).sum(-1), at)

    def _of_this_site(self, equal: Any) -> Any:
        place, self.count = self.count, self.count + 1
        if self.weights is None:
            self.ties.append(equal)
            return None
        return self.weights.get(place)


def _bind(equation: Any, given: list[Any]) -> list[Any]:
    """The results of one equation, as jax.core.eval_jaxpr computes them."""
    params = equation.primitive.get_bind_params(equation.params)
    functions, params = params if isinstance(params, tuple) else ((), params)
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *given, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _callee(equation: Any, through_rules: bool) -> Any:
    """The program that an equation calls once: a jitted function, one with a rule for its
    derivative, a rematerialised one. A `custom_vjp` means what its rule says, unless it is the rule
    that is asked about."""
    name = equation.primitive.name
    if name in ("jit", "pjit", "closed_call", "core_call"):
        return equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
    if name == "custom_jvp_call" or (name == "custom_vjp_call" and through_rules):
        return equation.params["call_jaxpr"]
    if name in ("remat2", "checkpoint"):
        return ClosedJaxpr(equation.params["jaxpr"], ())
    return None


def _real(value: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(value), jnp.floating))


def _equal(candidates: Any, at: Any) -> Any:
    """Which candidates are as large as the chosen one, relative to the largest of their row."""
    size = jnp.where(jnp.isfinite(candidates), jnp.abs(candidates), 0.0)
    axes = tuple(range(max(1, candidates.ndim - 2), candidates.ndim)) or (-1,)
    scale = size.max(axes, keepdims=True)
    if candidates.ndim == 2:
        scale = size.max()
    return jnp.abs(candidates - at) <= EQUAL * scale


def _candidates(name: str, params: Mapping[str, Any], given: list[Any]) -> Any:
    """All that the result may follow, along a last axis; None where there are too many."""
    x = given[0]
    if name in ("max", "min"):
        return jnp.stack(jnp.broadcast_arrays(*given), -1)
    if name == "abs":
        return jnp.stack([x, -x], -1)
    if name in ("reduce_max", "reduce_min"):
        axes = params["axes"]
        kept = [a for a in range(x.ndim) if a not in axes]
        return x.transpose(*kept, *axes).reshape(*(x.shape[a] for a in kept), -1)
    if name == "sort":
        axis = params["dimension"]
        if len(given) > 1 or x.size * x.shape[axis] > SHARES:
            return None
        row = jnp.moveaxis(x, axis, -1)[..., None, :]
        return jnp.moveaxis(
            jnp.broadcast_to(row, (*row.shape[:-2], x.shape[axis], x.shape[axis])), -2, axis
        )
    return _windows(name, params, x)


def _windows(name: str, params: Mapping[str, Any], x: Any) -> Any:
    """The entries of each window of a pooling, along a last axis."""
    sizes, strides = params["window_dimensions"], params["window_strides"]
    if x.size * int(np.prod(sizes)) > SHARES or set(params["base_dilation"]) != {1}:
        return None
    worst = -jnp.inf if name == "reduce_window_max" else jnp.inf
    padded = jnp.pad(x, params["padding"], constant_values=worst)
    dilation = params["window_dilation"]
    count = [
        (n - (size - 1) * d - 1) // s + 1
        for n, size, d, s in zip(padded.shape, sizes, dilation, strides, strict=True)
    ]
    parts = []
    for offset in np.ndindex(*sizes):
        first = [o * d for o, d in zip(offset, dilation, strict=True)]
        last = [f + (c - 1) * s + 1 for f, c, s in zip(first, count, strides, strict=True)]
        parts.append(jax.lax.slice(padded, first, last, strides))
    return jnp.stack(parts, -1)
