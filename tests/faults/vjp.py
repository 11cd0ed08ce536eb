"""Functions with a hand-written backward pass for `check_vjp`, wrong ones and right ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Backward(NamedTuple):
    """A `jax.custom_vjp` function, the same function without it, and arguments by seed."""

    name: str
    code: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    arguments: Callable[[int], tuple[Any, ...]]


def by_hand(function: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """`function` whose vector-Jacobian product is backward(cotangent, *args)."""
    hand = jax.custom_vjp(function)
    hand.defvjp(lambda *args: (function(*args), args), lambda args, g: backward(g, *args))
    return hand


def normal(*shapes: tuple[int, ...]) -> Callable[[int], tuple[Any, ...]]:
    def arguments(seed: int) -> tuple[Any, ...]:
        rng = np.random.default_rng([seed, 4])
        return tuple(jnp.asarray(rng.normal(0, 1, shape), "float32") for shape in shapes)

    return arguments


def softplus(x):
    return jnp.log1p(jnp.exp(x))


def product(x, y):
    return x * y


def matmul(X, W):
    return X @ W


def log_sum_exp(X):
    return jax.nn.logsumexp(X, axis=1)


def standardise(X):
    """Every row minus its mean, over its standard deviation."""
    return (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)


def standardise_backward(g, X):
    A, s = standardise(X), X.std(axis=1, keepdims=True)
    return ((g - g.mean(1, keepdims=True) - A * (g * A).mean(1, keepdims=True)) / s,)


def affine(X, W, b):
    return X @ W.T + b[None, :]


VECTOR, PAIR = normal((7,)), normal((7,), (7,))
PRODUCT, SQUARE, ROWS = normal((5, 7), (7, 3)), normal((5, 5), (5, 5)), normal((5, 7))
LAYER = normal((11, 7), (5, 7), (5,))
LARGE, LARGE_PRODUCT = normal((61, 769)), normal((61, 97), (97, 31))


def tanh_backward(g, x):
    return (g * (1 - jnp.tanh(x) ** 2),)


def wrong(name, code, function, backward, arguments):
    return Backward(name, code, by_hand(function, backward), function, arguments)


VJP_FAULTS = [
    wrong("softplus ignores its cotangent", "ignores_cotangent", softplus,
          lambda g, x: (jax.nn.sigmoid(x),), VECTOR),
    wrong("one factor of a product ignores it", "ignores_cotangent", product,
          lambda g, x, y: (g * y, x), PAIR),
    wrong("the cotangent's absolute value", "nonlinear_in_cotangent", softplus,
          lambda g, x: (jnp.abs(g) * jax.nn.sigmoid(x),), VECTOR),
    wrong("the cotangent squared", "nonlinear_in_cotangent", softplus,
          lambda g, x: (g**2 * jax.nn.sigmoid(x),), VECTOR),
    wrong("half of softplus′", "scale", softplus, lambda g, x: (g * jax.nn.sigmoid(x) / 2,),
          VECTOR),
    wrong("minus in a product", "sign", product, lambda g, x, y: (g * y, -g * x), PAIR),
    wrong("zero for W", "zero", matmul, lambda g, X, W: (g @ W.T, jnp.zeros_like(W)), PRODUCT),
    wrong("W not transposed", "weights_not_transposed|unknown", matmul,
          lambda g, X, W: (g @ W, X.T @ g), SQUARE),
    wrong("dW transposed", "transpose", matmul, lambda g, X, W: (g @ W.T, g.T @ X), SQUARE),
    wrong("factors exchanged", "swapped_leaves", product, lambda g, x, y: (g * x, g * y), PAIR),
    wrong("no softmax in logsumexp", "unknown", log_sum_exp,
          lambda g, X: (g[:, None] * jnp.exp(X),), ROWS),
    wrong("standardise without the mean's share", "path_missing", standardise,
          lambda g, X: ((g - standardise(X) * (g * standardise(X)).mean(1, keepdims=True))
                        / X.std(axis=1, keepdims=True),), ROWS),
    wrong("the bias averaged", "bias_mean_for_sum", affine,
          lambda g, X, W, b: (g @ W, g.T @ X, g.mean(axis=0)), LAYER),
    wrong("NaN where x is 0", "non_finite", lambda x: x**2,
          lambda g, x: (g * 2 * x**3 / (x * x),),
          lambda seed: (normal((7,))(seed)[0].at[2].set(0),)),
    wrong("the last row lost", "partial", affine,
          lambda g, X, W, b: (g @ W, g[:-1].T @ X[:-1], g.sum(axis=0)), LAYER),
    wrong("large VJPs: tanh is 0 where it is saturated", "partial|unknown", jnp.tanh,
          lambda g, x: (jnp.where(jnp.abs(x) > 2.5, 0, tanh_backward(g, x)[0]),), LARGE),
    wrong("large VJPs: one entry 1 % off", "scale", jnp.tanh,
          lambda g, x: (jnp.asarray(tanh_backward(g, x)[0]).at[17, 5].multiply(1.01),), LARGE),
    wrong("large VJPs: one weight's derivative 0", "partial", matmul,
          lambda g, X, W: (g @ W.T, jnp.asarray(X.T @ g).at[3, 5].set(0)), LARGE_PRODUCT),
    wrong("large VJPs: half of dX", "scale", matmul,
          lambda g, X, W: (g @ W.T / 2, X.T @ g), LARGE_PRODUCT),
]  # fmt: skip

VJP_CORRECT = [
    wrong("softplus", "", softplus, lambda g, x: (g * jax.nn.sigmoid(x),), VECTOR),
    wrong("product", "", product, lambda g, x, y: (g * y, g * x), PAIR),
    wrong("matmul", "", matmul, lambda g, X, W: (g @ W.T, X.T @ g), PRODUCT),
    wrong("logsumexp", "", log_sum_exp, lambda g, X: (g[:, None] * jax.nn.softmax(X, axis=1),),
          ROWS),
    wrong("standardise", "", standardise, standardise_backward, ROWS),
    wrong("affine by einsum", "", affine,
          lambda g, X, W, b: (g @ W, jnp.einsum("mi,mj->ij", g, X), g.sum(axis=0)), LAYER),
    wrong("ReLU, 1 at the kink", "", jax.nn.relu, lambda g, x: (jnp.where(x >= 0, g, 0),),
          lambda seed: (normal((7,))(seed)[0].at[2].set(0),)),
    wrong("tanh", "", jnp.tanh, tanh_backward, ROWS),
    wrong("large VJPs: tanh", "", jnp.tanh, tanh_backward, LARGE),
    wrong("large VJPs: matmul", "", matmul, lambda g, X, W: (g @ W.T, X.T @ g), LARGE_PRODUCT),
    wrong("large VJPs: ReLU, 1/2 at the kinks", "", jax.nn.relu,
          lambda g, x: (g * jnp.heaviside(x, 0.5),),
          lambda seed: (jnp.maximum(LARGE(seed)[0], 0),)),
    wrong("large VJPs: standardise", "", standardise, standardise_backward, LARGE),
]  # fmt: skip
