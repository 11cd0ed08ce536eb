"""`check_gradients`: the examination of a hand-written gradient of any loss."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck import witness
from jaxnn.gradcheck.case import Answer, Case, Leaves
from jaxnn.gradcheck.causes import Notation, diagnose_leaves, diagnose_network, named, origin
from jaxnn.gradcheck.compare import (
    LeafReport,
    as_real,
    compare_leaves,
    epsilon,
    incomparable,
    widespread,
)
from jaxnn.gradcheck.derivation import Derivation
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.networks import Layout, find_network
from jaxnn.gradcheck.reference import float64_rules, floating
from jaxnn.gradcheck.report import Finding, GradientReport

Floors = Mapping[str, Any]
Intervals = Mapping[str, tuple[Any, Any]]


class Verdict(NamedTuple):
    """The leaves' reports, and what they were held to."""

    leaves: tuple[LeafReport, ...]
    precision: Any
    floors: Floors


def check_gradients(
    loss: Callable[..., Any], gradient: Callable[..., Any], params: Any, *args: Any
) -> GradientReport:
    """Examine `gradient(params, *args)`, a hand-written derivative of `loss(params, *args)`.

    `loss` is a scalar JAX function; `gradient` is NumPy or JAX and returns a tree like `params`. It
    may add intermediates to a dict of parameters, under the names dZ1, dA1, …; they then help to
    find the first wrong equation. The truth is jax.grad in float64, whatever the dtypes and the
    global settings, which stay as they were. Integers, keys and other objects are passed as given.

    Each entry is compared by itself, in float64 where the gradient can be had in it and in the
    caller's dtype, relative to the noise floor that `compare` describes.

    Raises JaxnnError where nothing can be compared: `loss` is no scalar or not finite, or `params`
    has no real leaf. What `loss` and `gradient` raise themselves is passed on.
    """
    case = Case(loss, gradient, params, args)
    answer = case.run()
    again = case.run()
    with np.errstate(all="ignore"):
        report = (
            _incomparable(case, answer)
            or _nondeterministic(case, answer, again)
            or _differing(case, answer)
            or _examined(case, answer)
        )
    case.restore_width()
    return report


def _examined(case: Case, answer: Answer) -> GradientReport:
    """The verdict on the numbers, the loss as a second witness, and the cause."""
    wide, used = case.run_wide()
    verdict = _judge(case, answer, wide, used, None)
    if wide and not _right(verdict.leaves) and _right(_judge(case, wide, wide, used, None).leaves):
        wide = None  # Only in the caller's dtype is it wrong.
    given = {path: as_real(value) for path, value in (wide or answer).leaves.items()}
    intervals: Intervals = {}
    with float64_rules():
        testimony = witness.examine(case.value, case.point, case.truth, given)
        if not _right(verdict.leaves) or testimony.status != "confirms":
            intervals = witness.kinks(case.true_gradient, case.point, case.truth)
    if any(np.any(low < high) for low, high in intervals.values()):
        verdict = _judge(case, answer, wide, used, intervals)
    leaves, precision, floors = verdict
    if not _right(leaves) and testimony.status == "disputes":
        leaves = _by_differences(case, leaves, given)
    findings = []
    if not _right(leaves):
        findings = _named(case, given, wide or answer, intervals, floors, used)
    if testimony.status == "disputes":
        case.notes.append(_dispute(testimony))
    return GradientReport(
        ok=_right(leaves),
        leaves=leaves,
        findings=tuple(findings),
        witness=testimony,
        notes=(*case.notes, *_kink_notes(leaves)),
        precision=str(precision),
    )


# -- The verdict -----------------------------------------------------------------------------------


def _judge(
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
    if not _right(exact.leaves):
        short = _in_short_dtype(case, values, used, wide is None, intervals)
        if short is None or not _right(short.leaves):
            return short or exact
        precision = short.precision
    dtypes = [precision, case.dtype, *(value.dtype for value in answer.leaves.values())]
    return _held(case, answer.leaves, max(dtypes, key=epsilon), intervals)


def _held(
    case: Case, values: Mapping[str, Any], precision: Any, intervals: Intervals | None
) -> Verdict:
    """Held to the floors of a dtype: by the magnitudes first, then by the rounding of autodiff."""
    floors = case.floors(precision)
    leaves = compare_leaves(values, case.truth, floors, intervals)
    if not _right(leaves):
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
    if _right(leaves) and widespread(exact):
        return Verdict(leaves, np.dtype(np.float32), rounded)
    for precision in sorted(used - {np.dtype(np.float64)}, key=epsilon):
        floors = case.entry_floors(precision)
        leaves = compare_leaves(values, case.truth, floors, intervals)
        if refused or (_right(leaves) and case.errors_are_rounding(case.own_floors(precision))):
            return Verdict(leaves, precision, floors)
    return None


def _by_differences(
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


def _right(leaves: tuple[LeafReport, ...]) -> bool:
    return all(leaf.ok for leaf in leaves)


# -- What cannot be compared -----------------------------------------------------------------------


def _incomparable(case: Case, answer: Answer) -> GradientReport | None:
    """Another structure than the parameters, or leaves that are no real numbers."""
    nothing = tuple(
        incomparable(path, true, "missing" if path not in answer.leaves else "not compared")
        for path, true in case.truth.items()
    )
    if answer.problem:
        text = sentence("structure", "", detail=answer.problem)
        return GradientReport(False, nothing, (Finding("structure", "", text),))
    bad = {p: _dtype(v) for p, v in answer.leaves.items() if not floating(np.asarray(v))}
    if bad:
        finding = _blame(case, "dtype", list(bad), f"dtype {next(iter(bad.values()))}")
        return GradientReport(False, nothing, (finding,))
    return None


def _dtype(value: Any) -> str:
    return str(np.asarray(value).dtype)


def _nondeterministic(case: Case, answer: Answer, again: Answer) -> GradientReport | None:
    """Called again at the same point, it must answer the same to the noise floor of its dtype."""
    return _refused(case, answer, "nondeterministic", _changed(case, answer, again))


def _differing(case: Case, answer: Answer) -> GradientReport | None:
    """Traced, it must answer the same, once under jit and for each of two copies under vmap."""
    traced = case.under_jit()
    if isinstance(traced, str):
        case.notes.append(traced)
        return None
    paths = _changed(case, answer, traced)
    if paths:
        return _refused(case, answer, "differs_under_jit", paths)
    copies = case.under_vmap()
    if isinstance(copies, str):
        case.notes.append(copies)
        return None
    paths = list(dict.fromkeys(path for copy in copies for path in _changed(case, answer, copy)))
    return _refused(case, answer, "differs_under_vmap", paths)


def _changed(case: Case, answer: Answer, other: Answer) -> list[str]:
    """The leaves in which two answers differ by more than the rounding of the coarser dtype."""

    def differs(path: str) -> bool:
        if path not in other.leaves:
            return True
        values = answer.leaves[path], other.leaves[path]
        floors = case.floors(max(case.dtype, *(v.dtype for v in values), key=epsilon))
        return not _alike(*values, floors[path])

    paths = [path for path in answer.leaves if differs(path)]
    if paths:
        case.measure_noise()
    return [path for path in paths if differs(path)]


def _refused(case: Case, answer: Answer, code: str, paths: list[str]) -> GradientReport | None:
    """The report of a gradient that is no function of its arguments, if some leaves say so."""
    if not paths:
        return None
    leaves = compare_leaves(answer.leaves, case.truth, case.floors(case.dtype))
    finding = _blame(case, code, paths, f"seen in {', '.join(paths)}")
    return GradientReport(False, leaves, (finding,), precision=str(case.dtype))


def _alike(a: Any, b: Any, floor: float) -> bool:
    """Equal to the floor, NaN and infinity in the same places included."""
    x, y = as_real(a), as_real(b)
    if x.shape != y.shape:
        return False
    return bool(((np.abs(x - y) <= 2 * floor) | (x == y) | (np.isnan(x) & np.isnan(y))).all())


# -- The cause -------------------------------------------------------------------------------------


def _network(case: Case, floors: Floors) -> tuple[Layout, Derivation] | None:
    point = {path: as_real(value) for path, value in case.point.items()}
    return find_network(point, case.wide_args, case.truth, floors)


def _named(
    case: Case, given: Leaves, answer: Answer, intervals: Intervals, floors: Floors, used: set[Any]
) -> list[Finding]:
    """The findings; where the exact numbers name nothing, those that rounding may have hidden.

    A gradient of NumPy may compute in short dtypes without showing it. Only a quarter of their
    floors is allowed for: with more of float16's, chance explains a few numbers.
    """
    findings = _diagnose(case, given, answer, intervals, floors)
    if named(findings):
        return findings
    for short in sorted(used - {np.dtype(np.float64)}, key=epsilon):
        coarse = {path: floor / 4 for path, floor in case.entry_floors(short).items()}
        again = _diagnose(case, given, answer, intervals, coarse)
        if named(again):
            return again
    return findings


def _diagnose(
    case: Case, given: Leaves, answer: Answer, intervals: Intervals, floors: Floors
) -> list[Finding]:
    """The findings, by the network's derivation where there is one, else leaf by leaf."""
    floors = dict(floors)
    for path, (low, high) in intervals.items():
        floors[path] = floors[path] + 2 * (high - low)
    network = _network(case, floors)
    if network is None:
        return diagnose_leaves(
            given, case.truth, floors, case.point, case.sizes(), case.example_gradients
        )
    layout, net = network
    derivatives = net.derivatives()
    truth = layout.canonical(case.truth)
    returned = {
        name: as_real(value).T if layout.columns else as_real(value)
        for name, value in answer.intermediates.items()
        if name in derivatives
    }
    wide_floors = layout.canonical(
        {path: np.broadcast_to(floors[path], true.shape) for path, true in case.truth.items()}
    )
    top = max(float(np.max(floor)) for floor in wide_floors.values()) / max(net.k, 1e-30)
    notation = Notation(net.activation.name, layout.columns, net.k != 1, net.l2 != 0)
    return diagnose_network(
        net,
        {**layout.canonical(given), **returned},
        {**derivatives, **truth},
        {**dict.fromkeys(derivatives, top), **wide_floors},
        notation,
    )


def _blame(case: Case, code: str, paths: list[str], detail: str) -> Finding:
    """A finding about some leaves, named by the first equation that they have in common."""
    network = _network(case, case.floors(np.float64))
    first = paths[0]
    if network:
        layout, net = network
        equations = [name for name, path in layout.equations().items() if path in paths]
        first = origin(code, equations, net.L)
        text = sentence(code, first, detail=detail)
    else:
        text = sentence(code, f"The derivative by {first}", detail=detail)
    return Finding(code, first, text, None, tuple(paths))


def _kink_notes(leaves: tuple[LeafReport, ...]) -> list[str]:
    """Where the loss has no derivative, and between which bounds any convention lies."""
    return [
        f"{leaf.kinks} entries of {leaf.path} sit on a kink of the loss; the one-sided derivatives "
        f"of one go from {leaf.interval[0]:.6g} to {leaf.interval[1]:.6g}, and all between is right"
        for leaf in leaves
        if leaf.interval is not None
    ]


def _dispute(testimony: Any) -> str:
    if abs(testimony.given - testimony.difference) <= 1e-6 * abs(testimony.difference):
        return (
            "along the direction tried, differences of the loss agree with yours and not with "
            "autodiff: the loss has a custom rule, a stop_gradient or a rounding in it; "
            f"the disputed entries, up to {witness.PARTIALS} in each leaf, are held to differences"
        )
    return "the loss does not have the derivative that autodiff claims: look at the loss as well"
