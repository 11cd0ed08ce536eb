"""A homework's numbers beside the true ones, in its own notation: examples as columns."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxnn.compilation import QUICKLY
from jaxnn.gradcheck.causes import Notation, diagnose_network, named, origin
from jaxnn.gradcheck.compare import (
    Float64Array,
    LeafReport,
    as_real,
    compare_leaves,
    epsilon,
    incomparable,
    widespread,
)
from jaxnn.gradcheck.derivation import Derivation
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.hypotheses import near
from jaxnn.gradcheck.network import floors_of, network_at, testimony
from jaxnn.gradcheck.numpy_activations import FUNCTIONS
from jaxnn.gradcheck.reference import float64_rules, network_truth, order
from jaxnn.gradcheck.report import Finding, GradientReport
from jaxnn.nn.activations import ACTIVATIONS

if TYPE_CHECKING:
    from jaxnn.homework.homework import Setting

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Truth:
    """The right derivation at the homework's point, in rows, and what autodiff says of it."""

    net: Derivation
    derivatives: dict[str, Float64Array]

    @classmethod
    def of(
        cls,
        setting: "Setting",
        params: Mapping[str, Float64Array],
        X: Float64Array,
        Y: Float64Array,
    ) -> "Truth":
        """Every derivative by autodiff in float64."""
        activation = ACTIVATIONS[setting.activation]
        rows = {name: value[:, 0] if name[0] == "b" else value for name, value in params.items()}
        with float64_rules():
            program = jax.jit(
                lambda p, X, Y: network_truth(
                    p, X, Y, activation, mean=setting.mean, l2=setting.l2
                ),
                compiler_options=QUICKLY,
            )
            derivatives = {k: as_real(v) for k, v in program(rows, X.T, Y.T).items()}
        net = network_at(rows, X.T, Y.T, activation, mean=setting.mean, l2=setting.l2)
        return cls(net, {name: derivatives[name] for name in order(net.L)})

    def report(self, name: str, runs: Mapping[str, Arrays], notes: list[str]) -> GradientReport:
        """The verdict on what the file returned: its forward pass, then each derivative."""
        ahead = self._forward(runs["forward"])
        given = runs["right"] if ahead and runs["right"] else runs["first"]
        missing = [f"d{kind}{i}" for i in self.net.W for kind in "Wb" if f"d{kind}{i}" not in given]
        truth = {n: _columns(n, t) for n, t in self.derivatives.items() if n in given}
        leaves, precision = self._compared(given, truth)
        leaves += [incomparable(n, _columns(n, self.derivatives[n]), "missing") for n in missing]
        findings = list(ahead)
        changed = [
            n
            for n in truth
            if not np.array_equal(runs["first"][n], runs["second"][n], equal_nan=True)
        ]
        if missing:
            detail = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            findings.append(Finding("structure", "", sentence("structure", "", detail=detail)))
        elif changed and not ahead:
            first = origin("nondeterministic", changed, self.net.L, given)
            told = sentence("nondeterministic", first, detail=f"seen in {', '.join(changed)}")
            findings.append(
                Finding("nondeterministic", first, told, None, tuple(changed), ordered=True)
            )
        elif not all(leaf.ok for leaf in leaves):
            findings += self._diagnose(given, truth)
        if ahead and runs["right"] and all(leaf.ok for leaf in leaves):
            notes = [*notes, "the derivatives above are right where they are given the right cache"]
        rows = {name: _rows(name, given[name], true) for name, true in truth.items()}
        return GradientReport(
            not findings,
            tuple(leaves),
            tuple(findings),
            testimony(self.net, self.derivatives, rows),
            tuple(notes),
            str(np.dtype(precision)),
            name,
        )

    def _compared(
        self, given: Arrays, truth: Mapping[str, Float64Array]
    ) -> tuple[list[LeafReport], Any]:
        """Held to float64; or to a shorter dtype that was returned, or to float32 where what is
        wrong in float64 is wrong everywhere in its leaf, as rounding on the way makes it."""
        returned = [value.dtype for value in given.values() if value.dtype.kind == "f"]
        exact: list[LeafReport] = []
        for precision in sorted({np.dtype("f8"), np.dtype("f4"), *returned}, key=epsilon):
            floors = floors_of(self.derivatives, precision)
            values = _conventional(given, truth, floors, self.net.k)
            leaves = list(compare_leaves(values, truth, floors))
            exact = exact or leaves
            if all(leaf.ok for leaf in leaves) and (widespread(exact) or precision in returned):
                return leaves, precision
        return exact, np.float64

    def _forward(self, cache: Arrays) -> tuple[Finding, ...]:
        """The first of Z1, A1, Z2, A2 that a homework's own feed_forward gets wrong."""
        net = self.net
        for layer in range(1, net.L + 1):
            for name, right in ((f"Z{layer}", net.Z[layer]), (f"A{layer}", net.A[layer])):
                if name not in cache or near(cache[name], right.T, _forward_floor(right)):
                    continue
                value = cache[name]
                detail = f"expected shape {right.T.shape}, found {value.shape}"
                if value.shape == right.T.shape:
                    detail = self._guess(name, layer, value.T)
                return (
                    Finding(
                        "feed_forward",
                        name,
                        sentence("feed_forward", name, detail=detail),
                        ordered=True,
                    ),
                )
        return ()

    def _guess(self, name: str, layer: int, value: Float64Array) -> str:
        """What a wrong Z or A looks like."""
        net, Z = self.net, self.net.Z[layer]
        inputs = net.A[layer - 1]
        guesses = {
            "it is W times the input, without the bias": inputs @ net.W[layer].T,
            "the softmax's sum is taken over the examples: sum over the classes, axis=0": np.exp(Z)
            / np.exp(Z).sum(axis=0),
            **{
                f"it is {g}(Z{layer}); if that is meant, name {g} as the activation": function(Z)
                for g, function in FUNCTIONS.items()
            },
        }
        found = (
            told for told, guess in guesses.items() if near(value, guess, _forward_floor(guess))
        )
        return next(found, "its values differ from the document's equation")

    def _diagnose(self, given: Arrays, truth: Mapping[str, Float64Array]) -> list[Finding]:
        """The cause, in rows; then shapes as the file has them. What has no name in float64 may
        have one that rounding in float32 hides."""
        rows = {name: _rows(name, given[name], true) for name, true in truth.items()}
        notation = Notation.of(self.net, columns=True)
        exact, short = (floors_of(self.derivatives, dtype) for dtype in (np.float64, np.float32))
        findings = diagnose_network(self.net, rows, self.derivatives, exact, notation)
        if not named(findings):
            again = diagnose_network(self.net, rows, self.derivatives, short, notation)
            findings = again if named(again) else findings
        return [self._shaped(finding, given, truth) for finding in findings]

    def _shaped(self, finding: Finding, given: Arrays, truth: Arrays) -> Finding:
        if finding.code != "shape":
            return finding
        name = finding.equation
        detail = f"expected {truth[name].shape}, found {given[name].shape}"
        told = sentence("shape", name, detail=detail)
        return replace(finding, sentence=told)


def _forward_floor(right: Float64Array) -> float:
    """Rounding in float32 is no fault of a forward pass, and far below any mistake."""
    return 32 * epsilon(np.float32) * max(1.0, float(np.abs(right).max(initial=0.0)))


def _columns(name: str, rows: Float64Array) -> Float64Array:
    """dZ, dA (m, n) as (n, m); db (n,) as (n, 1); dW as it is."""
    return {"W": rows, "b": rows[:, None] if rows.ndim == 1 else rows}.get(name[1], rows.T)


def _rows(name: str, given: np.ndarray, true: Float64Array) -> Float64Array:
    """The opposite; a bias of another shape than (n, 1) keeps one that cannot be mistaken."""
    value = as_real(given)
    if name[1] == "b":
        if value.shape == true.shape:
            return value[:, 0]
        return value[None] if value.ndim == 1 else value
    return value if name[1] == "W" else value.T


def _conventional(
    given: Arrays, truth: Mapping[str, Float64Array], floors: Mapping[str, Any], k: float
) -> dict[str, Float64Array]:
    """Intermediates that carry the mean's 1/m are brought to the document's convention."""
    values = {name: as_real(given[name]) for name in truth}
    return {
        name: value / k if name[1] in "ZA" and near(value, k * truth[name], floors[name]) else value
        for name, value in values.items()
    }
