"""Planted faults: mistakes that people make in a backward pass, each with its right diagnosis.

A fault in the network is a line of text in the place of another. `code` is the stable name of its
cause and `first_wrong` the first equation, in the order of backpropagation, that is wrong. Where
the gradient's numbers cannot tell two answers apart, "|" separates them: −dA1 and −σ′ give the same
dW1 and db1, and dZ2/m the same leaves as 1/m² in each of them. Where several mistakes are made at
once, "+" joins their codes, the first wrong equation's first. Where `first_wrong` is empty, the
answer has the wrong form and no equation is to blame.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from . import callbacks
from .callbacks import callback_problem
from .draws import DRAWN, drawn_problem
from .kinks import SETTINGS, kinked_problem
from .layers import SLIPS, layer_problem
from .mixed import WRONG, mixed_problem
from .others import EDITS, other_problem
from .problems import Problem, arrays_by_name, document_columns, inputs_by_outputs, network_problem

SQUARE_HEAD = (17, 11, 5, 5)  # n_h = C: W2 is square
SQUARE_BODY = (17, 7, 7, 5)  # n_x = n_h: W1 is square
EQUAL_HIDDEN = (19, 11, 7, 7, 5)  # n_1 = n_2: W2 of three layers is square
EQUAL_TOP = (19, 11, 13, 5, 5)  # n_2 = C: W3 of three layers is square
DOCUMENT = (61, 784, 64, 10)  # the document's network, on a batch of a prime size


class Fault(NamedTuple):
    """A planted fault: `build(seed)` gives the problem that a checker has to see through."""

    name: str
    code: str
    first_wrong: str
    build: Callable[[int], Problem]


def fault(name: str, code: str, first_wrong: str, *changes: str, **options: Any) -> Fault:
    """A network with these lines changed; `options` are those of `network_problem`."""
    options.setdefault("arrays", arrays_by_name(name))
    return Fault(name, code, first_wrong, lambda seed: network_problem(seed, *changes, **options))


def with_zero_rows(params, X, Y):
    """The first two examples are blank and b1 is 0: their Z1 sits on ReLU's kink."""
    X = X.copy()
    X[:2] = 0
    return {**params, "b1": np.zeros_like(params["b1"])}, X, Y


def far_inputs(params, X, Y):
    """Z1 reaches −900, where e⁻ᶻ overflows in every dtype."""
    return params, X * 700, Y


def far_in_float32(params, X, Y):
    """Z1 reaches −150: e¹⁵⁰ overflows in float32 and not in float64."""
    return params, X * (150 / np.abs(X @ params["W1"].T).max()) * np.float32(1.0), Y


def far_logits(params, X, Y):
    """Z2 reaches +900, where eᶻ overflows in every dtype."""
    return {**params, "b2": np.abs(params["b2"]) * 3000 + 900}, X, Y


class Velocity:
    """Momentum's memory: it answers with V in place of the gradient."""

    def __init__(self, gradient):
        self.gradient, self.V = gradient, None

    def __call__(self, params, X, Y):
        g = self.gradient(params, X, Y)
        V = self.V or dict.fromkeys(g, 0)
        self.V = {name: 0.9 * V[name] + 0.1 * g[name] for name in g}
        return self.V


def velocity_problem(seed):
    right = network_problem(seed, activation="relu", depth=3, dtype="float32")
    return right._replace(gradient=Velocity(right.gradient))


def noise(shape):
    """A dropout mask: half of the units, drawn anew each time."""
    return np.random.default_rng().integers(0, 2, shape).astype("float32")


SIGN = [
    fault("Y − A2", "sign", "dZ2", "dZ2 = Y - A2"),
    fault("minus in dW2", "sign", "dW2", "dW2 = -dZ2.T @ A1 / m", activation="tanh"),
    fault("minus in dA1", "sign", "dA1|dZ1", "dA1 = -dZ2 @ W2", activation="relu"),
    fault("tanh² − 1", "sign", "dZ1|dA1", "dZ1 = dA1 * (A1 ** 2 - 1)", activation="tanh"),
    fault("minus in dA2 of three layers", "sign", "dA2|dZ2", "dA2 = -dZ3 @ W3", depth=3),
    fault("minus in db1", "sign", "db1", "db1 = -dZ1.sum(axis=0) / m", depth=3, activation="tanh"),
    fault(
        "Y − A2, with inputs on ReLU's kink",
        "sign",
        "dZ2",
        "dZ2 = Y - A2",
        activation="relu",
        adjust=with_zero_rows,
    ),
]

MISSING_MEAN = [
    fault("no 1/m in dW2", "missing_mean", "dW2", "dW2 = dZ2.T @ A1"),
    fault("no 1/m in db2", "missing_mean", "db2", "db2 = dZ2.sum(axis=0)", activation="relu"),
    fault(
        "no 1/m anywhere",
        "missing_mean",
        "dW2|dZ2",
        "dW2 = dZ2.T @ A1",
        "db2 = dZ2.sum(axis=0)",
        "dW1 = dZ1.T @ X",
        "db1 = dZ1.sum(axis=0)",
        activation="tanh",
    ),
    fault(
        "no 1/m in the first layer",
        "missing_mean",
        "dW1|dZ1|dA1",
        "dW1 = dZ1.T @ X",
        "db1 = dZ1.sum(axis=0)",
        depth=3,
        activation="relu",
    ),
    fault(
        "no 1/m in the biases of three layers",
        "missing_mean",
        "db3",
        *(f"db{k} = dZ{k}.sum(axis=0)" for k in (3, 2, 1)),
        depth=3,
    ),
    fault(
        "no 1/m in dW2, with ReLU′(0) = 1 on the kink",
        "missing_mean",
        "dW2",
        "dW2 = dZ2.T @ A1",
        "dZ1 = np.where(Z1 >= 0, dA1, 0)",
        activation="relu",
        adjust=with_zero_rows,
    ),
]

EXTRA_MEAN = [
    fault("1/m in dZ2 too", "extra_mean", "dZ2|dW2", "dZ2 = (A2 - Y) / m"),
    fault("1/m² in dW1", "extra_mean", "dW1", "dW1 = dZ1.T @ X / m**2", activation="tanh"),
    fault(
        "mean of a sum loss",
        "extra_mean",
        "dW2|dZ2",
        "dW2 = dZ2.T @ A1 / m",
        "db2 = dZ2.sum(axis=0) / m",
        "dW1 = dZ1.T @ X / m",
        "db1 = dZ1.sum(axis=0) / m",
        reduction="sum",
    ),
    fault(
        "1/m in one weight of a sum loss",
        "extra_mean",
        "dW2",
        "dW2 = dZ2.T @ A1 / m",
        depth=3,
        activation="relu",
        reduction="sum",
    ),
    fault(
        "1/m in dA1 too",
        "extra_mean",
        "dA1|dZ1|dW1",
        "dA1 = dZ2 @ W2 / m",
        depth=3,
        activation="tanh",
    ),
]

BIAS_MEAN_FOR_SUM = [
    fault(
        "mean of a dZ2 that has 1/m",
        "bias_mean_for_sum",
        "db2",
        "dZ2 = (A2 - Y) / m",
        "dW2 = dZ2.T @ A1",
        "db2 = dZ2.mean(axis=0)",
        "dW1 = dZ1.T @ X",
        "db1 = dZ1.sum(axis=0)",
    ),
    fault("mean, then 1/m, in db1", "bias_mean_for_sum", "db1", "db1 = dZ1.mean(axis=0) / m"),
    fault(
        "both biases averaged twice",
        "bias_mean_for_sum",
        "db2",
        "db2 = dZ2.mean(axis=0) / m",
        "db1 = dZ1.mean(axis=0) / m",
        activation="relu",
    ),
    fault(
        "bias averaged in a sum loss",
        "bias_mean_for_sum",
        "db1",
        "db1 = dZ1.mean(axis=0)",
        depth=3,
        activation="tanh",
        reduction="sum",
    ),
]

SCALE = [
    fault("2(A2 − Y)", "scale", "dZ2|dW2", "dZ2 = 2 * (A2 - Y)"),
    fault("1/2m in dW1", "scale", "dW1", "dW1 = dZ1.T @ X / (2 * m)", activation="relu"),
    fault("mean over the classes too", "scale", "dZ2|dW2", "dZ2 = (A2 - Y) / C", activation="tanh"),
    fault("C times db2", "scale", "db2", "db2 = C * dZ2.sum(axis=0) / m"),
    fault(
        "momentum's V for dW",
        "scale",
        "dW2|dZ2",
        'return {"W1": (1 - beta) * dW1, "b1": (1 - beta) * db1,'
        ' "W2": (1 - beta) * dW2, "b2": (1 - beta) * db2}',
    ),
    fault("lr in dW1", "scale", "dW1", "dW1 = lr * dZ1.T @ X / m", lr=0.3, activation="tanh"),
    fault("m − 1 in db1", "scale", "db1", "db1 = dZ1.sum(axis=0) / (m - 1)", depth=3),
    fault("n_x for m", "scale", "dZ2|dW2", "dZ2 = (A2 - Y) * m / X.shape[1]", activation="relu"),
    fault("2 in dA2 of three layers", "scale", "dA2|dZ2", "dA2 = 2 * dZ3 @ W3", depth=3),
    fault("tanh′ halved", "scale", "dZ1|dA1", "dZ1 = dA1 * (1 - A1**2) / 2", activation="tanh"),
    fault("W1 · 1.01", "scale", "dW1", "dW1 = 1.01 * dZ1.T @ X / m", activation="relu", depth=3),
    fault("W2 · 1.0001", "scale", "dW2", "dW2 = 1.0001 * dZ2.T @ A1 / m", activation="tanh"),
    fault("784-64-10: W1 · 1.01", "scale", "dW1", "dW1 = 1.01 * dZ1.T @ X / m", sizes=DOCUMENT),
    fault(
        "784-64-10: b2 · 1.05", "scale", "db2", "db2 = 1.05 * dZ2.sum(axis=0) / m", sizes=DOCUMENT
    ),
]

TRANSPOSE = [
    fault("dW1 transposed", "transpose", "dW1", "dW1 = X.T @ dZ1 / m"),
    fault(
        "both weights transposed",
        "transpose",
        "dW2",
        "dW2 = A1.T @ dZ2 / m",
        "dW1 = X.T @ dZ1 / m",
        activation="relu",
    ),
    fault("square dW2 transposed", "transpose", "dW2", "dW2 = A1.T @ dZ2 / m", sizes=SQUARE_HEAD),
    fault(
        "square dW2 of three layers transposed",
        "transpose",
        "dW2",
        "dW2 = A1.T @ dZ2 / m",
        depth=3,
        activation="tanh",
        sizes=EQUAL_HIDDEN,
    ),
]

BIAS_NOT_REDUCED = [
    fault("db2 = dZ2/m", "bias_not_reduced", "db2", "db2 = dZ2 / m"),
    fault("db1 = dZ1/m", "bias_not_reduced", "db1", "db1 = dZ1 / m", activation="relu"),
    fault(
        "no bias reduced in three layers",
        "bias_not_reduced",
        "db3",
        *(f"db{k} = dZ{k} / m" for k in (3, 2, 1)),
        depth=3,
        activation="tanh",
    ),
]

MISSING_DERIVATIVE = [
    fault("no σ′", "missing_activation_derivative", "dZ1", "dZ1 = dA1"),
    fault("no tanh′", "missing_activation_derivative", "dZ1", "dZ1 = dA1", activation="tanh"),
    fault("no ReLU′", "missing_activation_derivative", "dZ1", "dZ1 = dA1", activation="relu"),
    fault(
        "no σ′ in the first layer of three",
        "missing_activation_derivative",
        "dZ1",
        "dZ1 = dA1",
        depth=3,
    ),
    fault(
        "no tanh′ in the second layer of three",
        "missing_activation_derivative",
        "dZ2",
        "dZ2 = dA2",
        depth=3,
        activation="tanh",
    ),
    fault(
        "no ReLU′ in three layers",
        "missing_activation_derivative",
        "dZ2",
        "dZ2 = dA2",
        "dZ1 = dA1",
        depth=3,
        activation="relu",
    ),
    fault(
        "dA1 for dZ1 in dW1",
        "missing_activation_derivative",
        "dW1",
        "dW1 = dA1.T @ X / m",
        activation="tanh",
    ),
]

DERIVATIVE_AT_ACTIVATION = [
    fault(
        "σ′(A1)", "derivative_at_activation", "dZ1", "dZ1 = dA1 * sigmoid(A1) * (1 - sigmoid(A1))"
    ),
    fault(
        "tanh′(A1)",
        "derivative_at_activation",
        "dZ1",
        "dZ1 = dA1 * (1 - tanh(A1) ** 2)",
        activation="tanh",
    ),
    fault(
        "σ′(A) in three layers",
        "derivative_at_activation",
        "dZ2",
        "dZ2 = dA2 * sigmoid(A2) * (1 - sigmoid(A2))",
        "dZ1 = dA1 * sigmoid(A1) * (1 - sigmoid(A1))",
        depth=3,
    ),
    fault(
        "tanh′(A1) in the first layer of three",
        "derivative_at_activation",
        "dZ1",
        "dZ1 = dA1 * (1 - tanh(A1) ** 2)",
        depth=3,
        activation="tanh",
    ),
]

WRONG_DERIVATIVE = [
    fault(
        "A(1 − A) for tanh",
        "wrong_activation_derivative",
        "dZ1",
        "dZ1 = dA1 * A1 * (1 - A1)",
        activation="tanh",
    ),
    fault(
        "σ′(Z) for tanh",
        "wrong_activation_derivative",
        "dZ1",
        "dZ1 = dA1 * sigmoid(Z1) * (1 - sigmoid(Z1))",
        activation="tanh",
    ),
    fault("1 − A² for σ", "wrong_activation_derivative", "dZ1", "dZ1 = dA1 * (1 - A1**2)"),
    fault(
        "tanh′(Z) for σ", "wrong_activation_derivative", "dZ1", "dZ1 = dA1 * (1 - tanh(Z1) ** 2)"
    ),
    fault("ReLU′ for σ", "wrong_activation_derivative", "dZ1", "dZ1 = np.where(Z1 > 0, dA1, 0)"),
    fault(
        "σ′(Z) for ReLU",
        "wrong_activation_derivative",
        "dZ1",
        "dZ1 = dA1 * sigmoid(Z1) * (1 - sigmoid(Z1))",
        activation="relu",
    ),
    fault(
        "A(1 − A) for ReLU",
        "wrong_activation_derivative",
        "dZ1",
        "dZ1 = dA1 * A1 * (1 - A1)",
        activation="relu",
    ),
    fault(
        "Z(1 − Z) for σ", "wrong_activation_derivative|unknown", "dZ1", "dZ1 = dA1 * Z1 * (1 - Z1)"
    ),
    fault(
        "ReLU′ for tanh in the first layer of three",
        "wrong_activation_derivative",
        "dZ1",
        "dZ1 = np.where(Z1 > 0, dA1, 0)",
        depth=3,
        activation="tanh",
    ),
    fault(
        "1 − A² for ReLU in three layers",
        "wrong_activation_derivative",
        "dZ2",
        "dZ2 = dA2 * (1 - A2**2)",
        "dZ1 = dA1 * (1 - A1**2)",
        depth=3,
        activation="relu",
    ),
]

OUTPUT_LAYER = [
    fault("no labels", "labels_not_subtracted", "dZ2", "dZ2 = A2"),
    fault(
        "no labels, three layers",
        "labels_not_subtracted",
        "dZ3",
        "dZ3 = A3",
        depth=3,
        activation="relu",
    ),
    fault("no labels, one layer", "labels_not_subtracted", "dZ1", "dZ1 = A1", depth=1),
    fault("no labels, tanh", "labels_not_subtracted", "dZ2", "dZ2 = A2", activation="tanh"),
    fault("dA2 for dZ2", "softmax_jacobian_missing", "dZ2", "dZ2 = -Y / A2"),
    fault(
        "dA3 for dZ3",
        "softmax_jacobian_missing",
        "dZ3",
        "dZ3 = -Y / A3",
        depth=3,
        activation="tanh",
    ),
    fault(
        "the Jacobian's diagonal alone",
        "softmax_jacobian_missing",
        "dZ2",
        "dZ2 = -Y / A2 * A2 * (1 - A2)",
        activation="relu",
    ),
    fault("squared error's dZ2", "mse_derivative", "dZ2", "dZ2 = (A2 - Y) * A2 * (1 - A2)"),
    fault(
        "squared error's dZ2 through the whole Jacobian",
        "mse_derivative",
        "dZ2",
        "dZ2 = A2 * ((A2 - Y) - ((A2 - Y) * A2).sum(axis=1, keepdims=True))",
        activation="tanh",
    ),
]

REGULARISATION = [
    fault(
        "no weight decay",
        "missing_regularisation",
        "dW2",
        "dW2 = dZ2.T @ A1 / m",
        "dW1 = dZ1.T @ X / m",
        l2=0.03,
    ),
    fault(
        "no weight decay in dW1",
        "missing_regularisation",
        "dW1",
        "dW1 = dZ1.T @ X / m",
        l2=0.01,
        activation="tanh",
    ),
    fault(
        "no weight decay in dW2 of three layers",
        "missing_regularisation",
        "dW2",
        "dW2 = dZ2.T @ A1 / m",
        l2=0.1,
        depth=3,
        activation="relu",
    ),
]

SWAPPED = [
    fault(
        "b1 and b2 exchanged",
        "swapped_leaves",
        "db2",
        'return {"W1": dW1, "b1": db2, "W2": dW2, "b2": db1}',
        sizes=SQUARE_HEAD,
    ),
    fault(
        "W1 and W2 exchanged",
        "swapped_leaves",
        "dW2",
        'return {"W1": dW2, "b1": db1, "W2": dW1, "b2": db2}',
        activation="relu",
    ),
    fault(
        "b1 and b2 of three layers exchanged",
        "swapped_leaves",
        "db2",
        'return {"W1": dW1, "b1": db2, "W2": dW2, "b2": db1, "W3": dW3, "b3": db3}',
        depth=3,
        sizes=EQUAL_HIDDEN,
        activation="tanh",
    ),
    fault(
        "W2 and W3 of three layers exchanged",
        "swapped_leaves",
        "dW3",
        'return {"W1": dW1, "b1": db1, "W2": dW3, "b2": db2, "W3": dW2, "b3": db3}',
        depth=3,
        sizes=(19, 11, 5, 5, 5),
    ),
]

NOT_TRANSPOSED = [
    fault("W2ᵀ for W2", "weights_not_transposed", "dA1", "dA1 = dZ2 @ W2.T", sizes=SQUARE_HEAD),
    fault(
        "W3ᵀ for W3",
        "weights_not_transposed",
        "dA2",
        "dA2 = dZ3 @ W3.T",
        depth=3,
        sizes=EQUAL_TOP,
        activation="tanh",
    ),
    fault(
        "W2ᵀ for W2 in three layers",
        "weights_not_transposed",
        "dA1",
        "dA1 = dZ2 @ W2.T",
        depth=3,
        sizes=EQUAL_HIDDEN,
        activation="relu",
    ),
]

STALE = [
    fault("W2 already updated", "stale_weights", "dA1", "dA1 = dZ2 @ (W2 - lr * dW2)"),
    fault(
        "W2 updated in place",
        "stale_weights",
        "dA1",
        "dA1 = dZ2 @ W2",
        "db2 = dZ2.sum(axis=0) / m; W2 -= lr * dW2",
        activation="tanh",
        arrays="numpy",
    ),
    fault(
        "W2 already updated with momentum",
        "stale_weights",
        "dA1",
        "dA1 = dZ2 @ (W2 - lr * (1 - beta) * dW2)",
        activation="relu",
    ),
    fault(
        "W2 of three layers already updated",
        "stale_weights",
        "dA1",
        "dA1 = dZ2 @ (W2 - lr * dW2)",
        depth=3,
        lr=0.2,
    ),
    fault(
        "W3 and W2 already updated",
        "stale_weights",
        "dA2",
        "dA2 = dZ3 @ (W3 - lr * dW3)",
        "dA1 = dZ2 @ (W2 - lr * dW2)",
        depth=3,
        activation="tanh",
    ),
]

WRONG_INPUT = [
    fault("X for A1 in dW2", "wrong_layer_input", "dW2", "dW2 = dZ2.T @ X / m", sizes=SQUARE_BODY),
    fault(
        "A1 for X in dW1",
        "wrong_layer_input",
        "dW1",
        "dW1 = dZ1.T @ A1 / m",
        sizes=SQUARE_BODY,
        activation="relu",
    ),
    fault(
        "A1 for A2 in dW3",
        "wrong_layer_input",
        "dW3",
        "dW3 = dZ3.T @ A1 / m",
        depth=3,
        sizes=EQUAL_HIDDEN,
        activation="tanh",
    ),
    fault(
        "A2 for A1 in dW2",
        "wrong_layer_input",
        "dW2",
        "dW2 = dZ2.T @ A2 / m",
        depth=3,
        sizes=EQUAL_HIDDEN,
    ),
    fault("Z1 for A1 in dW2", "wrong_layer_input", "dW2", "dW2 = dZ2.T @ Z1 / m"),
]

ZERO = [
    fault("dW1 never filled", "zero", "dW1", "dW1 = np.zeros_like(W1)"),
    fault(
        "no biases",
        "zero",
        "db2",
        "db2 = np.zeros_like(b2)",
        "db1 = np.zeros_like(b1)",
        activation="tanh",
    ),
    fault(
        "nothing reaches the first layer",
        "zero",
        "dA1|dZ1|dW1",
        "dA1 = 0 * dZ2 @ W2",
        activation="relu",
    ),
    fault("all zero", "zero", "dZ3|dW3", "dZ3 = np.zeros_like(A3)", depth=3),
]

PARTIAL = [
    fault(
        "the last example lost in dZ2",
        "partial",
        "dZ2|dW2",
        "dZ2 = np.where(np.arange(m)[:, None] < m - 1, A2 - Y, 0)",
    ),
    fault(
        "half of the batch in dW1",
        "partial",
        "dW1",
        "dW1 = dZ1[: m // 2].T @ X[: m // 2] / m",
        activation="tanh",
    ),
    fault(
        "the last class lost in dW2",
        "partial",
        "dW2",
        "dW2 = np.where(np.arange(C)[:, None] < C - 1, dZ2.T @ A1 / m, 0)",
        activation="relu",
    ),
    fault(
        "the first column lost in dW1",
        "partial",
        "dW1",
        "dW1 = np.where(np.arange(X.shape[1])[None, :] > 0, dZ1.T @ X / m, 0)",
        depth=3,
    ),
    fault("the first example alone in db2", "partial", "db2", "db2 = dZ2[0] / m"),
    fault(
        "the last example lost in db1",
        "partial",
        "db1",
        "db1 = dZ1[:-1].sum(axis=0) / m",
        depth=3,
        activation="relu",
    ),
    fault(
        "784-64-10: one entry of W1 zeroed",
        "partial",
        "dW1",
        "dW1 = np.where(np.arange(64 * 784).reshape(64, 784) == 20555, 0, dZ1.T @ X / m)",
        sizes=DOCUMENT,
    ),
]

FORM = [
    fault("db1 forgotten", "structure", "", 'return {"W1": dW1, "W2": dW2, "b2": db2}'),
    fault(
        "a leaf too many",
        "structure",
        "",
        'return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "A1": dA1}',
        activation="relu",
    ),
    fault("a tuple", "structure", "", "return dW1, db1, dW2, db2", activation="tanh"),
    fault(
        "the derivatives' names",
        "structure",
        "",
        'return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}',
    ),
    fault("nothing returned", "structure", "", "return None"),
    fault("db2 keeps its axis", "shape", "db2", "db2 = dZ2.sum(axis=0, keepdims=True) / m"),
    fault("db2 summed to a scalar", "shape", "db2", "db2 = dZ2.sum() / m", activation="relu"),
    fault(
        "db2 summed along the wrong axis",
        "shape",
        "db2",
        "db2 = dZ2.sum(axis=1) / m",
        activation="tanh",
    ),
    fault("dW1 flattened", "shape", "dW1", "dW1 = (dZ1.T @ X / m).ravel()", depth=3),
]

NON_FINITE = [
    fault(
        "e⁻ᶻ/(1 + e⁻ᶻ)² overflows",
        "non_finite",
        "dZ1|dA1|dW1",
        "dZ1 = dA1 * np.exp(-Z1) / (1 + np.exp(-Z1)) ** 2",
        adjust=far_inputs,
    ),
    fault(
        "e⁻ᶻ/(1 + e⁻ᶻ)² overflows in float32 alone",
        "non_finite",
        "dZ1|dA1|dW1",
        "dZ1 = dA1 * np.exp(-Z1) / (1 + np.exp(-Z1)) ** 2",
        adjust=far_in_float32,
        dtype="float32",
    ),
    fault(
        "softmax without the maximum",
        "non_finite",
        "dZ2|dW2",
        "dZ2 = np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True) - Y",
        adjust=far_logits,
        activation="tanh",
    ),
    fault(
        "0/0 in db1",
        "non_finite",
        "db1",
        "db1 = dZ1.sum(axis=0) / (m - m * np.ones(1))",
        depth=3,
        activation="relu",
        arrays="numpy",
    ),
]

NONDETERMINISTIC = [
    fault(
        "dropout in the backward pass",
        "nondeterministic",
        "dA1|dZ1|dW1",
        "dA1 = dZ2 @ W2 * noise(A1.shape)",
        noise=noise,
        dtype="float32",
    ),
    fault(
        "another half of the batch each time",
        "nondeterministic",
        "dW2",
        "dW2 = (dZ2 * noise((m, 1))).T @ A1 / m",
        noise=noise,
        dtype="float32",
        activation="tanh",
    ),
    Fault("V accumulates from call to call", "nondeterministic", "dW3|dZ3", velocity_problem),
]

UNKNOWN = [
    fault("|A2 − Y|", "unknown", "dZ2", "dZ2 = np.abs(A2 - Y)"),
    fault("A(1 + A) for σ′", "unknown", "dZ1", "dZ1 = dA1 * A1 * (1 + A1)"),
    fault("(A2 − Y)³ in dW2", "unknown", "dW2", "dW2 = (dZ2**3).T @ A1 / m", activation="tanh"),
    fault(
        "√|dZ2| in db2",
        "unknown",
        "db2",
        "db2 = np.sqrt(np.abs(dZ2)).sum(axis=0) / m",
        activation="relu",
    ),
    fault(
        "784-64-10: one entry of W1 off by 1 %",
        "unknown|scale",
        "dW1",
        "dW1 = dZ1.T @ X / m\n"
        "dW1 = np.where(np.arange(64 * 784).reshape(64, 784) == 20555, 1.01 * dW1, dW1)",
        sizes=DOCUMENT,
    ),
]

SEVERAL = [
    fault(
        "no 1/m in dW2, minus in db1",
        "missing_mean+sign",
        "dW2",
        "dW2 = dZ2.T @ A1",
        "db1 = -dZ1.sum(axis=0) / m",
    ),
    fault(
        "no labels, no σ′",
        "labels_not_subtracted+missing_activation_derivative",
        "dZ2",
        "dZ2 = A2",
        "dZ1 = dA1",
    ),
    fault(
        "db2 averaged twice, no tanh′",
        "bias_mean_for_sum+missing_activation_derivative",
        "db2",
        "db2 = dZ2.mean(axis=0) / m",
        "dZ1 = dA1",
        activation="tanh",
    ),
    fault(
        "σ′(A1), no weight decay",
        "missing_regularisation+derivative_at_activation",
        "dW2",
        "dW2 = dZ2.T @ A1 / m",
        "dW1 = dZ1.T @ X / m",
        "dZ1 = dA1 * sigmoid(A1) * (1 - sigmoid(A1))",
        l2=0.05,
    ),
    fault(
        "W3ᵀ for W3, db3 zero",
        "zero+weights_not_transposed",
        "db3",
        "db3 = np.zeros_like(b3)",
        "dA2 = dZ3 @ W3.T",
        depth=3,
        sizes=EQUAL_TOP,
        activation="relu",
    ),
    fault(
        "W2 already updated, no tanh′",
        "stale_weights+missing_activation_derivative",
        "dA1",
        "dA1 = dZ2 @ (W2 - lr * dW2)",
        "dZ1 = dA1",
        activation="tanh",
    ),
    fault(
        "dW2 transposed, dW1 halved",
        "transpose+scale",
        "dW2",
        "dW2 = A1.T @ dZ2 / m",
        "dW1 = dZ1.T @ X / m / 2",
        depth=2,
        activation="relu",
    ),
]

DTYPE_AND_TRACING = [
    fault(
        "dW1 filled into integers",
        "dtype",
        "dW1",
        "dW1 = np.zeros(W1.shape, int)\ndW1[:] = dZ1.T @ X",
        arrays="numpy",
        reduction="sum",
    ),
    fault(
        "no 1/m in dW2 while it is traced",
        "differs_under_jit",
        "dW2",
        "dW2 = dZ2.T @ A1 / (1 if traced(dZ2) else m)",
        arrays="jax",
        activation="tanh",
        traced=lambda value: isinstance(value, jax.core.Tracer),
    ),
]


def relaid(name: str, code: str, first_wrong: str, layout, *changes: str, **options: Any) -> Fault:
    """The same in another layout of the parameters."""
    return Fault(
        name,
        code,
        first_wrong,
        lambda seed: layout(network_problem(seed, *changes, **options)),
    )


#: Only what the numbers show in any layout is asked for here.
LAYOUT = [
    relaid(
        "(n_in, n_out): no 1/m in dW2",
        "missing_mean",
        "dW2|W2",
        inputs_by_outputs,
        "dW2 = dZ2.T @ A1",
    ),
    relaid(
        "(n_in, n_out): square dW2 transposed",
        "transpose",
        "dW2|W2",
        inputs_by_outputs,
        "dW2 = A1.T @ dZ2 / m",
        sizes=SQUARE_HEAD,
        activation="relu",
    ),
    relaid(
        "(n_in, n_out): no σ′",
        "missing_activation_derivative|unknown",
        "dZ1|dW1|W1",
        inputs_by_outputs,
        "dZ1 = dA1",
    ),
    relaid(
        "columns: minus in db1",
        "sign",
        "db1|b1",
        document_columns,
        "db1 = -dZ1.sum(axis=0) / m",
        activation="tanh",
    ),
    relaid(
        "columns: no labels",
        "labels_not_subtracted|unknown",
        "dZ2|dW2|W2",
        document_columns,
        "dZ2 = A2",
    ),
]

DEEPER = [
    fault("minus in dA3 of four layers", "sign", "dA3|dZ3", "dA3 = -dZ4 @ W4", depth=4),
    fault(
        "no tanh′ in the second layer of four",
        "missing_activation_derivative",
        "dZ2",
        "dZ2 = dA2",
        depth=4,
        activation="tanh",
    ),
    fault(
        "no 1/m in dW3 of four layers",
        "missing_mean",
        "dW3",
        "dW3 = dZ3.T @ A2",
        depth=4,
        activation="relu",
    ),
]

FAULTS = [
    *SIGN, *MISSING_MEAN, *EXTRA_MEAN, *BIAS_MEAN_FOR_SUM, *SCALE, *TRANSPOSE, *BIAS_NOT_REDUCED,
    *MISSING_DERIVATIVE, *DERIVATIVE_AT_ACTIVATION, *WRONG_DERIVATIVE, *OUTPUT_LAYER,
    *REGULARISATION, *SWAPPED, *NOT_TRANSPOSED, *STALE, *WRONG_INPUT, *ZERO, *PARTIAL, *FORM,
    *NON_FINITE, *NONDETERMINISTIC, *UNKNOWN, *SEVERAL, *DTYPE_AND_TRACING,
    *LAYOUT, *DEEPER,
    *(Fault(f"{which}: {name}", code, first, partial(other_problem, which=which, edit=edit))
      for name, code, first, which, edit in EDITS),
    *(Fault(f"{setting}: {name}", code, "params",
            partial(kinked_problem, setting=setting, gradient=gradient))
      for setting, kinked in SETTINGS.items() for name, (code, gradient) in kinked.wrong.items()),
    *(Fault(f"{which}: {name}", code, "", partial(layer_problem, which=which, **slip))
      for name, code, which, slip in SLIPS),
    *(Fault(f"mixed precision, {name}", code, first,
            partial(mixed_problem, low=low, gradient=gradient))
      for name, code, first, low, gradient in WRONG),
    *(Fault(f"random draws, {setting}: {name}", code, first,
            partial(drawn_problem, setting=setting, gradient=gradient))
      for setting, drawn in DRAWN.items()
      for name, (code, first, gradient) in drawn.wrong.items()),
    *(Fault(f"callbacks, {setting}: {name}", code, "w",
            partial(callback_problem, setting=setting, function=function, edit=edit))
      for setting, function in zip(callbacks.SETTINGS, ("sine", "softplus", "square"), strict=True)
      for name, code, edit in callbacks.MISTAKES),
    *(Fault(f"callbacks, {setting}: the derivative of {other} for {function}", "unknown", "w",
            partial(callback_problem, setting=setting, function=function, derivative=other))
      for setting, function, other in (("entries", "square", "sine"),
                                       ("a regression", "sine", "softplus"),
                                       ("a loss that prints", "table", "square"))),
]  # fmt: skip
