"""Faults and correct variants outside the network: regressions, nested pytrees, a poly loss.

Here an equation has no name of its own: `first_wrong` is the path of the leaf, "w" or "a[1]". Where
one place of the loss explains several leaves, the doctor names that place, and nothing is asked.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .problems import Problem, numpy_sigmoid


class Coefficients(NamedTuple):
    """A pytree that is no dictionary."""

    linear: Any
    quadratic: Any


def linear_loss(params, X, y):
    """Mean squared error of a linear regression."""
    return ((X @ params["w"] + params["b"] - y) ** 2).mean()


def linear_sum_loss(params, X, y):
    return ((X @ params["w"] + params["b"] - y) ** 2).sum() / 2


def ridge_loss(params, X, y):
    return linear_loss(params, X, y) + 0.05 * (params["w"] ** 2).sum()


def lasso_loss(params, X, y):
    return linear_loss(params, X, y) + 0.1 * jnp.abs(params["w"]).sum()


def logistic_loss(params, X, y):
    z = X @ params["w"] + params["b"]
    return (jax.nn.softplus(z) - y * z).mean()


def hinge_loss(params, X, y):
    """A linear support vector machine: its margin has a kink at 1."""
    margin = (2 * y - 1) * (X @ params["w"] + params["b"])
    return jnp.maximum(1 - margin, 0).mean()


def maximum_loss(params, X, y):
    return (X @ params["w"] - y).max() + params["b"] ** 2


def poly_loss(params, t):
    """A polynomial over a nested pytree: {"a": [x, y], "inner": {"Q": (5, 5), "s": ()}}."""
    x, y = params["a"]
    Q, s = params["inner"]["Q"], params["inner"]["s"]
    return (x**3).sum() + (x * y**2).sum() + x @ Q @ y + s**2 * t


def quadratic_loss(params, x, y):
    """Σ (linear·x + quadratic·x² − y)² over a NamedTuple."""
    return ((params.linear * x + params.quadratic * x**2 - y) ** 2).sum()


def unused_loss(params, x):
    """One leaf has no influence: its gradient is 0."""
    return (params["used"] ** 2 * x).sum()


def regression_point(seed: int, dtype: str | None = None):
    rng = np.random.default_rng([seed, 1])
    dtype = dtype or ("float32", "float64")[seed % 2]
    m, n = ((17, 5), (23, 7))[seed % 2]
    X = rng.normal(0, 1, (m, n)).astype(dtype)
    y = (rng.normal(0, 1, m) > 0).astype(dtype)
    params = {"w": rng.normal(0, 1, n).astype(dtype), "b": np.asarray(rng.normal(), dtype)}
    return params, (X, y)


def linear_gradient(params, X, y):
    r = X @ params["w"] + params["b"] - y
    return {"w": 2 * X.T @ r / len(y), "b": 2 * r.mean()}


def linear_sum_gradient(params, X, y):
    r = X @ params["w"] + params["b"] - y
    return {"w": X.T @ r, "b": r.sum()}


def ridge_gradient(params, X, y):
    g = linear_gradient(params, X, y)
    return {"w": g["w"] + 0.1 * params["w"], "b": g["b"]}


def logistic_gradient(params, X, y):
    r = numpy_sigmoid(X @ params["w"] + params["b"]) - y
    return {"w": X.T @ r / len(y), "b": r.mean()}


def hinge_gradient(params, X, y, inside=np.greater):
    """`inside` chooses the convention at the kink: margin < 1 or margin ≤ 1."""
    t = 2 * y - 1
    active = inside(1 - t * (X @ params["w"] + params["b"]), 0).astype(X.dtype)
    return {"w": -X.T @ (active * t) / len(y), "b": -(active * t).mean()}


def poly_point(seed: int, dtype: str | None = None):
    rng = np.random.default_rng([seed, 2])
    dtype = dtype or ("float32", "float64")[seed % 2]
    x, y = rng.normal(0, 1, (2, 5)).astype(dtype)
    Q, s = rng.normal(0, 1, (5, 5)).astype(dtype), np.asarray(rng.normal(), dtype)
    return {"a": [x, y], "inner": {"Q": Q, "s": s}}, (np.asarray(1.7, dtype),)


def poly_gradient(params, t):
    x, y = params["a"]
    Q, s = params["inner"]["Q"], params["inner"]["s"]
    dx = 3 * x**2 + y**2 + Q @ y
    dy = 2 * x * y + Q.T @ x
    return {"a": [dx, dy], "inner": {"Q": np.outer(x, y), "s": 2 * s * t}}


def quadratic_point(seed: int):
    rng = np.random.default_rng([seed, 3])
    dtype = ("float32", "float64")[seed % 2]
    x, y = rng.normal(0, 1, (2, 31)).astype(dtype)
    return Coefficients(*rng.normal(0, 1, 2).astype(dtype)), (x, y)


def quadratic_gradient(params, x, y):
    r = params.linear * x + params.quadratic * x**2 - y
    return Coefficients(2 * (r * x).sum(), 2 * (r * x**2).sum())


def edited(right: Callable[..., Any], edit: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient that returns edit(right gradient, params, *args)."""
    return lambda params, *args: edit(right(params, *args), params, *args)


#: name: (loss, right gradient, point)
LOSSES = {
    "linear": (linear_loss, linear_gradient, regression_point),
    "linear sum": (linear_sum_loss, linear_sum_gradient, regression_point),
    "ridge": (ridge_loss, ridge_gradient, regression_point),
    "logistic": (logistic_loss, logistic_gradient, regression_point),
    "hinge": (hinge_loss, hinge_gradient, regression_point),
    "poly": (poly_loss, poly_gradient, poly_point),
    "quadratic": (quadratic_loss, quadratic_gradient, quadratic_point),
}

#: (name, code, first wrong leaf, which loss, edit)
EDITS: tuple[tuple[str, str, str, str, Callable[..., Any]], ...] = (
    ("the 2 of the square forgotten", "scale", "", "linear",
     lambda g, p, X, y: {"w": g["w"] / 2, "b": g["b"] / 2}),
    ("the 2 of the square forgotten in w", "scale", "w", "linear",
     lambda g, p, X, y: {**g, "w": g["w"] / 2}),
    ("no mean", "missing_mean", "", "linear",
     lambda g, p, X, y: {"w": g["w"] * len(y), "b": g["b"] * len(y)}),
    ("b averaged in a sum", "bias_mean_for_sum", "b", "linear sum",
     lambda g, p, X, y: {**g, "b": g["b"] / len(y)}),
    ("y − ŷ", "sign", "", "linear", lambda g, p, X, y: {"w": -g["w"], "b": -g["b"]}),
    ("b not reduced", "bias_not_reduced", "b", "linear sum",
     lambda g, p, X, y: {**g, "b": X @ p["w"] + p["b"] - y}),
    ("no ridge", "missing_regularisation", "w", "ridge",
     lambda g, p, X, y: {**g, "w": g["w"] - 0.1 * p["w"]}),
    ("mean twice", "extra_mean", "w", "logistic",
     lambda g, p, X, y: {**g, "w": g["w"] / len(y)}),
    ("b zero", "zero", "b", "logistic", lambda g, p, X, y: {**g, "b": 0 * g["b"]}),
    ("the last feature lost", "partial", "w", "logistic",
     lambda g, p, X, y: {**g, "w": np.append(g["w"][:-1], X.dtype.type(0))}),
    ("the last example lost", "partial", "", "logistic",
     lambda g, p, X, y: {k: v * X.dtype.type((len(y) - 1) / len(y))
                         for k, v in logistic_gradient(p, X[:-1], y[:-1]).items()}),
    ("Q transposed", "transpose", "inner.Q", "poly",
     lambda g, p, t: {**g, "inner": {**g["inner"], "Q": g["inner"]["Q"].T}}),
    ("x and y exchanged", "swapped_leaves", "a[0]", "poly",
     lambda g, p, t: {**g, "a": g["a"][::-1]}),
    ("a constant π", "scale", "inner.s", "poly",
     lambda g, p, t: {**g, "inner": {**g["inner"], "s": g["inner"]["s"] * t.dtype.type(np.pi)}}),
    ("minus in y", "sign", "a[1]", "poly", lambda g, p, t: {**g, "a": [g["a"][0], -g["a"][1]]}),
    ("NaN in Q", "non_finite", "inner.Q", "poly",
     lambda g, p, t: {**g, "inner": {**g["inner"], "Q": g["inner"]["Q"] / t.dtype.type("nan")}}),
    ("a tuple for a list", "structure", "", "poly", lambda g, p, t: {**g, "a": tuple(g["a"])}),
    ("2x² for 3x²", "scale", "a[0]", "poly",
     lambda g, p, t: {**g, "a": [g["a"][0] - p["a"][0] ** 2, g["a"][1]]}),
    ("coefficients exchanged", "swapped_leaves", "linear", "quadratic",
     lambda g, p, x, y: Coefficients(g.quadratic, g.linear)),
)  # fmt: skip


def other_problem(seed: int, which: str, edit: Callable[..., Any] | None = None) -> Problem:
    loss, right, point = LOSSES[which]
    params, args = point(seed)
    return Problem(loss, edited(right, edit) if edit else right, params, args)
