"""Which derivatives are right at a kink: all those that the loss's own operations leave open.

A maximum, a minimum, an absolute value, a sorted or a selected value whose candidates are equal at
the point has no derivative there. Right is what follows candidate i with the weight w_i, for any
w ≥ 0 with Σw = 1: ReLU′(0) from 0 to 1, |x|′(0) from −1 to 1, and for a maximum of equal entries
one gradient, shared in any way. Each operation chooses for itself, as autodiff's conventions do:
the derivative of relu(x) − relu(−x) at 0 is 1, and jax.grad says 0.

The loss is therefore run operation by operation, with such weights where candidates are equal. Its
derivative g(w) along a direction v is then a polynomial of degree 1 in the weights of each
operation, and its bounds are reached where every operation follows one candidate. Where no gradient
passes through two kinks they are exact (`Kinks.exact`); else they are looked for, from many starts.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from numpy.typing import NDArray

from jaxnn.gradcheck.compare import Float64Array, as_real
from jaxnn.gradcheck.precision import all_jaxprs
from jaxnn.gradcheck.reference import float64_rules

Leaves = dict[str, Float64Array]
Interval = tuple[Float64Array, Float64Array]
Weights = dict[int, Any]

#: Candidates as near to each other, relative to the largest of their row, count as equal: rounding
#: in float32 may take either.
EQUAL = 1e-7

#: At how many entries the bounds are looked for one by one.
ENTRIES = 200

#: How many shares of a sorted or a pooled array are followed at most, and how long a loop.
SHARES, LOOP = 4_000_000, 64

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
            return self.run(inner.jaxpr, inner.consts, given)
        if name == "scan" and self.chooses(equation.params["jaxpr"].jaxpr):
            if equation.params["length"] <= LOOP:
                return self.unrolled(equation.params, given)
        elif all(_real(v.at) for v in given) and name in CHOOSING:
            return [self.choose(name, equation, [v.at for v in given])]
        at = _bind(equation, [v.at for v in given])
        if either is None:
            return [Value(x, True) for x in at]
        return self.undecided(equation, given, at)

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


class Kinks:
    """The kinks of a loss at a point, and the derivatives that they leave open."""

    def __init__(
        self, loss: Callable[[Any], Any], point: Mapping[str, Any], through_rules: bool = False
    ) -> None:
        """`loss` of a dict of arrays is one number; complex entries count as (re, −im).

        With `through_rules` a `custom_vjp` function is followed inside, as if it had no rule.
        """
        self.paths = list(point)
        self.at = {path: as_real(np.conj(value)) for path, value in point.items()}
        complex_ = {path for path, value in point.items() if np.iscomplexobj(value)}

        def of_real(values: Mapping[str, Any]) -> Any:
            return loss(
                {
                    path: jax.lax.complex(v[..., 0], -v[..., 1]) if path in complex_ else v
                    for path, v in values.items()
                }
            )

        with float64_rules():
            closed = jax.make_jaxpr(of_real)(self.at)

        def walked(values: Any, weights: Weights | None) -> tuple[Any, list[Any]]:
            walk = Walk(weights, through_rules)
            leaves = [Value(v, True) for v in jax.tree.leaves(values)]
            return walk.run(closed.jaxpr, closed.consts, leaves)[0].at, walk.ties

        with float64_rules():
            here, ties = jax.jit(lambda values: walked(values, None))(self.at)
        self.ties = {i: np.asarray(t) for i, t in enumerate(ties) if np.any(t)}
        self.here = float(here)

        def value(values: Any, weights: Weights) -> Any:
            return walked(values, weights)[0]

        def slope(weights: Weights, along: Any) -> Any:
            return jax.jvp(lambda values: value(values, weights), (self.at,), (along,))[1]

        self._gradient = jax.jit(lambda w: jax.value_and_grad(value)(self.at, w))
        self._slope = jax.jit(jax.value_and_grad(slope))

    def __bool__(self) -> bool:
        return bool(self.ties)

    # -- Shares --------------------------------------------------------------------------------

    def equally(self) -> Weights:
        """Equal candidates share equally."""
        return {i: t / np.maximum(t.sum(-1, keepdims=True), 1) for i, t in self.ties.items()}

    def following(self, wanted: Mapping[int, Any]) -> Weights:
        """Each operation follows the equal candidate that is wanted most."""
        found = {}
        for i, tied in self.ties.items():
            best = np.where(tied, np.asarray(wanted[i]), -np.inf).argmax(-1)
            found[i] = tied & (np.arange(tied.shape[-1]) == best[..., None])
        return {i: w.astype(np.float64) for i, w in found.items()}

    def at_random(self, rng: np.random.Generator) -> Weights:
        return self.following({i: rng.random(t.shape) for i, t in self.ties.items()})

    @cached_property
    def starts(self) -> list[Weights]:
        """From where bounds are looked for: the conventions that people have, and some others."""
        rng = np.random.default_rng(0)
        ends = [self.following({i: s * np.broadcast_to(np.arange(t.shape[-1]), t.shape)
                                for i, t in self.ties.items()}) for s in (1, -1)]  # fmt: skip
        between = [
            {i: c * ends[0][i] + (1 - c) * ends[1][i] for i in self.ties} for c in (0.25, 0.75)
        ]
        return [self.equally(), *ends, *between, *(self.at_random(rng) for _ in range(3))]

    # -- Derivatives ---------------------------------------------------------------------------

    def gradient(self, weights: Weights) -> Leaves:
        return {path: as_real(v) for path, v in self._evaluated(weights)[1].items()}

    def _evaluated(self, weights: Weights) -> tuple[float, Leaves]:
        with float64_rules():
            value, gradient = self._gradient(weights)
        return float(value), {path: np.asarray(v) for path, v in gradient.items()}

    def slope(self, weights: Weights, along: Mapping[str, Any]) -> tuple[float, Weights]:
        """⟨g(w), v⟩ and its derivative by w."""
        with float64_rules():
            value, by_weights = self._slope(weights, dict(along))
        return float(value), {i: np.asarray(w) for i, w in by_weights.items()}

    @cached_property
    def continuous(self) -> bool:
        """Has the loss one value here, whatever is chosen? A loss that jumps has no derivative."""
        values = [self._evaluated(weights)[0] for weights in self.starts]
        return bool(np.ptp([*values, self.here]) <= 1e-9 * max(np.abs(values)) + 1e-300)

    @cached_property
    def exact(self) -> bool:
        """Is g(w) linear in w? Then bounds are exact."""
        rng = np.random.default_rng(1)
        for _ in range(3):
            along = {path: rng.standard_normal(v.shape) for path, v in self.at.items()}
            one, other = self.at_random(rng), self.at_random(rng)
            value, by_weights = self.slope(one, along)
            linear = value + sum(
                float(np.sum(by_weights[i] * (other[i] - one[i]))) for i in self.ties
            )
            size = abs(value) + sum(float(np.abs(by_weights[i]).sum()) for i in self.ties)
            if abs(self.slope(other, along)[0] - linear) > 1e-9 * size:
                return False
        return True

    def farthest(self, along: Mapping[str, Any]) -> tuple[float, Weights]:
        """The largest ⟨g(w), v⟩ that the kinks leave open, and where it is."""
        best, where = -np.inf, self.starts[0]
        for weights in self.starts[:1] if self.exact else self.starts:
            value, by_weights = self.slope(weights, along)
            for _ in range(2 if self.exact else 12):
                if value > best:
                    best, where = value, weights
                weights = self.following(by_weights)
                last, (value, by_weights) = value, self.slope(weights, along)
                if value <= last:
                    break
            if value > best:
                best, where = value, weights
        return best, where

    def between(self, along: Mapping[str, Any]) -> tuple[float, float]:
        """The least and the greatest derivative along a direction."""
        return -self.farthest({p: -v for p, v in along.items()})[0], self.farthest(along)[0]

    def intervals(
        self, given: Mapping[str, Float64Array], truth: Leaves, floors: Mapping[str, Any]
    ) -> dict[str, Interval]:
        """The least and the greatest derivative by each entry; equal where it has no kink.

        Some choices at random show nearly all of it; the bounds of an entry whose given value lies
        beyond those are looked for by themselves, for up to ENTRIES of them, else widened.
        """
        rng = np.random.default_rng(2)
        seen = [truth, *(self.gradient(w) for w in self.starts)]
        seen += [self.gradient(self.at_random(rng)) for _ in range(24)]
        found: dict[str, Interval] = {}
        for path, true in truth.items():
            low, high = (f([one[path] for one in seen], axis=0) for f in (np.min, np.max))
            kinked = high - low > floors[path]
            found[path] = np.where(kinked, low, true), np.where(kinked, high, true)
        beyond = []
        for path, (low, high) in found.items():
            if given[path].shape == low.shape:
                excess = np.maximum(low - given[path], given[path] - high) - floors[path]
                excess = np.where(high > low, excess, 0.0)
                beyond += [(excess[i], path, i) for i in map(tuple, np.argwhere(excess > 0))]
        beyond.sort(key=lambda one: -one[0])
        for _, path, index in beyond[:ENTRIES]:
            unit = {p: np.zeros(v.shape) for p, v in truth.items()}
            unit[path][index] = 1.0
            low, high = self.between(unit)
            width = 0.0 if self.exact else high - low
            found[path][0][index] = min(found[path][0][index], low - width)
            found[path][1][index] = max(found[path][1][index], high + width)
        for _, path, index in beyond[ENTRIES:]:
            low, high = found[path][0][index], found[path][1][index]
            found[path][0][index], found[path][1][index] = 2 * low - high, 2 * high - low
        return found

    def separated(
        self, given: Mapping[str, Float64Array], truth: Leaves, floors: Mapping[str, Any]
    ) -> "Along | None":
        """A direction along which the given gradient lies beyond every choice, if there is one.

        All entries together, then the way from the nearest mixture of choices to the given gradient
        (E. Gilbert 1966, An iterative procedure for computing the minimum of a quadratic form on a
        convex set): if that is not separated from them by any of these, it is a mixture of them.
        """
        if not self.exact or any(given[p].shape != truth[p].shape for p in truth):
            return None
        nearest = dict(truth)
        middle = self.gradient(self.equally())
        kinked = {p: self._moved(p, truth, middle, floors) for p in truth}
        ways = [
            {p: np.where(kinked[p], 1.0, 0.0) * (only in (p, "")) for p in truth}
            for only in ("", *truth)
        ]
        for turn in range(len(ways) + 48):
            v = ways[turn] if turn < len(ways) else self._way(nearest, given, kinked)
            if not any(one.any() for one in v.values()):
                continue
            floor = 4 * sum(float(np.sum(np.abs(v[p]) * floors[p])) for p in v)
            told = _inner(given, v)
            low, high = self.between(v)
            low, high = min(low, _inner(truth, v)), max(high, _inner(truth, v))
            if not low - floor <= told <= high + floor:
                return Along(v, told, low, high)
            vertex = self.gradient(self.farthest(v)[1])
            step = {p: vertex[p] - nearest[p] for p in v}
            length = _inner(step, step)
            if turn >= len(ways) and length > 0:
                share = _inner(step, {p: given[p] - nearest[p] for p in v}) / length
                nearest = {p: nearest[p] + min(max(share, 0.0), 1.0) * step[p] for p in v}
        return None

    def _moved(self, path: str, truth: Leaves, middle: Leaves, floors: Mapping[str, Any]) -> Any:
        rng = np.random.default_rng(3)
        seen = [
            truth[path],
            middle[path],
            *(self.gradient(self.at_random(rng))[path] for _ in range(4)),
        ]
        return np.ptp(seen, axis=0) > floors[path]

    @staticmethod
    def _way(
        nearest: Leaves, given: Mapping[str, Float64Array], kinked: Mapping[str, Any]
    ) -> Leaves:
        return {p: np.where(kinked[p], given[p] - nearest[p], 0.0) for p in nearest}


class Along(NamedTuple):
    """A direction, the given derivative along it, and the least and greatest that are right."""

    way: Leaves
    given: float
    low: float
    high: float


def _inner(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    return float(sum(float(np.sum(a[path] * b[path])) for path in b))


def entries(v: NDArray[Any]) -> list[tuple[int, ...]]:
    """Where a direction is not 0."""
    return [tuple(int(i) for i in index) for index in np.argwhere(v)]
