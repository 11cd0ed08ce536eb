"""The derivation in NumPy is autodiff's, and every wrong equation is found at its place."""

import jax
import numpy as np
import pytest

from jaxnn.gradcheck.causes import Notation, diagnose_network
from jaxnn.gradcheck.derivation import HIDDEN, OUTPUT, derivation
from jaxnn.gradcheck.network import floors_of
from jaxnn.gradcheck.numpy_activations import FUNCTIONS
from jaxnn.gradcheck.reference import float64_rules, network_truth, order
from jaxnn.nn.activations import ACTIVATIONS

from .point import derivation_at, network


@pytest.mark.sampled(8)
@pytest.mark.parametrize("activation", [*FUNCTIONS, "silu"])
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize(("mean", "l2"), [(True, 0.0), (False, 0.3)])
def test_the_derivation_is_what_autodiff_says(activation, depth, mean, l2):
    params, X, Y = network(depth, activation)
    with float64_rules():
        true = jax.jit(network_truth, static_argnames=("activation", "mean"))
        truth = jax.device_get(true(params, X, Y, ACTIVATIONS[activation], mean=mean, l2=l2))
    right = derivation_at(depth, activation, mean=mean, l2=l2).derivatives()
    assert list(right) == order(depth)
    assert set(right) == set(truth)
    for name, value in right.items():
        np.testing.assert_allclose(value, truth[name], rtol=1e-11, atol=1e-13, err_msg=name)


def student(net, changes, keep=()):
    """Back-propagation with equations changed: {"dZ1": lambda d: …} of what has been computed."""
    d = {}
    for name in order(net.L):
        layer = int(name[2:])
        right = {
            "Z": lambda i: d[f"dA{i}"] * net.slope(i) if i < net.L else net.A[i] - net.Y,
            "A": lambda i: d[f"dZ{i + 1}"] @ net.W[i + 1],
            "W": lambda i: net.dW(i, d[f"dZ{i}"]),
            "b": lambda i: net.k * d[f"dZ{i}"].sum(axis=0),
        }[name[1]]
        d[name] = changes[name](d) if name in changes else right(layer)
    return {name: value for name, value in d.items() if name[1] in "Wb" or name in keep}


def findings(net, given):
    truth = net.derivatives()
    floors = floors_of(truth, np.float64)
    told = diagnose_network(net, given, truth, floors, Notation(net.activation.name))
    return [(finding.code, finding.equation) for finding in told]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("keep", [(), ("dZ2", "dA1", "dZ1")])
@pytest.mark.parametrize(("code", "text", "wrong"), OUTPUT, ids=[row[1] for row in OUTPUT])
def test_every_wrong_output_equation_is_found(code, text, wrong, keep):
    net = derivation_at()
    given = student(net, {"dZ2": lambda d: wrong(net.A[2], net.Y)}, keep)
    assert findings(net, given) == [(code, "dZ2")]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("number", range(len(HIDDEN)))
def test_every_wrong_hidden_equation_is_found_at_each_layer(activation, number):
    for depth in (2, 3):
        net = derivation_at(depth, activation)
        for layer in range(1, depth):
            for mark, factor in net.wrong_slopes(layer):
                given = student(net, {f"dZ{layer}": lambda d, i=layer, f=factor: d[f"dA{i}"] * f})
                assert findings(net, given) == [(mark.code, f"dZ{layer}")], mark


def equal_sizes():
    """Three layers of one width: every product fits, whatever is exchanged."""
    rng = np.random.default_rng(0)
    W = {i: rng.normal(size=(5, 5)) for i in (1, 2, 3)}
    b = {i: rng.normal(size=5) for i in (1, 2, 3)}
    Y = np.eye(5)[rng.integers(0, 5, 17)]
    return derivation(W, b, rng.normal(size=(17, 5)), Y, ACTIVATIONS["sigmoid"], 1 / 17)


EQUAL = equal_sizes()


def without_mean():
    """dW_l and db_l summed where the loss is a mean, at every layer."""
    weights = {f"dW{i}": lambda d, i=i: d[f"dZ{i}"].T @ EQUAL.A[i - 1] for i in (1, 2, 3)}
    return weights | {f"db{i}": lambda d, i=i: d[f"dZ{i}"].sum(axis=0) for i in (1, 2, 3)}


STALE = {"dA1": lambda d: d["dZ2"] @ (EQUAL.W[2] - 0.5 * d["dW2"])}
NOT_TRANSPOSED = {"dA2": lambda d: d["dZ3"] @ EQUAL.W[3].T}
OTHER_INPUT = {"dW2": lambda d: EQUAL.dW(2, d["dZ2"], EQUAL.A[2])}
Z_FOR_A = {"dW2": lambda d: EQUAL.dW(2, d["dZ2"], EQUAL.Z[1])}
AVERAGED = {"db2": lambda d: d["dZ2"].mean(axis=0) / 17}
TWO = {"dZ3": lambda d: EQUAL.A[3], "dZ1": lambda d: d["dA1"]}

CHANGES = {
    "stale": (STALE, [("stale_weights", "dA1")]),
    "not transposed": (NOT_TRANSPOSED, [("weights_not_transposed", "dA2")]),
    "another input": (OTHER_INPUT, [("wrong_layer_input", "dW2")]),
    "Z for A": (Z_FOR_A, [("wrong_layer_input", "dW2")]),
    "bias averaged": (AVERAGED, [("bias_mean_for_sum", "db2")]),
    "no mean": (without_mean(), [("missing_mean", "dW3")]),
    "two": (TWO, [("labels_not_subtracted", "dZ3"), ("missing_activation_derivative", "dZ1")]),
    "something else": ({"dZ2": lambda d: np.abs(d["dA2"])}, [("unknown", "dZ2")]),
    "nothing": ({}, []),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("keep", [(), ("dZ3", "dA2", "dZ2", "dA1", "dZ1")], ids=["leaves", "all"])
def test_other_equations(case, keep):
    changes, expected = CHANGES[case]
    assert findings(EQUAL, student(EQUAL, changes, keep)) == expected


def test_intermediates_tell_many_mistakes_apart():
    changes = {
        "dZ3": lambda d: EQUAL.Y - EQUAL.A[3],
        "dA2": lambda d: d["dZ3"] @ EQUAL.W[3].T,
        "dZ2": lambda d: d["dA2"],
        "dA1": lambda d: 3.7 * d["dZ2"] @ EQUAL.W[2],
        "db1": lambda d: 0 * d["dZ1"].sum(axis=0),
    }
    given = student(EQUAL, changes, order(3))
    assert findings(EQUAL, given) == [
        ("sign", "dZ3"),
        ("weights_not_transposed", "dA2"),
        ("missing_activation_derivative", "dZ2"),
        ("scale", "dA1"),
        ("zero", "db1"),
    ]


def test_the_mean_may_be_in_dZ_or_in_dW():
    net = derivation_at()
    given = net.derivatives()
    given |= {name: given[name] / net.m for name in ("dZ2", "dA1", "dZ1")}
    assert findings(net, given) == []


@pytest.mark.parametrize(
    ("columns", "equation", "right"),
    [
        (False, "dW1", "dW1 = dZ1.T @ X / m"),
        (True, "dW2", "dW2 = dZ2 @ A1.T / m"),
        (True, "db1", "db1 = dZ1.sum(axis=1, keepdims=True) / m"),
        (True, "dA1", "dA1 = W2.T @ dZ2"),
        (False, "dZ1", "dZ1 = dA1 * tanh'(Z1)"),
        (False, "dZ2", "dZ2 = A2 - Y"),
    ],
)
def test_the_right_equation_is_told_in_the_readers_notation(columns, equation, right):
    assert Notation("tanh", columns).right(equation, 2).partition(" (")[0] == right
