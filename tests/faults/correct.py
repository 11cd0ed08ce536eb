"""Correct variants: gradients that are right, however unusual they look. None may be accused."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import callbacks
from .callbacks import by_autodiff_problem, callback_problem
from .draws import DRAWN, drawn_problem
from .kinks import SETTINGS, kinked_problem
from .layers import LAYERS, layer_problem
from .library import with_zero_rows
from .mixed import RIGHT, mixed_problem
from .others import (
    hinge_gradient,
    hinge_loss,
    lasso_loss,
    linear_gradient,
    linear_loss,
    logistic_loss,
    maximum_loss,
    other_problem,
    regression_point,
    ridge_loss,
    unused_loss,
)
from .problems import Problem, arrays_by_name, document_columns, inputs_by_outputs, network_problem


class Variant(NamedTuple):
    """A correct gradient: `build(seed)` gives the problem in which nothing is wrong."""

    name: str
    build: Callable[[int], Problem]


def variant(name: str, *changes: str, **options: Any) -> Variant:
    """A network with these lines changed and still right."""
    options.setdefault("arrays", arrays_by_name(name))
    return Variant(name, lambda seed: network_problem(seed, *changes, **options))


EQUAL_FORMULAS = [
    variant("the derivation, one layer", depth=1),
    variant("the derivation, σ"),
    variant("the derivation, tanh, three layers", depth=3, activation="tanh"),
    variant("the derivation, ReLU, four layers", depth=4, activation="relu"),
    variant("σ′ = A(1 − A)", "dZ1 = dA1 * A1 * (1 - A1)"),
    variant("σ′ = A − A²", "dZ1 = dA1 * (A1 - A1**2)"),
    variant("σ′ = σ(z)σ(−z)", "dZ1 = dA1 * sigmoid(Z1) * sigmoid(-Z1)"),
    variant("σ′ = e⁻ᶻ/(1 + e⁻ᶻ)²", "dZ1 = dA1 * np.exp(-Z1) / (1 + np.exp(-Z1)) ** 2"),
    variant("σ′ = 1/(2 + 2 cosh z)", "dZ1 = dA1 / (2 + 2 * np.cosh(Z1))"),
    variant("tanh′ = 1/cosh²", "dZ1 = dA1 / np.cosh(Z1) ** 2", activation="tanh"),
    variant("tanh′ = (1 − A)(1 + A)", "dZ1 = dA1 * (1 - A1) * (1 + A1)", activation="tanh"),
    variant("tanh′ = 4σ(2z)σ(−2z)", "dZ1 = dA1 * 4 * sigmoid(2 * Z1) * sigmoid(-2 * Z1)",
            activation="tanh"),
    variant("ReLU′ from A", "dZ1 = np.where(A1 > 0, dA1, 0)", activation="relu"),
    variant("ReLU′ from the sign", "dZ1 = dA1 * np.sign(A1)", activation="relu"),
    variant("dZ2 through softmax's Jacobian",
            "dZ2 = -Y / A2\ndZ2 = A2 * (dZ2 - (dZ2 * A2).sum(axis=1, keepdims=True))"),
    variant("dZ2 through the binary cross-entropy",
            "dZ2 = ((1 - Y) / (1 - A2) - Y / A2) * A2 * (1 - A2)", activation="tanh"),
    variant("dZ2 from the labels' indices", "dZ2 = A2 - (np.arange(C)[None, :] =="
            " np.argmax(Y, axis=1)[:, None]).astype(A2.dtype)"),
    variant("softmax by logsumexp",
            "top = Z2.max(axis=1, keepdims=True)\n"
            "dZ2 = np.exp(Z2 - top - np.log(np.exp(Z2 - top).sum(axis=1, keepdims=True))) - Y"),
    variant("softmax without the maximum",
            "dZ2 = np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True) - Y", activation="relu"),
    variant("−(Y − A2), and minus once more", "dZ2 = Y - A2", "dW2 = -dZ2.T @ A1 / m",
            "db2 = -dZ2.sum(axis=0) / m", "dA1 = -dZ2 @ W2"),
]  # fmt: skip

SUMMATION = [
    variant("1/m in dZ2 alone", "dZ2 = (A2 - Y) / m", "dW2 = dZ2.T @ A1", "db2 = dZ2.sum(axis=0)",
            "dW1 = dZ1.T @ X", "db1 = dZ1.sum(axis=0)"),
    variant("reversed examples", "dW1 = dZ1[::-1].T @ X[::-1] / m",
            "db1 = dZ1[::-1].sum(axis=0) / m", activation="relu"),
    variant("blocks of four examples",
            "dW1 = sum(dZ1[i : i + 4].T @ X[i : i + 4] for i in range(0, m, 4)) / m"),
    variant("an example at a time", "dW2 = sum(np.outer(dZ2[i], A1[i]) for i in range(m)) / m",
            "dW1 = sum(np.outer(dZ1[i], X[i]) for i in range(m)) / m", activation="tanh"),
    variant("a mean of outer products",
            "dW2 = (dZ2[:, :, None] * A1[:, None, :]).mean(axis=0)", depth=3),
    variant("einsum", 'dW2 = np.einsum("ij,ik->jk", dZ2, A1) / m',
            'dA1 = np.einsum("ij,jk->ik", dZ2, W2)', 'dW1 = np.einsum("ij,ik->jk", dZ1, X) / m'),
    variant("the bias by mean", "db2 = dZ2.mean(axis=0)", "db1 = np.mean(dZ1, axis=0)"),
    variant("the bias by a row of ones", "db1 = np.ones_like(dZ1[:, 0]) @ dZ1 / m",
            activation="tanh"),
    variant("the bias as a column of ones of the input",
            "X1 = np.concatenate([X, np.ones_like(X[:, :1])], axis=1)\n"
            "dW1 = (dZ1.T @ X1 / m)[:, :-1]", "db1 = (dZ1.T @ X1 / m)[:, -1]"),
    variant("columns", "dZ2 = (A2.T - Y.T)", "dW2 = dZ2 @ A1 / m", "db2 = dZ2.sum(axis=1) / m",
            "dA1 = W2.T @ dZ2", "dZ1 = dA1 * A1.T * (1 - A1.T)", "dW1 = dZ1 @ X / m",
            "db1 = dZ1.sum(axis=1) / m"),
    variant("transposed views", "dW1 = (X.T @ dZ1).T / m", "dW2 = (A1.T @ dZ2).T / m",
            activation="relu", depth=3),
    variant("another order each time",
            "i = shuffled(m)\ndW1 = dZ1[i].T @ X[i] / m", dtype="float32",
            shuffled=lambda m: np.random.default_rng().permutation(m)),
    variant("a batch of 997", sizes=(997, 11, 7, 5), activation="tanh"),
]  # fmt: skip


def in_double(params, X, Y):
    return {name: leaf.astype("float64") for name, leaf in params.items()}, X, Y


def saturated(params, X, Y):
    """|Z1| reaches 60: σ rounds to 0 or 1 in float32, and most of dZ1 vanishes."""
    return params, X * 20, Y


def confident(params, X, Y):
    """Logits of 30 and more, every label the class that the network is sure of."""
    weights = {"W2": params["W2"] * 30, "b2": params["b2"] + 40 * Y[0]}
    return {**params, **weights}, X, np.broadcast_to(Y[0], Y.shape).copy()


def zero_start(params, X, Y):
    return {**params, "b1": 0 * params["b1"], "b2": 0 * params["b2"]}, X, Y


def dead(params, X, Y):
    """Every ReLU is off: dW1 and db1 are 0, and 0 is right."""
    return {**params, "b1": params["b1"] - 100}, X, Y


def soft_targets(params, X, Y):
    return params, X, (0.9 * Y + 0.1 / Y.shape[1]).astype(Y.dtype)


def pixels(params, X, Y):
    """Inputs from 0 to 255 that nobody has scaled, with weights to suit."""
    X = np.abs(X * 80).round().clip(0, 255)
    return {**params, "W1": params["W1"] / 100}, X.astype(Y.dtype), Y


def tiny(params, X, Y):
    return params, (X * 1e-6).astype(Y.dtype), Y


POINTS = [
    variant("float32 and NumPy", dtype="float32", arrays="numpy"),
    variant("float32 and JAX", dtype="float32", arrays="jax", depth=3),
    variant("float64 and NumPy", dtype="float64", arrays="numpy", activation="tanh"),
    variant("float64 parameters, float32 data", dtype="float32", arrays="numpy",
            adjust=in_double),
    variant("float16", dtype="float16", arrays="numpy", activation="tanh"),
    variant("float16, the loss times 1024", "dZ2 = 1024 * (A2 - Y)", dtype="float16",
            arrays="numpy", scale=1024.0, activation="tanh"),
    variant("float16, scaled by 128 and back", "dZ2 = 128 * (A2 - Y)",
            'return {"W1": dW1 / 128, "b1": db1 / 128, "W2": dW2 / 128, "b2": db2 / 128}',
            dtype="float16", arrays="numpy"),
    variant("a sum where the loss is a sum", reduction="sum", depth=3),
    variant("weight decay in both", l2=0.02, activation="relu"),
    variant("weight decay in a sum", l2=0.5, reduction="sum", activation="tanh"),
    variant("the loss and the gradient times C", "dZ2 = 10 * (A2 - Y)", scale=10.0),
    variant("one example", sizes=(1, 11, 7, 5)),
    variant("one example, ReLU, three layers", sizes=(1, 11, 7, 13, 5), depth=3,
            activation="relu"),
    variant("one hidden unit", sizes=(17, 11, 1, 5), activation="tanh"),
    variant("saturated σ", adjust=saturated),
    variant("saturated tanh, A² formula", "dZ1 = dA1 * (1 - A1 * A1)", adjust=saturated,
            activation="tanh"),
    variant("saturated σ, A(1 − A)", "dZ1 = dA1 * A1 * (1 - A1)", adjust=saturated, depth=2),
    variant("sure and right", adjust=confident, activation="tanh"),
    variant("biases at zero", adjust=zero_start, depth=2, activation="relu"),
    variant("a dead layer", adjust=dead, activation="relu"),
    variant("soft targets", adjust=soft_targets, depth=3, activation="tanh"),
    variant("pixels from 0 to 255", adjust=pixels, activation="relu"),
    variant("inputs of 1e−6", adjust=tiny, activation="tanh"),
    variant("ReLU′(0) = 0", adjust=with_zero_rows, activation="relu"),
    variant("ReLU′(0) = 1", "dZ1 = np.where(Z1 >= 0, dA1, 0)", adjust=with_zero_rows,
            activation="relu"),
    variant("ReLU′(0) = 1/2", "dZ1 = dA1 * (np.sign(Z1) + 1) / 2", adjust=with_zero_rows,
            activation="relu"),
    variant("784-64-10", sizes=(61, 784, 64, 10), dtype="float32"),
    variant("784-64-10, ReLU, float64", sizes=(61, 784, 64, 10), dtype="float64",
            activation="relu"),
    variant("square weights everywhere", sizes=(7, 7, 7, 7, 7), depth=3),
]  # fmt: skip


def rewrapped(name: str, wrap: Callable[[Problem], Problem], **options: Any) -> Variant:
    return Variant(name, lambda seed: wrap(network_problem(seed, **options)))


def by_autodiff(problem: Problem) -> Problem:
    return problem._replace(gradient=jax.grad(problem.loss))


def compiled(problem: Problem) -> Problem:
    return problem._replace(gradient=jax.jit(problem.gradient))


def by_example(problem: Problem) -> Problem:
    """The mean of the examples' own gradients, by vmap."""

    def gradient(params, X, Y):
        one = lambda x, y: jax.grad(problem.loss)(params, x[None], y[None])  # noqa: E731
        return jax.tree.map(lambda g: g.mean(axis=0), jax.vmap(one)(X, Y))

    return problem._replace(gradient=gradient)


def fortran_order(problem: Problem) -> Problem:
    def gradient(params, X, Y):
        g = problem.gradient(params, X, Y)
        return {name: np.asfortranarray(np.asarray(leaf)) for name, leaf in g.items()}

    return problem._replace(gradient=gradient)


def other_order(problem: Problem) -> Problem:
    """The same dictionary, its keys the other way round."""

    def gradient(params, X, Y):
        return dict(reversed(problem.gradient(params, X, Y).items()))

    return problem._replace(gradient=gradient)


def double_answer(problem: Problem) -> Problem:
    """float32 parameters, and a gradient that was computed in float64."""

    def gradient(params, X, Y):
        p, X, Y = jax.tree.map(lambda a: np.asarray(a, "float64"), (params, X, Y))
        return problem.gradient(p, X, Y)

    return problem._replace(gradient=gradient)


@functools.cache
def maximum_relu_loss():
    """ReLU as jnp.maximum(z, 0), whose derivative at 0 is 1/2 for autodiff."""

    def loss(params, X, Y):
        A1 = jnp.maximum(X @ params["W1"].T + params["b1"][None, :], 0)
        Z2 = A1 @ params["W2"].T + params["b2"][None, :]
        return -(Y * jax.nn.log_softmax(Z2, axis=1)).sum() / X.shape[0]

    return loss


REWRAPPED = [
    rewrapped("jax.grad", by_autodiff),
    rewrapped("jax.grad on ReLU's kink", by_autodiff, activation="relu", adjust=with_zero_rows),
    rewrapped("jitted", compiled, arrays="jax"),
    rewrapped("vmap over the examples", by_example, activation="tanh"),
    rewrapped("Fortran order", fortran_order, depth=3),
    rewrapped("keys in another order", other_order, depth=3, activation="relu"),
    rewrapped("W as (n_in, n_out)", inputs_by_outputs),
    rewrapped("the document's columns", document_columns, activation="tanh"),
    rewrapped("float64 answer for float32 parameters", double_answer, dtype="float32",
              arrays="numpy"),
    rewrapped("ReLU by jnp.maximum, on the kink",
              lambda problem: problem._replace(loss=maximum_relu_loss()),
              activation="relu", adjust=with_zero_rows),
]  # fmt: skip


def regression(loss, gradient, adjust=lambda params, X, y: (params, X, y)):
    def build(seed: int) -> Problem:
        params, args = regression_point(seed)
        params, *args = adjust(params, *args)
        return Problem(loss, gradient, params, tuple(args))

    return build


def some_weights_zero(params, X, y):
    return {**params, "w": params["w"] * (np.arange(len(params["w"])) > 1)}, X, y


def at_the_optimum(params, X, y):
    """The least-squares solution: every component of the gradient cancels to rounding."""
    ones = np.ones_like(X[:, :1])
    solution = np.linalg.lstsq(np.hstack([X, ones]).astype("float64"), y, rcond=None)[0]
    return {"w": solution[:-1].astype(X.dtype), "b": solution[-1].astype(X.dtype)}, X, y


def on_the_margin(params, X, y):
    """Two examples whose margin is exactly 1, where the hinge has its kink."""
    X, y = X.copy(), y.copy()
    X[:2], y[:2] = 0, 1
    return {**params, "b": X.dtype.type(1)}, X, y


def tied(params, X, y):
    """The first two rows share the largest value, although their inputs differ."""
    X, y, w = X.copy(), y.copy(), params["w"].copy()
    X[:2], y[:2], w[1] = 0, -50, 0
    X[:2, 1] = [1, 2]
    return {**params, "w": w}, X, y


def lasso_gradient(params, X, y, at_zero=0):
    g = linear_gradient(params, X, y)
    sign = np.where(params["w"] == 0, at_zero, np.sign(params["w"])).astype(X.dtype)
    return {"w": g["w"] + 0.1 * sign, "b": g["b"]}


def maximum_gradient(params, X, y):
    """The first of the rows that attain the maximum."""
    return {"w": X[(X @ params["w"] - y).argmax()], "b": 2 * params["b"]}


def logistic_by_labels(params, X, y):
    """d log(1 + e⁻ᵗᶻ) with labels t of ±1."""
    t = 2 * y - 1
    r = -t / (1 + np.exp(t * (X @ params["w"] + params["b"])))
    return {"w": (X * r[:, None]).mean(axis=0), "b": r.mean()}


def unused(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    used, idle = rng.normal(0, 1, (2, 7)).astype("float32")
    return Problem(
        unused_loss,
        lambda params, x: {"used": 2 * params["used"] * x, "idle": np.zeros_like(params["idle"])},
        {"used": used, "idle": idle},
        (np.float32(1.3),),
    )


def lists(seed: int) -> Problem:
    """Plain Python numbers in a list, answered by plain Python numbers."""
    a, b = np.random.default_rng(seed).normal(0, 1, 2).tolist()
    return Problem(lambda p, c: p[0] ** 2 * c + p[0] * p[1],
                   lambda p, c: [2 * p[0] * c + p[1], p[0]], [a, b], (1.5,))  # fmt: skip


def ridge_in_both(params, X, y):
    g = linear_gradient(params, X, y)
    return {"w": g["w"] + 0.05 * 2 * params["w"], "b": g["b"]}


OTHERS = [
    *(Variant(f"{which} loss", functools.partial(other_problem, which=which))
      for which in ("linear", "linear sum", "logistic", "hinge", "poly", "quadratic")),
    Variant("ridge in both", regression(ridge_loss, ridge_in_both)),
    Variant("labels of ±1", regression(logistic_loss, logistic_by_labels)),
    Variant("least squares at its optimum",
            regression(linear_loss, linear_gradient, at_the_optimum)),
    Variant("lasso, sign(0) = 0", regression(lasso_loss, lasso_gradient, some_weights_zero)),
    Variant("lasso, sign(0) = 1", regression(
        lasso_loss, functools.partial(lasso_gradient, at_zero=1), some_weights_zero)),
    Variant("hinge, margin < 1", regression(hinge_loss, hinge_gradient, on_the_margin)),
    Variant("hinge, margin ≤ 1", regression(
        hinge_loss, functools.partial(hinge_gradient, inside=np.greater_equal), on_the_margin)),
    Variant("maximum with a tie", regression(maximum_loss, maximum_gradient, tied)),
    Variant("a parameter without influence", unused),
    Variant("Python numbers in a list", lists),
]  # fmt: skip

AT_KINKS = [
    Variant(f"{setting}: {name}",
            functools.partial(kinked_problem, setting=setting, gradient=gradient))
    for setting, kinked in SETTINGS.items() for name, gradient in kinked.right.items()
]  # fmt: skip

MIXED = [
    Variant(f"mixed precision, {name}",
            functools.partial(mixed_problem, low=low, gradient=gradient))
    for name, low, gradient in RIGHT
]  # fmt: skip

LAYER_BY_LAYER = [Variant(f"{which}, right", functools.partial(layer_problem, which=which))
                  for which in LAYERS]  # fmt: skip

RANDOM = [
    Variant(f"random draws, {setting}: {name}",
            functools.partial(drawn_problem, setting=setting, gradient=gradient))
    for setting, drawn in DRAWN.items() for name, gradient in drawn.right.items()
]  # fmt: skip

CALLBACKS = [
    *(Variant(f"callbacks, {setting}: {function}",
              functools.partial(callback_problem, setting=setting, function=function))
      for setting in callbacks.SETTINGS for function in callbacks.FUNCTIONS),
    *(Variant(f"callbacks, {setting}: jax.grad",
              functools.partial(by_autodiff_problem, setting=setting, function="sine"))
      for setting in callbacks.SETTINGS),
]  # fmt: skip

CORRECT = [
    *EQUAL_FORMULAS, *SUMMATION, *POINTS, *REWRAPPED, *OTHERS, *AT_KINKS, *MIXED, *LAYER_BY_LAYER,
    *RANDOM, *CALLBACKS,
]  # fmt: skip
