"""Right or wrong: which noise floor a gradient is held to, by the dtypes that it computes in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck import witness
from jaxnn.gradcheck.case import Answer, Case, Leaves
from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    LeafReport,
    compare_leaves,
    epsilon,
    widespread,
)
from jaxnn.gradcheck.kinks import AtKinks, Kinks, at_kinks
from jaxnn.gradcheck.reference import float64_rules

#: Steps that few kinks are near enough for.
SMALL_STEPS = 2.0**-16, 2.0**-17

#: A step that changes no loss but one that jumps.
NEXT_TO = 2.0**-36

#: The weight of a loss, which is one number.
ONE = np.ones((1, 1))

Floors = Mapping[str, Any]
Intervals = Mapping[str, tuple[Any, Any]]


class Verdict(NamedTuple):
    """The leaves' reports, and what they were held to."""

    leaves: tuple[LeafReport, ...]
    precision: Any
    floors: Floors


def judge(
    case: Case, answer: Answer, wide: Answer | None, used: set[Any], intervals: Intervals | None
) -> Verdict:
    """The leaves' reports, and the dtype and the noise floors that they are held to.

    The formula is judged in float64. Only a gradient that goes through a short dtype even then is
    held to that dtype's floor, and what is above the floor of a rounded constant must then change
    from point to point as rounding does. What was returned in the caller's dtype must be right too.
    """
    values = (wide or answer).leaves
    exact = _held(case, values, np.dtype(np.float64), intervals)
    precision = exact.precision
    if not right(exact.leaves):
        short = _in_short_dtype(case, values, used, wide is None, intervals)
        if short is None or not right(short.leaves):
            return short or exact
        precision = short.precision
    dtypes = [precision, case.dtype, *(value.dtype for value in answer.leaves.values())]
    verdict = _held(case, answer.leaves, max(dtypes, key=epsilon), intervals)
    if case.narrow and not right(verdict.leaves):
        # The formula is right in float64; NumPy that calls JAX on the way has float32 here.
        short = _held(case, answer.leaves, np.dtype(np.float32), intervals)
        return short if right(short.leaves) else verdict
    return verdict


def _held(
    case: Case, values: Mapping[str, Any], precision: Any, intervals: Intervals | None
) -> Verdict:
    """Held to the floors of a dtype: by the magnitudes first, then by the rounding of autodiff."""
    floors = case.floors(precision)
    leaves = compare_leaves(values, case.truth, floors, intervals)
    if not right(leaves):
        case.measure_noise()
        floors = case.floors(precision)
        leaves = compare_leaves(values, case.truth, floors, intervals)
    return Verdict(leaves, precision, floors)


def _in_short_dtype(
    case: Case,
    values: Mapping[str, Any],
    used: set[Any],
    refused: bool,
    intervals: Intervals | None,
) -> Verdict | None:
    """Held to the floors of a dtype shorter than float64 that the gradient uses, if it is right.

    Data or a constant rounded to float32 move every entry by a little: rows of targets that sum to
    1 in float32 only, np.float32(0.1). Rounding on the way changes from point to point.

    Where float64 was refused there is no other verdict than this, right or wrong.
    """
    rounded = case.data_floors()
    leaves = compare_leaves(values, case.truth, rounded, intervals)
    exact = compare_leaves(values, case.truth, case.floors(np.float64))
    if right(leaves) and widespread(exact):
        return Verdict(leaves, np.dtype(np.float32), rounded)
    for precision in sorted(used - {np.dtype(np.float64)}, key=epsilon):
        floors = case.entry_floors(precision)
        leaves = compare_leaves(values, case.truth, floors, intervals)
        if refused or (right(leaves) and case.errors_are_rounding(precision)):
            return Verdict(leaves, precision, floors)
    return None


def at_the_kinks(case: Case, given: Leaves, beside: Intervals) -> AtKinks:
    """What the loss's operations leave open, each leaf in its own shape."""
    rows = {path: _row(true) for path, true in case.truth.items()}
    fitting = {p: _row(given[p] if given[p].shape == t.shape else t) for p, t in case.truth.items()}
    seen = {path: (_row(low), _row(high)) for path, (low, high) in beside.items()}
    floors = case.floors(np.float64)
    try:
        found = at_kinks(Kinks(case.loss_at, case.point), fitting, rows, floors, seen, ONE)
    except Exception:  # Something that cannot be followed, a while loop among it.
        found = at_kinks(None, fitting, rows, floors, seen, ONE)
    shaped = {
        path: (low.reshape(case.truth[path].shape), high.reshape(case.truth[path].shape))
        for path, (low, high) in found.intervals.items()
    }
    return found._replace(intervals=shaped)


def _row(values: Any) -> Any:
    return np.reshape(values, (1, -1))


def by_differences(
    case: Case, leaves: tuple[LeafReport, ...], given: Leaves
) -> tuple[LeafReport, ...]:
    """Where autodiff contradicts the loss, hold the disputed entries to differences of the loss."""
    truth, floors = dict(case.truth), dict[str, Any](case.floors(np.float64))
    for leaf in leaves:
        path, true = leaf.path, case.truth[leaf.path]
        if leaf.ok or given[path].shape != true.shape or true.shape != case.point[path].shape:
            continue
        with float64_rules():
            partials, error = witness.partials(
                case.value, case.point, path, np.abs(given[path] - true) > floors[path]
            )
        truth[path] = np.where(np.isnan(partials), true, partials)
        floors[path] = np.where(np.isnan(partials), floors[path], error)
    return compare_leaves(given, truth, floors)


def contradicted(case: Case, given: Leaves, testimony: Any, precision: Any) -> str:
    """Why no gradient may be called right by what the loss itself says; empty if it may.

    The Taylor slope of a right gradient is 2. It may be 1 on a kink, or where the rounding of the
    gradient's dtype explains the remainder. So that a kink nearby is no contradiction either,
    smaller steps in other directions have to say the same.
    """
    if testimony.status == "kink" or not testimony.given_slope < 1.5:
        return ""
    short = max(case.coarsest_in_float64, precision, key=epsilon)
    for seed in range(1, 4):
        v = witness.direction(case.point, seed)
        size = {path: given[path] * along for path, along in v.items() if path in given}
        length = float(np.sqrt(sum(float(np.sum(value**2)) for value in size.values())))
        with float64_rules():
            here = case.value(case.point)
            coarse, fine = (case.slope(v, t) for t in SMALL_STEPS)
        claimed = witness.inner(given, v)
        rounding = NOISE_FACTOR * epsilon(short) * (length + abs(fine))
        rounding += 8 * epsilon(case.coarsest_in_float64) * abs(here) / SMALL_STEPS[-1]
        if abs(claimed - fine) > rounding and _jumps(case, v, fine, here):
            return "the loss jumps at this point: it has no derivative here"
        if not abs(claimed - fine) > rounding + 4 * abs(coarse - fine) + 1e-6 * abs(fine):
            return ""
    return (
        f"along a direction tried, the loss changes by {testimony.difference:.6g} for each unit, "
        f"and by this gradient it should by {testimony.given:.6g} (Taylor slope "
        f"{testimony.given_slope:.2f}, where that of a derivative is 2). If jax.grad's answer is "
        "meant all the same (a custom rule that is an estimator), say so: autodiff_only=True"
    )


def _jumps(case: Case, along: Leaves, slope: float, here: float) -> bool:
    """Is the loss's change across the point, by this slope, still there at next to no distance?"""
    noise = 64 * epsilon(case.coarsest_in_float64) * abs(here)
    with float64_rules():
        change = abs(case.slope(along, NEXT_TO)) * NEXT_TO
    return change > max(noise, 0.5 * abs(slope) * SMALL_STEPS[-1])


def beyond_sides(case: Case, given: Leaves, beside: Intervals) -> str:
    """Why a gradient at kinks that are not followed may not be called right; empty if it may.

    Along a direction v it has to lie between the loss's two one-sided derivatives: all entries on a
    kink together, those of one leaf, and the way from autodiff's gradient to the given one.
    """
    kinked = {path: np.asarray(low < high) for path, (low, high) in beside.items()}
    away = {path: given[path] - true for path, true in case.truth.items()}
    ways = [{p: 1.0 * k * (only in (p, "")) for p, k in kinked.items()} for only in ("", *kinked)]
    ways.append({p: away[p] * k for p, k in kinked.items()})
    for along in ways:
        if not any(one.any() for one in along.values()):
            continue
        claimed = witness.inner(given, along)
        with float64_rules():
            here = case.value(case.point)
            steps = [[sign * step for step in SMALL_STEPS] for sign in (1, -1)]
            sides = [
                [(case.value(witness.moved(case.point, along, t)) - here) / t for t in side]
                for side in steps
            ]
        low, high = sorted(2 * fine - coarse for coarse, fine in sides)
        rounding = 16 * epsilon(np.float64) * abs(here) / SMALL_STEPS[-1]
        slack = rounding + max(abs(coarse - fine) for coarse, fine in sides) + 1e-6 * abs(claimed)
        if not low - slack <= claimed <= high + slack:
            return (
                "the loss has a kink here that cannot be followed: along a direction tried, its "
                f"one-sided derivatives are {low:.6g} and {high:.6g}, and by this gradient "
                f"the derivative is {claimed:.6g}"
            )
    return ""


def right(leaves: tuple[LeafReport, ...]) -> bool:
    return all(leaf.ok for leaf in leaves)
