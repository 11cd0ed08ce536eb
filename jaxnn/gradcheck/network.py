"""Our own network as a patient: every intermediate and every parameter, against autodiff."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnn.compilation import QUICKLY
from jaxnn.gradcheck import witness
from jaxnn.gradcheck.causes import Notation, diagnose_leaves, diagnose_network
from jaxnn.gradcheck.compare import (
    NOISE_FACTOR,
    Float64Array,
    as_real,
    compare_leaves,
    epsilon,
    largest,
)
from jaxnn.gradcheck.derivation import Derivation, derivation
from jaxnn.gradcheck.explanations import sentence
from jaxnn.gradcheck.hypotheses import BATCH
from jaxnn.gradcheck.reference import cast, float64_rules, network_truth, order
from jaxnn.gradcheck.report import Finding, GradientReport, Witness
from jaxnn.nn import mlp
from jaxnn.nn.activations import Activation, sigmoid
from jaxnn.nn.losses import Loss, softmax_cross_entropy

BackPropagate = Callable[..., Mapping[str, Array]]
Leaves = Mapping[str, Float64Array]
Diagnose = Callable[[Leaves, Leaves, Any], list[Finding]]


class Derivatives(NamedTuple):
    """By hand in the dtype given, by hand in float64, and by autodiff in float64."""

    given: Leaves
    wide: Leaves
    truth: Leaves


class Extras(NamedTuple):
    """What a network may have beyond the document's: see `mlp.back_propagate`."""

    masks: mlp.Masks = mlp.NO_MASKS
    l2: Any = None
    loss: Loss = softmax_cross_entropy

    def for_backward(self) -> dict[str, Any]:
        """The arguments of `back_propagate` that are given: anybody's takes the document's four."""
        l2 = {} if self.l2 is None else {"l2": self.l2}
        return l2 if self.loss is softmax_cross_entropy else {**l2, "loss": self.loss}


# A check runs once.
once = partial(jax.jit, compiler_options=QUICKLY)


@partial(once, static_argnames=("activation", "back_propagate", "loss"))
def _program(
    arguments: tuple[mlp.Params, Array, Any, mlp.Masks, Any],
    activation: Activation,
    back_propagate: BackPropagate,
    loss: Loss,
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """All three sets of derivatives in one compiled program."""

    def by_hand(params: mlp.Params, X: Array, Y: Any, masks: mlp.Masks, l2: Any) -> Any:
        cache = mlp.feed_forward(params, X, activation, masks=masks)
        given = Extras(masks, l2, loss).for_backward()
        return dict(back_propagate(params, cache, Y, activation, **given))

    params, X, Y, masks, l2 = cast(arguments, jnp.float64)
    # Soft targets sum to 1 in their own dtype only, and A − Y holds where they sum to 1.
    Y = jax.tree.map(lambda rows: rows / rows.sum(axis=1, keepdims=True), Y)
    zero_or_l2 = 0.0 if l2 is None else l2
    truth = network_truth(params, X, Y, activation, l2=zero_or_l2, masks=masks, loss=loss)
    return by_hand(*arguments), by_hand(params, X, Y, masks, l2), truth


def verify_network(
    params: mlp.Params,
    X: Any,
    Y: Any,
    activation: Activation = sigmoid,
    back_propagate: BackPropagate = mlp.back_propagate,
    *,
    masks: mlp.Masks = mlp.NO_MASKS,
    l2: Any = None,
    loss: Loss = softmax_cross_entropy,
) -> GradientReport:
    """Hold `back_propagate` against autodiff on a mini-batch X (m, n_x), Y (m, C).

    The rows of Y are one-hot or sum to 1. Every dZ_l, dA_l, dW_l and db_l is compared entry by
    entry, in the dtype of the arguments and in float64. In float64 no single wrong entry passes; in
    the dtype given, nothing that is more than rounding does. `masks`, `l2` and `loss`, whose
    targets Y then are, as `mlp.gradient` takes them.
    """
    extras = Extras(masks, l2, loss)
    derivatives = derivatives_of(params, X, Y, activation, back_propagate, extras)
    exact, in_dtype, testimony_on = verdicts(params, X, Y, activation, extras, derivatives)
    report, shown = (in_dtype, derivatives.given) if exact.ok else (exact, derivatives.wide)
    return replace(report, witness=testimony_on(shown))


def derivatives_of(
    params: mlp.Params,
    X: Any,
    Y: Any,
    activation: Activation,
    back_propagate: BackPropagate,
    extras: Extras,
) -> Derivatives:
    arguments = params, X, Y, dict(extras.masks), extras.l2
    with float64_rules():
        found = jax.device_get(_program(arguments, activation, back_propagate, extras.loss))
    return Derivatives(
        *({name: as_real(d[name]) for name in order(mlp.depth(params)) if name in d} for d in found)
    )


def verdicts(
    params: mlp.Params,
    X: Any,
    Y: Any,
    activation: Activation,
    extras: Extras,
    derivatives: Derivatives,
) -> tuple[GradientReport, GradientReport, Callable[[Leaves], Witness]]:
    """The verdict in float64 and in the dtype given, and who testifies on a set of derivatives.

    The document's derivation, with a penalty or without, is followed equation by equation to name
    a mistake. With masks or another loss, each derivative is looked at by itself.
    """
    given, wide, truth = derivatives
    if extras.masks or extras.loss is not softmax_cross_entropy:
        W_and_b = {f"d{name}": as_real(value) for name, value in params.items()}
        diagnose = partial(_diagnose_alone, params=W_and_b, m=len(X))
        testify = partial(_testimony_of_loss, params, X, Y, activation, extras, truth)
    else:
        net = network_at(params, X, Y, activation, l2=float(extras.l2 or 0.0))
        notation = Notation.of(net, columns=False)
        diagnose = partial(diagnose_network, net, notation=notation)
        testify = partial(testimony, net, truth)
    dtype = np.result_type(*(value.dtype for value in params.values()))
    exact = _report(diagnose, wide, truth, np.dtype(np.float64))
    return exact, _report(diagnose, given, truth, dtype), testify


def _report(diagnose: Diagnose, given: Leaves, truth: Leaves, dtype: Any) -> GradientReport:
    """The verdict on one set of derivatives, by the noise floor of a dtype."""
    floors = floors_of(truth, dtype)
    leaves = compare_leaves(given, truth, floors)
    ok = all(leaf.ok for leaf in leaves)
    findings: list[Finding] = []
    missing = [name for name in truth if name not in given]
    if missing:
        detail = f"{', '.join(missing)} is missing"
        text = sentence("structure", missing[0], detail=detail)
        findings = [Finding("structure", missing[0], text, None, tuple(missing))]
    elif not ok:
        findings = diagnose(given, truth, floors)
    return GradientReport(
        ok,
        leaves,
        tuple(findings),
        precision=str(dtype),
        title="the network's hand-derived gradient",
    )


def _diagnose_alone(
    given: Leaves, truth: Leaves, floors: Mapping[str, float], *, params: Leaves, m: int
) -> list[Finding]:
    """The first wrong equation, and with it those that follow from it."""
    return diagnose_leaves(given, truth, floors, params, {BATCH: m}, lambda: None)


def _testimony_of_loss(
    params: mlp.Params,
    X: Any,
    Y: Any,
    activation: Activation,
    extras: Extras,
    truth: Leaves,
    given: Leaves,
) -> Witness:
    """The second witness where NumPy has no loss: `mlp.loss` itself, in float64."""
    masks, l2, loss = extras
    with float64_rules():
        X, Y, masks, l2 = cast((X, Y, dict(masks), l2), jnp.float64)
        Y = jax.tree.map(lambda rows: rows / rows.sum(axis=1, keepdims=True), Y)

    @once
    def loss_at(params: mlp.Params, X: Array, Y: Any, masks: mlp.Masks) -> Array:
        return mlp.loss(params, X, Y, activation, masks=masks, l2=l2, loss=loss)

    def loss_of(at: Leaves) -> float:
        with float64_rules():
            return float(loss_at({name[1:]: value for name, value in at.items()}, X, Y, masks))

    return _examined(loss_of, {f"d{name}": as_real(p) for name, p in params.items()}, truth, given)


def network_at(
    params: Mapping[str, Any],
    X: Any,
    Y: Any,
    activation: Activation,
    *,
    mean: bool = True,
    l2: float = 0.0,
) -> Derivation:
    """The derivation of the document's network at one point, in NumPy's float64."""
    L = mlp.depth(params)
    W, b = ({i: as_real(params[f"{kind}{i}"]) for i in range(1, L + 1)} for kind in "Wb")
    rows, targets = as_real(X), as_real(Y)
    targets = targets / targets.sum(axis=1, keepdims=True)
    return derivation(W, b, rows, targets, activation, 1 / len(rows) if mean else 1.0, l2)


def testimony(net: Derivation, truth: Leaves, given: Leaves) -> Witness:
    """The second witness for a network: its loss written once more, in NumPy."""
    return _examined(lambda at: net.moved(at).loss(), net.point(), truth, given)


def _examined(
    loss: Callable[[Any], float], point: dict[str, Float64Array], truth: Leaves, given: Leaves
) -> Witness:
    return witness.examine(
        loss,
        point,
        {name: truth[name] for name in point},
        {name: given.get(name, np.zeros(0)) for name in point},
    )


def floors_of(truth: Leaves, dtype: Any) -> dict[str, float]:
    """The noise floor of each derivative, by the largest of its kind: dZ and dA, or dW and db."""
    scale = {
        kind: largest(*(true for name, true in truth.items() if name[1] in kind))
        for kind in ("ZA", "Wb")
    }
    unit = NOISE_FACTOR * epsilon(dtype)
    return {name: unit * scale["ZA" if name[1] in "ZA" else "Wb"] for name in truth}
