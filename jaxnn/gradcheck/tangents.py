"""How a change of any cotangent shows in each leaf, without a backward pass for it.

The gradient is linear in every message. For a random direction r in one leaf, r · (change of the
leaf) is the product of the change of a message for a value with the tangent of that value along r.
One forward pass for each direction gives all tangents, and an edit is then tried by a product of
two arrays; only what passes is looked at in full.
"""

from collections.abc import Mapping

import numpy as np

from jaxnn.gradcheck.backward import Backward, add
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.tape import Contract, General, Local, Move, Pull

#: How many directions there are in each leaf.
DIRECTIONS = 2


class Tangents:
    """The tangents of all values along some directions in each leaf, one leaf after another."""

    def __init__(self, backward: Backward) -> None:
        tape = backward.tape
        rng = np.random.default_rng(0)
        self.rows = DIRECTIONS * len(tape.leaves)
        self.directions: dict[str, Float64Array] = {}
        found: dict[int, Float64Array] = {}
        unknown: set[int] = set()
        for n, (path, leaf) in enumerate(tape.leaves.items()):
            shape = tape.shape(leaf)
            self.directions[path] = rng.normal(size=(DIRECTIONS, *shape))
            found[leaf] = np.zeros((self.rows, *shape))
            found[leaf][DIRECTIONS * n : DIRECTIONS * (n + 1)] = self.directions[path]
        for op in tape.ops:
            if not op.pulls:
                continue
            if op.number in backward.adopted or any(op.inputs[k] in unknown for k in op.pulls):
                unknown.add(op.output)
                continue
            for k, pull in op.pulls.items():
                tangent = push(pull, found[op.inputs[k]])
                if tangent is None:
                    unknown.add(op.output)
                    found.pop(op.output, None)
                    break
                add(found, op.output, tangent)
        self._flat = {v: t.reshape(self.rows, -1) for v, t in found.items()}
        self._norm = {v: np.sqrt((t * t).sum(1)) for v, t in self._flat.items()}

    def known(self, value: int) -> bool:
        return value in self._flat

    def shown(self, changes: Mapping[int, Float64Array]) -> tuple[Float64Array, Float64Array]:
        """What changes of messages do along each direction, and how far that may be rounded.

        A row for each edit, a column for each direction.
        """
        total, error = np.zeros((1, self.rows)), np.zeros((1, self.rows))
        for value, change in changes.items():
            flat = change.reshape(len(change), -1)
            total = total + flat @ self._flat[value].T
            norm = np.sqrt((flat * flat).sum(1))
            error = error + 1e-12 * norm[:, None] * self._norm[value]
        return total, error


def push(pull: Pull, tangent: Float64Array) -> Float64Array | None:
    """The transpose of a pull: what a tangent of the operand is in the result."""
    if isinstance(pull, Local):
        return tangent * pull.slope
    if isinstance(pull, Move):
        back = Move(pull.cols, pull.rows, pull.out_shape, pull.weights)
        return back(tangent)
    if isinstance(pull, Contract):
        left, rest = pull.spec.split(",")
        right, out = rest.split("->")
        found: Float64Array = np.einsum(f"{out},{right}->{left}", tangent, pull.array)
        return found
    assert isinstance(pull, General)
    if pull.push is None:
        return None
    return np.stack([pull.push(one) for one in tangent])
