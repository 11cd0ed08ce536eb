"""Mistakes that are no edit of one place: of a whole leaf, or of the order of the whole pass."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck.backward import Backward, add
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.places import Context, Label
from jaxnn.gradcheck.tape import Op, Tape

#: A pass that goes along every path is followed for so many steps.
STEPS = 3_000


class Whole(NamedTuple):
    """One explanation of some leaves by themselves."""

    label: Label
    about: str
    line: Op | None
    leaves: tuple[str, ...]
    numbers: int


def wholes(
    context: Context,
    given: Mapping[str, Float64Array],
    wrong: list[str],
    limits: Mapping[str, Float64Array],
) -> Iterator[Whole]:
    """Leaves in each other's place, transposed, or not summed; and a pass along every path."""
    backward, tape = context.backward, context.tape
    now = backward.gradient()
    for path in wrong:
        if path not in given:
            continue
        value, true = np.asarray(given[path]), now[path]
        line = _first_use(tape, tape.leaves[path])
        floor = float(np.max(limits[path], initial=0.0))
        about = f"the derivative by `{path}`{_where(context, line)}"
        if value.shape == true.shape:
            for other, of in now.items():
                if (
                    other != path
                    and of.shape == true.shape
                    and (of.size > 1 or _exchanged(given.get(other), true, limits.get(other)))
                    and np.abs(of).max() > floor
                    and _near(value, of, floor)
                ):
                    about = f"the derivative that belongs to `{other}` stands"
                    said = f"in the place of that by `{path}`"
                    yield Whole(Label("swapped_leaves", said, 0.0), about, line, (path,), of.size)
        if value.shape == true.shape:
            top = float(np.abs(value).max(initial=0.0))
            at_limit = int((np.abs(np.abs(value) - top) <= floor).sum())
            clipped = int((np.abs(true) > top + floor).sum())
            if (
                top > 1e3 * floor
                and clipped
                and (at_limit > 1 or float(f"{top:.2g}") == top)
                and _near(np.clip(true, -top, top), value, floor)
            ):
                about = f"the derivative by `{path}`{_where(context, line)}"
                label = Label("clipped", f"is clipped at ±{top:.6g}", 0.0)
                yield Whole(label, about, line, (path,), at_limit)
        if (
            true.ndim == 2
            and value.shape == true.T.shape
            and _near(value, true.T, floor)
            and (value.shape != true.shape or not _near(true, true.T, floor))
        ):
            said = "is transposed"
            yield Whole(Label("transpose", said, 0.0), about, line, (path,), true.size)
        elif value.shape != true.shape:
            yield from _misshapen(context, path, value, floor)
    yield from _along_every_path(context, given, wrong, limits)


def _near(a: Float64Array, b: Float64Array, floor: float) -> bool:
    return bool((np.abs(a - b) <= floor).all())


def _exchanged(value: Float64Array | None, true: Float64Array, limit: Float64Array | None) -> bool:
    """Has the other leaf got this one's derivative? One number alone may be another by chance."""
    if value is None or limit is None or value.shape != true.shape:
        return False
    return _near(value, true, float(np.max(limit, initial=0.0)))


def _where(context: Context, op: Op | None) -> str:
    if op is None:
        return ""
    return f" in `{context.source.expression(op)}` ({context.source.line(op)})"


def _first_use(tape: Tape, value: int) -> Op | None:
    return next((op for op in tape.ops if value in op.inputs and op.pulls), None)


def _misshapen(context: Context, path: str, value: Float64Array, floor: float) -> Iterator[Whole]:
    """A broadcast parameter whose derivative still has the axes that it was broadcast along."""
    tape, backward = context.tape, context.backward
    leaf = tape.leaves[path]
    reached = {leaf}
    for op in tape.ops:
        if reached.isdisjoint(op.inputs[k] for k in op.pulls):
            continue
        if op.name in ("broadcast_in_dim", "reshape", "squeeze", "expand_dims"):
            reached.add(op.output)
        ct = backward.ct(op.output)[0]
        for k in op.pulls:
            if op.inputs[k] not in reached:
                continue
            wide = backward.messages.get(op.number, {}).get(op.inputs[k])
            for before in (ct, ct if wide is None else wide[0]):
                if (
                    before.size == value.size
                    and before.ndim > 0
                    and np.ndim(value) == before.ndim
                    and before.shape == value.shape
                    and before.shape != tape.shape(leaf)
                    and _near(before, value, floor)
                ):
                    said = (
                        f"has shape {value.shape} where `{path}` has {tape.shape(leaf)}: it is not "
                        "summed over what the parameter was broadcast to"
                    )
                    about = f"the derivative along `{path}`{_where(context, op)}"
                    label = Label("bias_not_reduced", said, 0.0)
                    yield Whole(label, about, op, (path,), before.size)
                    return


def _along_every_path(
    context: Context,
    given: Mapping[str, Float64Array],
    wrong: list[str],
    limits: Mapping[str, Float64Array],
) -> Iterator[Whole]:
    """A recursion that passes on what has gathered so far, once for each path to a value."""
    tape = context.tape
    shared = [op for op in tape.ops if context.uses[op.output] > 1]
    if not shared or len(tape.ops) > 60:
        return
    found = _recursive(context.backward)
    if found is None:
        return
    mended = tuple(
        path
        for path in wrong
        if np.shape(given[path]) == np.shape(found[path])
        and bool((np.abs(found[path] - given[path]) <= limits[path]).all())
    )
    others = [path for path in found if path not in wrong]
    now = context.backward.gradient()
    kept = all((np.abs(found[p] - now[p]) <= limits[p]).all() for p in others)
    if not mended or not kept:
        return
    op = shared[-1]
    name = context.source.names.get(op.output)
    told = f"`{name}` = " if name else ""
    said = (
        "is passed on once for each path: a value that is used more than once sends what it has "
        "gathered so far every time (go through the values in reverse topological order)"
    )
    about = f"the derivative by {told}`{context.source.expression(op)}` ({context.source.line(op)})"
    numbers = sum(np.size(found[path]) for path in mended)
    yield Whole(Label("counted_per_path", said, 0.2), about, op, mended, numbers)


def _recursive(backward: Backward) -> dict[str, Float64Array] | None:
    tape = backward.tape
    gathered: dict[int, Any] = {}
    left = STEPS

    def visit(value: int) -> None:
        nonlocal left
        number = tape.producer[value]
        if number < 0 or left <= 0:
            return
        op = tape.ops[number]
        left -= 1
        for target, message in backward.plain(op)(gathered[value]).items():
            add(gathered, target, message)
        for target in dict.fromkeys(op.inputs[k] for k in op.pulls):
            visit(target)

    for value, seed in zip(tape.outputs, backward.seeds, strict=True):
        add(gathered, value, seed)
        visit(value)
    if left <= 0:
        return None
    return {
        path: gathered[v][0] if v in gathered else np.zeros(tape.shape(v))
        for path, v in tape.leaves.items()
    }
