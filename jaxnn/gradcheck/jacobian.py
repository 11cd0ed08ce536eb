"""True Jacobians, or products of cotangents with them, and the noise floor of each entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.gradcheck import witness
from jaxnn.gradcheck.compare import NOISE_FACTOR, Float64Array, as_real, epsilon, largest
from jaxnn.gradcheck.directions import Along, along, smooth_directions
from jaxnn.gradcheck.plain import without_rules
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
        outputs, self.rule = jax.vjp(vector, pullback.point)
        self.outputs, self.dtype = as_real(outputs), outputs.dtype
        self.eps = max(pullback.eps, epsilon(outputs.dtype))

    @cached_property
    def _anywhere(self) -> Callable[..., Any]:
        def pull(values: Mapping[str, Any], u: Any) -> Any:
            outputs, back = jax.vjp(self.vector, values)
            return back(u.astype(outputs.dtype))[0]

        compiled = jax.jit(pull)
        try:
            jax.block_until_ready(compiled(self.pullback.point, jnp.asarray(self.pullback.u)))
        except Exception:  # A reference of NumPy, or one that branches on values.
            return pull
        return compiled

    def pull(self, u: Any, at: Mapping[str, Any] | None = None) -> Leaves:
        """u · J, here or at another point."""
        if at is None:
            product = self.rule(jnp.asarray(u, self.dtype))[0]
        else:
            product = self._anywhere(at, jnp.asarray(u))
        return {path: as_real(value) for path, value in product.items()}

    def jacobian(self, at: Mapping[str, Any] | None = None) -> Leaves:
        """The Jacobian, here or at another point."""
        rule = self.rule if at is None else jax.vjp(self.vector, at)[1]
        return self.pullback.jacobian(lambda u: rule(u.astype(self.dtype)))

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
            outputs, back = jax.vjp(vector, point)
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
            if not all(np.isfinite(value).all() for value in truth.pull(pullback.u).values()):
                continue
            claims = [as_real(jax.jvp(vector, (here,), (one.v,))[1]) for one in directions]
        except Exception:  # A callback, a while loop: what autodiff cannot go through.
            continue
        if short > epsilon(np.float64):
            name = short_name(short)
            return truth, f"true is autodiff of the forward pass, some of which is in {name}"
        if all(_confirms(one, claimed) for one, claimed in zip(directions, claims, strict=True)):
            return truth, "true is autodiff of the forward pass, which differences confirm"
    return None, ""


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
    precision: str = "float64"

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
    beside = witness.kinks(lambda at: rows(truth, at), pullback.point, true)
    for at in _towards(pullback, given):
        for path, row in rows(truth, at).items():
            low, high = beside[path]
            jumps = np.abs(row - true[path]) > 1e-3 * largest(true[path], row)
            beside[path] = (
                np.where(jumps, np.minimum(low, row), low),
                np.where(jumps, np.maximum(high, row), high),
            )
    if not any(np.any(low < high) for low, high in beside.values()):
        return table
    others = [rows(other, None) for other in _conventions(pullback)]
    return replace(table, interval=_hull(beside, [true, *others]))


def _towards(pullback: Pullback, given: Leaves) -> list[Leaves]:
    """Points on both sides along what the backward pass gives: of many equal entries those win to
    which it gives something, which no random direction would find."""
    v = {
        path: given[path].sum(axis=0).reshape(x.shape)
        if len(given[path]) == pullback.n_out
        else given[path][0].reshape(x.shape)
        for path, x in pullback.point.items()
    }
    scale = (
        witness.ASIDE * (largest(*pullback.point.values()) or 1.0) / (largest(*v.values()) or 1.0)
    )
    return [witness.moved(pullback.point, v, t) for t in (scale, -scale)]


def beside_kinks(pullback: Pullback, table: Table) -> Table:
    """The intervals of one-sided differences, with what autodiff has beside the point: where
    several kinks meet in one entry, a step along it does not show all that they leave open."""
    truth, _ = plain_truth(pullback)
    if truth is None:
        return table
    beside = witness.kinks(truth.jacobian, pullback.point, truth.jacobian())
    joined = {
        path: (
            np.where(beside[path][0] < beside[path][1], np.minimum(low, beside[path][0]), low),
            np.where(beside[path][0] < beside[path][1], np.maximum(high, beside[path][1]), high),
        )
        for path, (low, high) in table.interval.items()
    }
    others = [other.jacobian() for other in _conventions(pullback)]
    return replace(table, interval=_hull(joined, others))


def _conventions(pullback: Pullback) -> list[Truth]:
    """Autodiff of the forward pass, with JAX's own rules and without: ReLU′(0) is 0 and 1/2."""
    found = []
    for jvp_too in (False, True):
        try:
            vector = without_rules(
                pullback.vector(pullback.function), pullback.point, jvp_too=jvp_too
            )
            found.append(Truth(pullback, vector, plain=True))
        except Exception:  # Autodiff cannot go through the forward pass.
            return []
    return found


def _hull(
    interval: Mapping[str, tuple[Float64Array, Float64Array]], others: list[Leaves]
) -> dict[str, tuple[Float64Array, Float64Array]]:
    """The intervals, with what the conventions 0, 1/2 and 1 give where all kinks of one entry keep
    to one of them; on kinks alone."""
    joined = {}
    for path, (low, high) in interval.items():
        values = [other[path] for other in others]
        if len(values) >= 2:
            values.append(2 * values[-1] - values[-2])
        kinked = low < high
        least, most = (reduce(f, values, end) for f, end in ((np.minimum, low), (np.maximum, high)))
        joined[path] = np.where(kinked, least, low), np.where(kinked, most, high)
    return joined


def short_name(eps: float) -> str:
    """The dtype with this spacing at 1."""
    names = ("float32", "bfloat16", "float16")
    return next((name for name in names if epsilon(name) == eps), f"a dtype of spacing {eps:.1e}")


def in_short_dtype(table: Table, eps: float, precision: str) -> Table:
    """Held to the rounding of a short dtype that forward or backward pass compute in."""
    size = largest(*table.true.values())
    return replace(table, floor=_floors(table.true, eps * size), precision=precision)


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
    many = jax.jit(jax.vmap(pullback.vector(pullback.function)))
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
