"""The network: parameters, forward pass and hand-derived backward pass, for any depth.

Examples are rows: X is (m, n_x), and W_l is (n_l, n_{l−1}) as in the document, which keeps examples
as columns. Transpose its every Z, A, dZ and dA to get ours; every W, b, dW and db is the same.

The document's network, two layers, forward and then backward:

    Z1 = X W1ᵀ + b1      dZ2 = A2 − Y             dA1 = dZ2 W2
    A1 = σ(Z1)           dW2 = 1/m dZ2ᵀ A1        dZ1 = dA1 ∘ σ′(Z1)
    Z2 = A1 W2ᵀ + b2     db2 = 1/m Σ_i dZ2_i      dW1 = 1/m dZ1ᵀ X
    A2 = softmax(Z2)                              db1 = 1/m Σ_i dZ1_i

dZ_l and dA_l are the derivatives of each example's own loss; dW_l and db_l those of the mean.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxnn.activations import Activation, sigmoid
from jaxnn.losses import cross_entropy, cross_entropy_derivative, softmax

Params = Mapping[str, Array]


def init_params(
    key: Array, sizes: Sequence[int], dtype: DTypeLike = jnp.float32
) -> dict[str, Array]:
    """W_l ~ N(0, 1/n_{l−1}), b_l = 0, for layer sizes (n_x, n_1, …, C).

    Returns {"W1": (n_1, n_x), "b1": (n_1,), "W2": …}. With this variance a sum of n_{l−1} products
    has the variance of one input, whatever the width.
    """
    params = {}
    for layer, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        W = jax.random.normal(jax.random.fold_in(key, layer), (n_out, n_in), dtype)
        params[f"W{layer}"] = W * n_in**-0.5
        params[f"b{layer}"] = jnp.zeros(n_out, dtype)
    return params


def depth(params: Params) -> int:
    """The number of layers, L."""
    return len(params) // 2


def feed_forward(
    params: Params,
    X: Array,
    activation: Activation = sigmoid,
    tap: Callable[[str, Array], Array] = lambda name, value: value,
) -> dict[str, Array]:
    """Z_l = A_{l−1} W_lᵀ + b_l, A_l = g(Z_l), with A_0 = X and A_L = softmax(Z_L).

    Returns the cache {"A0": X, "Z1": (m, n_1), "A1": …, "A_L": (m, C)}. `tap` sees each Z and A by
    name and returns what takes its place: verification adds a zero there and differentiates by it.
    """
    L = depth(params)
    cache = {"A0": X}
    for layer in range(1, L + 1):
        g = activation.function if layer < L else softmax
        Z = tap(
            f"Z{layer}",
            cache[f"A{layer - 1}"] @ params[f"W{layer}"].T + params[f"b{layer}"][None, :],
        )
        cache[f"Z{layer}"] = Z
        cache[f"A{layer}"] = tap(f"A{layer}", g(Z))
    return cache


def back_propagate(
    params: Params, cache: Mapping[str, Array], Y: Array, activation: Activation = sigmoid
) -> dict[str, Array]:
    """Every derivative of the document, in its order: dZ2, dW2, db2, dA1, dZ1, dW1, db1.

    `cache` is what `feed_forward` returned for the same parameters, Y the targets (m, C). Nothing
    that the cache holds is computed again. Each dX has the shape of X.
    """
    L = depth(params)
    m = Y.shape[0]
    d = {f"dZ{L}": cross_entropy_derivative(cache[f"A{L}"], Y)}
    for layer in range(L, 0, -1):
        if layer < L:
            d[f"dA{layer}"] = d[f"dZ{layer + 1}"] @ params[f"W{layer + 1}"]
            d[f"dZ{layer}"] = d[f"dA{layer}"] * activation.derivative(
                cache[f"Z{layer}"], cache[f"A{layer}"]
            )
        d[f"dW{layer}"] = d[f"dZ{layer}"].T @ cache[f"A{layer - 1}"] / m
        d[f"db{layer}"] = d[f"dZ{layer}"].sum(axis=0) / m
    return d


def loss(params: Params, X: Array, Y: Array, activation: Activation = sigmoid) -> Array:
    """The mean cross-entropy of the network on a batch, a scalar in nats."""
    return cross_entropy(feed_forward(params, X, activation)[f"Z{depth(params)}"], Y)


def gradient(
    params: Params, X: Array, Y: Array, activation: Activation = sigmoid
) -> dict[str, Array]:
    """∂loss/∂params by the hand-derived equations, with the structure of `params`."""
    derivatives = back_propagate(params, feed_forward(params, X, activation), Y, activation)
    return {name: derivatives[f"d{name}"] for name in params}
