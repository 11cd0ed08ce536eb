"""`check_gradients`: the examination of a hand-written gradient of any loss."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from jaxnn.gradcheck import witness
from jaxnn.gradcheck.case import Answer, Case, Leaves
from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    LeafReport,
    as_real,
    compare_leaves,
    epsilon,
    incomparable,
    largest,
)
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.kinks import Along, AtKinks, is_smooth
from jaxnn.gradcheck.reference import float64_rules, floating
from jaxnn.gradcheck.report import NOT_JUDGED, Finding, GradientReport, Witness
from jaxnn.gradcheck.verdict import (
    ONE,
    at_the_kinks,
    beyond_sides,
    by_differences,
    contradicted,
    judge,
    right,
)


def check_gradients(
    loss: Callable[..., Any],
    gradient: Callable[..., Any],
    params: Any,
    *args: Any,
    autodiff_only: bool = False,
) -> GradientReport:
    """Examine `gradient(params, *args)`, a hand-written derivative of `loss(params, *args)`.

    `loss` is a scalar JAX function; `gradient` is NumPy or JAX and returns a tree like `params`. It
    may add intermediates to a dict of parameters, under the names dZ1, dA1, …; they then help to
    find the first wrong equation. The truth is jax.grad in float64, whatever the dtypes and the
    global settings, which stay as they were. Integers, keys and other objects are passed as given.

    Each entry is compared by itself, in float64 where the gradient can be had in it and in the
    caller's dtype, relative to the noise floor that `compare` describes.

    A loss that draws random numbers is examined with the draws of the caller's dtype. Where the
    loss is another function in float64 all the same, or the loss itself contradicts what autodiff
    says, the report has the reason in `not_judged`, and is not `ok`.

    With `autodiff_only` the gradient that is meant is what jax.grad says of the loss, whatever its
    values do: what `stop_gradient` returns is constant, a custom rule is right. So a semi-gradient
    of temporal differences or a straight-through estimator is declared. Differences of the loss are
    then not asked, and the verdict says so. Undeclared, such a gradient cannot be judged.

    A loss with a `lax.while_loop` is differentiated in forward mode, by up to 4,000 parameters.

    Raises JaxnnError where nothing can be compared: `loss` is no scalar or not finite, or `params`
    has no real leaf. What `loss` and `gradient` raise themselves is passed on.

    >>> def loss(w, x, y):
    ...     return jnp.mean((x @ w - y) ** 2)
    >>> def gradient(w, x, y):
    ...     return x.T @ (x @ w - y) / len(x)
    >>> w, x, y = np.array([0.3, 0.7]), np.eye(3, 2), np.array([1.0, 2.0, 3.0])
    >>> report = jaxnn.check_gradients(loss, gradient, w, x, y)
    >>> report.ok, [leaf.ratio for leaf in report.leaves]
    (False, [0.5])
    """
    case = Case(loss, gradient, params, args)
    answer = case.run()
    again = case.run()
    with np.errstate(all="ignore"):
        return (
            _incomparable(case, answer)
            or _nondeterministic(case, answer, again)
            or _differing(case, answer)
            or (_not_judged(case, case.doubt) if case.doubt else None)
            or (_by_autodiff(case, answer) if autodiff_only else _examined(case, answer))
        )


def _not_judged(case: Case, reason: str, testimony: Witness | None = None) -> GradientReport:
    """The report that says neither right nor wrong, and why."""
    nothing = tuple(incomparable(path, true, NOT_JUDGED) for path, true in case.truth.items())
    return GradientReport(
        False, nothing, witness=testimony, notes=tuple(case.notes), not_judged=reason
    )


def _examined(case: Case, answer: Answer) -> GradientReport:
    """The verdict on the numbers, the loss as a second witness, and the cause."""
    wide, used = case.run_wide()
    verdict = judge(case, answer, wide, used, None)
    if wide and not right(verdict.leaves) and right(judge(case, wide, wide, used, None).leaves):
        wide = None  # Only in the caller's dtype is it wrong.
    given = {path: as_real(value) for path, value in (wide or answer).leaves.items()}
    kinks, beside = AtKinks({}, None), dict[str, Any]()
    with float64_rules():
        testimony = witness.examine(case.value, case.point, case.truth, given)
        excused = not right(verdict.leaves)
        if (excused or testimony.status != "confirms") and not is_smooth(case.loss_at, case.point):
            beside = witness.kinks(case.true_gradient, case.point, case.truth, given)
            kinks = at_the_kinks(case, given, beside)
    if kinks.intervals:
        verdict = judge(case, answer, wide, used, kinks.intervals)
    leaves, precision, floors = verdict
    along = None
    if excused and right(leaves) and kinks.kinks is not None:
        along = kinks.kinks.separated(given, case.truth, floors, ONE[0])
    if along:
        leaves = tuple(_separated(leaf, along) for leaf in leaves)
    asked = testimony.status != "confirms" and not along
    if asked and (stopped := _stopped(case, leaves, given)):
        return _not_judged(case, stopped, testimony)
    if not right(leaves) and not along and testimony.status == "disputes":
        leaves = by_differences(case, leaves, given)
    findings = []
    # At a kink that is known, what the loss leaves open has been looked at along directions too.
    asked = right(leaves) and kinks.kinks is None
    against = contradicted(case, given, testimony, precision) if asked else ""
    if asked and excused and not against and kinks.unseen:
        against = beyond_sides(case, given, beside)
    if against:
        return _not_judged(case, against, testimony)
    if along:
        findings = [_ties(case, along)]
    elif not right(leaves):
        findings = _beyond_kinks(case, leaves) or name_causes(
            case, given, wide or answer, kinks.intervals, floors, used
        )
    if testimony.status == "disputes" and kinks.kinks is not None and right(leaves):
        # Kinks side by side may make a smooth loss whose derivative is none of autodiff's choices.
        testimony = replace(testimony, status="kink")
    if testimony.status == "disputes":
        case.notes.append(_dispute(testimony))
    if right(leaves) and precision != np.float64 and testimony.given_slope < 1.9:
        # What remains along the direction is the rounding that the verdict allows for.
        testimony = replace(testimony, given_slope=float("nan"))
    return GradientReport(
        ok=right(leaves),
        leaves=leaves,
        findings=tuple(findings),
        witness=testimony,
        notes=(*case.notes, *_kink_notes(leaves)),
        precision=str(precision),
    )


def _by_autodiff(case: Case, answer: Answer) -> GradientReport:
    """The verdict where autodiff's answer is what is meant, and the loss's values are not asked."""
    wide, used = case.run_wide()
    verdict = judge(case, answer, wide, used, None)
    given = {path: as_real(value) for path, value in (wide or answer).leaves.items()}
    findings: list[Finding] = []
    if not right(verdict.leaves):
        with float64_rules():
            beside = witness.kinks(case.true_gradient, case.point, case.truth, given)
            kinks = at_the_kinks(case, given, beside)
        verdict = judge(case, answer, wide, used, kinks.intervals or None)
        if not right(verdict.leaves):
            findings = _beyond_kinks(case, verdict.leaves) or name_causes(
                case, given, wide or answer, kinks.intervals, verdict.floors, used
            )
    return GradientReport(
        ok=right(verdict.leaves),
        leaves=verdict.leaves,
        findings=tuple(findings),
        notes=(*case.notes, *_kink_notes(verdict.leaves)),
        precision=str(verdict.precision),
        title="gradient, held to autodiff alone (differences of the loss were not asked)",
    )


def _stopped(case: Case, leaves: tuple[LeafReport, ...], given: Leaves) -> str:
    """Why a gradient of a loss with a `stop_gradient` that matters may not be called right: there
    are two, and this is one of them; empty where it is neither."""
    whole = case.without_stops
    if whole is None:
        return ""
    if right(leaves):
        return (
            "it is the gradient with what stop_gradient returns held constant, and the loss's "
            "values change otherwise. If that is meant (a semi-gradient, a straight-through "
            "estimator), say so: autodiff_only=True"
        )
    if right(compare_leaves(given, whole, case.floors(np.float64))):
        return (
            "it is the gradient of the loss as if there were no stop_gradient in it, which "
            "jax.grad holds constant. Take stop_gradient out of the loss, or be held to jax.grad: "
            "autodiff_only=True"
        )
    return ""


def _separated(leaf: LeafReport, along: Along) -> LeafReport:
    """A leaf whose entries are wrong together, though each by itself may be right."""
    wrong = int(np.count_nonzero(along.way[leaf.path]))
    return replace(leaf, ok=not wrong, wrong=wrong)


def _ties(case: Case, along: Along) -> Finding:
    paths = [path for path, v in along.way.items() if v.any()]
    count = sum(int(np.count_nonzero(along.way[path])) for path in paths)
    detail = (
        f"along a direction through {count} entries on kinks yours is {along.given:.6g} and the "
        f"loss leaves open {along.low:.6g} to {along.high:.6g}"
    )
    return blame(case, "ties", paths, detail)


def _beyond_kinks(case: Case, leaves: tuple[LeafReport, ...]) -> list[Finding]:
    """The finding where all that is wrong is on a kink."""
    wrong = [leaf for leaf in leaves if not leaf.ok]
    if any(leaf.beyond is None for leaf in wrong):
        return []
    leaf = wrong[0]
    low, high = leaf.beyond or (0.0, 0.0)
    detail = f"{leaf.given:.6g} is not between {low:.6g} and {high:.6g}"
    return [blame(case, "beyond_kink", [leaf.path for leaf in wrong], detail)]


# -- What explains is loaded only where something is wrong -----------------------------------------


def blame(*args: Any) -> Finding:
    from jaxnn.gradcheck import diagnosis

    return diagnosis.blame(*args)


def name_causes(*args: Any) -> list[Finding]:
    from jaxnn.gradcheck import diagnosis

    return diagnosis.name_causes(*args)


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
        finding = blame(case, "dtype", list(bad), f"dtype {next(iter(bad.values()))}")
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
        dtypes = (case.dtype, *(v.dtype for v in values), *case.gradient_dtypes)
        coarsest = max(dtypes, key=epsilon)
        # Two answers are alike to the rounding of their own size: at a kink the truth may be 0.
        own = NOISE_FACTOR * epsilon(coarsest) * largest(*map(as_real, values))
        return not _alike(*values, case.floors(coarsest)[path] + own)

    paths = [path for path in answer.leaves if differs(path)]
    if paths:
        case.measure_noise()
    return [path for path in paths if differs(path)]


def _refused(case: Case, answer: Answer, code: str, paths: list[str]) -> GradientReport | None:
    """The report of a gradient that is no function of its arguments, if some leaves say so."""
    if not paths:
        return None
    leaves = compare_leaves(answer.leaves, case.truth, case.floors(case.dtype))
    finding = blame(case, code, paths, f"seen in {', '.join(paths)}")
    return GradientReport(False, leaves, (finding,), precision=str(case.dtype))


def _alike(a: Any, b: Any, floor: float) -> bool:
    """Equal to the floor, NaN and infinity in the same places included."""
    x, y = as_real(a), as_real(b)
    if x.shape != y.shape:
        return False
    return bool(((np.abs(x - y) <= 2 * floor) | (x == y) | (np.isnan(x) & np.isnan(y))).all())


# -- The notes -------------------------------------------------------------------------------------


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
            "autodiff: the loss has a custom rule or a rounding in it; "
            f"the disputed entries, up to {witness.PARTIALS} in each leaf, are held to differences"
        )
    return "the loss does not have the derivative that autodiff claims: look at the loss as well"
