"""Edits of products: another value in the place of the other operand, or this one turned round."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.places import Context, Label, Trial, along
from jaxnn.gradcheck.sites import Group
from jaxnn.gradcheck.tape import (
    Contract,
    Move,
    Op,
    Tape,
)


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

        def put(
            label: Label, arrays: list[Any], labels: Any = labels, columns: Any = columns
        ) -> None:
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
                    Label("wrong_value", f"takes `{other}` flipped along axes {axes}", 0.8),
                    [np.flip(x, axes) for x in arrays],
                )
        residuals = [p.residual for p in pulls]  # type: ignore[union-attr]
        for name, values, arrays_of in context.alike(len(numbers), shape):
            if values != residuals and set(values) & set(residuals) and len(values) > 1:
                said = f"takes another step's `{name}` than the forward pass"
                put(Label("wrong_time_step", said, 0.4), list(arrays_of))
            elif values != residuals:
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
                    Label("wrong_value", f"takes `{other}` shifted by one along axis {axis}", 0.9),
                    [np.roll(x, 1, axis) for x in arrays],
                )
                put(
                    Label("wrong_value", f"takes `{other}` shifted by one along axis {axis}", 0.9),
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
            along(context, op, k),
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
        along(context, op, k),
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
        if producer < 0 or tape.ops[producer].name not in (
            "transpose",
            "reshape",
            "squeeze",
            "slice",
            "row",
        ):
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
