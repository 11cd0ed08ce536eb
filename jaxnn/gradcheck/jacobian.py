"""True Jacobians with the noise floor of each entry: by a reference, or by differences."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnn.gradcheck.compare import NOISE_FACTOR, Float64Array, as_real, epsilon, largest
from jaxnn.gradcheck.pullback import Leaves, Pullback

#: The step of the differences, relative to the size of the argument.
STEP = 2.0**-10


@dataclass(frozen=True)
class Table:
    """True Jacobians (outputs, entries of the argument), with floors and kinks for each entry."""

    rows: np.ndarray  #: which outputs
    columns: dict[str, np.ndarray]  #: which entries of each argument
    true: Leaves
    floor: Leaves
    interval: dict[str, tuple[Float64Array, Float64Array]]

    def widths(self) -> Leaves:
        """How far apart the one-sided derivatives are: 0 but for kinks."""
        found = {path: np.zeros(true.shape) for path, true in self.true.items()}
        return found | {path: high - low for path, (low, high) in self.interval.items()}


def by_autodiff(pullback: Pullback, reference: Callable[..., Any]) -> Table:
    """The Jacobian of a reference implementation."""
    outputs, pull = jax.vjp(pullback.vector(reference), pullback.point)
    true = pullback.jacobian(pull)
    eps = max(pullback.eps, epsilon(outputs.dtype))
    floor = NOISE_FACTOR * eps * largest(*true.values(), as_real(outputs))
    floors = {path: np.full(value.shape, floor) for path, value in true.items()}
    if all(np.all(np.abs(pullback.given[p] - true[p]) <= floor) for p in true):
        return Table(pullback.rows, pullback.columns, true, floors, {})
    return Table(pullback.rows, pullback.columns, true, floors, by_differences(pullback).interval)


def by_differences(pullback: Pullback) -> Table:
    """Central differences with steps h and h/2, extrapolated; their difference is the error.

    The differences to the right and to the left approach each other in proportion to h, except
    across a kink: those bound the derivative there.
    """
    true, floors, intervals = {}, {}, {}
    many = jax.jit(jax.vmap(pullback.vector(pullback.function)))
    here = as_real(pullback.outputs)[pullback.rows]
    for path, value in pullback.point.items():
        columns = pullback.columns[path]
        h = STEP * np.maximum(np.abs(value.ravel()[columns]), 0.1)
        right, left = (
            np.stack([_moved(pullback, many, path, columns, sign * h * s) for s in (1, 0.5)])
            for sign in (1, -1)
        )
        steps = np.stack([h, h / 2])[:, None, :]
        central = (right - left) / (2 * steps)
        best = (4 * central[1] - central[0]) / 3
        noise = 64 * pullback.eps * np.maximum(largest(here), 1e-300) / h
        true[path] = best
        floors[path] = np.abs(best - central[1]) / 2 + noise[None, :]
        ahead, behind = (right - here[:, None]) / steps, (here[:, None] - left) / steps
        jump = np.abs(ahead - behind)
        kinked = (jump[1] > 0.75 * jump[0]) & (jump[1] > 1e-6 * largest(best) + noise)
        sides = np.stack([2 * one[1] - one[0] for one in (ahead, behind)])
        low, high = sides.min(axis=0), sides.max(axis=0)
        curved = np.maximum(*(np.abs(one[1] - one[0]) for one in (ahead, behind)))
        floors[path] += np.where(kinked, curved / 16, 0.0)
        intervals[path] = np.where(kinked, low, best), np.where(kinked, high, best)
    return Table(pullback.rows, pullback.columns, true, floors, intervals)


def _moved(
    pullback: Pullback, many: Callable[..., Any], path: str, columns: np.ndarray, by: Float64Array
) -> Float64Array:
    """The chosen outputs (rows, columns); each column's entry is moved by its own step."""
    value = pullback.point[path]
    found = []
    for start in range(0, len(columns), 256):
        part = columns[start : start + 256]
        batch = np.repeat(value.ravel()[None], len(part), axis=0)
        batch[np.arange(len(part)), part] += by[start : start + 256]
        others = {p: np.broadcast_to(v, (len(part), *v.shape)) for p, v in pullback.point.items()}
        moved = many({**others, path: batch.reshape(len(part), *value.shape)})
        found.append(as_real(moved)[:, pullback.rows].T)
    return np.concatenate(found, axis=1) if found else np.zeros((len(pullback.rows), 0))
