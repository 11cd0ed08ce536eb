"""Regions: what lies between one value and a later one of the same shape, as softmax does.

Within a region the later value depends on nothing else that is differentiated, so that the region
has one square Jacobian.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxnn.gradcheck.backward import add
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.sites import Sites
from jaxnn.gradcheck.tape import Tape

#: A region has at most so many operations, and its Jacobian so many columns.
OPERATIONS, COLUMNS = 40, 400


@dataclass(frozen=True, eq=False)
class Region:
    """The operations between `start` and the result of operation `end`."""

    start: int
    end: int
    ops: tuple[int, ...]
    tape: Tape

    def pull(self, ct: Float64Array) -> Float64Array:
        """The cotangent of the start that comes through the region."""
        return pull_through(self.tape, self.tape.ops[self.end].output, self.start, self.ops, ct)

    @cached_property
    def jacobian(self) -> Float64Array:
        """∂end/∂start: a row for each entry of the end."""
        size = int(np.prod(self.tape.shape(self.start), dtype=int))
        shape = self.tape.shape(self.tape.ops[self.end].output)
        return self.pull(np.eye(size).reshape(size, *shape)).reshape(size, size)

    @cached_property
    def signature(self) -> tuple[str, ...]:
        return tuple(self.tape.ops[n].name for n in self.ops)


def pull_through(
    tape: Tape, end: int, start: int, ops: tuple[int, ...], ct: Float64Array
) -> Float64Array:
    """What of a cotangent of one value reaches an earlier one through some operations."""
    cts: dict[int, Float64Array] = {end: ct}
    for number in reversed(ops):
        op = tape.ops[number]
        one = cts.get(op.output)
        if one is None:
            continue
        for k, pull in op.pulls.items():
            add(cts, op.inputs[k], pull(one))
    found = cts.get(start)
    return np.zeros((len(ct), *tape.shape(start))) if found is None else found


def regions(tape: Tape) -> Mapping[int, list[Region]]:
    """All regions that are no chain of element-wise operations, by their last operation."""
    found: dict[int, list[Region]] = {}
    for op in tape.ops:
        shape = tape.shape(op.output)
        size = int(np.prod(shape, dtype=int))
        if not op.pulls or size < 2 or size > COLUMNS:
            continue
        frontier, ops = {op.inputs[k] for k in op.pulls}, [op.number]
        while len(ops) <= OPERATIONS:
            if len(frontier) == 1:
                (start,) = frontier
                if (
                    len(ops) > 1
                    and tape.shape(start) == shape
                    and not all(tape.ops[n].elementwise for n in ops)
                ):
                    found.setdefault(op.number, []).append(
                        Region(start, op.number, tuple(sorted(ops)), tape)
                    )
                    if len(found[op.number]) > 2:
                        break
            latest = max(frontier, key=lambda v: tape.producer[v])
            number = tape.producer[latest]
            if number < 0 or any(tape.producer[v] < 0 for v in frontier):
                break
            frontier.discard(latest)
            ops.append(number)
            frontier |= {tape.ops[number].inputs[k] for k in tape.ops[number].pulls}
    return found


def between(tape: Tape, sites: Sites, start: int, end: int) -> tuple[int, ...]:
    """The operations on the ways from one value to a later one."""
    producer = tape.producer[start]
    passed = sites.above[start] | (1 << producer if producer >= 0 else 0)
    reached = {start}
    ops = []
    for op in tape.ops:
        if (
            (sites.above[end] >> op.number) & 1
            and not (passed >> op.number) & 1
            and any(op.inputs[k] in reached for k in op.pulls)
        ):
            reached.add(op.output)
            ops.append(op.number)
    return tuple(ops)
