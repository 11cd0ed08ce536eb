"""Mixed precision: a loss, a gradient, or both, that compute in bfloat16 or float16 on the way."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .problems import Problem

BFLOAT16, FLOAT16 = jnp.bfloat16, jnp.float16


def short(low: Any) -> Callable[[Any], Any]:
    """The cast to a short dtype, or none."""
    return lambda a: jnp.asarray(a) if low is None else jnp.asarray(a).astype(low)


def mixed_loss(p, X, Y, low=None):
    """A tanh network whose products are taken in a short dtype, the softmax in the caller's."""
    c = short(low)
    A1 = jnp.tanh(c(X) @ c(p["W1"]).T + c(p["b1"])[None])
    Z2 = (A1 @ c(p["W2"]).T + c(p["b2"])[None]).astype(Y.dtype)
    return -(jax.nn.log_softmax(Z2) * Y).sum() / np.asarray(len(Y), Y.dtype)


def mixed_gradient(p, X, Y, low=None, slope=lambda A: 1 - A * A, edit=lambda d, m: d):
    c, m = short(low), len(Y)
    A1 = jnp.tanh(c(X) @ c(p["W1"]).T + c(p["b1"])[None])
    Z2 = (A1 @ c(p["W2"]).T + c(p["b2"])[None]).astype(Y.dtype)
    dZ2 = c((jax.nn.softmax(Z2) - Y) / np.asarray(m, Y.dtype))
    dZ1 = dZ2 @ c(p["W2"]) * slope(A1)
    d = {"W1": dZ1.T @ c(X), "b1": dZ1.sum(0), "W2": dZ2.T @ A1, "b2": dZ2.sum(0)}
    return {k: v.astype(p[k].dtype) for k, v in edit(d, m).items()}


def by_autodiff(p, X, Y, low=None):
    return jax.grad(partial(mixed_loss, low=low))(p, X, Y)


def mixed_problem(seed: int, low: Any, gradient: Callable[..., Any]) -> Problem:
    """At float32 parameters."""
    rng = np.random.default_rng(seed)
    m, n_x, n_h, C = 17, 11, 7, 5
    p = {
        "W1": rng.normal(size=(n_h, n_x)) / np.sqrt(n_x),
        "b1": rng.normal(size=n_h),
        "W2": rng.normal(size=(C, n_h)) / np.sqrt(n_h),
        "b2": rng.normal(size=C),
    }
    X, Y = rng.normal(size=(m, n_x)), np.eye(C)[rng.integers(0, C, m)]
    params = {k: jnp.asarray(v, jnp.float32) for k, v in p.items()}
    return Problem(partial(mixed_loss, low=low), gradient, params, (np.float32(X), np.float32(Y)))


def name(dtype: Any) -> str:
    return "float32" if dtype is None else np.dtype(dtype).name


DTYPES = (None, BFLOAT16, FLOAT16)

#: (name, dtype of the loss, gradient)
RIGHT = [
    *((f"jax.grad of a {name(low)} loss", low, partial(by_autodiff, low=low)) for low in DTYPES),
    *((f"{name(low)} in the loss, {name(by_hand)} in the gradient", low,
       partial(mixed_gradient, low=by_hand)) for low in DTYPES for by_hand in DTYPES),
]  # fmt: skip

#: (name, code, first wrong, what is wrong)
MISTAKES = (
    ("no tanh′", "missing_activation_derivative", "dZ1", {"slope": lambda A: 1}),
    ("minus in dW1", "sign", "dW1", {"edit": lambda d, m: {**d, "W1": -d["W1"]}}),
    ("no mean", "missing_mean", "dW2", {"edit": lambda d, m: {k: m * v for k, v in d.items()}}),
    ("dW2 zero", "zero", "dW2", {"edit": lambda d, m: {**d, "W2": 0 * d["W2"]}}),
)

#: (name, code, first wrong, dtype of the loss, gradient)
WRONG = [
    (f"{mistake}: {name(low)} in the loss, {name(by_hand)} in the gradient", code, first, low,
     partial(mixed_gradient, low=by_hand, **options))
    for mistake, code, first, options in MISTAKES
    for low, by_hand in ((None, BFLOAT16), (BFLOAT16, None), (BFLOAT16, BFLOAT16), (FLOAT16,) * 2)
]  # fmt: skip
