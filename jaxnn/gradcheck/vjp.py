"""`check_vjp`: the backward pass of a `jax.custom_vjp` function, against all of its Jacobian."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnn.errors import JaxnnError
from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    Float64Array,
    LeafReport,
    as_real,
    compare_leaf,
    epsilon,
    incomparable,
    largest,
)
from jaxnn.gradcheck.directions import (
    Dispute,
    along,
    dispute,
    first_output,
    locate,
    smooth_directions,
)
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.hypotheses import BATCH
from jaxnn.gradcheck.jacobian import (
    COMPLETE,
    Table,
    Truth,
    by_autodiff,
    by_differences,
    in_short_dtype,
    plain_truth,
    short_name,
)
from jaxnn.gradcheck.plain import without_rules
from jaxnn.gradcheck.pullback import Leaves, Misshapen, Pullback, python_floats
from jaxnn.gradcheck.reference import float64_rules, floating, in_all_threads
from jaxnn.gradcheck.report import NOT_JUDGED, Finding, GradientReport
from jaxnn.gradcheck.rules import backward_misfit, forward_misfit, linearity
from jaxnn.gradcheck.tree import Tree

#: How many random cotangents a Jacobian that is too large to be written out is multiplied by.
RANDOM = 3

#: Up to so many examples are looked at one by one where the Jacobian is not written out.
MANY = 64

#: What the differences of the function can be trusted to, relative to its derivatives.
COARSE = 1e-3

ESTIMATOR = (
    "Where the backward pass is meant to be another function's derivative (a straight-through "
    "estimator), say which: derivative_of=…; where it changes its cotangent on purpose (a "
    "gradient clip), say how: cotangent=…"
)


def check_vjp(
    function: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    derivative_of: Callable[..., Any] | None = None,
    cotangent: Callable[..., Any] | None = None,
    seed: int = 0,
) -> GradientReport:
    """Examine the vector-Jacobian product that jax.grad uses for `function` at `args`.

    The truth is autodiff of `reference`, the same function without a rule of its own, where one is
    given; else differences of `function` itself and, where they confirm it, autodiff of its forward
    pass. All in float64. Python floats count as arrays.

    A Jacobian of up to COMPLETE numbers is compared entry by entry. A larger one is multiplied by
    cotangents, random ones among them, that reach every entry: an entry that is wrong shows in
    them, and the verdict says that sums were compared. Where there is only the function's own
    values to compare with, the verdict says along how many directions.

    Also: has the product the form of the arguments, is it the same twice, is it linear in its
    cotangent, do entries that are tied share what belongs to them, and is it right in the caller's
    dtype?

    `derivative_of` is the function whose derivative is meant, for a backward pass that is not the
    function's own: for a straight-through estimator the identity. `cotangent` is what is done on
    purpose to the cotangent before: for a gradient clip `lambda g: jnp.clip(g, -1, 1)`. It is
    given the results' tree, with None in place of integers. The report says what is then not
    checked.

    Where nothing can be said, the report has the reason in `not_judged`, and is not `ok`.

    Raises JaxnnError where no argument or no result is a real number, one is complex, a result is
    not finite, or jax cannot differentiate the function at all.

    >>> @jax.custom_vjp
    ... def cube(x):
    ...     return x**3
    >>> cube.defvjp(lambda x: (cube(x), x), lambda x, ct: (ct * 3 * x,))
    >>> jaxnn.check_vjp(cube, np.array([0.5, 2.0])).ok
    False
    """
    title = _name(function)
    args = python_floats(function, args)
    with float64_rules(), in_all_threads(), np.errstate(all="ignore"):
        rng = np.random.default_rng(seed)
        try:
            pullback = Pullback(function, args, rng)
        except (TypeError, ValueError, Misshapen) as error:
            if (told := forward_misfit(error)) is not None:
                return GradientReport(False, (), (told,), title=title)
            raise
        exam = _Exam(pullback, reference, derivative_of, cotangent)
        findings = exam.findings()
    if not findings and exam.table is not None:
        findings = _in_the_callers_dtype(exam, function, args)
    return GradientReport(
        not findings and not exam.not_judged,
        exam.leaves,
        tuple(findings),
        notes=(exam.coverage, *exam.notes),
        precision=exam.precision,
        title=title + exam.declared,
        scope=exam.scope,
        not_judged=exam.not_judged,
    )


class _Exam:
    """One examination: the truth that there is, and the table that it gives."""

    def __init__(
        self,
        pullback: Pullback,
        reference: Callable[..., Any] | None,
        derivative_of: Callable[..., Any] | None,
        cotangent: Callable[..., Any] | None,
    ) -> None:
        self.pullback, self.cotangent = pullback, cotangent
        self.reference, self.meant = reference, derivative_of
        self.notes: list[str] = []
        self.leaves: tuple[LeafReport, ...] = ()
        self.table: Table | None = None
        self.truth: Truth | None = None
        self.precision, self.coverage, self.scope = "float64", "nothing was compared", ""
        self.not_judged = ""

    @property
    def declared(self) -> str:
        """What the title says of a backward pass that is meant to be another's."""
        meant = f", as the derivative of {_name(self.meant)}" if self.meant is not None else ""
        changed = f", with its cotangent changed by {_name(self.cotangent)}"
        return meant + (changed if self.cotangent is not None else "")

    def findings(self) -> list[Finding]:
        """What is wrong, in the order in which it would be looked for by hand."""
        pullback = self.pullback
        misfit = backward_misfit(pullback)
        if misfit:
            self.leaves = tuple(
                incomparable(path, as_real(value), "not compared")
                for path, value in pullback.point.items()
            )
            return [misfit]
        found = self._values()
        if found and found[0].code == "nondeterministic":
            return found
        if self.cotangent is None:
            found = found or linearity(pullback)
        self._compare()
        if not found and not all(leaf.ok for leaf in self.leaves):
            found = self._beyond_kinks() or self._diagnose()
        found = found or self._ties()
        if not found and not self.declared:
            found = self._directions()
        return found

    def through(self, u: Float64Array) -> Any:
        """The cotangent as it is meant to be used."""
        if self.cotangent is None:
            return u
        tree = self.pullback.unflattened(jnp.asarray(u, self.pullback.outputs.dtype))
        leaves = [leaf for leaf in jax.tree.leaves(self.cotangent(tree)) if floating(leaf)]
        changed = as_real(jnp.concatenate([jnp.ravel(leaf) for leaf in leaves]))
        if changed.shape != u.shape:
            raise JaxnnError("expected cotangent= to return what it was given, in the same form")
        return changed

    def _values(self) -> list[Finding]:
        """The function is the same twice, and has the values of its forward rule and reference."""
        pullback = self.pullback
        found, again = as_real(pullback.outputs), pullback.again()
        rounding = 1e3 * pullback.short_eps
        if not _close(again, pullback.plain, rounding):
            told = sentence("nondeterministic", "The function itself")
            return [Finding("nondeterministic", "", told)]
        if not _close(found, pullback.plain, rounding):
            detail = "the result that the forward rule returns is not the function's own"
            told = sentence("feed_forward", "the forward rule", detail=detail)
            return [Finding("feed_forward", "", told)]
        if self.meant is not None:
            self._tell_what_is_not_checked(found)
        if self.reference is None:
            return []
        expected = pullback.values_of(self.reference)
        if _close(found, expected, rounding):
            return []
        told = sentence("feed_forward", "the function", detail="its values are not the reference's")
        return [Finding("feed_forward", "", told)]

    def magnitude(self, outputs: Any) -> float:
        """How large the terms of a product with u are."""
        assert self.table is not None
        values = self.table.true
        if self.table.cotangents is not None:
            return 4 * largest(*values.values(), as_real(outputs))
        sizes = {path: np.abs(true) for path, true in values.items()}
        u = np.abs(self.pullback.u)
        return largest(*self.pullback.contracted(sizes, u).values(), as_real(outputs))

    def own_truth(
        self, vector: Callable[..., Any], real: Mapping[str, Any], named: Tree
    ) -> Leaves | None:
        """The true product in the caller's dtype, if autodiff goes through the function."""
        given = self.meant or self.reference
        try:
            if given is not None:
                vector = self.pullback.vector(given, named)
            else:
                vector = without_rules(vector, real, jvp_too=False)
            outputs, pull = jax.vjp(vector, real)
            product = pull(_cotangent(self.through(self.pullback.u), outputs))[0]
        except Exception:  # A forward pass of NumPy, a callback, a while loop.
            return None
        return {path: as_real(value) for path, value in product.items()}

    def _tell_what_is_not_checked(self, found: Float64Array) -> None:
        assert self.meant is not None
        expected = self.pullback.values_of(self.meant)
        if expected.shape != found.shape:
            raise JaxnnError(
                f"expected derivative_of= a function with {found.size} real results, as the "
                f"function has, found {expected.size}"
            )
        far = largest(found - expected)
        self.notes.append(
            f"not checked: that this is the derivative of the function itself, whose values differ "
            f"from those of {_name(self.meant)} by up to {far:.3g}"
        )

    def _compare(self) -> None:
        """The table of derivatives, by the best truth that there is, and each argument's report."""
        pullback = self.pullback
        n_out, n_in = pullback.n_out, pullback.n_in
        given = self.meant or self.reference
        short = pullback.short_eps > pullback.eps or pullback.eps > epsilon(np.float64)
        if given is not None:
            self.truth = Truth(pullback, pullback.vector(given))
        elif self.cotangent is not None or short or n_in * (n_in + n_out) > COMPLETE:
            self.truth, note = plain_truth(pullback)
            self.notes += [note] if note else []
        else:
            self.table = by_differences(pullback)
            if not self.table.ok():
                self.truth, _ = plain_truth(pullback)
        if self.truth is not None:
            complete = n_out * (n_in + n_out) <= COMPLETE and self.cotangent is None
            rows = None if complete else _cotangents(pullback, self.cotangent is not None)
            self.table = by_autodiff(pullback, self.truth, rows, self.through)
        if self.table is None:
            self._only_directions()
            return
        self.leaves = self._reports(self.table)
        if not all(leaf.ok for leaf in self.leaves) and pullback.short_eps > pullback.eps:
            self._in_short_dtype()
        self.coverage = f"complete: all {n_out} outputs by all {n_in} inputs"
        if self.table.cotangents is not None:
            count = len(self.table.cotangents)
            self.coverage = (
                f"in sums: all {n_out:,} outputs by all {n_in:,} inputs, the outputs added up with "
                f"{count} sets of weights, {count - 2} of them random; entry by entry up to "
                f"{COMPLETE:,} numbers"
            )
            self.scope = f"in {count} weighted sums of its outputs"
        if self.cotangent is not None:
            self.notes.append("not checked: that the product is linear in its cotangent")

    def _in_short_dtype(self) -> None:
        """Right to the rounding of a short dtype on the way, if no leaf has another scale."""
        eps = self.pullback.short_eps
        name = short_name(eps)
        assert self.table is not None
        table = in_short_dtype(self.table, eps)
        reports = self._reports(table)
        if all(leaf.ok and abs(leaf.ratio - 1) <= 4 * eps for leaf in reports):
            self.table, self.leaves, self.precision = table, reports, name

    def _reports(self, table: Table) -> tuple[LeafReport, ...]:
        """Each argument's report. A sum of outputs with random weights is nobody's derivative: what
        is shown is the derivative of their plain sum."""
        reports = []
        for path, true in table.true.items():
            interval = table.interval.get(path)
            given, floor = table.given[path], table.floor[path]
            report = compare_leaf(path, given, true, floor, interval)
            beyond = _beyond(table, path)
            report = replace(report, ok=not beyond.any(), wrong=int(beyond.sum()))
            if table.cotangents is not None:
                shape = self.pullback.point[path].shape
                one = interval and (interval[0][0].reshape(shape), interval[1][0].reshape(shape))
                shown = compare_leaf(
                    path,
                    given[0].reshape(shape),
                    true[0].reshape(shape),
                    floor[0].reshape(shape),
                    one,
                )
                report = replace(
                    shown,
                    ok=report.ok,
                    noise=report.noise,
                    relative_error=report.relative_error,
                    wrong=int(beyond.any(axis=0).sum()),
                )
            reports.append(report)
        return tuple(reports)

    def _only_directions(self) -> None:
        """No autodiff goes through the forward pass: its values are all that there is."""
        self.leaves = tuple(
            LeafReport(path, x.shape, True, 0.0, None, 0, 0, 1, 1, 0, 0, problem="along directions")
            for path, x in self.pullback.point.items()
        )

    def _diagnose(self) -> list[Finding]:
        """The cause, looked for in the products with two random cotangents: what both say."""
        assert self.table is not None
        wrong = [leaf.path for leaf in self.leaves if not leaf.ok]
        if self.cotangent is not None:
            return [self._unknown(wrong)]
        from jaxnn.gradcheck.causes import named

        told = self._explained()
        if told and named(told):
            return told
        first, second = (self._causes(u) for u in (self.pullback.u, self.pullback.v))
        agreed = len(first) == len(second) and all(
            (a.code, a.equation) == (b.code, b.equation)
            and np.isclose(a.factor or 0, b.factor or 0, rtol=1e-6, atol=0)
            for a, b in zip(first, second, strict=False)
        )
        if agreed and first and first[0].code != "unknown":
            return first
        known = [f for f in told or () if f.code != "unknown"]
        rest = [path for path in wrong if not any(path in f.places for f in known)]
        return [*known, *([self._unknown(rest)] if rest else [])]

    def _beyond_kinks(self) -> list[Finding]:
        """The finding where all that is wrong is on a kink."""
        wrong = [leaf for leaf in self.leaves if not leaf.ok]
        if any(leaf.beyond is None for leaf in wrong):
            return []
        leaf = wrong[0]
        low, high = leaf.beyond or (0.0, 0.0)
        detail = f"{leaf.given:.6g} is not between {low:.6g} and {high:.6g}"
        text = sentence("beyond_kink", leaf.path, detail=detail)
        return [Finding("beyond_kink", leaf.path, text)]

    def _ties(self) -> list[Finding]:
        """Entries that are wrong together, though each by itself is possible."""
        table = self.table
        if table is None or table.kinks is None or table.us is None:
            return []
        point = self.pullback.point

        def of(leaves: Leaves, row: int) -> Leaves:
            return {path: leaves[path][row].reshape(x.shape) for path, x in point.items()}

        off = {p: np.abs(table.given[p] - t) > table.floor[p] for p, t in table.true.items()}
        several = sum(part.sum(axis=1) for part in off.values()) > 1
        for row in np.flatnonzero(several)[:MANY]:
            given, true, floor = (of(a, row) for a in (table.given, table.true, table.floor))
            along = table.kinks.separated(given, true, floor, table.us[row])
            if along is None:
                continue
            paths = [path for path, v in along.way.items() if v.any()]
            self.leaves = tuple(
                replace(leaf, ok=False, wrong=int(np.count_nonzero(along.way[leaf.path])))
                if leaf.path in paths
                else leaf
                for leaf in self.leaves
            )
            count = sum(int(np.count_nonzero(along.way[path])) for path in paths)
            detail = (
                f"along a direction through {count} entries on kinks yours is {along.given:.6g} "
                f"and the function leaves open {along.low:.6g} to {along.high:.6g}"
            )
            text = sentence("ties", ", ".join(paths), detail=detail)
            return [Finding("ties", paths[0], text)]
        return []

    def _open(self, found: Dispute) -> bool:
        """Is what the backward pass claims along v one of the choices that a kink leaves?"""
        if self.truth is None:
            return False
        kinks = self.truth.kinks
        if not kinks or not kinks.continuous:
            return False
        low, high = kinks.between(found.v, np.eye(1, self.pullback.n_out, found.output)[0])
        slack = 1e-9 * max(abs(low), abs(high), abs(found.given))
        return low - slack <= found.given <= high + slack

    def _explained(self) -> list[Finding] | None:
        """By the backward pass of the function whose derivative is the true one."""
        from jaxnn.gradcheck.engine import explain_vjp

        pullback, cotangents = self.pullback, (self.pullback.u, self.pullback.v)
        vector = self.truth.vector if self.truth else pullback.vector(pullback.function)
        return explain_vjp(
            vector,
            pullback.point,
            cotangents,
            [self._true(u) for u in cotangents],
            [pullback.pull(u) for u in cotangents],
            [self._floor(u) for u in cotangents],
        )

    def _causes(self, u: Float64Array) -> list[Finding]:
        from jaxnn.gradcheck.causes import diagnose_leaves

        pullback, table = self.pullback, self.table
        assert table is not None
        m = self._examples()
        masks = np.eye(m).repeat(pullback.n_out // m, axis=1) if m else np.zeros((0, 1))

        def examples() -> Leaves | None:
            parts = [self._true(mask * u) for mask in masks]
            return {p: np.stack([part[p] for part in parts]) for p in pullback.point} if m else None

        return diagnose_leaves(
            pullback.pull(u),
            self._true(u),
            self._floor(u),
            {path: as_real(value) for path, value in pullback.point.items()},
            {BATCH: m} if m else {},
            examples,
        )

    def _true(self, u: Float64Array) -> Leaves:
        assert self.table is not None
        if self.table.cotangents is None:
            return self.pullback.contracted(self.table.true, u)
        assert self.truth is not None
        return self.truth.pull(self.through(u))

    def _floor(self, u: Float64Array) -> Leaves:
        """The noise floor of a product, and twice the width of the kinks in it."""
        assert self.table is not None
        widths = self.table.widths()
        if self.table.cotangents is None:
            floors = {path: 2 * f + 2 * widths[path] for path, f in self.table.floor.items()}
            return self.pullback.contracted(floors, np.abs(u))
        return {
            path: (2 * floor[0] + 4 * widths[path].max(0)).reshape(self.pullback.point[path].shape)
            for path, floor in self.table.floor.items()
        }

    def _examples(self) -> int:
        """How many examples the outputs are of, as far as their shape tells; 0 if it does not."""
        results = jax.tree.leaves(self.pullback.results)
        lead = np.shape(results[0])[:1]
        m = lead[0] if lead and len(results) == 1 and self.pullback.n_out % lead[0] == 0 else 0
        return m if self.table and (self.table.cotangents is None or m <= MANY) else 0

    def _unknown(self, wrong: list[str]) -> Finding:
        """Where in the Jacobian: an output, and the entry by which its derivative is wrong."""
        place = self._place(wrong[0])
        detail = f"{len(wrong)} arguments: {', '.join(wrong)}" if len(wrong) > 1 else ""
        detail = "; ".join(filter(None, [detail, place]))
        return Finding("unknown", wrong[0], sentence("unknown", wrong[0], detail=detail))

    def _place(self, path: str) -> str:
        """The worst entry of a small Jacobian; of a large one an entry found by halving."""
        table, pullback = self.table, self.pullback
        assert table is not None
        if table.cotangents is None:
            error = np.abs(table.given[path] - table.true[path]) / table.floor[path]
            worst = int(np.where(_beyond(table, path), error, 0).argmax())
            output, entry = divmod(worst, error.shape[1])
            given, true = table.given[path][output], table.true[path][output]
        elif self.cotangent is None and self.truth is not None:
            entries, truth = _beyond(table, path).any(axis=0), self.truth
            floor = table.floor[path][0]

            def error_of(u: Float64Array) -> NDArray[np.bool_]:
                off = pullback.pull(u)[path] - truth.pull(u)[path]
                wrong: NDArray[np.bool_] = entries & ~(np.abs(off.ravel()) <= floor)
                return wrong

            found = first_output(
                pullback.n_out, lambda mask: bool(error_of(mask * pullback.u).any())
            )
            if found is None:
                return ""
            unit = np.eye(1, pullback.n_out, found)[0]
            given, true = pullback.pull(unit)[path].ravel(), truth.pull(unit)[path].ravel()
            output, entry = found, int(np.abs(np.where(entries, given - true, 0)).argmax())
        else:
            return ""
        return _entry(pullback, path, output, entry, given[entry], true[entry])

    def _directions(self) -> list[Finding]:
        """Along directions in which an output is smooth, the product must be its derivative.

        It shows what no entry shows by itself: at a tie the shares of the tied entries add up to 1.
        """
        pullback = self.pullback
        seen, top, error, count = np.zeros(pullback.n_out, bool), 0.0, 0.0, 0
        for v in smooth_directions(pullback):
            one = along(pullback, v)
            count += 1
            # A direction says nothing about the inputs that it leaves where they are.
            seen |= one.smooth & all(part.all() for part in v.values())
            top, error = max(top, largest(one.derivative)), max(error, largest(one.error))
            for _ in range(MANY):
                found = dispute(pullback, one)
                if found is None:
                    break
                if not self._open(found):
                    return [self._disputed(found)]
                one.smooth[found.output] = False
        if self.table is not None:
            return []
        if not seen.any() or error > COARSE * top:
            self._judge_nothing()
            return []
        left = pullback.n_out - int(seen.sum())
        kinks = f", {left} of its outputs, at kinks, not at all" if left else ""
        self.scope = f"compared only along {count} directions{kinks}"
        self.coverage = (
            f"along {count} directions, two of them random, through all {pullback.n_in:,} inputs; "
            "autodiff cannot go through the forward pass, and an error below 1e-8 of the whole is "
            "not seen"
        )
        return []

    def _judge_nothing(self) -> None:
        self.not_judged = (
            "autodiff cannot go through the forward pass, and its values are not smooth or not "
            "exact enough here: give reference=, the same function in jax.numpy"
        )
        self.leaves = tuple(
            incomparable(path, x, NOT_JUDGED) for path, x in self.pullback.point.items()
        )

    def _disputed(self, found: Dispute) -> Finding:
        path, index, given, true, smooth = locate(self.pullback, found)
        entry = int(np.ravel_multi_index(index, self.pullback.point[path].shape)) if index else 0
        place = _entry(self.pullback, path, found.output, entry, given, true)
        if smooth and not np.isclose(given, true, rtol=1e-4, atol=1e-6 * max(1.0, abs(found.true))):
            detail = f"by differences of the function; {place}"
            if self.truth is not None:
                detail = f"what autodiff makes of the reference is not its derivative: {place}"
            return Finding("unknown", path, sentence("unknown", path, detail=detail))
        text = (
            f"The entries of {path} are wrong together: output {found.output} is smooth along a "
            f"direction in which its derivative is {found.true:.6g}, and yours {found.given:.6g}, "
            "though each entry by itself is possible. At a tie the shares of the tied entries add "
            "up to 1."
        )
        return Finding("ties", path, text)


def _in_the_callers_dtype(
    exam: _Exam, function: Callable[..., Any], args: tuple[Any, ...]
) -> list[Finding]:
    """The product with one cotangent, in the dtype and under the settings of the caller.

    It must be near the same rule's in float64, which has been found right, or near the truth in
    the caller's dtype: a mask that is drawn at random may be another one in float64.
    """
    pullback, table = exam.pullback, exam.table
    assert table is not None
    named = pullback.tree._replace(values=tuple(jax.tree.leaves(list(args))))
    real = {path: jnp.asarray(value) for path, value in named.real().items()}
    vector = pullback.vector(function, named)
    outputs, pull = jax.vjp(vector, real)
    # NumPy's float64 is float32 for jax, unless it is told otherwise.
    widths = (jax.dtypes.canonicalize_dtype(v.dtype) for v in (outputs, *real.values()))
    eps = max([pullback.short_eps, *map(epsilon, widths)])
    given = pull(_cotangent(pullback.u, outputs))[0]
    with float64_rules(), np.errstate(all="ignore"):
        wide, size = pullback.pull(pullback.u), exam.magnitude(outputs)
    size = max(size, largest(*wide.values()))
    for path, expected in wide.items():
        value = as_real(given[path])
        if not np.isfinite(value).all():
            detail = f"in {outputs.dtype}"
            return [Finding("non_finite", path, sentence("non_finite", path, detail=detail))]
        if np.all(np.abs(value - expected) <= NOISE_FACTOR * eps * size):
            continue
        own = exam.own_truth(vector, real, named)
        if own is None and not _close(as_real(outputs), pullback.plain, 1e3 * eps):
            exam.notes.append(f"not compared in {outputs.dtype}, where the values are others")
            return []
        same = own is not None and _close(as_real(outputs), pullback.plain, 1e3 * eps)
        noise = largest(own[path] - expected) / eps if own is not None and same else 0.0
        floor = NOISE_FACTOR * eps * max(size, min(noise, 1e3 * size))
        if np.all(np.abs(value - expected) <= floor):
            continue
        if own is None or np.any(np.abs(value - own[path]) > floor):
            detail = f"in {outputs.dtype}; in float64 it is right"
            return [Finding("unknown", path, sentence("unknown", path, detail=detail))]
    return []


def _cotangent(u: Any, outputs: Any) -> Any:
    """u in the outputs' dtype, as jax has it under the settings that hold."""
    return jnp.asarray(u, jax.dtypes.canonicalize_dtype(outputs.dtype))


def _cotangents(pullback: Pullback, scaled: bool) -> Float64Array:
    """Ones, alternating signs and random numbers; for a rule that need not be linear of all
    sizes."""
    n = pullback.n_out
    fixed = np.ones(n), np.where(np.arange(n) % 2, -1.0, 1.0)
    random = pullback.rng.standard_normal((RANDOM, n))
    sizes = (1e-2, 1.0, 1e2) if scaled else (1.0,)
    return np.stack([*fixed, *(size * u for u in random for size in sizes)])


def _beyond(table: Table, path: str) -> NDArray[np.bool_]:
    """Which entries are wrong."""
    given, true, floor = table.given[path], table.true[path], table.floor[path]
    low, high = table.interval.get(path, (true, true))
    return np.logical_not((given >= low - floor) & (given <= high + floor))


def _entry(
    pullback: Pullback, path: str, output: int, entry: int, given: float, true: float
) -> str:
    shape = pullback.point[path].shape
    index = ", ".join(str(int(i)) for i in np.unravel_index(entry, shape))
    by = f"{path}[{index}]" if index else path
    return f"the derivative of output {output} by {by} is {true:.6g}, yours {given:.6g}"


def _close(a: Float64Array, b: Float64Array, rounding: float) -> bool:
    if a.shape != b.shape:
        return False
    return not np.any(np.abs(a - b) > rounding * largest(a, b))


def _name(function: Any) -> str:
    """The function's own name, that of a partial's function, or a description."""
    name = getattr(getattr(function, "func", function), "__name__", "")
    return name or "the function"
