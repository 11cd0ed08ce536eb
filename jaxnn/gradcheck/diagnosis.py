"""Which cause to look for: by the network's derivation where the loss is a network's, else leaf by
leaf; and with the floors of a short dtype where rounding has hidden it."""

from typing import Any

import numpy as np

from jaxnn.gradcheck.case import Answer, Case, Leaves
from jaxnn.gradcheck.causes import Notation, diagnose_leaves, diagnose_network, named, origin
from jaxnn.gradcheck.compare import as_real, epsilon
from jaxnn.gradcheck.derivation import Derivation
from jaxnn.gradcheck.engine import explain_loss
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.networks import Layout, find_network
from jaxnn.gradcheck.report import Finding
from jaxnn.gradcheck.tape import argument_names
from jaxnn.gradcheck.verdict import Floors, Intervals


def blame(case: Case, code: str, paths: list[str], detail: str) -> Finding:
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
    return Finding(code, first, text, None, tuple(paths), ordered=network is not None)


def _network(case: Case, floors: Floors) -> tuple[Layout, Derivation] | None:
    point = {path: as_real(value) for path, value in case.point.items()}
    return find_network(point, case.wide_args, case.truth, floors)


def name_causes(
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
        floors[path] = floors[path] + (high - low)
    network = _network(case, floors)
    if network is None:
        return _of_any_loss(case, given, floors)
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
    notation = Notation.of(net, layout.columns)
    findings = diagnose_network(
        net,
        {**layout.canonical(given), **returned},
        {**derivatives, **truth},
        {**dict.fromkeys(derivatives, top), **wide_floors},
        notation,
    )
    if named(findings) and not _zero_but_for_rounding(findings, layout.canonical(given)):
        return findings
    by_the_loss = _of_any_loss(case, given, floors)
    return by_the_loss if named(by_the_loss) else findings


def _zero_but_for_rounding(findings: list[Finding], given: Leaves) -> bool:
    """Is something said to be zero that was computed? A sum of what cancels is no missing sum."""
    return any(
        finding.code == "zero" and any(np.any(given[p]) for p in finding.places if p in given)
        for finding in findings
    )


def _of_any_loss(case: Case, given: Leaves, floors: Floors) -> list[Finding]:
    """By the loss's own backward pass; what no edit of it explains, leaf by leaf."""
    names = argument_names(case.loss, case.wide_args)
    found = explain_loss(case.loss_at, case.point, names, case.truth, given, floors)
    if found is None:
        return diagnose_leaves(
            given, case.truth, floors, case.point, case.sizes(), case.example_gradients
        )
    findings = []
    for finding in found:
        alone: list[Finding] = []
        if finding.code == "unknown":
            rest = set(finding.places)
            alone = diagnose_leaves(
                {path: given[path] if path in rest else true for path, true in case.truth.items()},
                case.truth,
                floors,
                case.point,
                case.sizes(),
                case.example_gradients,
            )
        findings += alone if named(alone) else [finding]
    return findings
