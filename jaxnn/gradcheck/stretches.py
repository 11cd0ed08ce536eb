"""Stretches: element-wise operations that together are one function of one value.

A sigmoid written as 1 / (1 + exp(-z)) is four operations and one function to whoever
differentiates it by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxnn.gradcheck.backward import Backward, Reverse, add
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.primitives import ELEMENTWISE, FLAT
from jaxnn.gradcheck.sites import Sites
from jaxnn.gradcheck.tape import Local, Op, Tape, unbroadcast

#: A longer stretch is no function that somebody differentiates as one.
LONGEST = 10


@dataclass(frozen=True, eq=False)
class Stretch:
    """The function from a value to the result of an operation; with `k`, one operand of it."""

    start: int
    end: int  #: the number of the last operation
    ops: tuple[int, ...]
    k: int | None
    tape: Tape
    level: int = 0  #: which frame of the last operation stands for the whole

    @property
    def signature(self) -> tuple[str, ...]:
        return tuple(self.tape.ops[n].name for n in self.ops)

    @cached_property
    def function(self) -> bool:
        """Is it a function of its start alone, and not a linear one?"""
        if self.k is not None:
            op = self.tape.ops[self.end]
            inputs = {op.inputs[i] for i in op.pulls}
            if op.name in ("mul", "div") and len(op.inputs) == 2:
                others = [v for v in op.inputs if v != self.start]
                return not others
            return len(inputs) == 1 and op.name not in ("convert_element_type", "copy")
        return True

    @cached_property
    def x(self) -> Float64Array:
        return np.asarray(self.tape.values[self.start], np.float64)

    @cached_property
    def y(self) -> Float64Array:
        return np.asarray(self.tape.values[self.tape.ops[self.end].output], np.float64)

    @cached_property
    def slope(self) -> Float64Array:
        """The derivative of the whole by its start."""
        if self.k is not None:
            pull = self.tape.ops[self.end].pulls[self.k]
            assert isinstance(pull, Local)
            return pull.slope
        whole = self._through({self.tape.ops[self.end].output: np.ones((1, *self.y.shape))})
        slope: Float64Array = whole[0]
        return slope

    def _through(self, cts: dict[int, Float64Array]) -> Float64Array:
        for number in reversed(self.ops):
            op = self.tape.ops[number]
            ct = cts.get(op.output)
            if ct is None:
                continue
            for k, pull in op.pulls.items():
                assert isinstance(pull, Local)
                add(cts, op.inputs[k], unbroadcast(ct * pull.slope, pull.shape))
        return cts.get(self.start, np.zeros((1, *self.x.shape)))

    def at(self, x: Float64Array) -> tuple[Float64Array, Float64Array] | None:
        """The function and its derivative at another value; None where they cannot be had."""
        values: dict[int, Any] = {self.start: x}
        slopes: dict[int, tuple[Any, ...]] = {}
        for number in self.ops:
            op = self.tape.ops[number]
            arrays = [values.get(v, self.tape.values[v]) for v in op.inputs]
            if op.name in ELEMENTWISE:
                f, d = ELEMENTWISE[op.name]
                values[op.output] = np.asarray(f(arrays, op.params))
                slopes[number] = d(arrays, values[op.output], op.params)
            elif "function" in op.params:
                import jax

                y, pullback = jax.vjp(op.params["function"], arrays[0])
                values[op.output] = np.asarray(y)
                slopes[number] = (np.asarray(pullback(np.ones_like(y))[0]),)
            else:
                return None
        end = self.tape.ops[self.end].output
        cts: dict[int, Float64Array] = {end: np.ones((1, *x.shape))}
        for number in reversed(self.ops):
            op = self.tape.ops[number]
            ct = cts.get(op.output)
            if ct is None:
                continue
            for k in op.pulls:
                if self.k is None or k == self.k:
                    add(cts, op.inputs[k], ct * slopes[number][k])
        return (values[end], cts[self.start][0]) if self.start in cts else None

    def reverse(self, slopes: Float64Array, backward: Backward) -> Reverse:
        """The last operation's messages where the whole has other derivatives: one for each row."""
        op = self.tape.ops[self.end]
        shape = self.tape.shape(self.start)

        def reverse(ct: Float64Array) -> Mapping[int, Float64Array]:
            messages: dict[int, Float64Array] = {}
            if self.k is not None:
                for k, pull in op.pulls.items():
                    if k != self.k:
                        add(messages, op.inputs[k], pull(ct))
            else:
                inside = {self.tape.ops[n].output for n in self.ops} | {self.start}
                for k, pull in op.pulls.items():
                    if op.inputs[k] not in inside:
                        add(messages, op.inputs[k], pull(ct))
            add(messages, self.start, unbroadcast(ct * slopes, shape))
            return messages

        return reverse


class Together:
    """The same stretch at all steps, one after another along a first axis."""

    def __init__(self, found: Sequence[Stretch]) -> None:
        self.found = found

    @cached_property
    def x(self) -> Float64Array:
        return np.stack([s.x for s in self.found])

    @cached_property
    def y(self) -> Float64Array:
        return np.stack([s.y for s in self.found])

    @cached_property
    def slope(self) -> Float64Array:
        return np.stack([np.broadcast_to(s.slope, s.y.shape) for s in self.found])

    def again(self, x: Float64Array) -> Float64Array | None:
        """The function's own derivative at other values."""
        return self._at(x, 1)

    def applied(self, x: Float64Array) -> Float64Array | None:
        """The function itself at other values."""
        return self._at(x, 0)

    def _at(self, x: Float64Array, which: int) -> Float64Array | None:
        found = [s.at(v) for s, v in zip(self.found, x, strict=True)]
        if any(f is None for f in found):
            return None
        return np.stack([f[which] for f in found if f is not None])


def stretches(tape: Tape, sites: Sites) -> list[Stretch]:
    """All stretches of two or more operations that are a function of one active value."""
    found: list[Stretch] = []
    #: of each value, the values that it is a function of, with the operations between
    roots: dict[int, dict[int, tuple[int, ...]]] = {}
    for op in tape.ops:
        if not op.pulls or not op.elementwise:
            continue
        if op.name not in ELEMENTWISE and op.name not in FLAT and "function" not in op.params:
            continue
        inputs = [op.inputs[k] for k in op.pulls]
        reach = [{v: (), **roots.get(v, {})} for v in inputs]
        shared = set(reach[0]).intersection(*reach[1:])
        own: dict[int, tuple[int, ...]] = {}
        for root in shared:
            if tape.shape(root) != tape.shape(op.output):
                continue
            numbers = {n for r in reach for n in r[root]} | {op.number}
            if len(numbers) <= LONGEST:
                own[root] = tuple(sorted(numbers))
        roots[op.output] = own
        for root, between in own.items():
            if len(between) > 1:
                level = _level(tape, between, op)
                found.append(Stretch(root, op.number, between, None, tape, level))
    return found


def _level(tape: Tape, between: tuple[int, ...], last: Op) -> int:
    """The innermost frame that holds all operations of a stretch."""
    frames = [tape.ops[n].frames for n in between]
    for level in range(len(last.frames)):
        tail = last.frames[level:]
        if all(f[len(f) - len(tail) :] == tail for f in frames):
            return level
    return 0
