"""What can be wrong with one array, given what it should have been.

`explain_leaf` tries one hypothesis after another; the first that brings the residual to the noise
floor is the answer. Nothing here knows which equation the array came from.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.gradcheck.compare import Float64Array, largest

#: Constants that get into gradients, under the name by which a reader knows them.
CONSTANTS = {
    "2": 2.0,
    "4": 4.0,
    "1/2": 0.5,
    "1/4": 0.25,
    "1 − β for β = 0.9": 0.1,
    "1 − β for β = 0.99": 0.01,
    "1 − β for β = 0.999": 0.001,
    "β = 0.9": 0.9,
    "β = 0.99": 0.99,
    "β = 0.999": 0.999,
    "1/(1 − β) for β = 0.9": 10.0,
    "1/(1 − β) for β = 0.99": 100.0,
    "1/255, the scale of pixels": 1 / 255,
    "255, the scale of pixels": 255.0,
    "ln 2, another base of the logarithm": float(np.log(2)),
    "1/ln 2, another base of the logarithm": float(1 / np.log(2)),
    "1/ln 10, another base of the logarithm": float(1 / np.log(10)),
}

BATCH = "m"

#: A free factor and a free penalty together fit a handful of rounded numbers by chance.
ENTRIES_FOR_TWO_FREE_NUMBERS = 20


class Mark(NamedTuple):
    """One mistake in one array. `doubt` is what makes a simpler hypothesis preferable."""

    code: str
    factor: float | None = None
    name: str = ""  #: the factor in words
    detail: str = ""
    doubt: float = 0.0
    weights: tuple[float, ...] | None = None  #: of the examples, where some do not contribute


Marks = tuple[Mark, ...]


class Facts(NamedTuple):
    """What is known about the case: sizes by name, with the batch size under BATCH."""

    sizes: Mapping[str, int]
    #: λ of λ/2 Σ‖W‖², where the derivation is known and W regularised; None where it is not known
    l2: float | None = None
    #: what the first and the second axis of an array count
    axes: tuple[str, str] = ("row", "column")


def near(given: Float64Array, predicted: Float64Array, floor: Float64Array | float) -> bool:
    """Is the residual at the noise floor everywhere?"""
    return given.shape == predicted.shape and bool((np.abs(given - predicted) <= floor).all())


def factor_name(c: float, sizes: Mapping[str, int]) -> str:
    """The constant in words and figures: "1/10 = 1/C" …, or the figure where it has no name."""
    names = [name for name, value in _constants(sizes) if np.isclose(c, value, rtol=1e-9)]
    names = [name for name in names if name != f"{c:.6g}"]
    return f"{c:.6g}" + (f" = {' or '.join(dict.fromkeys(names[:3]))}" if names else "")


def _constants(sizes: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    m = sizes.get(BATCH)
    if m:
        yield from ((BATCH, m), (f"1/{BATCH}", 1 / m), (f"1/{BATCH}²", 1 / m**2))
    if m and m > 1:
        yield from ((f"{BATCH}/({BATCH} − 1)", m / (m - 1)), (f"1/({BATCH} − 1)", 1 / (m - 1)))
    yield from CONSTANTS.items()
    for name, size in sizes.items():
        yield from ((name, size), (f"1/{name}", 1 / size), (f"2/{name}", 2 / size))
    for (a, p), (b, q) in permutations(sizes.items(), 2):
        yield f"{a}/{b}", p / q
        yield f"1/({a}·{b})", 1 / (p * q)


def scale_marks(fitted: tuple[float, bool], sizes: Mapping[str, int]) -> Marks:
    """The marks of an array that is c times what it should be, c as `fit_scale` found it."""
    c, named = fitted
    if c == 1:
        return ()
    if c == 0:
        return (Mark("zero", 0.0),)
    minus = (Mark("sign", -1.0),) if c < 0 else ()
    size, m = abs(c), sizes.get(BATCH, 1)
    if size == 1:
        return minus
    name = factor_name(size, sizes)
    if m > 1 and np.isclose(size, m, rtol=1e-12):
        return (*minus, Mark("missing_mean", float(m), name))
    if m > 1 and np.isclose(size, 1 / m, rtol=1e-12):
        return (*minus, Mark("extra_mean", 1 / m, name))
    return (*minus, Mark("scale", size, name, doubt=0.0 if named else 0.2))


def fit_scale(
    given: Float64Array,
    predicted: Float64Array,
    floor: Float64Array | float,
    sizes: Mapping[str, int],
) -> tuple[float, bool] | None:
    """The c of given = c · predicted and whether it is a known constant; None if there is none.

    Where entries have a wide floor (a kink), known constants near the fitted one come first.
    """
    weight = 1 / np.broadcast_to(floor, predicted.shape)
    g, p = given * weight, predicted * weight
    square = float((p * p).sum())
    if square == 0 or not np.isfinite(square):
        return None
    c = float((g * p).sum()) / square
    known = [1.0, *(value for _, value in _constants(sizes))]
    for value in (0.0, *(sign * value for value in known for sign in (1, -1))):
        if abs(value - c) <= 0.1 * abs(c) + 1e-9 and near(
            given, value * predicted, floor * max(1.0, abs(value))
        ):
            return value, True
    return (c, False) if near(given, c * predicted, floor * max(1.0, abs(c))) else None


def explain_leaf(
    given: Float64Array,
    predicted: Float64Array,
    floor: Float64Array | float,
    facts: Facts,
    param: Float64Array | None = None,
    examples: Callable[[], Float64Array] | None = None,
) -> Marks | None:
    """The mistakes that turn `predicted` into `given`; () if there are none, None if unknown.

    `param` is the parameter that the derivative is taken by. `examples` gives each example's part
    of `predicted`, along a first axis.
    """
    if given.shape != predicted.shape:
        return _shape_marks(given, predicted, floor, facts)
    if not np.isfinite(given).all():
        return (Mark("non_finite", detail=_count(~np.isfinite(given))),)
    if near(given, predicted, floor):
        return ()
    if not given.any():
        return (Mark("zero", 0.0),)
    fitted = fit_scale(given, predicted, floor, facts.sizes)
    if fitted:
        return scale_marks(fitted, facts.sizes)
    for hypothesis in (_transposed, _regularisation, _subset):
        marks = hypothesis(given, predicted, floor, facts, param)
        if marks is not None:
            return marks
    return _missing_examples(given, floor, examples, facts) if examples else None


def _count(mask: NDArray[np.bool_]) -> str:
    return f"{int(mask.sum())} of {mask.size}"


def _shape_marks(
    given: Float64Array, predicted: Float64Array, floor: Float64Array | float, facts: Facts
) -> Marks:
    """A transposed matrix, a bias that was not summed over the batch, or just another shape."""
    if given.ndim == 2 and given.T.shape == predicted.shape:
        tolerance = np.broadcast_to(floor, predicted.shape)
        fitted = fit_scale(given.T, predicted, tolerance, facts.sizes)
        if fitted:
            return (Mark("transpose"), *scale_marks(fitted, facts.sizes))
    if given.ndim == predicted.ndim + 1:
        for axis in range(given.ndim):
            total = given.sum(axis=axis)
            wide = floor * max(1.0, largest(total) / (largest(predicted) or 1.0))
            if (
                given.shape[axis] > 1
                and total.shape == predicted.shape
                and (fit_scale(total, predicted, wide, facts.sizes) or (0, False))[1]
            ):
                return (Mark("bias_not_reduced", detail=f"shape {given.shape}"),)
    expected = f"expected {predicted.shape}, found {given.shape}"
    return (Mark("shape", detail=expected),)


def _transposed(
    given: Float64Array,
    predicted: Float64Array,
    floor: Float64Array | float,
    facts: Facts,
    param: Float64Array | None,
) -> Marks | None:
    if given.ndim != 2 or given.shape[0] != given.shape[1]:
        return None
    fitted = fit_scale(given.T, predicted, floor, facts.sizes)
    return fitted and (Mark("transpose"), *scale_marks(fitted, facts.sizes))


def _regularisation(
    given: Float64Array,
    predicted: Float64Array,
    floor: Float64Array | float,
    facts: Facts,
    param: Float64Array | None,
) -> Marks | None:
    """given = a · predicted + b · W. With b = 0 this is a mere scale, which has been tried.

    The derivative of the data alone is predicted − λW. Scaled by a while the penalty stays right,
    b = λ (1 − a): this λ must be the known one, or positive where none is known.
    """
    if param is None or param.shape != given.shape or given.size < 4 or not param.any():
        return None
    weight = (1 / np.broadcast_to(floor, given.shape)).ravel()
    columns = np.stack([predicted.ravel() * weight, param.ravel() * weight], axis=1)
    if not np.isfinite(columns).all():
        return None
    (a, b), _, rank, _ = np.linalg.lstsq(columns, given.ravel() * weight, rcond=1e-9)
    wide = floor * max(1.0, abs(a)) + 1e-13 * abs(b) * largest(param)
    known = (1.0, *(value for _, value in _constants(facts.sizes)))
    named = [value for value in known if abs(a - value) <= 1e-8 + 1e-7 * value]
    a = float(named[0]) if named else float(a)
    if not named and given.size < ENTRIES_FOR_TWO_FREE_NUMBERS:
        return None
    if rank < 2 or not near(given, a * predicted + b * param, 4 * wide):
        return None
    if not np.any(np.abs(b * param) > floor):
        return None
    if a == 1:
        return (Mark("missing_regularisation", float(b), detail=_penalty(float(b), facts)),)
    kept = b / (1 - a)
    if (facts.l2 is None and kept > 0) or (facts.l2 and np.isclose(kept, facts.l2, rtol=1e-6)):
        return scale_marks((a, bool(named)), facts.sizes)
    return None


def _penalty(b: float, facts: Facts) -> str:
    """In words: yours has b · W more than it should."""
    if facts.l2 and np.isclose(b, -facts.l2, rtol=1e-6):
        return f"λW with λ = {facts.l2:.6g} is missing"
    if facts.l2:
        return f"it has {facts.l2 + b:.6g} W where λ = {facts.l2:.6g}"
    return f"{-b:.6g} W is missing" if b < 0 else f"it has {b:.6g} W too much"


def _subset(
    given: Float64Array,
    predicted: Float64Array,
    floor: Float64Array | float,
    facts: Facts,
    param: Float64Array | None,
) -> Marks | None:
    """Only some rows, columns or entries are wrong, and those are 0 or all scaled by one c."""
    wrong = np.abs(given - predicted) > floor
    for axis, what in ((0, facts.axes[0]), (1, facts.axes[1]), (None, "entry")):
        if axis is not None and given.ndim <= max(axis, 1):
            continue
        chosen = wrong
        if axis is not None:
            others = tuple(a for a in range(given.ndim) if a != axis)
            lines = wrong.any(axis=others, keepdims=True)
            chosen = np.broadcast_to(lines, wrong.shape)
        if chosen.all() or (axis is None and wrong.mean() > 0.5):
            continue
        g, p = given[chosen], predicted[chosen]
        c = 0.0 if not g.any() else float(g @ p) / float(p @ p or 1.0)
        c = -1.0 if np.isclose(c, -1, rtol=1e-7) else c
        if not near(g, c * p, np.broadcast_to(floor, given.shape)[chosen] * max(1.0, abs(c))):
            continue
        detail = _which(np.argwhere(lines.squeeze() if axis is not None else wrong), what)
        doubt = 0.8 if wrong.sum() < 2 and c not in (0, -1) else 0.3
        if c == 0:
            return (Mark("partial", detail=f"{detail} of it 0", doubt=doubt),)
        marks = scale_marks((c, True), facts.sizes)
        return tuple(mark._replace(detail=f"only {detail}", doubt=doubt) for mark in marks)
    return None


def _which(indices: NDArray[np.int_], what: str) -> str:
    """ "row 3", "rows 0, 2", "entry (4, 17)"; the first few of many."""
    shown = [str(i[0]) if len(i) == 1 else f"({', '.join(map(str, i))})" for i in indices[:5]]
    plural = {"entry": "entries"}.get(what, f"{what}s") if len(indices) > 1 else what
    more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
    return f"{plural} {', '.join(shown)}{more}"


def _missing_examples(
    given: Float64Array,
    floor: Float64Array | float,
    examples: Callable[[], Float64Array],
    facts: Facts,
) -> Marks | None:
    """Some examples do not contribute: the sum over a part of the batch, perhaps rescaled."""
    parts = examples()
    m = len(parts)
    if m == 0:
        return None
    flat, target = parts.reshape(m, -1), given.ravel()
    limit = np.broadcast_to(floor, given.shape).ravel()
    # A few entries rule out almost every subset; the others are compared in full.
    few = np.linspace(0, target.size - 1, min(target.size, 50)).astype(int)
    for weights in _batch_subsets(flat, target):
        kept = int(weights.sum())
        for c in (1.0, m / kept if kept else 1.0, float(m)):
            scaled, wide = c * weights, limit * max(1.0, c)
            if largest(target) <= 4 * largest(wide):  # Where all is allowed, nothing is explained.
                continue
            if not near(target[few], scaled @ flat[:, few], wide[few]):
                continue
            if near(target, scaled @ flat, wide):
                which = _which(np.flatnonzero(weights == 0)[:, None], "example")
                if kept == 1:
                    which = f"all but example {int(np.argmax(weights))}"
                detail = f"{which} of {m} do not contribute"
                return (Mark("partial", None, "", detail, 0.3, tuple(scaled)),)
    return None


def _batch_subsets(parts: Float64Array, given: Float64Array) -> Iterator[Float64Array]:
    """Weights of 0 and 1 for the examples: what least squares says, then the usual slices."""
    m = len(parts)
    solved, _, rank, _ = np.linalg.lstsq(parts @ parts.T, parts @ given, rcond=None)
    top = np.abs(solved).max(initial=0.0)
    if rank == m and top > 0:
        yield (solved > top / 2).astype(np.float64)
    every = np.arange(m)
    for k in every[1:]:
        yield (every < k).astype(np.float64)
        yield (every >= k).astype(np.float64)
    for k in every:
        yield (every != k).astype(np.float64)
        yield (every == k).astype(np.float64)
    yield from ((every % 2 == parity).astype(np.float64) for parity in (0, 1))
