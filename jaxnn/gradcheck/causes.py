"""From wrong numbers to findings: which equation, which mistake, and what to write instead."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxnn.gradcheck.compare import Float64Array
from jaxnn.gradcheck.derivation import Derivation
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.hypotheses import Facts, Mark, explain_leaf, near
from jaxnn.gradcheck.reference import order
from jaxnn.gradcheck.report import Finding
from jaxnn.gradcheck.trail import UNKNOWN, Step, Steps, Trail

Leaves = Mapping[str, Float64Array]
Floors = Mapping[str, Float64Array | float]

MEANS = ("missing_mean", "extra_mean")
#: Mistakes in dA_l that give the same dW_l and db_l as in dZ_l.
LINEAR = ("sign", "scale", "zero")
#: Mistakes in dZ_l that show in the same way in everything made of it.
SPREADING = ("unknown", "non_finite", "partial", "nondeterministic", "zero", "sign")


@dataclass(frozen=True)
class Notation:
    """How the equations are written for the reader: examples as rows, or as columns.

    `constant` is the loss's factor over its sum over the examples: "/ m" for a mean, "" for a sum,
    None for any other, whose place among the equations is the writer's own.
    """

    activation: str = "sigmoid"
    columns: bool = False
    constant: str | None = "/ m"
    l2: bool = False

    @classmethod
    def of(cls, net: Derivation, columns: bool) -> "Notation":
        """The notation of a network whose loss is k Σ_i (loss of example i) + l2/2 Σ‖W‖²."""
        constant = {1.0: "", 1 / net.m: "/ m"}.get(net.k)
        return cls(net.activation.name, columns, constant, net.l2 != 0)

    def right(self, equation: str, L: int) -> str:
        """The right equation, as code: "dA1 = dZ2 @ W2", or "dA1 = W2.T @ dZ2".

        Nothing where it depends on a constant that the writer may have put elsewhere.
        """
        kind, layer = equation[1], int(equation[2:])
        if kind not in "ZAWb" or (self.constant is None and (kind in "Wb" or equation == f"dZ{L}")):
            return ""
        A = f"A{layer - 1}" if layer > 1 else "X"
        over_m = f" {self.constant}" if self.constant else ""
        decay = f" + l2 * W{layer}" if self.l2 else ""
        total = (
            f"dZ{layer}.sum(axis=1, keepdims=True)" if self.columns else f"dZ{layer}.sum(axis=0)"
        )
        product = f"dZ{layer} @ {A}.T" if self.columns else f"dZ{layer}.T @ {A}"
        back = (
            f"W{layer + 1}.T @ dZ{layer + 1}" if self.columns else f"dZ{layer + 1} @ W{layer + 1}"
        )
        slope = f"dA{layer} * {self.activation}'(Z{layer})" if layer < L else f"A{layer} - Y"
        sides = {"Z": slope, "A": back, "W": product + over_m + decay, "b": total + over_m}
        once = f" (without / m if dZ{layer} has it already)" if over_m and kind in "Wb" else ""
        return f"{equation} = {sides[kind]}{once}"


def diagnose_network(
    net: Derivation,
    given: Leaves,
    truth: Leaves,
    floor: Floors,
    notation: Notation,
) -> list[Finding]:
    """The findings in a network's derivatives, named by their equations (dZ2, dW2 …)."""
    trail = Trail(net, given, floor, truth)
    explanations = trail.explanations()
    if not explanations:
        steps = [
            Step(name, UNKNOWN)
            for name in order(net.L)
            if name in given and not near(given[name], truth[name], floor[name])
        ]
        explanations = [tuple(steps)]
    told = [
        [_told(group, net, notation, given) for group in _grouped(steps, net.L, given)]
        for steps in explanations
    ]
    others = [f.sentence for finding in told[1:3] for f in finding if f not in told[0]]
    if others:
        last = told[0][-1]
        doubt = f"{last.sentence} Equally well explained here: {' '.join(others)}"
        told[0][-1] = replace(last, sentence=doubt, right="")
    return told[0]


def _grouped(steps: Steps, L: int, given: Leaves) -> list[tuple[Mark, str, list[str]]]:
    """One finding for each habit: its first equation, and all the places that it is in."""
    habits: dict[Any, list[Step]] = {}
    for step in steps:
        key = step.mark.code, step.mark.factor if step.mark.code == "scale" else 0
        habits.setdefault(key, []).append(step)
    groups = []
    for members in habits.values():
        places = sorted({s.equation for s in members}, key=order(L).index)
        groups.append((members[0].mark, origin(members[0].mark.code, places, L, given), places))
    return sorted(groups, key=lambda group: order(L).index(group[1]))


def origin(code: str, places: list[str], L: int, given: Collection[str] = ()) -> str:
    """The equation to blame for a mistake seen in several of a network's derivatives.

    Where dW_l, db_l and everything below are wrong in one way, dZ_l is. The mean's 1/m belongs to
    dW and db, so that is where it is missing, unless a dZ that was returned shows it.
    """
    first = min(places, key=order(L).index)
    layer = int(first[2:])
    if code in MEANS and first == f"dZ{layer}" and first not in given:
        return f"dW{layer}"
    below = {f"d{kind}{i}" for i in range(1, layer + 1) for kind in "Wb"}
    if code in SPREADING and below <= set(places) and f"dZ{layer}" not in given:
        return f"dZ{layer}"
    return first


def _told(
    group: tuple[Mark, str, list[str]], net: Derivation, notation: Notation, given: Leaves
) -> Finding:
    """A habit as a sentence, with the right equation beside it."""
    mark, equation, places = group
    also = [place for place in places if place != equation]
    detail = mark.detail
    if mark.code == "unknown":
        detail = f"what follows from it: {', '.join(also)}" if also else ""
    elif also and mark.code not in ("swapped_leaves",):
        detail = "; ".join(filter(None, [detail, f"also seen in {', '.join(also)}"]))
    layer, right = int(equation[2:]), notation.right(equation, net.L)
    if (
        equation[1] == "Z"
        and layer < net.L
        and mark.code in LINEAR
        and not {equation, f"dA{layer}"} & set(given)
    ):
        detail = "; ".join(filter(None, [detail, f"or dA{layer}: return both to tell which"]))
        right = ""
    text = sentence(mark.code, equation, mark.name, detail)
    return Finding(mark.code, equation, text, mark.factor, tuple(places), right, ordered=True)


def named(findings: Sequence[Finding]) -> bool:
    """Has everything that was found a name?"""
    return bool(findings) and all(finding.code != "unknown" for finding in findings)


# -- Any loss --------------------------------------------------------------------------------------


def diagnose_leaves(
    given: Leaves,
    truth: Leaves,
    floor: Floors,
    params: Leaves,
    sizes: Mapping[str, int],
    examples: Callable[[], Mapping[str, Float64Array] | None],
) -> list[Finding]:
    """The findings of a gradient about whose loss nothing is known, leaf by leaf."""
    facts, parts = Facts(sizes), _Once(examples)
    found: dict[str, tuple[Mark, ...]] = {}
    wrong = [path for path in truth if not near(given[path], truth[path], floor[path])]
    # The largest leaf first: what it shows without doubt is then tried on a leaf of one number,
    # which any constant would explain.
    for path in sorted(wrong, key=lambda path: -truth[path].size):
        value, true = given[path], truth[path]
        others = {p: true for p, true in truth.items() if p != path and true.any()}
        swap = [p for p, other in others.items() if near(value, other, floor[p])]
        if swap:
            found[path] = (Mark("swapped_leaves", detail=swap[0]),)
            continue
        marks = _as_before(found, value, true, floor[path], parts.of(path)) or explain_leaf(
            value, true, floor[path], facts, params.get(path), parts.of(path)
        )
        found[path] = marks or (UNKNOWN,)
    habits: dict[Any, list[Step]] = {}
    for path in wrong:
        for mark in found[path]:
            mark = _averaged(mark, path, truth, wrong)
            same = round(mark.factor, 9) if mark.code == "scale" and mark.factor else None
            habits.setdefault((mark.code, same), []).append(Step(path, mark))
    return [_leaf_finding(members) for members in habits.values()]


def _as_before(
    found: Mapping[str, tuple[Mark, ...]],
    given: Float64Array,
    true: Float64Array,
    floor: Float64Array | float,
    examples: Callable[[], Float64Array],
) -> tuple[Mark, ...]:
    """The mistake of an earlier leaf, if it explains this one too."""
    for marks in found.values():
        for mark in marks:
            if mark.weights is not None:
                expected = np.tensordot(np.asarray(mark.weights), examples(), 1)
            elif mark.code in ("scale", *MEANS, "sign") and len(marks) == 1:
                expected = (mark.factor or 1.0) * true
            else:
                continue
            if near(given, expected, floor * max(1.0, abs(mark.factor or 1.0))):
                return (mark,)
    return ()


def _averaged(mark: Mark, path: str, truth: Leaves, wrong: list[str]) -> Mark:
    """A leaf divided by m whose companion of more dimensions is right is a bias, averaged."""
    companions = [p for p in truth if truth[p].ndim == truth[path].ndim + 1]
    if mark.code == "extra_mean" and companions and not set(companions) & set(wrong):
        return mark._replace(code="bias_mean_for_sum")
    return mark


def _leaf_finding(members: list[Step]) -> Finding:
    mark, places = members[0].mark, tuple(dict.fromkeys(s.equation for s in members))
    detail = mark.detail
    if len(places) > 1:
        detail = "; ".join(filter(None, [detail, f"also in {', '.join(places[1:])}"]))
    text = sentence(mark.code, f"The derivative by {places[0]}", mark.name, detail)
    return Finding(mark.code, places[0], text, mark.factor, places)


@dataclass
class _Once:
    """Each example's part of the gradient, computed when it is first needed."""

    compute: Callable[[], Mapping[str, Float64Array] | None]
    known: list[Mapping[str, Float64Array] | None] = field(default_factory=list)

    def of(self, path: str) -> Callable[[], Float64Array]:
        def parts() -> Float64Array:
            if not self.known:
                self.known.append(self.compute())
            found = self.known[0]
            return np.zeros((0, 1)) if found is None else found[path]

        return parts
