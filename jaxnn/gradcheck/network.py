"""Our own network as a patient: every intermediate and every parameter, against autodiff."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnn import mlp
from jaxnn.activations import ACTIVATIONS, Activation, sigmoid
from jaxnn.gradcheck import witness
from jaxnn.gradcheck.causes import Notation, diagnose_network
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
from jaxnn.gradcheck.reference import cast, float64_rules, network_truth, order
from jaxnn.gradcheck.report import Finding, GradientReport, Witness

BackPropagate = Callable[..., Mapping[str, Array]]
Leaves = Mapping[str, Float64Array]


class Derivatives(NamedTuple):
    """By hand in the dtype given, by hand in float64, and by autodiff in float64."""

    given: Leaves
    wide: Leaves
    truth: Leaves


# A check runs once: less optimisation makes the program ready a third sooner.
@partial(
    jax.jit,
    static_argnames=("activation", "back_propagate"),
    compiler_options={"xla_backend_optimization_level": "0"},
)
def _program(
    params: mlp.Params, X: Array, Y: Array, activation: Activation, back_propagate: BackPropagate
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """All three sets of derivatives in one compiled program."""

    def by_hand(params: mlp.Params, X: Array, Y: Array) -> dict[str, Array]:
        cache = mlp.feed_forward(params, X, activation)
        return dict(back_propagate(params, cache, Y, activation))

    wide, inputs, targets = cast((params, X, Y), jnp.float64)
    # Soft targets sum to 1 in their own dtype only, and A − Y holds where they sum to 1.
    targets = targets / targets.sum(axis=1, keepdims=True)
    truth = network_truth(wide, inputs, targets, activation)
    return by_hand(params, X, Y), by_hand(wide, inputs, targets), truth


def verify_network(
    params: mlp.Params,
    X: Any,
    Y: Any,
    activation: Activation = sigmoid,
    back_propagate: BackPropagate = mlp.back_propagate,
) -> GradientReport:
    """Hold `back_propagate` against autodiff on a mini-batch X (m, n_x), Y (m, C).

    The rows of Y are one-hot or sum to 1. Every dZ_l, dA_l, dW_l and db_l is compared entry by
    entry, in the dtype of the arguments and in float64. In float64 no single wrong entry passes; in
    the dtype given, nothing that is more than rounding does.
    """
    derivatives = _derivatives(params, X, Y, activation, back_propagate)
    net = network_at(params, X, Y, activation)
    dtype = np.result_type(*(value.dtype for value in params.values()))
    exact = _report(net, derivatives.wide, derivatives.truth, np.dtype(np.float64))
    in_dtype = _report(net, derivatives.given, derivatives.truth, dtype)
    report, shown = (in_dtype, derivatives.given) if exact.ok else (exact, derivatives.wide)
    return replace(report, witness=testimony(net, derivatives.truth, shown))


def _derivatives(
    params: mlp.Params, X: Any, Y: Any, activation: Activation, back_propagate: BackPropagate
) -> Derivatives:
    with float64_rules():
        found = jax.device_get(_program(params, X, Y, activation, back_propagate))
    return Derivatives(
        *({name: as_real(d[name]) for name in order(mlp.depth(params)) if name in d} for d in found)
    )


def _report(net: Derivation, given: Leaves, truth: Leaves, dtype: Any) -> GradientReport:
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
        findings = diagnose_network(net, given, truth, floors, Notation(net.activation.name))
    return GradientReport(
        ok,
        leaves,
        tuple(findings),
        precision=str(dtype),
        title="the network's hand-derived gradient",
    )


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
    point = net.point()
    return witness.examine(
        lambda at: net.moved(at).loss(),
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


#: (sizes, activation): the document's network, then other depths and activations.
SHAPES = (
    ((784, 64, 10), "sigmoid"),
    ((13, 5), "sigmoid"),
    ((13, 11, 5), "tanh"),
    ((13, 11, 5), "relu"),
    ((13, 11, 7, 5), "relu"),
    ((13, 11, 7, 3, 5), "tanh"),
)


def verify_shapes(m: int = 64) -> Iterator[GradientReport]:
    """The verdict on each of SHAPES on random data, in float32 and then in float64."""
    rng = np.random.default_rng(0)
    for sizes, name in SHAPES:
        X = rng.random((m, sizes[0])).astype(np.float32)
        Y = np.eye(sizes[-1], dtype=np.float32)[rng.integers(0, sizes[-1], m)]
        params: dict[str, Any] = {}
        for layer, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
            W, b = rng.standard_normal((n_out, n_in)) * n_in**-0.5, rng.standard_normal(n_out)
            params |= {f"W{layer}": W.astype(np.float32), f"b{layer}": b.astype(np.float32)}
        activation = ACTIVATIONS[name]
        given, wide, truth = _derivatives(params, X, Y, activation, mlp.back_propagate)
        net = network_at(params, X, Y, activation)
        seen = testimony(net, truth, wide)
        for values, dtype in ((given, np.float32), (wide, np.float64)):
            title = f"{'-'.join(map(str, sizes))}, {name}, {np.dtype(dtype)}"
            report = _report(net, values, truth, np.dtype(dtype))
            yield replace(report, title=title, witness=seen)
