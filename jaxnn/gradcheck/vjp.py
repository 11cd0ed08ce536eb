"""`check_vjp`: the backward pass of a `jax.custom_vjp` function, against all of its Jacobian."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck import witness
from jaxnn.gradcheck.causes import diagnose_leaves
from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    Float64Array,
    as_real,
    compare_leaf,
    epsilon,
    incomparable,
    largest,
)
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.hypotheses import BATCH
from jaxnn.gradcheck.reference import cast, float64_rules, floating
from jaxnn.gradcheck.report import Finding, GradientReport
from jaxnn.gradcheck.tree import Tree

Leaves = dict[str, Float64Array]

#: Up to so many entries the Jacobian is compared completely; above, this many are sampled.
COMPLETE = 1_000_000

#: The step of the differences, relative to the size of the argument.
STEP = 2.0**-10


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
        misfit = pullback.misfit()
        if misfit:
            nothing = tuple(
                incomparable(path, as_real(value), "not compared")
                for path, value in pullback.point.items()
            )
            return GradientReport(False, nothing, (misfit,), title=title)
        findings = pullback.values_differ(reference) or pullback.linearity()
        table = pullback.differences() if reference is None else pullback.autodiff(reference)
        leaves = pullback.compare(table)
        if not findings and not all(leaf.ok for leaf in leaves):
            findings = pullback.diagnose(table)
        right = not findings
        testimony = pullback.testimony(table)
    if right and pullback.complete:
        findings = pullback.in_the_callers_dtype(table, function, args)
    return GradientReport(
        not findings,
        leaves,
        tuple(findings),
        testimony,
        (pullback.coverage,),
        title=title,
    )


@dataclass(frozen=True)
class Table:
    """True Jacobians (outputs, entries of the argument), with floors and kinks for each entry."""

    rows: np.ndarray  #: which outputs
    columns: dict[str, np.ndarray]  #: which entries of each argument
    true: Leaves
    floor: Leaves
    interval: dict[str, tuple[Float64Array, Float64Array]]

    def widths(self) -> Leaves:
        """How far apart the one-sided derivatives are: 0 but for kinks."""
        found = {path: np.zeros(true.shape) for path, true in self.true.items()}
        return found | {path: high - low for path, (low, high) in self.interval.items()}


class Pullback:
    """A function at a point, seen as one vector of outputs, and its backward pass."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], rng: np.random.Generator
    ) -> None:
        self.function, self.rng = function, rng
        tree = Tree.of(cast(list(args), np.float64))
        names = dict(enumerate(_argument_names(function, len(args))))
        paths = (re.sub(r"^\[(\d+)\]", lambda m: names[int(m[1])], path) for path in tree.paths)
        self.tree = tree._replace(paths=tuple(paths))
        self.point = {path: np.asarray(value) for path, value in self.tree.real().items()}
        self.outputs, self._pull = jax.vjp(self._vector(function), self.point)
        self.n_out, self.n_in = self.outputs.size, sum(v.size for v in self.point.values())
        if self.n_in == 0 or self.n_out == 0:
            raise JaxnnError("expected a function of real arrays that returns real arrays")
        if not np.isfinite(as_real(self.outputs)).all():
            raise JaxnnError(
                "expected results that are finite here, found NaN or infinity in float64: choose "
                "another point"
            )
        self.eps = epsilon(self.outputs.dtype)
        self.u, self.v = rng.standard_normal((2, self.n_out))
        self._choose()

    def _vector(self, function: Callable[..., Any], tree: Tree | None = None) -> Callable[..., Any]:
        """The function with its real arguments by path and its real results in one vector."""
        arguments = tree or self.tree

        def vector(values: Mapping[str, Any]) -> Any:
            results = jax.tree.leaves(function(*arguments.with_values(values)))
            return jnp.concatenate([jnp.ravel(r) for r in results if floating(r)] or [jnp.zeros(0)])

        return vector

    def pull(self, cotangent: Any) -> Leaves:
        """The product of a cotangent with the Jacobian, by the rule under test."""
        ct = jnp.asarray(cotangent, self.outputs.dtype)
        return {path: as_real(value) for path, value in self._pull(ct)[0].items()}

    def _choose(self) -> None:
        """All rows and columns of the Jacobian, or a sample of both."""
        complete = self.n_out * self.n_in <= COMPLETE
        n = self.n_out if complete else min(self.n_out, 500)
        self.rows = np.sort(self.rng.permutation(self.n_out)[:n])
        share = 1.0 if complete else min(1.0, COMPLETE / n / self.n_in)
        self.columns = {
            path: np.sort(self.rng.permutation(v.size)[: max(1, int(v.size * share))])
            for path, v in self.point.items()
        }
        shown = sum(len(c) for c in self.columns.values())
        self.complete = complete
        self.coverage = (
            f"complete: all {self.n_out} outputs by all {self.n_in} inputs"
            if complete
            else f"sampled: {n} of {self.n_out} outputs by {shown} of {self.n_in} inputs, chosen "
            f"at random (complete up to {COMPLETE:,} entries)"
        )

    def _jacobian(self, pull: Callable[[Any], Any]) -> Leaves:
        """The chosen rows and columns, a row for each cotangent that is 1 at one output."""
        cotangents = np.zeros((len(self.rows), self.n_out))
        cotangents[np.arange(len(self.rows)), self.rows] = 1
        ct = jnp.asarray(cotangents, self.outputs.dtype)
        try:
            rows = jax.vmap(pull)(ct)[0]
        except Exception:  # A rule that cannot be batched is asked for one row after another.
            each = [pull(row)[0] for row in ct]
            rows = {path: jnp.stack([row[path] for row in each]) for path in self.point}
        return {
            path: as_real(value).reshape(len(self.rows), -1)[:, self.columns[path]]
            for path, value in rows.items()
        }

    @cached_property
    def given(self) -> Leaves:
        """The Jacobian by the rule under test."""
        return self._jacobian(self._pull)

    # -- The truth -----------------------------------------------------------------------------

    def autodiff(self, reference: Callable[..., Any]) -> Table:
        """The Jacobian of a reference implementation."""
        outputs, pull = jax.vjp(self._vector(reference), self.point)
        true = self._jacobian(pull)
        eps = max(self.eps, epsilon(outputs.dtype))
        floor = NOISE_FACTOR * eps * largest(*true.values(), as_real(outputs))
        floors = {path: np.full(value.shape, floor) for path, value in true.items()}
        if all(np.all(np.abs(self.given[p] - true[p]) <= floor) for p in true):
            return Table(self.rows, self.columns, true, floors, {})
        return Table(self.rows, self.columns, true, floors, self.differences().interval)

    def differences(self) -> Table:
        """Central differences with steps h and h/2, extrapolated; their difference is the error.

        The differences to the right and to the left approach each other in proportion to h, except
        across a kink: those bound the derivative there.
        """
        true, floors, intervals = {}, {}, {}
        many = jax.jit(jax.vmap(self._vector(self.function)))
        here = as_real(self.outputs)[self.rows]
        for path, value in self.point.items():
            columns = self.columns[path]
            h = STEP * np.maximum(np.abs(value.ravel()[columns]), 0.1)
            right, left = (
                np.stack([self._moved(many, path, columns, sign * h * s) for s in (1, 0.5)])
                for sign in (1, -1)
            )
            steps = np.stack([h, h / 2])[:, None, :]
            central = (right - left) / (2 * steps)
            best = (4 * central[1] - central[0]) / 3
            noise = 64 * self.eps * np.maximum(largest(here), 1e-300) / h
            true[path] = best
            floors[path] = np.abs(best - central[1]) / 2 + noise[None, :]
            ahead, behind = (right - here[:, None]) / steps, (here[:, None] - left) / steps
            jump = np.abs(ahead - behind)
            kinked = (jump[1] > 0.75 * jump[0]) & (jump[1] > 1e-6 * largest(best) + noise)
            low, high = np.minimum(ahead[1], behind[1]), np.maximum(ahead[1], behind[1])
            intervals[path] = np.where(kinked, low, best), np.where(kinked, high, best)
        return Table(self.rows, self.columns, true, floors, intervals)

    def _moved(
        self, many: Callable[..., Any], path: str, columns: np.ndarray, by: Float64Array
    ) -> Float64Array:
        """The chosen outputs (rows, columns); each column's entry is moved by its own step."""
        value = self.point[path]
        found = []
        for start in range(0, len(columns), 256):
            part = columns[start : start + 256]
            batch = np.repeat(value.ravel()[None], len(part), axis=0)
            batch[np.arange(len(part)), part] += by[start : start + 256]
            others = {p: np.broadcast_to(v, (len(part), *v.shape)) for p, v in self.point.items()}
            moved = many({**others, path: batch.reshape(len(part), *value.shape)})
            found.append(as_real(moved)[:, self.rows].T)
        return np.concatenate(found, axis=1) if found else np.zeros((len(self.rows), 0))

    # -- The questions -------------------------------------------------------------------------

    def misfit(self) -> Finding | None:
        """The product must be a tree of real arrays like the arguments. JAX itself looks at that,
        when the rule is first used."""
        try:
            product = self._pull(jnp.asarray(self.u, self.outputs.dtype))[0]
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

    def values_differ(self, reference: Callable[..., Any] | None) -> list[Finding]:
        """The function must have the values of its reference."""
        if reference is None:
            return []
        expected = as_real(self._vector(reference)(self.point))
        found = as_real(self.outputs)
        floor = 1e3 * self.eps * largest(expected, found)
        if expected.shape == found.shape and not np.any(np.abs(expected - found) > floor):
            return []
        told = sentence("feed_forward", "the function", detail="its values are not the reference's")
        return [Finding("feed_forward", "", told)]

    def linearity(self) -> list[Finding]:
        """bwd(u), bwd(u) again, bwd(v), bwd(−u), bwd(2u + v) and bwd(0) must fit together."""
        u, again, v = self.pull(self.u), self.pull(self.u), self.pull(self.v)
        minus, both = self.pull(-self.u), self.pull(2 * self.u + self.v)
        zero = self.pull(0 * self.u)
        for path in self.point:
            floor = 1e3 * self.eps * largest(u[path], v[path], both[path])
            if not all(np.isfinite(a[path]).all() for a in (u, v, both)):
                continue
            if not _same(u, again, path, floor):
                return [Finding("nondeterministic", path, sentence("nondeterministic", path))]
            if u[path].any() and _same(u, v, path, floor) and _same(u, minus, path, floor):
                return [Finding("ignores_cotangent", path, sentence("ignores_cotangent", path))]
            sums = 2 * u[path] + v[path] - both[path], u[path] + minus[path], zero[path]
            if any(np.any(np.abs(wrong) > floor) for wrong in sums):
                return [
                    Finding(
                        "nonlinear_in_cotangent", path, sentence("nonlinear_in_cotangent", path)
                    )
                ]
        return []

    def compare(self, table: Table) -> tuple[Any, ...]:
        """Each argument's Jacobian, entry by entry."""
        return tuple(
            compare_leaf(path, self.given[path], true, table.floor[path], table.interval.get(path))
            for path, true in table.true.items()
        )

    def _contracted(self, jacobians: Leaves, u: Float64Array) -> Leaves:
        """u · J for each argument, in the argument's shape; only for complete Jacobians."""
        return {
            path: (u @ jacobian).reshape(self.point[path].shape)
            for path, jacobian in jacobians.items()
        }

    def diagnose(self, table: Table) -> list[Finding]:
        """The cause, looked for in the product with one random cotangent."""
        widths = table.widths()
        floors = {path: 2 * table.floor[path] + 2 * widths[path] for path in table.true}
        if not self.complete:
            return diagnose_leaves(self.given, table.true, floors, {}, {}, lambda: None)
        results = jax.tree.leaves(self.function(*self.tree.with_values({})))
        lead = np.shape(results[0])[:1]
        m = lead[0] if lead and self.n_out % lead[0] == 0 and len(results) == 1 else 0

        def examples() -> Leaves | None:
            masks = np.eye(m).repeat(self.n_out // m, axis=1) if m else np.zeros((0, self.n_out))
            parts = [self._contracted(table.true, mask * self.u) for mask in masks]
            return {p: np.stack([part[p] for part in parts]) for p in self.point} if m else None

        return diagnose_leaves(
            self.pull(self.u),
            self._contracted(table.true, self.u),
            self._contracted(floors, np.abs(self.u)),
            {path: as_real(value) for path, value in self.point.items()},
            {BATCH: m} if m else {},
            examples,
        ) or [Finding("unknown", path, sentence("unknown", path)) for path in list(self.point)[:1]]

    def in_the_callers_dtype(
        self, table: Table, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> list[Finding]:
        """The product with one cotangent, in the dtype and under the settings of the caller."""
        named = self.tree._replace(values=tuple(jax.tree.leaves(list(args))))
        real = named.real()
        outputs, pull = jax.vjp(self._vector(function, named), real)
        eps = max(epsilon(v.dtype) for v in (outputs, *real.values()))
        given = pull(jnp.asarray(self.u, outputs.dtype))[0]
        expected = self._contracted(table.true, self.u)
        size = self._contracted({p: np.abs(j) for p, j in table.true.items()}, np.abs(self.u))
        for path, true in expected.items():
            value = as_real(given[path])
            floor = NOISE_FACTOR * eps * largest(*size.values(), as_real(outputs))
            width = self._contracted(table.widths(), np.abs(self.u))[path]
            if not np.isfinite(value).all():
                detail = f"in {outputs.dtype}"
                return [Finding("non_finite", path, sentence("non_finite", path, detail=detail))]
            if np.any(
                np.abs(value - true) > floor + 2 * width + table.floor[path].max(initial=0.0)
            ):
                detail = f"in {outputs.dtype}; in float64 it is right"
                return [Finding("unknown", path, sentence("unknown", path, detail=detail))]
        return []

    def testimony(self, table: Table) -> Any:
        """Central differences and Taylor slope of ⟨f, u⟩ along a random direction."""
        if not self.complete:
            return None
        vector = jax.jit(self._vector(self.function))
        return witness.examine(
            lambda at: float(as_real(vector(at)) @ self.u),
            self.point,
            self._contracted(table.true, self.u),
            self.pull(self.u),
        )


def _same(a: Leaves, b: Leaves, path: str, floor: float) -> bool:
    return bool((np.abs(a[path] - b[path]) <= floor).all())


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the positional parameters, or args[0], args[1] … where they cannot be had."""
    try:
        names = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    return names[:count] if len(names) >= count else [f"args[{i}]" for i in range(count)]
