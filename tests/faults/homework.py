"""Homework files in the document's form, examples as columns, with a mistake in each or in none."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .problems import changed

FORWARD = """
import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def feed_forward(X, params):
    cache = {}
    cache["Z1"] = np.matmul(params["W1"], X) + params["b1"]
    cache["A1"] = ACTIVATION(cache["Z1"])
    cache["Z2"] = np.matmul(params["W2"], cache["A1"]) + params["b2"]
    cache["A2"] = np.exp(cache["Z2"]) / np.sum(np.exp(cache["Z2"]), axis=0)
    return cache
"""

DERIVATIVE = {
    "sigmoid": 'dZ1 = dA1 * sigmoid(cache["Z1"]) * (1 - sigmoid(cache["Z1"]))',
    "tanh": 'dZ1 = dA1 * (1 - np.tanh(cache["Z1"]) ** 2)',
    "relu": 'dZ1 = dA1 * (cache["Z1"] > 0)',
}

FUNCTION = {"sigmoid": "sigmoid", "tanh": "np.tanh", "relu": "(lambda z: np.maximum(z, 0))"}

LEAVES = 'return {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}'
ALL = 'return {"dZ2": dZ2, "dW2": dW2, "db2": db2, "dA1": dA1, "dZ1": dZ1, "dW1": dW1, "db1": db1}'


def back_propagate(activation: str, over_m: str) -> list[str]:
    """The document's lines."""
    return [
        'dZ2 = cache["A2"] - Y',
        f'dW2 = {over_m}np.matmul(dZ2, cache["A1"].T)',
        f"db2 = {over_m}np.sum(dZ2, axis=1, keepdims=True)",
        'dA1 = np.matmul(params["W2"].T, dZ2)',
        DERIVATIVE[activation],
        f"dW1 = {over_m}np.matmul(dZ1, X.T)",
        f"db1 = {over_m}np.sum(dZ1, axis=1, keepdims=True)",
        LEAVES,
    ]


class Homework(NamedTuple):
    """A file's text, the problem that it is given, and the right verdict (code "" where ok)."""

    name: str
    code: str
    first_wrong: str
    source: str
    setting: Mapping[str, Any]


def homework(
    name: str,
    code: str,
    first_wrong: str,
    *changes: str,
    activation: str = "sigmoid",
    l2: float = 0.0,
    forward: str = FORWARD,
    signature: str = "X, Y, params, cache, m_batch",
    reduction: str = "mean",
) -> Homework:
    over_m = "(1. / m_batch) * " if reduction == "mean" else ""
    lines = changed(back_propagate(activation, over_m), changes)
    body = "".join(f"    {line}\n" for text in lines for line in text.splitlines())
    source = f"{forward}\n\ndef back_propagate({signature}):\n{body}"
    setting = {"activation": activation, "loss": reduction, "l2": l2}
    return Homework(
        name, code, first_wrong, source.replace("ACTIVATION", FUNCTION[activation]), setting
    )


HOMEWORK_FAULTS = [
    homework("σ′(A1)", "derivative_at_activation", "dZ1",
             'dZ1 = dA1 * sigmoid(cache["A1"]) * (1 - sigmoid(cache["A1"]))'),
    homework("no σ′", "missing_activation_derivative", "dZ1", "dZ1 = dA1", ALL),
    homework("minus in dA1, returned", "sign", "dA1", 'dA1 = -np.matmul(params["W2"].T, dZ2)',
             ALL, activation="tanh"),
    homework("minus in dZ1, returned", "sign", "dZ1", "dZ1 = -dA1 * (cache['Z1'] > 0)",
             ALL, activation="relu"),
    homework("no 1/m, dZ2 returned", "missing_mean", "dW2",
             'dW2 = np.matmul(dZ2, cache["A1"].T)', "db2 = np.sum(dZ2, axis=1, keepdims=True)",
             "dW1 = np.matmul(dZ1, X.T)", "db1 = np.sum(dZ1, axis=1, keepdims=True)", ALL),
    homework("no labels", "labels_not_subtracted", "dZ2", 'dZ2 = cache["A2"]'),
    homework("2(A2 − Y), returned", "scale", "dZ2", 'dZ2 = 2 * (cache["A2"] - Y)', ALL),
    homework("biases summed to scalars", "shape", "db2", "db2 = (1. / m_batch) * np.sum(dZ2)",
             "db1 = (1. / m_batch) * np.sum(dZ1)"),
    homework("dW1 transposed", "transpose", "dW1", "dW1 = (1. / m_batch) * np.matmul(X, dZ1.T)",
             activation="relu"),
    homework("db2 not reduced", "bias_not_reduced", "db2", "db2 = (1. / m_batch) * dZ2"),
    homework("A(1 − A) for tanh", "wrong_activation_derivative", "dZ1",
             'dZ1 = dA1 * cache["A1"] * (1 - cache["A1"])', activation="tanh"),
    homework("W2 already updated", "stale_weights", "dA1",
             'dA1 = np.matmul((params["W2"] - 0.5 * dW2).T, dZ2)', activation="tanh"),
    homework("the mean of a sum loss", "extra_mean", "dW2",
             'dW2 = np.matmul(dZ2, cache["A1"].T) / m_batch',
             "db2 = np.mean(dZ2, axis=1, keepdims=True)", "dW1 = np.matmul(dZ1, X.T) / m_batch",
             "db1 = np.mean(dZ1, axis=1, keepdims=True)", ALL, reduction="sum"),
    homework("no weight decay", "missing_regularisation", "dW2", l2=0.1),
    homework("|dA1|, returned", "unknown|sign", "dA1",
             'dA1 = np.abs(np.matmul(params["W2"].T, dZ2))', ALL),
    homework("dA1 zero, returned", "zero", "dA1", "dA1 = np.zeros_like(cache['A1'])", ALL),
    homework("the last example lost, returned", "partial", "dZ2",
             'dZ2 = cache["A2"] - Y\ndZ2[:, -1] = 0', ALL),
    homework("db1 forgotten", "structure", "", 'return {"dW1": dW1, "dW2": dW2, "db2": db2}'),
    homework("m_batch is a global", "missing_mean", "db1",
             "db1 = np.sum(dZ1, axis=1, keepdims=True)", signature="X, Y, params, cache"),
]  # fmt: skip

HOMEWORK_CORRECT = [
    homework("the document", "", ""),
    homework("the document, everything returned", "", "", ALL, activation="tanh"),
    homework("m_batch is a global", "", "", signature="X, Y, params, cache", activation="relu"),
    homework("1/m in dZ2, everything returned", "", "", 'dZ2 = (cache["A2"] - Y) / m_batch',
             'dW2 = np.matmul(dZ2, cache["A1"].T)', "db2 = np.sum(dZ2, axis=1, keepdims=True)",
             "dW1 = np.matmul(dZ1, X.T)", "db1 = np.sum(dZ1, axis=1, keepdims=True)", ALL),
    homework("a sum loss", "", "", ALL, reduction="sum"),
    homework("weight decay", "", "",
             'dW2 = (1. / m_batch) * np.matmul(dZ2, cache["A1"].T) + 0.1 * params["W2"]',
             'dW1 = (1. / m_batch) * np.matmul(dZ1, X.T) + 0.1 * params["W1"]',
             l2=0.1),
    homework("it changes its arguments", "", "",
             'dZ2 = cache["A2"]\ndZ2 -= Y', 'dW1 = (1. / m_batch) * np.matmul(dZ1, X.T)\nX *= 0\n'
             'dW1 = dW1'),
    homework("it prints", "", "", 'dA1 = np.matmul(params["W2"].T, dZ2)\nprint("dA1", dA1.shape)\n'
             "dA1 = dA1"),
]  # fmt: skip
