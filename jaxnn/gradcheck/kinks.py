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

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnn.gradcheck.candidates import Value, Walk, Weights
from jaxnn.gradcheck.compare import Float64Array, as_real
from jaxnn.gradcheck.precision import all_jaxprs
from jaxnn.gradcheck.program import trace
from jaxnn.gradcheck.reference import float64_rules

Leaves = dict[str, Float64Array]
Interval = tuple[Float64Array, Float64Array]

#: At how many entries the bounds are looked for one by one …
ENTRIES = 200

#: … and, where they are exact, all at once: up to so many, for so many numbers in all.
AT_ONCE, WORK = 20_000, 40_000_000

#: How many choices at random are looked at before that.
SAMPLES = 24

#: Operations without a kink and without a jump, wherever their results are finite.
SMOOTH = frozenset([
    "neg", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "tan",
    "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "square", "erf", "erfc",
    "lgamma", "digamma", "integer_pow", "add", "add_any", "sub", "mul", "div", "dot_general",
    "conv_general_dilated", "reduce_sum", "cumsum", "reshape", "transpose", "broadcast_in_dim",
    "squeeze", "expand_dims", "slice", "rev", "concatenate", "pad", "copy", "copy_p", "iota",
    "stop_gradient", "scan", "jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint",
    "custom_jvp_call", "custom_vjp_call", "convert_element_type",
])  # fmt: skip


def is_smooth(function: Callable[[Any], Any], point: Mapping[str, Any]) -> bool:
    """Is the function made of smooth operations alone? Then no kink has to be looked for."""
    try:
        with float64_rules():
            jaxpr = jax.make_jaxpr(function)(dict(point)).jaxpr
    except Exception:  # It cannot be traced.
        return False
    equations = [equation for program in all_jaxprs(jaxpr) for equation in program.eqns]
    return all(e.primitive.name in SMOOTH and not _rounds(e) for e in equations)


def _rounds(equation: Any) -> bool:
    """Does it make whole numbers of others?"""
    if equation.primitive.name != "convert_element_type":
        return False
    given, made = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
    return bool(jnp.issubdtype(given, jnp.floating)) and not jnp.issubdtype(made, jnp.floating)


class Kinks:
    """The kinks of a function at a point, and the derivatives that they leave open.

    The function has one number or several; a row is the derivative of their sum with the weights u,
    (1,) for one number.
    """

    def __init__(
        self, function: Callable[[Any], Any], point: Mapping[str, Any], through_rules: bool = False
    ) -> None:
        """`function` of a dict of arrays; complex entries count as (re, −im).

        With `through_rules` a `custom_vjp` function is followed inside, as if it had no rule.
        """
        self.at = {path: as_real(np.conj(value)) for path, value in point.items()}
        complex_ = {path for path, value in point.items() if np.iscomplexobj(value)}

        def of_real(values: Mapping[str, Any]) -> Any:
            return function(
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
            return jnp.ravel(walk.run(closed.jaxpr, closed.consts, leaves)[0].at), walk.ties

        with float64_rules():
            here, ties = trace(lambda values: walked(values, None), self.at)(self.at)
        self.ties = {i: np.asarray(t) for i, t in enumerate(ties) if np.any(t)}
        self.here = as_real(here)
        self.size = sum(v.size for v in self.at.values()) + sum(t.size for t in self.ties.values())

        def rows(weights: Weights, us: Any) -> Any:
            """The outputs, and a row of derivatives for each u."""
            outputs, back = jax.vjp(lambda values: walked(values, weights)[0], self.at)
            if len(us) == 1:
                return outputs, jax.tree.map(lambda v: v[None], back(us[0])[0])
            return outputs, jax.vmap(lambda u: back(u)[0])(us)

        def slope(weights: Weights, along: Any, u: Any) -> Any:
            tangent = jax.jvp(lambda values: walked(values, weights)[0], (self.at,), (along,))[1]
            return (tangent * u).sum()

        self._functions: dict[str, Callable[..., Any]] = {
            "rows": rows,
            "slope": jax.value_and_grad(slope),
            "bounds": self._ends,
        }
        self._programs: dict[Any, Any] = {}
        self._compiled: Any = None

    def _run(self, name: str, *operands: Any) -> Any:
        """One of the functions, traced once for each form of its operands."""
        key = name, jax.tree.structure(operands), tuple(map(np.shape, jax.tree.leaves(operands)))
        with float64_rules():
            if key not in self._programs:
                self._programs[key] = trace(self._functions[name], *operands)
            return self._programs[key](*operands)

    def _ends(self, weights: Weights, ties: Weights, us: Any, units: Any) -> Any:
        """Of derivatives that are linear in the weights: their bounds, by a u and a direction."""

        def one(u: Any, along: Any) -> tuple[Any, Any]:
            value, by = self._functions["slope"](weights, along, u)
            low = high = value
            for i, tied in ties.items():
                several = tied.any(-1)
                most = jnp.where(tied, by[i], -jnp.inf).max(-1)
                least = jnp.where(tied, by[i], jnp.inf).min(-1)
                chosen = (weights[i] * by[i]).sum(-1)
                high = high + jnp.where(several, most - chosen, 0.0).sum()
                low = low + jnp.where(several, least - chosen, 0.0).sum()
            return low, high

        return jax.vmap(one)(us, units)

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

    def rows(self, weights: Weights, us: Float64Array) -> Leaves:
        """The derivatives by each entry, (rows, entries), of the sums with the weights `us`."""
        found = self._run("rows", weights, us)[1]
        return {path: as_real(v).reshape(len(us), -1) for path, v in found.items()}

    def gradient(self, weights: Weights, u: Float64Array) -> Leaves:
        """One of these rows, in the form of the point."""
        row = self.rows(weights, u[None])
        return {path: row[path].reshape(v.shape) for path, v in self.at.items()}

    def slope(
        self, weights: Weights, along: Mapping[str, Any], u: Float64Array
    ) -> tuple[float, Weights]:
        """⟨g(w), v⟩ and its derivative by w."""
        if self._compiled is not None:
            with float64_rules():
                value, by_weights = self._compiled(weights, dict(along), u)
        else:
            value, by_weights = self._run("slope", weights, dict(along), u)
        return float(value), {i: np.asarray(w) for i, w in by_weights.items()}

    @cached_property
    def continuous(self) -> bool:
        """Has the function one value here, whatever is chosen? One that jumps has no derivative."""
        us = np.zeros((1, self.here.size))
        values = np.stack([self.here, *(as_real(self._run("rows", w, us)[0]) for w in self.starts)])
        return bool(np.all(np.ptp(values, axis=0) <= 1e-9 * np.abs(values).max(axis=0) + 1e-300))

    @cached_property
    def exact(self) -> bool:
        """Is g(w) linear in w? Then bounds are exact."""
        rng = np.random.default_rng(1)
        for _ in range(3):
            along = {path: rng.standard_normal(v.shape) for path, v in self.at.items()}
            u = rng.standard_normal(self.here.size)
            one, other = self.at_random(rng), self.at_random(rng)
            value, by_weights = self.slope(one, along, u)
            linear = value + sum(
                float(np.sum(by_weights[i] * (other[i] - one[i]))) for i in self.ties
            )
            size = abs(value) + sum(float(np.abs(by_weights[i]).sum()) for i in self.ties)
            if abs(self.slope(other, along, u)[0] - linear) > 1e-9 * size:
                return False
        return True

    def farthest(self, along: Mapping[str, Any], u: Float64Array) -> tuple[float, Weights]:
        """The largest ⟨g(w), v⟩ that the kinks leave open, and where it is."""
        best, where = -np.inf, self.starts[0]
        for weights in self.starts[:1] if self.exact else self.starts:
            value, by_weights = self.slope(weights, along, u)
            for _ in range(2 if self.exact else 12):
                if value > best:
                    best, where = value, weights
                weights = self.following(by_weights)
                last, (value, by_weights) = value, self.slope(weights, along, u)
                if value <= last:
                    break
            if value > best:
                best, where = value, weights
        return best, where

    def between(self, along: Mapping[str, Any], u: Float64Array) -> tuple[float, float]:
        """The least and the greatest derivative along a direction; where they are not exact,
        widened by their distance."""
        low = -self.farthest({p: -v for p, v in along.items()}, u)[0]
        high = self.farthest(along, u)[0]
        width = 0.0 if self.exact else high - low
        return low - width, high + width

    def intervals(
        self,
        wanted: Sequence[Mapping[str, Float64Array]],
        truth: Leaves,
        floors: Mapping[str, Any],
        us: Float64Array,
    ) -> dict[str, Interval]:
        """The least and the greatest derivative by each entry of each row; equal without a kink.

        Some choices at random show nearly all of it. The bounds of an entry of which another value
        is `wanted` are looked for by themselves; where there are too many, the others have the
        outermost of their leaf.
        """
        rng = np.random.default_rng(2)
        low = {path: true.copy() for path, true in truth.items()}
        high = {path: true.copy() for path, true in truth.items()}
        for weights in (*self.starts, *(self.at_random(rng) for _ in range(SAMPLES))):
            for path, row in self.rows(weights, us).items():
                np.minimum(low[path], row, out=low[path])
                np.maximum(high[path], row, out=high[path])
        for path, true in truth.items():
            smooth = high[path] - low[path] <= floors[path]
            low[path][smooth] = high[path][smooth] = true[smooth]
        excess = np.concatenate(
            [
                np.where(
                    high[p] > low[p],
                    np.max([np.maximum(low[p] - w[p], w[p] - high[p]) for w in wanted], axis=0)
                    - floors[p],
                    0.0,
                )
                for p in truth
            ],
            axis=1,
        )
        beyond = np.argwhere(excess > 0)
        beyond = beyond[np.argsort(-excess[tuple(beyond.T)], kind="stable")]
        if len(beyond):
            self._search(beyond, low, high, us)
        return {path: (low[path], high[path]) for path in truth}

    def _search(self, beyond: Any, low: Leaves, high: Leaves, us: Float64Array) -> None:
        """The bounds of these entries (row, entry), written into `low` and `high`."""
        ends = np.cumsum([v.size for v in self.at.values()])
        starts = ends - [v.size for v in self.at.values()]
        leaf = np.searchsorted(ends, beyond[:, 1], side="right")
        paths = list(self.at)
        many = max(ENTRIES, min(AT_ONCE, WORK // self.size)) if self.exact else ENTRIES
        searched = beyond[:many]
        least, most = self._exactly(searched, us) if self.exact else self._one_by_one(searched, us)
        for n, (row, entry) in enumerate(beyond):
            path = paths[leaf[n]]
            at = row, entry - starts[leaf[n]]
            if n < len(searched):
                low[path][at], high[path][at] = (
                    min(low[path][at], least[n]),
                    max(high[path][at], most[n]),
                )
            elif (same := leaf[: len(searched)] == leaf[n]).any():
                low[path][at] = min(low[path][at], least[same].min())
                high[path][at] = max(high[path][at], most[same].max())

    def _units(self, entries: Any) -> Leaves:
        """Directions in which one entry moves alone."""
        flat = np.zeros((len(entries), sum(v.size for v in self.at.values())))
        flat[np.arange(len(entries)), entries] = 1.0
        parts = np.split(flat, np.cumsum([v.size for v in self.at.values()])[:-1], axis=1)
        return {
            path: part.reshape(-1, *v.shape)
            for (path, v), part in zip(self.at.items(), parts, strict=True)
        }

    def _exactly(self, pairs: Any, us: Float64Array) -> tuple[Any, Any]:
        found = []
        together = int(min(len(pairs), max(1, WORK // 20 // self.size)))
        for start in range(0, len(pairs), together):
            part = pairs[start : start + together]
            part = np.concatenate([part, pairs[: together - len(part)]])
            units = self._units(part[:, 1])
            found.append(self._run("bounds", self.starts[0], self.ties, us[part[:, 0]], units))
        low, high = (np.concatenate(one)[: len(pairs)] for one in zip(*found, strict=True))
        return low, high

    def _one_by_one(self, pairs: Any, us: Float64Array) -> tuple[Any, Any]:
        self._compiled = jax.jit(self._functions["slope"])  # So many runs are worth it.
        found = []
        for row, entry in pairs:
            unit = {path: one[0] for path, one in self._units([entry]).items()}
            found.append(self.between(unit, us[row]))
        low, high = np.array(found).T
        return low, high

    def separated(
        self,
        given: Mapping[str, Float64Array],
        truth: Leaves,
        floors: Mapping[str, Any],
        u: Float64Array,
    ) -> "Along | None":
        """A direction along which the given gradient lies beyond every choice, if there is one.

        All entries together, then the way from the nearest mixture of choices to the given gradient
        (E. Gilbert 1966, An iterative procedure for computing the minimum of a quadratic form on a
        convex set): if that is not separated from them by any of these, it is a mixture of them.
        """
        if any(given[p].shape != truth[p].shape for p in truth):
            return None
        nearest = dict(truth)
        kinked = self._moved(truth, floors, u)
        ways = [
            {p: np.where(kinked[p], 1.0, 0.0) * (only in (p, "")) for p in truth}
            for only in ("", *truth)
        ]
        further = (48 if self.size < WORK // 200 else 8) if self.exact else 0
        for turn in range(len(ways) + further):
            v = ways[turn] if turn < len(ways) else self._way(nearest, given, kinked)
            if all(np.all(np.abs(v[p]) <= floors[p]) for p in v):
                if turn >= len(ways):
                    return None
                continue
            floor = 4 * sum(float(np.sum(np.abs(v[p]) * floors[p])) for p in v)
            told = _inner(given, v)
            low, high = self.between(v, u)
            low, high = min(low, _inner(truth, v)), max(high, _inner(truth, v))
            if not low - floor <= told <= high + floor:
                return Along(v, told, low, high)
            if turn < len(ways):
                continue
            vertex = self.gradient(self.farthest(v, u)[1], u)
            step = {p: vertex[p] - nearest[p] for p in v}
            length = _inner(step, step)
            if length > 0:
                share = _inner(step, {p: given[p] - nearest[p] for p in v}) / length
                nearest = {p: nearest[p] + min(max(share, 0.0), 1.0) * step[p] for p in v}
        return None

    def _moved(
        self, truth: Leaves, floors: Mapping[str, Any], u: Float64Array
    ) -> dict[str, NDArray[np.bool_]]:
        """The entries whose derivative depends on what is chosen."""
        rng = np.random.default_rng(3)
        choices = self.equally(), *(self.at_random(rng) for _ in range(4))
        seen = [truth, *(self.gradient(weights, u) for weights in choices)]
        return {p: np.ptp([one[p] for one in seen], axis=0) > floors[p] for p in truth}

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


class AtKinks(NamedTuple):
    """What is right at the kinks of a function: bounds for each entry of each row, none where it
    has no kink, and for any direction."""

    intervals: Mapping[str, Interval]
    kinks: Kinks | None  #: None where some of them are in no operation that is followed
    unseen: bool = False  #: no operation that is followed has a kink here


def at_kinks(
    found: Kinks | None,
    given: Mapping[str, Float64Array],
    truth: Leaves,
    floors: Mapping[str, Any],
    beside: Mapping[str, Interval],
    us: Float64Array,
) -> AtKinks:
    """What a function's operations leave open, if that explains what was seen beside the point.

    If it does not, a kink is in an operation that is not followed, or the function jumps: nothing
    can be proved then, and what was seen is widened by its own length. All arrays have a row for
    each of `us`.
    """
    if found and found.continuous:
        wanted = [given, *({p: ends[i] for p, ends in beside.items()} for i in (0, 1))]
        intervals = found.intervals(wanted, truth, floors, us)
        if all(_contains(intervals[path], beside[path]) for path in beside):
            return AtKinks(intervals, found)
    if not any(np.any(low < high) for low, high in beside.values()):
        return AtKinks({}, None)
    wide = {path: (2 * low - high, 2 * high - low) for path, (low, high) in beside.items()}
    return AtKinks(wide, None, unseen=not found)


def _contains(outer: Interval, inner: Interval) -> bool:
    """To the curvature of the function over the distance at which the inner ones were seen."""
    slack = 1e-4 * (inner[1] - inner[0]) + 1e-5 * np.abs(inner[1]).max(initial=0.0)
    return bool(np.all((inner[0] >= outer[0] - slack) & (inner[1] <= outer[1] + slack)))


def _inner(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    return float(sum(float(np.sum(a[path] * b[path])) for path in b))
