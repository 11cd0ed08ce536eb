"""What a person can get wrong in a backward pass: families of edits, in one table.

A family goes through the places of a tape and yields trials. A trial is one place and a batch of
edits of it, each with a label: the code, what is said of the place, and how far-fetched it is.
FAMILIES at the end is the table; a new family is a function and a line there.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from jaxnn.gradcheck.backward import Backward, Edits, Reverse, add
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.regions import Region, between, pull_through, regions
from jaxnn.gradcheck.sites import Group, Sites
from jaxnn.gradcheck.source import Source
from jaxnn.gradcheck.stretches import Stretch, Together, stretches
from jaxnn.gradcheck.tape import (
    Contract,
    Local,
    Move,
    Op,
    Tape,
    reduction,
    unbroadcast,
    windows,
)


@dataclass(frozen=True)
class Label:
    """One edit in words: `said` continues the sentence that begins with the place."""

    code: str
    said: str
    cost: float
    factor: float | None = None
    right: str = ""  #: what belongs there instead, if it is more than the true derivative
    free: int = 0  #: how many numbers are fitted
    fit: bool = True  #: may another factor come on top?


@dataclass(frozen=True, eq=False)
class Trial:
    """A batch of edits at one place. Where `linear`, the first leaves the place out, and the
    gradient is linear in a factor on it."""

    group: Group
    about: Callable[[], str]  #: "the derivative along `h` in `h @ Whh`"
    line: Op  #: the operation whose line is told
    labels: Sequence[Label]
    edits: Edits
    linear: bool = False
    fitted: Label | None = None  #: the label of the true message with another factor
    affine: bool = False  #: the second edit is the true one, the others are added to it by a factor
    level: int = 0  #: which of the operation's frames is told
    key: Any = None  #: what is the same for the same habit at other places
    zero: int = 0  #: the number of the edit that leaves the place out

    @cached_property
    def subject(self) -> str:
        return self.about()


@dataclass
class Context:
    """All that a family may look at."""

    tape: Tape
    backward: Backward
    sites: Sites
    source: Source
    given: Mapping[str, Float64Array] = field(default_factory=dict)
    suspects: frozenset[int] | None = None  #: the values that a cotangent may be wrong of

    def suspect(self, value: int) -> bool:
        return self.suspects is None or value in self.suspects

    def free(self, numbers: Sequence[int]) -> bool:
        """Is nothing adopted there yet?"""
        return not any(number in self.backward.adopted for number in numbers)

    def on_use(
        self, numbers: Sequence[int], k: int, message: Callable[[int, Op, Float64Array], Any]
    ) -> dict[int, Reverse]:
        """Edits that replace the message along operand k: message(instance, op, ct)."""
        edits: dict[int, Reverse] = {}
        for i, number in enumerate(numbers):
            op = self.tape.ops[number]

            def reverse(ct: Float64Array, i: int = i, op: Op = op) -> dict[int, Float64Array]:
                messages: dict[int, Float64Array] = {}
                for other, pull in op.pulls.items():
                    add(
                        messages,
                        op.inputs[other],
                        message(i, op, ct) if other == k else pull(ct),
                    )
                return messages

            edits[number] = reverse
        return edits

    def on_result(
        self, numbers: Sequence[int], change: Callable[[int, Op, Float64Array], Any]
    ) -> dict[int, Reverse]:
        """Edits that change the cotangent of a result before it is passed on."""
        edits: dict[int, Reverse] = {}
        for i, number in enumerate(numbers):
            op = self.tape.ops[number]
            base = self.backward.reverse(number)

            def reverse(
                ct: Float64Array, i: int = i, op: Op = op, base: Reverse = base
            ) -> Mapping[int, Float64Array]:
                return base(change(i, op, ct))

            edits[number] = reverse
        return edits

    def uniform(self, group: Group) -> bool:
        """Have all its instances the same shapes?"""
        ops = [self.tape.ops[n] for n in group.ops]
        return len({tuple(self.tape.shape(v) for v in (*op.inputs, op.output)) for op in ops}) == 1

    @cached_property
    def groups(self) -> list[Group]:
        return list(self.sites.groups())

    @cached_property
    def uses(self) -> list[int]:
        """How many operations use a value."""
        count = [0] * len(self.tape.values)
        for op in self.tape.ops:
            for k in op.pulls:
                count[op.inputs[k]] += 1
        return count

    @cached_property
    def regions(self) -> Mapping[int, list[Region]]:
        return regions(self.tape)

    @cached_property
    def stretches(self) -> dict[int, list[Stretch]]:
        """By the operation that they end with."""
        found: dict[int, list[Stretch]] = {}
        for stretch in stretches(self.tape, self.sites):
            found.setdefault(stretch.end, []).append(stretch)
        return found

    def alike(self, count: int, shape: tuple[int, ...]) -> list[tuple[str, Any, Any]]:
        """Other values of a shape, one for each instance: (name, numbers, arrays stacked)."""
        key = count, shape
        if key not in self._alike:
            found = []
            for role in self.sites.roles:
                values = [self.tape.ops[i].output for i in role]
                if len(values) == count + 1 and count > 1:
                    values = values[1:]  # Before the first step the state is a constant.
                if len(values) == count and self.tape.shape(values[0]) == shape:
                    arrays = np.stack([np.asarray(self.tape.values[v], np.float64) for v in values])
                    found.append((self.name(values[-1]), values, arrays))
            for value, name in self.tape.given_names.items():
                array = np.asarray(self.tape.values[value])
                if array.shape == shape and array.dtype.kind in "fbiu":
                    wide = np.broadcast_to(array.astype(np.float64), (count, *shape))
                    found.append((name, [value] * count, wide))
            self._alike[key] = found
        return self._alike[key]

    @cached_property
    def _alike(self) -> dict[Any, Any]:
        return {}

    def name(self, value: int) -> str:
        return self.source.value(value) or "another value"

    def steps(self, group: Group) -> str:
        """ ", in all 6 steps"; empty where there is only one."""
        n = group.of
        if n < 2:
            return ""
        if group.part in ("role", "all"):
            return f", in all {n} steps" if group.part == "role" else f", at all {n} places"
        return f", in {group.part} of {n} steps" if "all" in group.part else f", in {group.part}"


def _along(context: Context, op: Op, k: int, group: Group) -> Callable[[], str]:
    def about() -> str:
        operand = context.source.operand(op, k) or op.name
        whole = context.source.expression(op)
        along = "" if operand == whole else f" along `{operand}`"
        return f"the derivative{along} in {_in(context, op)}{context.steps(group)}"

    return about


def _by(context: Context, op: Op, group: Group) -> Callable[[], str]:
    def about() -> str:
        name = context.source.names.get(op.output)
        told = f"`{name}` = " if name else ""
        return f"the derivative by {told}{_in(context, op)}{context.steps(group)}"

    return about


def _in(context: Context, op: Op, level: int = 0) -> str:
    return f"`{context.source.expression(op, level)}` ({context.source.line(op, level)})"


# -- A use, with another factor ----------------------------------------------------------------------


def uses(context: Context, group: Group) -> Iterator[Trial]:
    """The derivative along one operand: missing, of the wrong sign, with a factor."""
    op = context.tape.ops[group.ops[-1]]
    parallel = context.sites.parallel(group.ops)
    for k in op.pulls:
        if not context.suspect(op.inputs[k]):
            continue
        if any(k not in context.tape.ops[n].pulls for n in group.ops):
            group_k = replace(
                group, ops=tuple(n for n in group.ops if k in context.tape.ops[n].pulls)
            )
        else:
            group_k = group
        factors = np.array([0.0, -1.0]) if parallel else np.array(SERIAL)

        def message(i: int, op: Op, ct: Float64Array, k: int = k, f: Any = factors) -> Any:
            out = op.pulls[k](ct)
            return f.reshape(-1, *[1] * (out.ndim - 1)) * out

        labels = [factor_label(float(c)) for c in factors]
        yield Trial(
            group_k,
            _along(context, op, k, group),
            op,
            labels,
            context.on_use(group_k.ops, k, message),
            linear=parallel,
            fitted=Label("scale", "is multiplied by {factor}", 0.6),
            key=("use", op.name, k),
        )


#: The factors that are tried where one use lies above another.
SERIAL = (0.0, -1.0, 2.0, 0.5)


def factor_label(c: float) -> Label:
    if c == 0:
        return Label("path_missing", "is missing", 0.0, 0.0)
    if c == -1:
        return Label("sign", "has the wrong sign", 0.0, -1.0)
    return Label("scale", f"is multiplied by {c:g}", 0.5, c)


def constants(context: Context, group: Group) -> Iterator[Trial]:
    """A value that several operations use, taken as a constant, or passed on with a factor."""
    op = context.tape.ops[group.ops[-1]]
    if all(context.uses[context.tape.ops[n].output] < 2 for n in group.ops):
        return
    if not context.suspect(op.output):
        return
    yield Trial(
        group,
        _by(context, op, group),
        op,
        [Label("path_missing", "is missing: it is taken as a constant", 0.1, 0.0)],
        context.on_result(group.ops, lambda i, op, ct: 0 * ct),
        linear=context.sites.parallel(group.ops),
        fitted=Label("scale", "is multiplied by {factor}", 0.65),
        key=("value", op.name),
    )


# -- Another derivative of a function of single entries ----------------------------------------------


def slopes(context: Context, group: Group) -> Iterator[Trial]:
    """Another local derivative: of one operation, or of a stretch that is one function."""
    if not context.uniform(group):
        return
    op = context.tape.ops[group.ops[-1]]
    for k, pull in op.pulls.items():
        if isinstance(pull, Local) and op.name not in ("add", "sub", "neg", "add_any"):
            numbers = [n for n in group.ops if k in context.tape.ops[n].pulls]
            single = [
                Stretch(context.tape.ops[n].inputs[k], n, (n,), k, context.tape) for n in numbers
            ]
            yield from _slopes(context, replace(group, ops=tuple(numbers)), single)
    by_end = context.stretches
    for s in by_end.get(group.ops[-1], []):
        others = [
            [o for o in by_end.get(n, []) if o.signature == s.signature] for n in group.ops[:-1]
        ]
        if all(len(found) == 1 for found in others):
            yield from _slopes(context, group, [*(found[0] for found in others), s])


def _slopes(context: Context, group: Group, found: Sequence[Stretch]) -> Iterator[Trial]:
    last, tape = found[-1], context.tape
    op = tape.ops[last.end]
    shape = tape.shape(op.output)
    if tape.shape(last.start) != shape or not context.suspect(last.start):
        return
    whole = Together(found)
    true = whole.slope
    labels: list[Label] = [Label("path_missing", "is missing", 0.05, 0.0)]
    columns: list[Any] = [np.zeros_like(true)]

    def put(code: str, said: str, cost: float, column: Any) -> None:
        if column is not None and column.shape == true.shape and np.isfinite(column).all():
            labels.append(Label(code, said, cost))
            columns.append(column)

    wanted = _right_slope(context, last)
    function = last.function
    put(
        "missing_activation_derivative" if function else "missing_factor",
        f"is left out: the cotangent is passed on without {wanted}",
        0.1,
        np.ones_like(true),
    )
    if op.name in TIES:
        for told, of in TIES[op.name]:
            tied = of(*(np.stack([np.asarray(tape.values[tape.ops[s.end].inputs[i]]) + 0 * s.y for s in found]) for i in range(2)))
            if tied.any() and last.k is not None:
                for value in (0.0, 1.0):
                    put(
                        "partial",
                        f"is {value:g} where {told}, at the kink: it is 1/2 there",
                        0.2,
                        np.where(tied, value, true),
                    )
    if function:
        if "integer_pow" in last.signature and last.k is not None:
            n = op.params["y"]
            put("wrong_activation_derivative", f"is taken without the exponent {n}", 0.3, true / n)
            put("wrong_activation_derivative", f"has the exponent {n}: {n - 1} belongs there", 0.3, true * whole.x)
        for name, cost, slope in SLOPES:
            code = "derivative_at_activation" if "f′(a)" in name else "wrong_activation_derivative"
            put(code, f"is taken as {name}, where {wanted} belongs", cost, slope(whole))
    for name, values, arrays in context.alike(len(found), shape):
        code = "wrong_activation_derivative" if function else "wrong_value"
        for pattern, cost, change in CHANGES:
            told = pattern.format(_wrapped(name, pattern))
            put(code, f"is taken as `{told}`, where {wanted} belongs", cost, change(arrays))
        if len(values) > 2 and len(set(values)) > 1:
            for by, when in ((1, "next"), (-1, "previous")):
                moved = np.roll(arrays, -by, 0)
                moved[-1 if by == 1 else 0] = true[-1 if by == 1 else 0]
                said = f"is taken as the {when} step's `{name}`, where {wanted} belongs"
                put("wrong_time_step", said, 0.9, moved)
    if not function and op.name in ("mul", "div") and last.k is not None:
        other = np.asarray(tape.values[op.inputs[1 - last.k]], np.float64)
        for value in np.unique(other)[:8] if np.unique(other).size > 1 else ():
            said = f"takes {value:.6g} for all entries where {wanted} belongs"
            if op.name == "div":
                said = f"divides by {value:.6g} everywhere where {wanted} belongs"
            column = np.full_like(true, value if op.name == "mul" else 1 / value)
            put("one_for_all", said, 0.5, column)
        for axis, array in _other_broadcasts(context, found):
            said = f"takes {wanted} along axis {axis} of the result, where it belongs along another"
            put("wrong_axis", said, 0.3, true * 0 + (array if op.name == "mul" else 1 / array))
    for axis in range(len(shape)):
        if shape[axis] > 1:
            put(
                "one_for_all",
                f"has the first entry of {wanted} for all along axis {axis}",
                1.0,
                np.take(true, [0], axis + 1) + 0 * true,
            )
    keep, fits = _distinct(np.stack(columns), true)
    labels = [replace(labels[j], fit=fit) for j, fit in zip(keep, fits, strict=True)]
    stacked = np.stack([columns[j] for j in keep])
    edits = {s.end: s.reverse(stacked[:, i], context.backward) for i, s in enumerate(found)}

    def about() -> str:
        start = context.source.value(last.start)
        by = f" by `{start}`" if start else ""
        where = _in(context, op, last.level)
        return f"the derivative of {where}{by}{context.steps(group)}"

    yield Trial(
        group,
        _along(context, op, last.k, group) if last.k is not None and not function else about,
        op,
        labels,
        edits,
        linear=context.sites.parallel(group.ops),
        level=last.level,
        key=("slope", last.signature),
    )


def _other_broadcasts(context: Context, found: Sequence[Stretch]) -> Iterator[tuple[int, Any]]:
    """The other factor, where it is one row of numbers for all, along another axis."""
    tape, last = context.tape, found[-1]
    op = tape.ops[last.end]
    assert last.k is not None
    shape = tape.shape(op.output)
    whole = np.asarray(tape.values[op.inputs[1 - last.k]], np.float64)
    if whole.ndim != len(shape):
        return
    whole = np.broadcast_to(whole, shape)
    varies = [a for a in range(whole.ndim) if np.ptp(whole, axis=a).any()]
    if len(varies) != 1:
        return
    row = np.moveaxis(whole, varies[0], -1).reshape(-1, shape[varies[0]])[0]
    for axis, size in enumerate(shape):
        if axis != varies[0] and size == row.size:
            yield axis, row.reshape([size if a == axis else 1 for a in range(len(shape))])


#: Where two one-sided derivatives meet: by the inputs of an operation.
TIES: dict[str, tuple[tuple[str, Callable[[Any, Any], Any]], ...]] = {
    "max": (("both are equal", lambda a, b: a == b),),
    "min": (("both are equal", lambda a, b: a == b),),
}


def _distinct(columns: Any, true: Any) -> tuple[list[int], list[bool]]:
    """Which columns are neither the true one nor an earlier one, and to which of them a factor is
    worth while: not to a multiple of these."""
    flat = columns.reshape(len(columns), -1)
    probe = np.random.default_rng(0).normal(size=(flat.shape[1], 2))
    every = np.concatenate([true.reshape(1, -1), flat])
    marks = every @ probe
    norms = np.sqrt((every**2).sum(1))
    units = np.round(marks / np.where(norms, norms, 1.0)[:, None] * np.sign(marks[:, :1]), 9)
    exact = np.array([np.format_float_scientific(m, 9) for m in marks[:, 0]])
    seen, multiples = {exact[0]}, {tuple(units[0])}
    keep, fits = [], []
    for j in range(len(columns)):
        if j and exact[j + 1] in seen:
            continue
        keep.append(j)
        fits.append(tuple(units[j + 1]) not in multiples)
        seen.add(exact[j + 1])
        multiples.add(tuple(units[j + 1]))
    return keep, fits


def _wrapped(name: str, pattern: str) -> str:
    return name if name.isidentifier() or pattern == "{}" else f"({name})"


def _right_slope(context: Context, stretch: Stretch) -> str:
    if stretch.function:
        name = context.source.value(context.tape.ops[stretch.end].output)
        known = KNOWN_SLOPES.get(stretch.signature[-1], "") if stretch.k is not None else ""
        if known and name and len(name) < 30:
            return f"`{known.format(_wrapped(name, ''))}`"
        return "its derivative"
    op = context.tape.ops[stretch.end]
    if op.name == "mul" and stretch.k is not None:
        other = context.source.operand(op, 1 - stretch.k)
        return f"`{other}`" if other else "the other factor"
    if op.name == "div" and stretch.k == 0:
        other = context.source.operand(op, 1)
        return f"`1 / {_wrapped(other, '1/')}`" if other else "1 over the divisor"
    return "its derivative"


#: The derivative in terms of the result.
KNOWN_SLOPES = {"tanh": "1 - {}**2", "logistic": "{0} * (1 - {0})", "exp": "{}"}

CHANGES: tuple[tuple[str, float, Callable[[Any], Any]], ...] = (
    ("{}", 0.4, lambda v: v),
    ("1 - {}", 0.5, lambda v: 1 - v),
    ("{0} * (1 - {0})", 0.55, lambda v: v * (1 - v)),
    ("1 - {}**2", 0.55, lambda v: 1 - v * v),
    ("{} > 0", 0.55, lambda v: (v > 0) * 1.0),
)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


#: Derivatives that are taken for another: name, how far-fetched, function of the stretch
#: (s.x is the input, s.y the output, s.again(v) the function's own derivative at v).
SLOPES: tuple[tuple[str, float, Callable[[Together], Any]], ...] = (
    ("the function itself", 0.3, lambda s: s.y),
    ("its derivative at its output, f′(a) for f′(z)", 0.3, lambda s: s.again(s.y)),
    ("the function at its output, f(a)", 0.35, lambda s: s.applied(s.y)),
    ("its input", 0.45, lambda s: s.x),
    ("σ′(z)", 0.35, lambda s: _sigmoid(s.x) * (1 - _sigmoid(s.x))),
    ("σ(z)", 0.4, lambda s: _sigmoid(s.x)),
    ("a(1 − a), the sigmoid's derivative,", 0.35, lambda s: s.y * (1 - s.y)),
    ("z(1 − z)", 0.5, lambda s: s.x * (1 - s.x)),
    ("tanh′(z) = 1 − tanh²(z)", 0.35, lambda s: 1 - np.tanh(s.x) ** 2),
    ("1 − a², the derivative of tanh,", 0.35, lambda s: 1 - s.y**2),
    ("1 − z²", 0.45, lambda s: 1 - s.x**2),
    ("1 − a", 0.45, lambda s: 1 - s.y),
    ("tanh(z)", 0.45, lambda s: np.tanh(s.x)),
    ("1 − tanh(z)", 0.5, lambda s: 1 - np.tanh(s.x)),
    ("ReLU's derivative (z > 0)", 0.35, lambda s: (s.x > 0) * 1.0),
    ("the wrong side of ReLU's derivative (z < 0)", 0.5, lambda s: (s.x < 0) * 1.0),
    ("(a > 0)", 0.5, lambda s: (s.y > 0) * 1.0),
    ("2z, a square's derivative,", 0.4, lambda s: 2 * s.x),
    ("z, without the exponent,", 0.5, lambda s: s.x),
    ("3z², a cube's derivative,", 0.45, lambda s: 3 * s.x**2),
    ("1/z", 0.5, lambda s: 1 / s.x),
    ("e^z", 0.5, lambda s: np.exp(s.x)),
    ("the sign of z", 0.5, lambda s: np.sign(s.x)),
    ("cos(z)", 0.5, lambda s: np.cos(s.x)),
    ("sin(z)", 0.5, lambda s: np.sin(s.x)),
    ("−sin(z)", 0.5, lambda s: -np.sin(s.x)),
    ("1/(2a)", 0.5, lambda s: 0.5 / s.y),
    ("swish's derivative without z σ′(z)", 0.5, lambda s: _sigmoid(s.x)),
    ("ELU's derivative (1, else e^z)", 0.5, lambda s: np.where(s.x > 0, 1.0, np.exp(s.x))),
    ("leaky ReLU's derivative with slope 0.01", 0.4, lambda s: np.where(s.x > 0, 1.0, 0.01)),
    ("leaky ReLU's derivative with slope 0.1", 0.5, lambda s: np.where(s.x > 0, 1.0, 0.1)),
    ("its square", 0.6, lambda s: s.slope**2),
    ("its inverse", 0.6, lambda s: 1 / s.slope),
    ("its absolute value", 0.6, lambda s: np.abs(s.slope)),
    ("1 wherever it is not 0", 0.4, lambda s: (s.slope != 0) * 1.0),
    ("1 minus it", 0.6, lambda s: 1 - s.slope),
)


# -- Another operand of a product ----------------------------------------------------------------------


def operands(context: Context, group: Group) -> Iterator[Trial]:
    """Another value in the place of a product's other operand."""
    if not context.uniform(group):
        return
    tape = context.tape
    op = tape.ops[group.ops[-1]]
    for k, pull in op.pulls.items():
        if not isinstance(pull, Contract) or not context.suspect(op.inputs[k]):
            continue
        ops = [tape.ops[n] for n in group.ops if k in tape.ops[n].pulls]
        pulls = [o.pulls[k] for o in ops]
        numbers = [o.number for o in ops]
        shape = pull.array.shape
        other = context.source.operand(op, 1 - k) or "the other operand"
        labels = [Label("path_missing", "is missing", 0.05, 0.0)]
        columns: list[list[Any]] = [[0 * p.array for p in pulls]]  # type: ignore[union-attr]

        def put(label: Label, arrays: list[Any], labels: Any = labels, columns: Any = columns) -> None:
            labels.append(label)
            columns.append(arrays)

        arrays = [p.array for p in pulls]  # type: ignore[union-attr]
        for a, b in combinations(range(len(shape)), 2):
            if shape[a] == shape[b] and shape[a] > 1:
                put(
                    Label(
                        "weights_not_transposed",
                        f"takes `{other}` the wrong way round: as it is where its transpose "
                        "belongs, or the reverse",
                        0.2,
                    ),
                    [np.swapaxes(x, a, b) for x in arrays],
                )
        for axes in [(a,) for a in range(len(shape))] + list(combinations(range(len(shape)), 2)):
            if all(shape[a] > 1 for a in axes):
                put(
                    Label("flipped", f"takes `{other}` flipped along axes {axes}", 0.8),
                    [np.flip(x, axes) for x in arrays],
                )
        residuals = [p.residual for p in pulls]  # type: ignore[union-attr]
        for name, values, arrays_of in context.alike(len(numbers), shape):
            if values != residuals:
                put(
                    Label("wrong_value", f"takes `{name}` where `{other}` belongs", 0.4),
                    list(arrays_of),
                )
        for by, when in ((1, "next"), (-1, "previous")):
            moved = _neighbours(context, residuals, by)
            if moved is not None:
                put(
                    Label(
                        "wrong_time_step",
                        f"takes the {when} step's value where this step's `{other}` belongs",
                        0.45,
                    ),
                    [np.asarray(tape.values[v], np.float64) for v in moved],
                )
        put(
            Label("missing_factor", f"is taken without `{other}`: with ones", 0.7),
            [np.ones_like(x) for x in arrays],
        )
        if len(shape) > 1 and shape[-1] == shape[-2]:
            for told, keep in (
                ("on and below the diagonal (a causal mask)", np.tri(shape[-1])),
                ("on and above the diagonal", np.tri(shape[-1]).T),
                ("below the diagonal", np.tri(shape[-1], k=-1)),
                ("above the diagonal", np.tri(shape[-1], k=-1).T),
            ):
                put(
                    Label("partial", f"takes `{other}` only {told}, and 0 elsewhere", 0.6),
                    [x * keep for x in arrays],
                )
        for axis in range(len(shape)):
            if shape[axis] > 1:
                put(
                    Label("off_by_one", f"takes `{other}` shifted by one along axis {axis}", 0.9),
                    [np.roll(x, 1, axis) for x in arrays],
                )
                put(
                    Label("off_by_one", f"takes `{other}` shifted by one along axis {axis}", 0.9),
                    [np.roll(x, -1, axis) for x in arrays],
                )
        stacked = [np.stack([column[i] for column in columns]) for i in range(len(ops))]

        def message(i: int, op: Op, ct: Float64Array, k: int = k, stacked: Any = stacked) -> Any:
            p = op.pulls[k]
            assert isinstance(p, Contract)
            spec = p.spec
            left, rest = spec.split(",")
            right, out = rest.split("->")
            n = len(stacked[i])
            wide = np.broadcast_to(ct, (n, *ct.shape[1:]))
            return np.einsum(f"{left},Z{right}->{out}", wide, stacked[i])

        yield Trial(
            replace(group, ops=tuple(numbers)),
            _along(context, op, k, group),
            op,
            labels,
            context.on_use(numbers, k, message),
            linear=context.sites.parallel(numbers),
            key=("operand", k),
        )
        yield from _stale(context, replace(group, ops=tuple(numbers)), k, residuals)


def _neighbours(context: Context, values: Sequence[int], by: int) -> list[int] | None:
    """The values at the neighbouring step of whatever loop they come from."""
    made = [context.tape.producer[v] for v in values]
    roles = {context.sites.role_of.get(n) for n in made if n >= 0}
    if len(roles) != 1 or len(values) < 2:
        return None
    (role,) = roles
    if role is None:
        return None
    found = []
    for value, number in zip(values, made, strict=True):
        at = (role.index(number) if number >= 0 else -1) + by
        if number < 0 and by < 0:
            found.append(value)
        else:
            found.append(context.tape.ops[role[at]].output if 0 <= at < len(role) else value)
    return found if found != list(values) else None


def _stale(context: Context, group: Group, k: int, residuals: Sequence[int]) -> Iterator[Trial]:
    """A parameter that has been updated already: W − ηg, for any η."""
    tape = context.tape
    op = tape.ops[group.ops[-1]]
    routes = [_leaf_behind(tape, value) for value in residuals]
    if any(route is None for route in routes) or not context.given:
        return
    path = routes[-1][0]  # type: ignore[index]
    given = context.given.get(path)
    if given is None or given.shape != tape.shape(tape.leaves[path]):
        return
    stale = [np.asarray(route[1](given)) for route in routes]  # type: ignore[index]
    pull = op.pulls[k]
    assert isinstance(pull, Contract)

    def message(i: int, op: Op, ct: Float64Array) -> Any:
        p = op.pulls[k]
        assert isinstance(p, Contract)
        three = np.broadcast_to(ct, (3, *ct.shape[1:]))
        return np.concatenate(
            [0 * p(three[:1]), p(three[1:2]), p.with_residual(stale[i])(three[2:])]
        )

    name = context.source.operand(op, 1 - k) or path
    labels = [
        Label("path_missing", "is missing", 0.05, 0.0),
        Label("", "", 9.0),
        Label(
            "stale_weights",
            f"uses `{name}` after it has been updated, with step {{factor}}: the values before the "
            "update belong there",
            0.3,
            free=1,
        ),
    ]
    yield Trial(
        group,
        _along(context, op, k, group),
        op,
        labels,
        context.on_use(group.ops, k, message),
        linear=context.sites.parallel(group.ops),
        affine=True,
        key=("stale", k),
    )


def _leaf_behind(tape: Tape, value: int) -> tuple[str, Callable[[Any], Any]] | None:
    """The parameter that a value is a mere rearrangement of, and how it is rearranged."""
    steps = []
    paths = {leaf: path for path, leaf in tape.leaves.items()}
    while value not in paths:
        producer = tape.producer[value]
        if producer < 0 or tape.ops[producer].name not in ("transpose", "reshape", "squeeze", "slice", "row"):
            return None
        op = tape.ops[producer]
        pull = op.pulls[0]
        assert isinstance(pull, Move)
        steps.append((pull.cols, pull.rows, tape.shape(op.output)))
        value = op.inputs[0]

    def arrange(array: Any) -> Any:
        for cols, rows, shape in reversed(steps):
            flat = np.zeros(int(np.prod(shape, dtype=int)))
            flat[rows] = np.asarray(array).ravel()[cols]
            array = flat.reshape(shape)
        return array

    return paths[value], arrange


# -- Sums and copies ------------------------------------------------------------------------------------


def moves(context: Context, group: Group) -> Iterator[Trial]:
    """Sums and copies: overwritten for added, one row for all, summed over everything."""
    if not context.uniform(group):
        return
    tape = context.tape
    op = tape.ops[group.ops[-1]]
    for k, pull in op.pulls.items():
        if not isinstance(pull, Move) or not context.suspect(op.inputs[k]):
            continue
        ops = [tape.ops[n] for n in group.ops if k in tape.ops[n].pulls]
        labels = [Label("path_missing", "is missing", 0.05, 0.0)]
        variants: list[list[Any]] = [[lambda ct, p=o.pulls[k]: 0 * p(ct) for o in ops]]
        counted = len(pull.cols) > len(np.unique(pull.cols))
        if counted:
            for which, at in (("last", -1), ("first", 0)):
                summed = op.name in ("broadcast_in_dim",)
                said = (
                    f"is not summed: only the {which} of the places that it was broadcast to counts"
                    if summed
                    else f"is overwritten where it must be added up: of entries that are used more "
                    f"than once only the {which} use counts"
                )
                labels.append(
                    Label("partial" if summed else "duplicates_overwritten", said, 0.3)
                )
                variants.append([_kept(o.pulls[k], at) for o in ops])
        if op.name == "broadcast_in_dim" and len(pull.shape) > 0 and np.prod(pull.shape) > 1:
            labels.append(
                Label(
                    "sum_without_axis",
                    "is summed over everything, one number for all: sum over the broadcast axes only",
                    0.2,
                )
            )
            variants.append([_summed_over_everything(o.pulls[k]) for o in ops])
            for dims in _other_axes(op, pull.shape, tape.shape(op.output)):
                labels.append(Label("sum_over_wrong_axis", "is summed over the wrong axis", 0.3))
                variants.append([_over(dims, pull.shape) for _ in ops])
        if op.name in ("reduce_max", "reduce_min") and pull.weights is not None:
            labels.append(
                Label(
                    "tie_counted_twice",
                    "goes whole to each of several equal entries: they must share it",
                    0.2,
                )
            )
            variants.append(
                [lambda ct, p=o.pulls[k]: Move(p.rows, p.cols, p.shape)(ct) for o in ops]
            )
        if op.name == "reduce_sum":
            labels.append(
                Label("mean_for_sum", "is spread as if the sum were over another axis", 0.9)
            )
            variants.append([_spread_elsewhere(o, o.pulls[k], tape) for o in ops])

        def message(i: int, op: Op, ct: Float64Array, variants: Any = variants) -> Any:
            n = max(len(ct), 1)
            if n == 1:
                return np.concatenate([variant[i](ct) for variant in variants])
            return np.concatenate(
                [variant[i](ct[j : j + 1]) for j, variant in enumerate(variants)]
            )

        numbers = [o.number for o in ops]
        yield Trial(
            replace(group, ops=tuple(numbers)),
            _along(context, op, k, group),
            op,
            labels,
            context.on_use(numbers, k, message),
            linear=context.sites.parallel(numbers),
            key=("move", op.name),
        )


def _kept(pull: Any, at: int) -> Callable[[Float64Array], Float64Array]:
    """Of several uses of an entry only the first or the last."""
    order = np.argsort(pull.rows, kind="stable")
    rows, cols = np.asarray(pull.rows)[order], np.asarray(pull.cols)[order]
    if at == -1:
        rows, cols = rows[::-1], cols[::-1]
    _, keep = np.unique(cols, return_index=True)
    weights = None if pull.weights is None else np.asarray(pull.weights)[order][keep]
    return Move(rows[keep], cols[keep], pull.shape, weights)


def _summed_over_everything(pull: Any) -> Callable[[Float64Array], Float64Array]:
    def total(ct: Float64Array) -> Float64Array:
        whole = ct.reshape(len(ct), -1).sum(1)
        return np.broadcast_to(
            whole.reshape(-1, *[1] * len(pull.shape)), (len(ct), *pull.shape)
        )

    return total


def _other_axes(op: Op, shape: tuple[int, ...], out: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Other axes of the result that an array of one axis could have been broadcast from."""
    dims = tuple(op.params["broadcast_dimensions"])
    wide = [(i, d) for i, d in enumerate(dims) if shape[i] > 1]
    if len(wide) == 1:
        i, d = wide[0]
        for axis, size in enumerate(out):
            if axis != d and size == shape[i]:
                yield (axis,)


def _over(dims: tuple[int, ...], shape: tuple[int, ...]) -> Callable[[Float64Array], Float64Array]:
    def total(ct: Float64Array) -> Float64Array:
        axes = tuple(a for a in range(1, ct.ndim) if a - 1 not in dims)
        return ct.sum(axes).reshape(len(ct), *shape)

    return total


def _spread_elsewhere(op: Op, pull: Any, tape: Tape) -> Callable[[Float64Array], Float64Array]:
    """The cotangent of a sum over one axis spread along another of the same length."""
    axes = tuple(op.params["axes"])
    shape = pull.shape
    for axis in range(len(shape)):
        if axis not in axes:
            other = (axis,)
            move = reduction(shape, other)
            if len(axes) == 1 and tuple(n for a, n in enumerate(shape) if a != axis) == tape.shape(
                op.output
            ):
                return move
    return lambda ct: 0 * pull(ct)


# -- Only some entries -----------------------------------------------------------------------------------


def positions(context: Context, group: Group) -> Iterator[Trial]:
    """Only some entries of a value pass their cotangent on."""
    if not context.uniform(group):
        return
    op = context.tape.ops[group.ops[-1]]
    shape = context.tape.shape(op.output)
    if not shape or np.prod(shape) < 2 or not context.suspect(op.output):
        return
    labels = [Label("path_missing", "is missing", 0.1, 0.0)]
    masks: list[Any] = [np.zeros(shape)]
    for told, mask in _masks(shape):
        labels.append(Label("partial", told, 0.6))
        masks.append(mask)
    stacked = np.stack(masks)
    yield Trial(
        group,
        _by(context, op, group),
        op,
        labels,
        context.on_result(group.ops, lambda i, op, ct: ct * stacked),
        linear=context.sites.parallel(group.ops),
        key=("positions", op.name),
    )


def _masks(shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    axes = [a for a, n in enumerate(shape) if n > 1]
    for a in axes:
        n = shape[a]
        at = np.arange(n).reshape([n if i == a else 1 for i in range(len(shape))])
        for told, keep in (
            ("only the first", at == 0),
            ("only the last", at == n - 1),
            ("all but the first", at > 0),
            ("all but the last", at < n - 1),
            ("only every second", at % 2 == 0),
        ):
            yield (
                f"is there for {told} along axis {a}, and 0 for the others",
                np.broadcast_to(keep, shape) * 1.0,
            )
    for a, b in combinations(axes, 2):
        grid = np.indices(shape)
        yield (
            f"is there only for the first along axes {a} and {b}, and 0 for the others",
            ((grid[a] == 0) & (grid[b] == 0)) * 1.0,
        )
        yield (
            f"is there only for the last along axes {a} and {b}, and 0 for the others",
            ((grid[a] == shape[a] - 1) & (grid[b] == shape[b] - 1)) * 1.0,
        )
        if shape[a] == shape[b]:
            for told, keep in (
                ("on and below the diagonal (a causal mask)", grid[a] >= grid[b]),
                ("on and above the diagonal", grid[a] <= grid[b]),
                ("below the diagonal", grid[a] > grid[b]),
                ("above the diagonal", grid[a] < grid[b]),
                ("on the diagonal", grid[a] == grid[b]),
                ("off the diagonal", grid[a] != grid[b]),
            ):
                yield f"is there only {told}, and 0 elsewhere", keep * 1.0


# -- Windows -----------------------------------------------------------------------------------------------


def patches(context: Context, group: Group) -> Iterator[Trial]:
    """A convolution whose backward pass goes over the image with another stride or padding."""
    tape = context.tape
    for number in group.ops:
        cut = tape.ops[number]
        if cut.name != "patches":
            continue
        users = [o for o in tape.ops if cut.output in o.inputs and o.name == "dot_general"]
        if len(users) != 1:
            continue
        product, p = users[0], cut.params
        image = np.asarray(tape.values[cut.inputs[0]])
        dims = p["dimension_numbers"]
        size = [image.shape[a] for a in dims.lhs_spec[2:]]
        kernel = np.asarray(tape.values[product.inputs[1]])
        sizes = [kernel.shape[a] for a in dims.rhs_spec[2:]]
        spatial = len(size)
        found: list[tuple[str, Any]] = []
        for told, strides, padding in _other_windows(p, sizes, spatial):
            index = _same_places(size, sizes, strides, padding, p, tape.shape(cut.output)[-spatial:])
            if index is not None:
                found.append((told, index))
        if not found:
            continue
        numbers = np.transpose(np.arange(image.size).reshape(image.shape), dims.lhs_spec)
        numbers = numbers.reshape(*numbers.shape[:2], -1)
        indices = [np.where(f >= 0, numbers[:, :, np.maximum(f, 0)], -1) for _, f in found]
        stacked = np.stack([np.where(i >= 0, image.ravel()[i], 0.0) for i in indices])
        maps = []
        for i in indices:
            rows = np.flatnonzero(i.ravel() >= 0)
            maps.append(Move(rows, i.ravel()[rows], image.shape))

        def residual(ct: Float64Array, op: Op = product, s: Any = stacked) -> Any:
            pull = op.pulls[1]
            assert isinstance(pull, Contract)
            left, rest = pull.spec.split(",")
            right, out = rest.split("->")
            wide = np.broadcast_to(ct, (len(s), *ct.shape[1:]))
            return {
                op.inputs[1]: np.einsum(f"{left},Z{right}->{out}", wide, s),
                **({op.inputs[0]: op.pulls[0](ct)} if 0 in op.pulls else {}),
            }

        def places(ct: Float64Array, op: Op = cut, maps: Any = maps) -> Any:
            wide = np.broadcast_to(ct, (len(maps), *ct.shape[1:]))
            return {
                op.inputs[0]: np.concatenate(
                    [move(wide[j : j + 1]) for j, move in enumerate(maps)]
                )
            }

        labels = [Label("wrong_window", told, 0.3) for told, _ in found]
        both: dict[int, Reverse] = {cut.number: places}
        if 1 in product.pulls:
            both[product.number] = residual
        for edits in (both, {cut.number: places}, {product.number: residual}):
            if set(edits) <= set(both):
                yield Trial(
                    Group(tuple(edits), "role", 1),
                    lambda op=product: f"the derivative of {_in(context, op)}",
                    product,
                    labels,
                    edits,
                    key=("patches",),
                )


def _other_windows(p: Mapping[str, Any], sizes: Any, n: int) -> Iterator[tuple[str, Any, Any]]:
    strides, padding = tuple(p["window_strides"]), tuple(map(tuple, p["padding"]))
    for other in sorted({1, 2, 3} - set(strides)):
        yield (
            f"goes over the input with stride {other}: the window starts at i * {strides[0]}, "
            f"the forward pass's stride, not at i * {other}",
            (other,) * n,
            padding,
        )
    if any(a or b for a, b in padding):
        yield "leaves out the padding", strides, ((0, 0),) * n
    for shift in (1, -1):
        yield (
            f"has its windows shifted by {shift}",
            strides,
            tuple((a - shift, b + shift) for a, b in padding),
        )


def _same_places(
    size: Any, sizes: Any, strides: Any, padding: Any, p: Any, places: tuple[int, ...]
) -> Any:
    """The windows with other strides, as many as the forward pass has."""
    wide = []
    for a in range(len(size)):
        window = (sizes[a] - 1) * p["rhs_dilation"][a] + 1
        spread = (size[a] - 1) * p["lhs_dilation"][a] + 1
        need = (places[a] - 1) * strides[a] + window
        wide.append((padding[a][0], need - spread - padding[a][0]))
    try:
        return windows(size, sizes, strides, wide, p["lhs_dilation"], p["rhs_dilation"])
    except (ValueError, IndexError):
        return None


# -- Between two values of one shape -----------------------------------------------------------------------


def jacobians(context: Context, group: Group) -> Iterator[Trial]:
    """A Jacobian taken as its diagonal, as its row sums, transposed, left out."""
    tape = context.tape
    last = tape.ops[group.ops[-1]]
    for region in context.regions.get(last.number, []):
        every = [
            [r for r in context.regions.get(n, []) if r.signature == region.signature]
            for n in group.ops
        ]
        if not all(len(found) == 1 for found in every) or not context.suspect(region.start):
            continue
        found = [r[0] for r in every]
        labels = [label for label, _ in JACOBIANS]

        def edit(r: Region) -> Reverse:
            size = len(r.jacobian)

            def reverse(ct: Float64Array) -> dict[int, Float64Array]:
                wide = np.broadcast_to(ct, (len(JACOBIANS), *ct.shape[1:])).reshape(-1, size)
                rows = [
                    change(r.jacobian, wide[j]) for j, (_, change) in enumerate(JACOBIANS)
                ]
                return {r.start: np.stack(rows).reshape(-1, *tape.shape(r.start))}

            return reverse

        yield Trial(
            group,
            lambda r=region: _region_told(context, r, group),  # type: ignore[misc]
            last,
            labels,
            {r.end: edit(r) for r in found},
            linear=context.sites.parallel(group.ops),
            level=_common_level(tape, region.ops),
            key=("jacobian",),
        )


#: Of a square Jacobian J (a row for each result) and a cotangent: which message is sent.
JACOBIANS: tuple[tuple[Label, Callable[[Any, Any], Any]], ...] = (
    (Label("path_missing", "is missing", 0.08, 0.0), lambda J, ct: 0 * ct),
    (
        Label(
            "softmax_jacobian_missing",
            "is taken as the diagonal of the Jacobian only: the other entries are missing, by "
            "which every result depends on every input",
            0.2,
        ),
        lambda J, ct: np.diag(J) * ct,
    ),
    (
        Label("jacobian_missing", "is left out: the cotangent is passed on as it is", 0.2),
        lambda J, ct: ct,
    ),
    (
        Label("cotangent_after_jacobian", "is pulled back from ones, and multiplied by the cotangent after that", 0.4),
        lambda J, ct: (np.ones_like(ct) @ J) * ct,
    ),
    (Label("jacobian_transposed", "has the Jacobian the wrong way round", 0.5), lambda J, ct: J @ ct),
    (Label("jacobian_twice", "goes through the Jacobian twice", 0.5), lambda J, ct: (ct @ J) @ J),
    (
        Label("jacobian_row_sums", "is taken as the row sums of the Jacobian", 0.5),
        lambda J, ct: J.sum(1) * ct,
    ),
)


def _common_level(tape: Tape, ops: Sequence[int]) -> int:
    """The innermost frame of the last operation that holds all of them."""
    frames = [tape.ops[n].frames for n in ops]
    last = tape.ops[max(ops)].frames
    for level in range(len(last)):
        tail = last[level:]
        if all(f[len(f) - len(tail) :] == tail for f in frames):
            return level
    return 0


def _region_told(context: Context, region: Region, group: Group) -> str:
    op = context.tape.ops[region.end]
    start = context.source.value(region.start)
    by = f" by `{start}`" if start else ""
    level = _common_level(context.tape, region.ops)
    return f"the derivative of {_in(context, op, level)}{by}{context.steps(group)}"


def rerouted(context: Context, group: Group) -> Iterator[Trial]:
    """A message that joins another path too early: it goes through what it should go around."""
    tape = context.tape
    op = tape.ops[group.ops[-1]]
    if len(group.ops) > 1 or not context.suspect(op.output):
        return
    start = op.output
    users = [o for o in tape.ops if start in [o.inputs[k] for k in o.pulls]]
    seeds = [
        seed
        for value, seed in zip(tape.outputs, context.backward.seeds, strict=True)
        if value == start
    ]
    if len(users) + len(seeds) < 2:
        return
    ends = [
        o.output
        for o in tape.ops
        if o.pulls
        and (context.sites.above[o.output] >> op.number) & 1
        and tape.shape(o.output) == tape.shape(start)
    ][:12]
    for end in ends:
        ops = between(tape, context.sites, start, end)
        if not ops or len(ops) > 40:
            continue
        told = context.source.expression(tape.ops[tape.producer[end]])

        def through(ct: Float64Array, end: int = end, ops: Any = ops) -> Float64Array:
            return pull_through(tape, end, start, ops, ct)

        label = Label(
            "rerouted",
            f"goes through the derivative of `{told}` as well: it must be added after that",
            0.4,
        )
        for user in users:
            if user.number in ops:
                continue
            for k in user.pulls:
                if user.inputs[k] == start:
                    yield Trial(
                        Group((user.number,), "role", 1),
                        _along(context, user, k, group),
                        user,
                        [label],
                        context.on_use(
                            [user.number],
                            k,
                            lambda i, o, ct, k=k, f=through: f(o.pulls[k](ct)),
                        ),
                    )
        if seeds:
            total = sum(seeds)
            yield Trial(
                group,
                lambda: f"the cotangent of the result {_in(context, op)}",
                op,
                [label],
                context.on_result(
                    group.ops, lambda i, o, ct, t=total, f=through: ct - t + f(t)
                ),
            )


# -- Masks -------------------------------------------------------------------------------------------------


def masks(context: Context, group: Group) -> Iterator[Trial]:
    """A choice between two values that is read off another value than in the forward pass."""
    tape = context.tape
    op = tape.ops[group.ops[-1]]
    if op.name != "select_n" or len(group.ops) > 1:
        return
    if not any(context.suspect(op.inputs[k]) for k in op.pulls):
        return
    which = np.broadcast_to(np.asarray(tape.values[op.inputs[0]]), tape.shape(op.output))
    shape = which.shape
    producer = tape.producer[op.inputs[0]]
    labels: list[Label] = []
    chosen: list[Any] = []

    def put(said: str, cost: float, mask: Any, code: str = "wrong_mask") -> None:
        if mask.shape == shape and (mask != which).any():
            labels.append(Label(code, said, cost))
            chosen.append(mask)

    put("has the branches of the choice exchanged", 0.4, 1 - which.astype(np.intp))
    if producer >= 0 and tape.ops[producer].name in COMPARISONS:
        test = tape.ops[producer]
        for side in (0, 1):
            other = np.asarray(tape.values[test.inputs[1 - side]])
            read = context.source.operand(test, side)
            for name, _values, arrays in [
                *context.alike(1, tape.shape(test.inputs[side])),
            ]:
                pair = (arrays[0], other) if side == 0 else (other, arrays[0])
                mask = COMPARISONS[test.name](*pair)
                put(
                    f"is chosen by the sign of `{name}`, where `{read}` decides"
                    if not other.any()
                    else f"is chosen by `{name}`, where `{read}` decides",
                    0.3,
                    np.broadcast_to(mask, shape).astype(np.intp),
                )
    if not labels:
        return

    def reverse(ct: Float64Array) -> dict[int, Float64Array]:
        wide = np.broadcast_to(ct, (len(labels), *ct.shape[1:]))
        messages: dict[int, Float64Array] = {}
        for k, pull in op.pulls.items():
            kept = np.stack([np.asarray(c) == k - 1 for c in chosen])
            add(messages, op.inputs[k], unbroadcast(wide * kept, pull.shape))
        return messages

    yield Trial(
        group,
        lambda: f"the derivative of {_in(context, op)}",
        op,
        labels,
        {op.number: reverse},
        key=("mask",),
    )


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
}


#: The table of families. Each goes through one group of places; add yours here.
FAMILIES: tuple[Callable[[Context, Group], Iterator[Trial]], ...] = (
    uses,
    constants,
    slopes,
    operands,
    moves,
    patches,
    masks,
    jacobians,
    rerouted,
    positions,
)


def named_constants(context: Context) -> dict[str, float]:
    """Factors that a reader knows: sizes of axes, literals of the loss, and what is made of them."""
    sizes: dict[int, str] = {}
    for value, name in context.tape.given_names.items():
        shape = context.tape.shape(value)
        for axis, n in enumerate(shape):
            told = f"len({name})" if len(shape) == 1 else f"{name}.shape[{axis}]"
            sizes.setdefault(n, told if name.isidentifier() else f"axis {axis} of {name}")
    for op in context.tape.ops:
        for n in context.tape.shape(op.output):
            sizes.setdefault(n, "the length of an axis")
    found: dict[str, float] = {}

    def put(name: str, value: float) -> None:
        if value not in found.values() and value not in (0.0, 1.0):
            found[name] = value

    put("2", 2.0)
    put("1/2", 0.5)
    for n, told in sorted(sizes.items()):
        if n > 1:
            put(f"{n} = {told}", float(n))
            put(f"1/{n}, {n} = {told}", 1 / n)
    for name, value in (("4", 4.0), ("1/4", 0.25), ("3", 3.0), ("1/3", 1 / 3), ("3/2", 1.5), ("2/3", 2 / 3)):
        put(name, value)
    for n, told in sorted(sizes.items()):
        if n > 1:
            put(f"√{n}, {n} = {told}", math.sqrt(n))
            put(f"1/√{n}, {n} = {told}", 1 / math.sqrt(n))
            put(f"2/{n}, {n} = {told}", 2 / n)
            put(f"{n}/2, {n} = {told}", n / 2)
            put(f"1/{n}², {n} = {told}", 1 / n**2)
            if n > 2:
                put(f"{n}/{n - 1} = n/(n − 1), n = {told}", n / (n - 1))
                put(f"{n - 1}/{n} = (n − 1)/n, n = {told}", (n - 1) / n)
                put(f"1/({n} − 1), {n} = {told}", 1 / (n - 1))
    for (a, p), (b, q) in combinations(sorted(sizes.items()), 2):
        put(f"{a * b} = {p} · {q}", float(a * b))
        put(f"1/{a * b}, {a * b} = {p} · {q}", 1 / (a * b))
        put(f"{a}/{b} = {p} / {q}", a / b)
        put(f"{b}/{a} = {q} / {p}", b / a)
        put(f"2 · {a}/{b}, {p} / {q}", 2 * a / b)
        put(f"2 · {b}/{a}, {q} / {p}", 2 * b / a)
    for beta in (0.9, 0.99, 0.999):
        put(f"1 − β for β = {beta}", round(1 - beta, 9))
        put(f"β = {beta}", beta)
    put("ln 2", math.log(2))
    put("1/ln 2", 1 / math.log(2))
    put("1/255, the scale of pixels", 1 / 255)
    put("255, the scale of pixels", 255.0)
    return found
