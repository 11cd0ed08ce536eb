"""Derivatives along directions: what the values of a function say about all inputs at once.

J·v of every output comes from four evaluations, whatever the size. ⟨u·J, v⟩ is what a backward
pass claims: a single wrong entry of J moves it, since no u and v are perpendicular by chance.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.gradcheck.compare import Float64Array, as_real, largest
from jaxnn.gradcheck.pullback import Leaves, Pullback


class Along(NamedTuple):
    """The derivative of each output along v, by differences, and what it may be off by."""

    v: Leaves
    derivative: Float64Array
    error: Float64Array
    smooth: NDArray[np.bool_]  #: the outputs that have a derivative along v: no kink, no NaN


def along(pullback: Pullback, v: Leaves) -> Along:
    """Central differences of all outputs with steps h and h/2, extrapolated.

    Where the differences to the right and to the left do not approach each other, or the two steps
    disagree, an output is not smooth: a kink lies within the step.
    """
    eps = pullback.short_eps
    size = max([np.sqrt(np.mean(x**2)) for x in pullback.point.values() if x.size])
    length = largest(*v.values()) or 1.0
    h = np.array([1.0, 0.5])[:, None] * eps**0.25 * (size or 1.0) / length * _spread(v)
    here = as_real(pullback.outputs)

    def at(t: float) -> Float64Array:
        return pullback.evaluate({path: x + t * v[path] for path, x in pullback.point.items()})

    right, left = (np.stack([at(sign * float(t[0])) for t in h]) for sign in (1, -1))
    ahead, behind = (right - here) / h, (here - left) / h
    central = (ahead + behind) / 2
    best = (4 * central[1] - central[0]) / 3
    noise = 64 * eps * largest(here, right) / float(h[1, 0])
    error = 2 * np.abs(central[1] - central[0]) + noise
    jump = np.abs(ahead - behind)
    top = largest(best)
    kinked = (jump[1] > 0.75 * jump[0]) & (jump[1] > 1e-6 * top + noise)
    smooth = np.isfinite(best) & ~kinked & (error <= 1e-5 * top + 2 * noise)
    return Along(v, np.where(smooth, best, 0.0), np.where(smooth, error, 0.0), smooth)


def _spread(v: Leaves) -> float:
    """How much longer the largest entry of v is than the usual one, up to 4."""
    values = np.concatenate([value.ravel() for value in v.values()])
    usual = float(np.sqrt(np.mean(values**2)))
    return min(4.0, largest(values) / usual) if usual else 1.0


def smooth_directions(pullback: Pullback) -> Iterator[Leaves]:
    """Directions along which entries that are tied move together, and two random ones."""
    point = pullback.point
    yield {path: np.ones(x.shape) for path, x in point.items()}
    yield {path: np.sign(x) for path, x in point.items()}
    for _ in range(2):
        yield {path: pullback.rng.standard_normal(x.shape) for path, x in point.items()}


class Dispute(NamedTuple):
    """The first output along which a backward pass contradicts the values of the function."""

    output: int
    given: float
    true: float
    v: Leaves


def dispute(pullback: Pullback, one: Along) -> Dispute | None:
    """Does the backward pass claim another derivative along v? Of which output?"""

    def wrong(mask: Float64Array) -> bool:
        u = pullback.u * mask * one.smooth
        product = pullback.pull(u)
        parts = {path: product[path] * v for path, v in one.v.items()}
        claimed = sum(float(part.sum()) for part in parts.values())
        true = u * one.derivative
        magnitudes = sum(float(np.abs(part).sum()) for part in parts.values())
        noise = 64 * pullback.short_eps * (magnitudes + float(np.abs(true).sum()))
        error = float(np.abs(u) @ one.error) + 1e-9 * float(np.sqrt(true @ true)) + noise
        return not abs(claimed - float(true.sum())) <= error

    first = first_output(pullback.n_out, wrong)
    if first is None:
        return None
    unit = np.zeros(pullback.n_out)
    unit[first] = 1.0
    product = pullback.pull(unit)
    claimed = sum(float((product[path] * v).sum()) for path, v in one.v.items())
    return Dispute(first, claimed, float(one.derivative[first]), one.v)


def locate(pullback: Pullback, found: Dispute) -> tuple[str, tuple[int, ...], float, float, bool]:
    """The argument and the entry by which the disputed output's derivative is wrong, the
    derivative as given and as differences have it, and whether it has one: by halving."""
    unit = np.zeros(pullback.n_out)
    unit[found.output] = 1.0
    row = pullback.pull(unit)
    ends = np.cumsum([x.size for x in pullback.point.values()])
    lo, hi = 0, pullback.n_in

    def disagreement(a: int, b: int) -> tuple[float, Along, float]:
        flat = np.zeros(pullback.n_in)
        flat[a:b] = 1.0
        v = {
            path: part.reshape(found.v[path].shape) * found.v[path]
            for path, part in zip(found.v, np.split(flat, ends[:-1]), strict=True)
        }
        one = along(pullback, v)
        claimed = sum(float((row[path] * v[path]).sum()) for path in v)
        excess = abs(claimed - one.derivative[found.output]) - one.error[found.output]
        return (excess if one.smooth[found.output] else -1.0), one, claimed

    while hi - lo > 1:
        middle = (lo + hi) // 2
        lower, upper = disagreement(lo, middle)[0], disagreement(middle, hi)[0]
        lo, hi = (lo, middle) if lower >= upper else (middle, hi)
    _, one, claimed = disagreement(lo, hi)
    place = int(np.searchsorted(ends, lo, side="right"))
    path, entry = list(pullback.point)[place], lo - (int(ends[place - 1]) if place else 0)
    index = tuple(int(i) for i in np.unravel_index(entry, pullback.point[path].shape))
    length = float(found.v[path][index]) or 1.0
    true = float(one.derivative[found.output]) / length
    return path, index, claimed / length, true, bool(one.smooth[found.output])


def first_output(n: int, wrong: Callable[[Float64Array], bool]) -> int | None:
    """An output that is wrong by itself, found by halving; None if all together are not."""

    def masked(a: int, b: int) -> Float64Array:
        mask = np.zeros(n)
        mask[a:b] = 1.0
        return mask

    if not wrong(masked(0, n)):
        return None
    lo, hi = 0, n
    while hi - lo > 1:
        middle = (lo + hi) // 2
        lo, hi = (lo, middle) if wrong(masked(lo, middle)) else (middle, hi)
    return lo
