"""The backward pass of a tape, and what becomes of the gradient where it is edited.

The pass is linear in its cotangents, so that an edit needs only the difference that it makes, and
only what lies below it. Every array has a first axis for the edits that are tried at once.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.tape import Op, Tape

#: From the cotangent of an operation's result to the messages for values on the tape.
Reverse = Callable[[Float64Array], Mapping[int, Float64Array]]
Edits = Mapping[int, Reverse]


def add(messages: dict[int, Float64Array], value: int, message: Float64Array) -> None:
    messages[value] = messages[value] + message if value in messages else message


class Backward:
    """The backward pass from given cotangents of the tape's outputs, with the edits adopted."""

    def __init__(self, tape: Tape, seeds: Sequence[Float64Array]) -> None:
        """`seeds` has a cotangent for each output."""
        self.tape = tape
        self.seeds = [np.asarray(seed, np.float64)[None] for seed in seeds]
        self.adopted: dict[int, Reverse] = {}
        self.run()

    def plain(self, op: Op) -> Reverse:
        """The true messages of an operation."""

        def reverse(ct: Float64Array) -> dict[int, Float64Array]:
            messages: dict[int, Float64Array] = {}
            for k, pull in op.pulls.items():
                add(messages, op.inputs[k], pull(ct))
            return messages

        return reverse

    def reverse(self, number: int) -> Reverse:
        return self.adopted.get(number) or self.plain(self.tape.ops[number])

    def run(self) -> None:
        """All cotangents, as the pass stands."""
        tape = self.tape
        cts: dict[int, Float64Array] = {}
        for value, seed in zip(tape.outputs, self.seeds, strict=True):
            if tape.active[value]:
                add(cts, value, seed)
        self.messages: dict[int, Mapping[int, Float64Array]] = {}
        for op in reversed(tape.ops):
            ct = cts.get(op.output)
            if ct is None or not op.pulls:
                continue
            self.messages[op.number] = self.reverse(op.number)(ct)
            for value, message in self.messages[op.number].items():
                add(cts, value, message)
        self.cts = cts

    def ct(self, value: int) -> Float64Array:
        """The cotangent of a value, with a first axis of 1."""
        found = self.cts.get(value)
        return np.zeros((1, *self.tape.shape(value))) if found is None else found

    def gradient(self) -> dict[str, Float64Array]:
        return {path: self.ct(value)[0] for path, value in self.tape.leaves.items()}

    def difference(
        self, edits: Edits, start: Mapping[int, Float64Array] | None = None
    ) -> dict[int, Float64Array]:
        """What the edits add to the cotangents of values; `start` adds to some from the outset.

        Only values that receive a difference are in the result.
        """
        tape = self.tape
        found: dict[int, Float64Array] = dict(start or {})
        first = max(
            [*edits, *(tape.producer[value] for value in found)],
            default=-1,
        )
        for number in range(first, -1, -1):
            op = tape.ops[number]
            change = found.get(op.output)
            if number in edits:
                ct = self.ct(op.output)
                old = self.messages.get(number, {})
                new = edits[number](ct if change is None else ct + change)
                for value in {**old, **new}:
                    before, after = old.get(value), new.get(value)
                    if after is None:
                        add(found, value, -before)  # type: ignore[operator]
                    else:
                        add(found, value, after if before is None else after - before)
            elif change is not None and op.pulls:
                for value, message in self.reverse(number)(change).items():
                    add(found, value, message)
        return found

    def leaves(self, found: Mapping[int, Float64Array], batch: int) -> Float64Array:
        """The differences of all leaves in one row for each edit of the batch."""
        rows = []
        for value in self.tape.leaves.values():
            shape = self.tape.shape(value)
            change = found.get(value)
            size = int(np.prod(shape, dtype=int))
            if change is None:
                rows.append(np.zeros((batch, size)))
            else:
                rows.append(np.broadcast_to(change, (batch, *shape)).reshape(batch, size))
        return np.concatenate(rows, axis=1)

    def adopt(self, edits: Edits) -> None:
        """Let the edits be part of the pass from now on; each has a batch of 1."""
        self.adopted.update(edits)
        self.run()
