"""Which wrong equation gives the numbers at hand? The derivation, followed from dZ_L to db_1.

`Trail` goes the way of the person who wrote the gradient. At each equation it tries the right one
and then the wrong ones, goes on with what that person must have had, and drops a trail as soon as
it contradicts a number that was returned.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxnn.gradcheck.compare import Float64Array, largest
from jaxnn.gradcheck.derivation import OUTPUT, Derivation, Derivatives
from jaxnn.gradcheck.hypotheses import Facts, Mark, explain_leaf, fit_scale, near, scale_marks


class Step(NamedTuple):
    """A mistake at an equation."""

    equation: str
    mark: Mark


Steps = tuple[Step, ...]
UNKNOWN = Mark("unknown", doubt=2.0)


def cost(steps: Steps) -> float:
    """How far-fetched an explanation is: habits first, then places, then doubts."""
    habits = {(s.mark.code, s.mark.factor if s.mark.code == "scale" else 0) for s in steps}
    doubts = {(s.mark.code, s.mark.doubt) for s in steps}
    return len(habits) + 0.1 * (len(steps) - len(habits)) + sum(doubt for _, doubt in doubts)


@dataclass
class Trail:
    """The search. `given` holds dW_l and db_l, and any dZ_l and dA_l that were returned as well."""

    net: Derivation
    given: Derivatives
    floor: Mapping[str, Float64Array | float]
    truth: Derivatives
    limit: float = 3.05
    best: list[Steps] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.facts = Facts(self.net.sizes(), self.net.l2)
        # Each returned intermediate pins the trail down: more mistakes can then be told apart.
        self.limit += sum(1.0 if name[1] in "ZA" else 0.1 for name in self.given)

    def explanations(self) -> list[Steps]:
        """The simplest explanations, all of the same cost; none if nothing simple explains it."""
        L = self.net.L
        self._below(L, None, None, ())
        return self.best

    def _below(
        self, layer: int, dA: Float64Array | None, drift: Float64Array | None, steps: Steps
    ) -> None:
        """Follow dZ_l, dW_l, db_l, then dA_{l−1}. `drift` is d(dA)/dη of stale weights, or None."""
        if cost(steps) > self.limit:
            return
        for found, dZ in self._dZ(layer, dA, drift):
            after = steps + found
            if cost(after) > self.limit:
                continue
            after += self._dW(layer, dZ, dA, _plain(after))
            after += self._db(layer, dZ, dA, _plain(after))
            after = _bias_by_weight(after, layer)
            if cost(after) > self.limit:
                continue
            if layer == 1:
                self._record(after)
                continue
            for found_A, below, direction in self._dA(layer - 1, dZ):
                self._below(layer - 1, below, direction, after + found_A)

    def _record(self, steps: Steps) -> None:
        total = cost(steps)
        if total < self.limit - 1e-9:
            self.best = []
        self.limit = total
        if steps not in self.best:
            self.best.append(steps)

    def _tolerance(self, name: str, predicted: Float64Array) -> Any:
        """The noise floor, wider where the prediction is larger than the truth."""
        scale = largest(self.truth[name])
        return self.floor[name] * max(1.0, largest(predicted) / scale if scale else 1.0)

    def _agrees(self, name: str, value: Float64Array) -> bool:
        """Does this value of an intermediate, by either convention of 1/m, agree with `given`?"""
        if name not in self.given:
            return True
        given, tolerance = self.given[name], self._tolerance(name, value)
        return near(given, value, tolerance) or near(given, value * self.net.k, tolerance)

    def _returned(self, name: str, right: Float64Array) -> tuple[Steps, Float64Array]:
        """An intermediate that no line of the tables gives: its own marks, then its own value."""
        given = self.given[name]
        if given.shape != right.shape:
            detail = f"expected {right.shape}, found {given.shape}"
            return (Step(name, Mark("shape", detail=detail)),), right
        facts = self.facts._replace(axes=("example", "unit"))
        marks = explain_leaf(given, right, self._tolerance(name, right), facts)
        return tuple(Step(name, mark) for mark in marks or (UNKNOWN,)), given

    # -- dZ ------------------------------------------------------------------------------------

    def _dZ(
        self, layer: int, dA: Float64Array | None, drift: Float64Array | None
    ) -> Iterator[tuple[Steps, Float64Array]]:
        name = f"dZ{layer}"
        right: Float64Array | None = None
        agreed = False
        for steps, value in self._candidates(layer, dA, drift):
            right = value if right is None else right
            if self._agrees(name, value):
                agreed = True
                yield steps, value
                if not steps and name not in self.given:
                    yield from self._scaled(layer, value)
        if right is not None and not agreed:
            yield self._returned(name, right)

    def _candidates(
        self, layer: int, dA: Float64Array | None, drift: Float64Array | None
    ) -> Iterator[tuple[Steps, Float64Array]]:
        """The right dZ_l, then the lines of the tables that differ from it."""
        net, name = self.net, f"dZ{layer}"
        if dA is None:
            A, Y = net.A[layer], net.Y
            yield (), A - Y
            with np.errstate(all="ignore"):
                for code, text, wrong in OUTPUT:
                    yield (Step(name, Mark(code, detail=_indexed(text, layer))),), wrong(A, Y)
            return
        for mark, factor in (None, net.slope(layer)), *net.wrong_slopes(layer):
            steps: Steps = ()
            if mark:
                other = mark.code == "wrong_activation_derivative"
                detail = _indexed(mark.detail, layer) if other else ""
                steps = (Step(name, mark._replace(detail=detail)),)
            if drift is None:
                yield steps, dA * factor
            elif (eta := self._step(layer, dA, drift, factor)) is not None:
                stale = Step(f"dA{layer}", Mark("stale_weights", eta, f"{eta:.6g}"))
                yield (stale, *steps), (dA + eta * drift) * factor

    def _scaled(self, layer: int, dZ: Float64Array) -> Iterator[tuple[Steps, Float64Array]]:
        """dZ_l times the constant that its own dW_l shows."""
        name = f"dW{layer}"
        given, data = self.given.get(name), self.net.k * dZ.T @ self.net.A[layer - 1]
        if given is None or given.shape != data.shape:
            return
        fitted = fit_scale(
            given - self.net.l2 * self.net.W[layer],
            data,
            self._tolerance(name, data),
            self.facts.sizes,
        )
        if fitted and fitted[0] != 1:
            marks = scale_marks(fitted, self.facts.sizes)
            yield tuple(Step(f"dZ{layer}", mark) for mark in marks), fitted[0] * dZ

    def _step(
        self, layer: int, dA: Float64Array, drift: Float64Array, slope: Float64Array
    ) -> float | None:
        """The η with which W_{l+1} had been updated: dW_l is linear in it."""
        given = self.given.get(f"dW{layer}")
        base, turn = self.net.dW(layer, dA * slope), self.net.k * (drift * slope).T
        direction = turn @ self.net.A[layer - 1]
        if given is None or given.shape != base.shape or not direction.any():
            return None
        eta = float(((given - base) * direction).sum() / (direction * direction).sum())
        fits = near(given, base + eta * direction, 2 * self._tolerance(f"dW{layer}", base))
        return eta if fits and abs(eta) > 1e-9 else None

    # -- dA ------------------------------------------------------------------------------------

    def _dA(
        self, layer: int, dZ: Float64Array
    ) -> Iterator[tuple[Steps, Float64Array, Float64Array | None]]:
        """dA_l = dZ_{l+1} W_{l+1}, then Wᵀ in its place, then updated weights, or the returned."""
        name, W = f"dA{layer}", self.net.W[layer + 1]
        right = dZ @ W
        returned = name in self.given
        agreed = self._agrees(name, right)
        if agreed:
            yield (), right, None
        if W.shape[0] == W.shape[1] and self._agrees(name, dZ @ W.T):
            agreed = True
            yield (Step(name, Mark("weights_not_transposed")),), dZ @ W.T, None
        update = self.given.get(f"dW{layer + 1}")
        stale = update is not None and update.shape == W.shape and np.isfinite(update).all()
        if stale and not returned:
            yield (), right, -dZ @ update  # type: ignore[operator]
        elif stale and not agreed:
            drift = -dZ @ update  # type: ignore[operator]
            given = self.given[name]
            for k in (1.0, self.net.k):
                if given.shape != right.shape or not drift.any():
                    continue
                eta = float(((given / k - right) * drift).sum() / (drift * drift).sum())
                if self._agrees(name, right + eta * drift):
                    agreed = True
                    mark = Mark("stale_weights", eta, f"{eta:.6g}")
                    yield (Step(name, mark),), right + eta * drift, None
                    break
        if not agreed:
            steps, value = self._returned(name, right)
            yield steps, value, None

    # -- dW and db -----------------------------------------------------------------------------

    def _dW(self, layer: int, dZ: Float64Array, dA: Float64Array | None, alone: bool) -> Steps:
        name, net = f"dW{layer}", self.net
        if name not in self.given:
            return ()
        right = net.dW(layer, dZ)
        wrong = self._inputs(layer, dZ, dA)

        def examples() -> Float64Array:
            return net.k * dZ[:, :, None] * net.A[layer - 1][:, None, :]

        return self._leaf(name, right, net.W[layer], wrong, examples if alone else None)

    def _inputs(
        self, layer: int, dZ: Float64Array, dA: Float64Array | None
    ) -> Iterator[tuple[Mark, Float64Array]]:
        """dW_l from the wrong arrays: dA_l for dZ_l, or another layer's values for A_{l−1}."""
        net, name = self.net, f"A{layer - 1}" if layer > 1 else "X"
        if dA is not None:
            yield (
                Mark("missing_activation_derivative", detail=f"dA{layer} stands for dZ{layer}"),
                (net.dW(layer, dA)),
            )
        values = {f"Z{i}": Z for i, Z in net.Z.items()} | {f"A{i}": A for i, A in net.A.items()}
        for other, value in values.items():
            if value.shape == net.A[layer - 1].shape and value is not net.A[layer - 1]:
                found = "X" if other == "A0" else other
                yield (
                    Mark("wrong_layer_input", detail=f"{found} where {name} belongs"),
                    (net.dW(layer, dZ, value)),
                )

    def _db(self, layer: int, dZ: Float64Array, dA: Float64Array | None, alone: bool) -> Steps:
        name, net = f"db{layer}", self.net
        if name not in self.given:
            return ()
        wrong = []
        if dA is not None:
            mark = Mark("missing_activation_derivative", detail=f"dA{layer} stands for dZ{layer}")
            wrong = [(mark, net.k * dA.sum(axis=0))]
        examples = (lambda: net.k * dZ) if alone else None
        return self._leaf(name, net.k * dZ.sum(axis=0), net.b[layer], iter(wrong), examples)

    def _leaf(
        self,
        name: str,
        right: Float64Array,
        param: Float64Array,
        wrong: Iterator[tuple[Mark, Float64Array]],
        examples: Callable[[], Float64Array] | None,
    ) -> Steps:
        """The mistakes of a returned dW or db, given the dZ that it was made of."""
        given, tolerance = self.given[name], self._tolerance(name, right)
        if near(given, right, tolerance):
            return ()
        for other, true in self.truth.items():
            if other != name and other[1] in "Wb" and near(given, true, self.floor[other]):
                return (Step(name, Mark("swapped_leaves", detail=other)),)
        for mark, value in wrong:
            if near(given, value, self._tolerance(name, value)):
                return (Step(name, mark),)
        facts = self.facts if name[1] == "W" else self.facts._replace(l2=0.0)
        marks = explain_leaf(given, right, tolerance, facts, param, examples)
        return tuple(Step(name, mark) for mark in ((UNKNOWN,) if marks is None else marks))


def _plain(steps: Steps) -> bool:
    """May some examples be missing? That is asked only where nothing else has been found."""
    return all(step.mark.code == "partial" for step in steps)


def _bias_by_weight(steps: Steps, layer: int) -> Steps:
    """A db alone that is divided by m has been averaged; with its dW, the mean is taken twice."""
    weight = any(s.equation == f"dW{layer}" and s.mark.code == "extra_mean" for s in steps)
    return tuple(
        Step(s.equation, s.mark._replace(code="bias_mean_for_sum"))
        if s.equation == f"db{layer}" and s.mark.code == "extra_mean" and not weight
        else s
        for s in steps
    )


def _indexed(text: str, layer: int) -> str:
    """ "A - Y" with the layer's number: "A2 - Y"."""
    return "".join(
        f"{c}{layer}" if c in "AZ" and not text[i + 1 : i + 2].isalnum() else c
        for i, c in enumerate(text)
    )
