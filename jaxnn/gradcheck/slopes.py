"""Edits of local derivatives: another function's, at another value, or another factor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxnn.gradcheck.places import Context, Label, Trial, along, inside, wrapped
from jaxnn.gradcheck.sites import Group
from jaxnn.gradcheck.stretches import Stretch, Together
from jaxnn.gradcheck.tape import (
    Local,
    Op,
)


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
    if op.name == "select_n" and last.k is not None:
        said = (
            "is passed on for all entries: the mask is not applied, and entries that the forward "
            "pass does not choose get a derivative too"
        )
        put("mask_missing", said, 0.1, np.ones_like(true))
    put(
        *_left_out(context, last, function, wanted),
        0.1,
        np.ones_like(true),
    )
    if op.name in TIES:
        for told, of in TIES[op.name]:
            tied = of(
                *(
                    np.stack(
                        [
                            np.asarray(tape.values[tape.ops[s.end].inputs[i]]) + 0 * s.y
                            for s in found
                        ]
                    )
                    for i in range(2)
                )
            )
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
            labels.append(Label("scale", f"is taken without the exponent {n}", 0.3, 1 / n))
            columns.append(true / n)
            put(
                "wrong_activation_derivative",
                f"has the exponent {n}: {n - 1} belongs there",
                0.3,
                true * whole.x,
            )
        for name, cost, slope in SLOPES:
            code = "derivative_at_activation" if "f′(a)" in name else "wrong_activation_derivative"
            put(code, f"is taken as {name}, where {wanted} belongs", cost, slope(whole))
    for name, values, arrays in context.alike(len(found), shape):
        code = "wrong_activation_derivative" if function else "wrong_value"
        for pattern, cost, change in CHANGES:
            told = pattern.format(wrapped(name, pattern))
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
        if other.shape == shape and op.name == "mul" and not tape.active[op.inputs[1 - last.k]]:
            for axis in [a for a, n in enumerate(shape) if n > 1]:
                for by in (1, -1):
                    said = f"takes {wanted} shifted by one along axis {axis}"
                    put("wrong_value", said, 0.8, np.roll(true, by, axis + 1))
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
    # Of stretches one within another the shortest is what somebody differentiated.
    less = 0.002 * (len(last.ops) - 1)
    labels = [replace(label, cost=label.cost + less) for label in labels]
    keep, fits = _distinct(np.stack(columns), true)
    labels = [replace(labels[j], fit=fit) for j, fit in zip(keep, fits, strict=True)]
    stacked = np.stack([columns[j] for j in keep])
    edits = {s.end: s.reverse(stacked[:, i], context.backward) for i, s in enumerate(found)}

    def about() -> str:
        start = context.source.value(last.start)
        by = f" by `{start}`" if start else ""
        where = inside(context, op, last.level)
        return f"the derivative of {where}{by}"

    yield Trial(
        group,
        along(context, op, last.k) if last.k is not None and not function else about,
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


def _left_out(context: Context, stretch: Stretch, function: bool, wanted: str) -> tuple[str, str]:
    """The code and the words for a derivative that is passed on as if it were 1."""
    op = context.tape.ops[stretch.end]
    if function:
        code = "missing_activation_derivative"
    elif op.name == "div" and _is_size(context, op):
        return (
            "missing_mean",
            f"is not divided by {np.ravel(context.tape.values[op.inputs[1]])[0]:g}, the number "
            "that the forward pass divides by",
        )
    else:
        code = "mask_missing" if _by_a_mask(context, stretch) else "missing_factor"
    if function:
        return code, "is left out, as if it were 1"
    return code, f"is passed on without {wanted}"


def _by_a_mask(context: Context, stretch: Stretch) -> bool:
    """Does an operation multiply by an array of zeros and ones?"""
    op = context.tape.ops[stretch.end]
    if op.name != "mul":
        return False
    other = np.asarray(context.tape.values[op.inputs[1 - (stretch.k or 0)]])
    return other.size > 1 and set(np.unique(other)[:3]) <= {0.0, 1.0}


def _is_size(context: Context, op: Op) -> bool:
    """Does an operation divide by a number of entries or of examples?"""
    divisor = np.asarray(context.tape.values[op.inputs[1]])
    if divisor.size != 1 or context.tape.active[op.inputs[1]]:
        return False
    n = float(divisor.ravel()[0])
    made = context.tape.producer[op.inputs[0]]
    summed = made >= 0 and context.tape.ops[made].name in ("reduce_sum", "reduce_window_sum")
    return n > 1 and n == round(n) and (summed or context.tape.shape(op.output) == ())


def _right_slope(context: Context, stretch: Stretch) -> str:
    if stretch.function:
        name = context.source.value(context.tape.ops[stretch.end].output)
        known = KNOWN_SLOPES.get(stretch.signature[-1], "") if stretch.k is not None else ""
        if known and name and len(name) < 30:
            return f"`{known.format(wrapped(name, ''))}`"
        return "its derivative"
    op = context.tape.ops[stretch.end]
    if op.name == "mul" and stretch.k is not None:
        other = context.source.operand(op, 1 - stretch.k)
        return f"`{other}`" if other else "the other factor"
    if op.name == "div" and stretch.k == 0:
        divisor = np.asarray(context.tape.values[op.inputs[1]])
        if divisor.size == 1 or np.ptp(divisor) == 0:
            return f"1/{divisor.ravel()[0]:.6g}"
        other = context.source.operand(op, 1)
        return f"`1 / {wrapped(other, '1/')}`" if other else "1 over the divisor"
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
    ("the sigmoid's derivative a(1 − a)", 0.35, lambda s: s.y * (1 - s.y)),
    ("z(1 − z)", 0.5, lambda s: s.x * (1 - s.x)),
    ("tanh′(z) = 1 − tanh²(z)", 0.35, lambda s: 1 - np.tanh(s.x) ** 2),
    ("the derivative of tanh, 1 − a²", 0.35, lambda s: 1 - s.y**2),
    ("1 − z²", 0.45, lambda s: 1 - s.x**2),
    ("1 − a", 0.45, lambda s: 1 - s.y),
    ("tanh(z)", 0.45, lambda s: np.tanh(s.x)),
    ("1 − tanh(z)", 0.5, lambda s: 1 - np.tanh(s.x)),
    ("ReLU's derivative (z > 0)", 0.35, lambda s: (s.x > 0) * 1.0),
    ("the wrong side of ReLU's derivative (z < 0)", 0.5, lambda s: (s.x < 0) * 1.0),
    ("(a > 0)", 0.5, lambda s: (s.y > 0) * 1.0),
    ("a square's derivative, 2z", 0.4, lambda s: 2 * s.x),
    ("a cube's derivative, 3z²", 0.45, lambda s: 3 * s.x**2),
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
