"""Edits of what lies between two values of one shape: its Jacobian's diagonal for all of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxnn.gradcheck.backward import Reverse
from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.places import Context, Label, Trial, inside
from jaxnn.gradcheck.regions import Region
from jaxnn.gradcheck.sites import Group
from jaxnn.gradcheck.tape import (
    Tape,
)


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
        # Of regions one within another the largest is what somebody differentiated.
        less = 0.001 * len(region.ops)
        labels = [replace(label, cost=label.cost - less) for label, _ in JACOBIANS]

        def edit(r: Region) -> Reverse:
            size = len(r.jacobian)

            def reverse(ct: Float64Array) -> dict[int, Float64Array]:
                wide = np.broadcast_to(ct, (len(JACOBIANS), *ct.shape[1:])).reshape(-1, size)
                rows = [change(r.jacobian, wide[j]) for j, (_, change) in enumerate(JACOBIANS)]
                return {r.start: np.stack(rows).reshape(-1, *tape.shape(r.start))}

            return reverse

        yield Trial(
            group,
            lambda r=region: _region_told(context, r),  # type: ignore[misc]
            last,
            labels,
            {r.end: edit(r) for r in found},
            linear=context.sites.parallel(group.ops),
            level=_level(tape, region.ops),
            key=("jacobian",),
        )


#: Of a square Jacobian J (a row for each result) and a cotangent: which message is sent.
JACOBIANS: tuple[tuple[Label, Callable[[Any, Any], Any]], ...] = (
    (Label("path_missing", "is missing", 0.08, 0.0), lambda J, ct: 0 * ct),
    (
        Label(
            "jacobian_diagonal",
            "is taken as the diagonal of the Jacobian only: the other entries are missing, by "
            "which every result depends on every input",
            0.2,
        ),
        lambda J, ct: np.diag(J) * ct,
    ),
    (
        Label("jacobian", "is left out, as if it were 1", 0.4),
        lambda J, ct: ct,
    ),
    (
        Label(
            "cotangent_after_jacobian",
            "is pulled back from ones, and multiplied by the cotangent after that",
            0.4,
        ),
        lambda J, ct: (np.ones_like(ct) @ J) * ct,
    ),
    (Label("jacobian", "has the Jacobian the wrong way round", 0.5), lambda J, ct: J @ ct),
    (Label("jacobian", "goes through the Jacobian twice", 0.5), lambda J, ct: (ct @ J) @ J),
    (
        Label("jacobian", "is taken as the row sums of the Jacobian", 0.5),
        lambda J, ct: J.sum(1) * ct,
    ),
)


def _level(tape: Tape, ops: Sequence[int]) -> int:
    """The innermost frame of the last operation that holds all of them."""
    frames = [tape.ops[n].frames for n in ops]
    last = tape.ops[max(ops)].frames
    for level in range(len(last)):
        tail = last[level:]
        if all(f[len(f) - len(tail) :] == tail for f in frames):
            return level
    return 0


def _region_told(context: Context, region: Region) -> str:
    op = context.tape.ops[region.end]
    start = context.source.value(region.start)
    by = f" by `{start}`" if start else ""
    level = _level(context.tape, region.ops)
    return f"the derivative of {inside(context, op, level)}{by}"
