"""Edits of where a cotangent goes: uses left out, counted with a factor, or sent another way."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxnn.gradcheck.backward import add
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.places import Context, Label, Trial, along, by_result, inside
from jaxnn.gradcheck.regions import between, pull_through
from jaxnn.gradcheck.sites import Group
from jaxnn.gradcheck.tape import (
    Op,
    unbroadcast,
)


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
            along(context, op, k),
            op,
            labels,
            context.on_use(group_k.ops, k, message),
            linear=parallel,
            fitted=Label("scale", "is multiplied by {factor}", 0.6),
            key=("use", op.name, k),
            named=op.inputs[k] in context.source.names,
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
        by_result(context, op),
        op,
        [Label("path_missing", "is missing: it is taken as a constant", 0.1, 0.0)],
        context.on_result(group.ops, lambda i, op, ct: 0 * ct),
        linear=context.sites.parallel(group.ops),
        fitted=Label("scale", "is multiplied by {factor}", 0.65),
        key=("value", op.name),
    )


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
                        along(context, user, k) if user.frames else by_result(context, op),
                        user if user.frames else op,
                        [label],
                        context.on_use(
                            [user.number],
                            k,
                            partial(_pulled_through, through, k),
                        ),
                    )
        if seeds:
            total = sum(seeds)
            yield Trial(
                group,
                lambda: f"the cotangent of the result {inside(context, op)}",
                op,
                [label],
                context.on_result(group.ops, partial(_moved, through, total)),
            )


def _pulled_through(through: Any, k: int, i: int, op: Op, ct: Float64Array) -> Any:
    return through(op.pulls[k](ct))


def _moved(through: Any, seed: Any, i: int, op: Op, ct: Float64Array) -> Any:
    return ct - seed + through(seed)


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
    for k in op.pulls:
        said = f"is taken as if `{context.source.value(op.inputs[k])}` were chosen everywhere"
        put(said, 0.2, np.full(shape, k - 1))
    if producer >= 0 and tape.ops[producer].name in COMPARISONS:
        test = tape.ops[producer]
        for side in (0, 1):
            other = np.asarray(tape.values[test.inputs[1 - side]])
            read = context.source.operand(test, side)
            for name, _values, arrays in context.alike(1, tape.shape(test.inputs[side])):
                if not read:
                    continue
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
        lambda: f"the derivative of {inside(context, op)}",
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
