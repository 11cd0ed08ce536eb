"""True Jacobians, or products of cotangents with them, and the noise floor of each entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck import witness
from jaxnn.gradcheck.compare import NOISE_FACTOR, Float64Array, as_real, epsilon, largest
from jaxnn.gradcheck.directions import Along, along, smooth_directions
from jaxnn.gradcheck.kinks import Kinks, at_kinks, is_smooth
from jaxnn.gradcheck.plain import without_rules
from jaxnn.gradcheck.program import prepare, pulled_back, trace
from jaxnn.gradcheck.pullback import Leaves, Pullback
from jaxnn.gradcheck.reference import cast

#: Up to so many numbers the Jacobian is computed entry by entry; above, it is multiplied by
#: cotangents that reach every entry.
COMPLETE = 1_000_000

#: By how much rounding may be amplified on the way to a derivative, at most.
AMPLIFIED = 1e3

#: The step of the differences, relative to the size of the argument.
STEP = 2.0**-10


class Truth:
    """The backward pass of a function whose derivative is the true one, by autodiff."""

    def __init__(
        self, pullback: Pullback, vector: Callable[..., Any], *, plain: bool = False
    ) -> None:
        self.pullback, self.vector, self.plain = pullback, vector, plain
        outputs, self.rule, self.batched_rule = pulled_back(vector, pullback.point)
        self.outputs, self.dtype = as_real(outputs), outputs.dtype
        self.eps = max(pullback.eps, epsilon(outputs.dtype))

    @cached_property
    def _anywhere(self) -> Callable[..., Any]:
        def pull(values: Mapping[str, Any], u: Any) -> Any:
            outputs, back = jax.vjp(self.vector, values)
            return back(u.astype(outputs.dtype))[0]

        return prepare(pull, self.pullback.point, jnp.asarray(self.pullback.u))

    @cached_property
    def _jacobian_anywhere(self) -> Callable[..., Any]:
        ct = jnp.eye(self.pullback.n_out, dtype=self.dtype)
        return prepare(
            lambda values: jax.vmap(jax.vjp(self.vector, values)[1])(ct)[0], self.pullback.point
        )

    def pull(self, u: Any, at: Mapping[str, Any] | None = None) -> Leaves:
        """u · J, here or at another point."""
        if at is None:
            product = self.rule(jnp.asarray(u, self.dtype))[0]
        else:
            product = self._anywhere(at, jnp.asarray(u))
        return {path: as_real(value) for path, value in product.items()}

    def jacobian(self, at: Mapping[str, Any] | None = None) -> Leaves:
        """The Jacobian, here or at another point."""
        if at is None:
            return self.pullback.jacobian(lambda u: self.batched_rule(u.astype(self.dtype)))
        rows = self._jacobian_anywhere(at)
        n = self.pullback.n_out
        return {path: as_real(value).reshape(n, -1) for path, value in rows.items()}

    @cached_property
    def smooth(self) -> bool:
        return is_smooth(self.vector, self.pullback.point)

    @cached_property
    def kinks(self) -> Kinks | None:
        """The kinks of the function at the point; None where it cannot be followed."""
        try:
            return Kinks(self.vector, self.pullback.point, through_rules=self.plain)
        except Exception:  # A reference of NumPy, or one that branches on values.
            return None

    def amplification(self) -> float:
        """The error of the product with one cotangent in float32, in units of float32's spacing;
        at most AMPLIFIED times the product, since float32 may also draw other random numbers."""
        u = np.float32(self.pullback.u)
        exact = self.pull(u)
        point = cast(self.pullback.point, np.float32)
        try:
            vector = self.vector
            if self.plain:
                vector = without_rules(
                    self.pullback.vector(self.pullback.function), point, jvp_too=False
                )
            outputs, back, _ = pulled_back(vector, point)
            short = back(jnp.asarray(u, outputs.dtype))[0]
        except Exception:  # It exists in float64 only.
            return 0.0
        errors = (as_real(short[path]) - exact[path] for path in exact)
        return min(largest(*errors) / epsilon(np.float32), AMPLIFIED * largest(*exact.values()))


def plain_truth(pullback: Pullback) -> tuple[Truth | None, str]:
    """Autodiff of the function's own forward pass, where differences of the function confirm it,
    and a note that says so. None for a forward pass that autodiff cannot go through.
    """
    short = pullback.short_eps
    directions = [along(pullback, v) for v in smooth_directions(pullback)]
    here = {path: jnp.asarray(value) for path, value in pullback.point.items()}
    for jvp_too in (True, False):
        try:
            vector = without_rules(
                pullback.vector(pullback.function), pullback.point, jvp_too=jvp_too
            )
            truth = Truth(pullback, vector, plain=True)
            forward = prepare(partial(_tangent, vector), here, here)
            if not all(np.isfinite(value).all() for value in truth.pull(pullback.u).values()):
                continue
            claims = [as_real(forward(here, one.v)) for one in directions]
        except Exception:  # A callback, a while loop: what autodiff cannot go through.
            continue
        if short > epsilon(np.float64):
            name = short_name(short)
            return truth, f"true is autodiff of the forward pass, some of which is in {name}"
        if all(_confirms(one, claimed) for one, claimed in zip(directions, claims, strict=True)):
            return truth, "true is autodiff of the forward pass, which differences confirm"
    return None, ""


def _tangent(vector: Callable[..., Any], at: Leaves, v: Leaves) -> Any:
    return jax.jvp(vector, (at,), (v,))[1]


def _confirms(one: Along, claimed: Float64Array) -> bool:
    """Are these the derivatives along v of all outputs that have one?"""
    wrong = np.abs(claimed - one.derivative) > one.error + 1e-8 * largest(claimed)
    return not np.any(wrong & one.smooth)


@dataclass(frozen=True)
class Table:
    """Rows of derivatives by each argument, (rows, entries of the argument), true and given.

    A row is the derivative of one output, or, where there are `cotangents`, of a sum of all of
    them with those weights.
    """

    true: Leaves
    given: Leaves
    floor: Leaves
    interval: dict[str, tuple[Float64Array, Float64Array]] = field(default_factory=dict)
    cotangents: Float64Array | None = None
    kinks: Kinks | None = None  #: what is left open, where the kinks are in operations followed
    us: Float64Array | None = None  #: then the weights of the outputs in each row

    def ok(self) -> bool:
        return all(
            np.all(np.abs(self.given[path] - true) <= self.floor[path])
            for path, true in self.true.items()
        )

    def widths(self) -> Leaves:
        """How far apart the one-sided derivatives are: 0 but for kinks."""
        found = {path: np.zeros(true.shape) for path, true in self.true.items()}
        return found | {path: high - low for path, (low, high) in self.interval.items()}


def by_autodiff(
    pullback: Pullback,
    truth: Truth,
    cotangents: Float64Array | None,
    through: Callable[[Float64Array], Any],
) -> Table:
    """The Jacobian by autodiff, or its products with cotangents.

    What is above the floor of float64 is held to the error that autodiff itself makes, in units of
    the dtype's spacing, and then to the derivatives beside the point, between which a kink lies.
    """

    def rows(truth: Truth, at: Mapping[str, Any] | None) -> Leaves:
        if cotangents is None:
            return truth.jacobian(at)
        products = [truth.pull(through(u), at) for u in cotangents]
        return {path: np.stack([p[path].ravel() for p in products]) for path in pullback.point}

    if cotangents is None:
        given = pullback.given
    else:
        pulled = [pullback.pull(u) for u in cotangents]
        given = {path: np.stack([p[path].ravel() for p in pulled]) for path in pullback.point}
    true = rows(truth, None)
    size = largest(*true.values(), truth.outputs)
    table = Table(true, given, _floors(true, truth.eps * size), cotangents=cotangents)
    if table.ok() or not all(np.isfinite(value).all() for value in given.values()):
        return table
    size = max(size, truth.amplification())
    table = replace(table, floor=_floors(true, truth.eps * size))
    if table.ok():
        return table
    if truth.smooth:
        return table
    towards = {
        path: (value[0] if cotangents is not None else value.sum(axis=0)).reshape(
            pullback.point[path].shape
        )
        for path, value in given.items()
    }
    beside = witness.kinks(lambda at: rows(truth, at), pullback.point, true, towards)
    us = np.eye(pullback.n_out) if cotangents is None else [as_real(through(u)) for u in cotangents]
    return beside_kinks(truth, table, beside, np.stack([*us]))


def beside_kinks(truth: Truth, table: Table, beside: Mapping[str, Any], us: Float64Array) -> Table:
    """What a function's operations leave open in the rows that are wrong without it."""
    off = np.zeros(len(us), bool)
    for path, true in table.true.items():
        off |= np.any(np.abs(table.given[path] - true) > table.floor[path], axis=1)

    def wrong(leaves: Mapping[str, Any]) -> Leaves:
        return {path: value[off] for path, value in leaves.items()}

    seen = {path: (low[off], high[off]) for path, (low, high) in beside.items()}
    rows = wrong(table.given), wrong(table.true), wrong(table.floor), seen, us[off]
    try:
        found = at_kinks(truth.kinks, *rows)
    except Exception:  # Something that cannot be followed.
        found = at_kinks(None, *rows)
    if not found.intervals:
        return table
    whole = {path: (low.copy(), high.copy()) for path, (low, high) in beside.items()}
    for path, ends in found.intervals.items():
        for side, end in zip(whole[path], ends, strict=True):
            side[off] = end
    return replace(table, interval=whole, kinks=found.kinks, us=us)


def short_name(eps: float) -> str:
    """The dtype with this spacing at 1."""
    names = ("float32", "bfloat16", "float16")
    return next((name for name in names if epsilon(name) == eps), f"a dtype of spacing {eps:.1e}")


def in_short_dtype(table: Table, eps: float) -> Table:
    """Held to the rounding of a short dtype that forward or backward pass compute in."""
    size = largest(*table.true.values())
    return replace(table, floor=_floors(table.true, eps * size))


def _floors(true: Leaves, unit: float) -> Leaves:
    return {path: np.full(value.shape, NOISE_FACTOR * unit) for path, value in true.items()}


def by_differences(pullback: Pullback) -> Table:
    """Central differences with steps h and h/2, extrapolated; their difference is the error.

    The differences to the right and to the left approach each other in proportion to h, except
    across a kink: those bound the derivative there.
    """
    true, floors, intervals = {}, {}, {}
    many = _many(pullback)
    here = as_real(pullback.outputs)
    for path, value in pullback.point.items():
        h = STEP * np.maximum(np.abs(value.ravel()), 0.1)
        right, left = (
            np.stack([_moved(pullback, many, path, sign * h * s) for s in (1, 0.5)])
            for sign in (1, -1)
        )
        steps = np.stack([h, h / 2])[:, None, :]
        central = (right - left) / (2 * steps)
        best = (4 * central[1] - central[0]) / 3
        noise = 64 * pullback.eps * np.maximum(largest(here), 1e-300) / h
        true[path] = best
        floors[path] = np.abs(best - central[1]) / 2 + noise[None, :]
        ahead, behind = (right - here[:, None]) / steps, (here[:, None] - left) / steps
        jump = np.abs(ahead - behind)
        kinked = (jump[1] > 0.75 * jump[0]) & (jump[1] > 1e-6 * largest(best) + noise)
        sides = np.stack([2 * one[1] - one[0] for one in (ahead, behind)])
        low, high = sides.min(axis=0), sides.max(axis=0)
        curved = np.maximum(*(np.abs(one[1] - one[0]) for one in (ahead, behind)))
        floors[path] += np.where(kinked, curved / 16, 0.0)
        intervals[path] = np.where(kinked, low, best), np.where(kinked, high, best)
    return Table(true, pullback.given, floors, intervals)


def _many(pullback: Pullback) -> Callable[..., Any]:
    """The outputs at many points at once; one after the other where that cannot be."""
    vector, programs = jax.vmap(pullback.vector(pullback.function)), dict[int, Callable[..., Any]]()

    def many(points: Leaves) -> Any:
        count = len(next(iter(points.values())))
        if count not in programs:
            programs[count] = trace(vector, points)
        return programs[count](points)

    try:
        as_real(many({path: np.asarray(value)[None] for path, value in pullback.point.items()}))
    except Exception:
        return lambda points: np.stack(
            [
                pullback.evaluate({path: points[path][i] for path in points})
                for i in range(len(next(iter(points.values()))))
            ]
        )
    return many


def _moved(
    pullback: Pullback, many: Callable[..., Any], path: str, by: Float64Array
) -> Float64Array:
    """The outputs (outputs, entries) where each entry in its turn is moved by its own step."""
    value = pullback.point[path]
    found = []
    for start in range(0, value.size, 256):
        part = np.arange(start, min(start + 256, value.size))
        batch = np.repeat(value.ravel()[None], len(part), axis=0)
        batch[np.arange(len(part)), part] += by[part]
        others = {p: np.broadcast_to(v, (len(part), *v.shape)) for p, v in pullback.point.items()}
        moved = many({**others, path: batch.reshape(len(part), *value.shape)})
        found.append(as_real(moved).T)
    return np.concatenate(found, axis=1) if found else np.zeros((pullback.n_out, 0))
