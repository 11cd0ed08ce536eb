"""Another mask than the forward pass's: which entries it must have had.

A dropout mask that is drawn anew, or one that is taken from another layer, is an unknown 0 or 1 for
each entry. What each entry adds to the leaves is known; the entries that share no number of any
leaf are found apart from each other.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.places import Context, Label, Trial
from jaxnn.gradcheck.sites import Group
from jaxnn.gradcheck.tape import Local, Op

#: A mask of more entries is not solved for, nor are more that hang together.
ENTRIES, TOGETHER = 600, 14

Solve = Callable[[Float64Array, Float64Array, Float64Array, Any], Trial | None]


def any_mask(context: Context, group: Group) -> Iterator[tuple[Trial, Solve]]:
    """For each mask a trial in which each entry passes alone, and what to make of it."""
    op = context.tape.ops[group.ops[-1]]
    for k, pull in op.pulls.items():
        if not isinstance(pull, Local) or not context.suspect(op.inputs[k]):
            continue
        values = np.unique(pull.slope)
        if len(values) != 2 or 0 not in values or not 2 <= pull.slope.size <= ENTRIES:
            continue
        on = float(values[values != 0][0])
        size = pull.slope.size
        single = np.concatenate([np.zeros((1, size)), np.eye(size)]) * on
        single = single.reshape(size + 1, *pull.slope.shape)
        trial = Trial(
            group,
            lambda op=op: (
                f"the derivative of `{context.source.expression(op)}` "  # type: ignore[misc]
                f"({context.source.line(op)})"
            ),
            op,
            [Label("wrong_mask", "", 0.8)] * (size + 1),
            context.on_use(group.ops, k, partial(_times, single)),
        )

        def solve(
            rows: Float64Array,
            rest: Float64Array,
            limit: Float64Array,
            leaves: Any,
            trial: Trial = trial,
            pull: Local = pull,
            k: int = k,
            on: float = on,
            op: Op = op,
        ) -> Trial | None:
            mask = _solved(rows[1:] - rows[0], rest - rows[0], limit)
            if mask is None:
                return None
            other = mask.reshape(pull.slope.shape)
            differ = int((other != (pull.slope != 0)).sum())
            if differ == 0:
                return None
            said = (
                f"has another mask than the forward pass: {differ} of {other.size} entries differ"
            )
            return replace(
                trial,
                labels=[Label("wrong_mask", said, 0.8, free=0)],
                edits=context.on_use(group.ops, k, partial(_times, (other * on)[None])),
            )

        yield trial, solve


def _times(factor: Any, i: int, op: Op, ct: Float64Array) -> Any:
    return ct * factor


def _solved(effects: Float64Array, rest: Float64Array, limit: Float64Array) -> Any:
    """The 0/1 weights of the rows of `effects` that give `rest`; None if there are none."""
    finite = np.isfinite(rest)
    effects, rest, limit = effects[:, finite], rest[finite], limit[finite]
    touched = np.abs(effects) > 0
    if (np.abs(rest[~touched.any(0)]) > limit[~touched.any(0)]).any():
        return None
    size = len(effects)
    _, part = connected_components(csr_matrix(touched.astype(float) @ touched.T), directed=False)
    mask = np.zeros(size, bool)
    for number in range(part.max(initial=-1) + 1):
        among = np.flatnonzero(part == number)
        at = np.flatnonzero(touched[among].any(0))
        if not len(at):
            continue  # Nothing tells; it is left out.
        chosen = _block(effects[np.ix_(among, at)], rest[at], limit[at])
        if chosen is None:
            return None
        mask[among] = chosen
    return mask


def _block(effects: Float64Array, rest: Float64Array, limit: Float64Array) -> Any:
    k = len(effects)
    solved, _, rank, _ = np.linalg.lstsq(effects.T, rest, rcond=None)
    if rank == k:
        near = np.abs(solved - 0.5) > 0.499
        chosen = solved > 0.5
        right = bool((np.abs(chosen @ effects - rest) <= 4 * limit).all())
        return chosen if near.all() and right and len(rest) > 1 else None
    if k > TOGETHER or len(rest) < 2:
        return None
    every = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
    fits = (np.abs(every @ effects - rest) <= 4 * limit).all(1)
    return every[fits][0].astype(bool) if fits.sum() == 1 else None
