"""Element-wise comparison of a derivative with the truth, relative to the noise of its dtype.

The noise floor of a leaf is NOISE_FACTOR · ε · κ. ε is the dtype's spacing at 1. κ is how much
rounding is amplified on the way to this leaf: the largest derivative of all, or, where it is more,
the error that autodiff itself makes in a short dtype, in units of that dtype's ε.

What this guarantees. In float64 an entry is accepted only if its absolute error is below about
1e-14 of the largest derivative: one weight in 50,000 that is off by 1 % is seen, unless the
derivative by it is itself 1e-12 of the largest. A gradient that can only be had in a short dtype is
held to the floor of each entry's own row and column (`entry_floor`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

#: How many times the rounding of autodiff another right formula or order of summation may make.
NOISE_FACTOR = 32.0


@dataclass(frozen=True)
class LeafReport:
    """One leaf of a gradient beside the truth; all figures are float64."""

    path: str
    shape: tuple[int, ...]
    ok: bool
    relative_error: float  #: max |given − true| / max |true|
    worst_index: tuple[int, ...] | None  #: where the error is most multiples of the floor
    given: float  #: the value there …
    true: float  #: … and what it should be
    ratio: float  #: the least-squares c of given ≈ c · true
    cosine: float  #: 1 where given and true have the same direction
    noise: float  #: the worst error in multiples of the noise floor; at most 1 where ok
    wrong: int  #: how many entries are wrong
    kinks: int = 0  #: how many entries sit on a kink of the loss
    interval: tuple[float, float] | None = None  #: the one-sided derivatives of one such entry
    beyond: tuple[float, float] | None = None  #: the bounds at the worst, if all wrong are on kinks
    problem: str = ""  #: what makes the leaf incomparable: its shape, dtype, or a NaN


def as_real(value: object) -> Float64Array:
    """Any real or complex array in float64; a complex number becomes the pair (re, im)."""
    array = np.asarray(value)
    if np.iscomplexobj(array):
        return np.ascontiguousarray(array, np.complex128)[..., None].view(np.float64)
    return array.astype(np.float64)


def epsilon(dtype: object) -> float:
    """The spacing of the dtype's numbers at 1: 2⁻⁵² for float64, 2⁻⁷ for bfloat16."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)


def largest(*arrays: Float64Array) -> float:
    """The largest finite magnitude in the arrays, 0 where there is none."""
    finite = (np.abs(array[np.isfinite(array)]) for array in arrays)
    return max((float(values.max()) for values in finite if values.size), default=0.0)


def amplification(
    truth: Mapping[str, Float64Array], short: Mapping[str, Float64Array], short_eps: float
) -> dict[str, float]:
    """κ of each leaf, from autodiff in float64 and in a short dtype with spacing `short_eps`."""
    scale = largest(*truth.values())
    return {
        path: max(scale, largest(short[path] - true) / short_eps if path in short else 0.0)
        for path, true in truth.items()
    }


def entry_floor(
    true: Float64Array, noise: Float64Array, short_eps: float, eps: float
) -> Float64Array:
    """A floor for each entry by itself, for a gradient that exists only in a short dtype.

    `noise` is what autodiff gets wrong in the dtype with spacing `short_eps`. One sample of it says
    little about one entry, so its mean square is taken over the entry's row and over its column:
    dW_ij is a sum of products dZ_i A_j, whose rounding has that separable form. No floor is below
    float64's own for this leaf: where a unit is dead, everything in its row is 0.
    """
    square = np.where(np.isfinite(noise), noise, 0.0) ** 2
    mean = float(square.mean()) if square.size else 0.0
    spread = np.full(true.shape, mean)
    if true.ndim > 1 and mean > 0:
        for axis in range(true.ndim):
            others = tuple(a for a in range(true.ndim) if a != axis)
            spread = spread * (square.mean(axis=others, keepdims=True) / mean)
    floor: Float64Array = NOISE_FACTOR * eps * (np.sqrt(spread) / short_eps + np.abs(true))
    return np.maximum(floor, NOISE_FACTOR * epsilon(np.float64) * largest(true))


def compare_leaf(
    path: str,
    given: Float64Array,
    true: Float64Array,
    floor: float | Float64Array,
    interval: tuple[Float64Array, Float64Array] | None = None,
    problem: str = "",
) -> LeafReport:
    """Compare two arrays of one shape, entry by entry.

    An error up to `floor` (one number, or one for each entry) is rounding. `interval` holds the
    least and the greatest derivative that a kink leaves open: between them nothing is wrong.
    """
    floor = np.broadcast_to(np.maximum(floor, np.finfo(np.float64).tiny), true.shape)
    error = given - true
    kinked = np.zeros(true.shape, bool)
    if interval is not None:
        low, high = interval
        kinked = high - low > floor
        inside = kinked & (given >= low - floor) & (given <= high + floor)
        error = np.where(inside, 0.0, error)
    multiples = np.where(np.isnan(error), np.inf, np.abs(error)) / floor
    wrong = int((multiples > 1).sum())
    index = np.unravel_index(int(multiples.argmax()), true.shape) if true.size else None
    ratio, cosine = _direction(given, true)
    shown = kinked & (np.abs(given - true) > floor)
    at = tuple(np.argwhere(shown if shown.any() else kinked)[:1].ravel())
    return LeafReport(
        path=path,
        shape=true.shape,
        ok=wrong == 0 and not problem,
        relative_error=_quotient(float(np.abs(error).max(initial=0.0)), largest(true)),
        worst_index=None if index is None else tuple(int(i) for i in index),
        given=float(given[index]) if index is not None else 0.0,
        true=float(true[index]) if index is not None else 0.0,
        ratio=ratio,
        cosine=cosine,
        noise=float(multiples.max(initial=0.0)),
        wrong=wrong,
        kinks=int(kinked.sum()),
        interval=(float(interval[0][at]), float(interval[1][at]))
        if interval is not None and kinked.any()
        else None,
        beyond=(float(interval[0][index]), float(interval[1][index]))
        if interval is not None and wrong and not np.any((multiples > 1) & ~kinked)
        else None,
        problem=problem,
    )


def compare_leaves(
    given: Mapping[str, object],
    truth: Mapping[str, Float64Array],
    floors: Mapping[str, float | Float64Array],
    intervals: Mapping[str, tuple[Float64Array, Float64Array]] | None = None,
) -> tuple[LeafReport, ...]:
    """Each leaf of the truth in its turn; one that is missing or misshapen is incomparable."""
    reports = []
    for path, true in truth.items():
        value = as_real(given[path]) if path in given else None
        if value is None:
            reports.append(incomparable(path, true, "missing"))
        elif value.shape != true.shape:
            problem = f"shape {value.shape}, expected {true.shape}"
            reports.append(incomparable(path, true, problem))
        else:
            interval = intervals.get(path) if intervals else None
            reports.append(compare_leaf(path, value, true, floors[path], interval))
    return tuple(reports)


def widespread(leaves: Iterable[LeafReport]) -> bool:
    """Are the errors everywhere in the leaves that have them, as those of rounding are?"""
    return all(leaf.ok or 4 * leaf.wrong > math.prod(leaf.shape) for leaf in leaves)


def incomparable(path: str, true: Float64Array, problem: str) -> LeafReport:
    """The report of a leaf that is missing, or that has not the shape of the truth."""
    nan = float("nan")
    return LeafReport(
        path, true.shape, False, nan, None, nan, nan, nan, nan, nan, true.size, problem=problem
    )


def _direction(given: Float64Array, true: Float64Array) -> tuple[float, float]:
    """The least-squares ratio and the cosine, without overflow or underflow on the way."""
    s, t = largest(given), largest(true)
    if not np.isfinite(given).all():
        return float("nan"), float("nan")
    if s == 0 or t == 0:
        return (1.0, 1.0) if s == t else (0.0 if s == 0 else float("inf"), 0.0)
    u, v = given.ravel() / s, true.ravel() / t
    dot = float(u @ v)
    return dot / float(v @ v) * (s / t), dot / float(np.sqrt((u @ u) * (v @ v)))


def _quotient(error: float, scale: float) -> float:
    """error / scale, where nothing over nothing is nothing."""
    if scale > 0:
        return error / scale
    return 0.0 if error == 0 else float("inf")
