"""The network: parameters, forward pass and hand-derived backward pass, for any depth.

Examples are rows: X is (m, n_x), and W_l is (n_l, n_{l−1}) as in the document, which keeps examples
as columns. Transpose its every Z, A, dZ and dA to get ours; every W, b, dW and db is the same.

The document's network, two layers, forward and then backward:

    Z1 = X W1ᵀ + b1      dZ2 = A2 − Y             dA1 = dZ2 W2
    A1 = σ(Z1)           dW2 = 1/m dZ2ᵀ A1        dZ1 = dA1 ∘ σ′(Z1)
    Z2 = A1 W2ᵀ + b2     db2 = 1/m Σ_i dZ2_i      dW1 = 1/m dZ1ᵀ X
    A2 = softmax(Z2)                              db1 = 1/m Σ_i dZ1_i

dZ_l and dA_l are the derivatives of each example's own loss; dW_l and db_l those of the mean.

Masks D_l (dropout), a penalty λ/2 Σ‖W‖² (`l2` = λ) and another `Loss` may be given, to the forward
and the backward pass alike; what is not given is not in the program.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxnn.nn.activations import Activation, sigmoid
from jaxnn.nn.initialisation import Initialiser, document
from jaxnn.nn.losses import Loss, softmax, softmax_cross_entropy
from jaxnn.nn.regularisation import l2_derivative, l2_penalty

Params = Mapping[str, Array]
Masks = Mapping[str, Array]
NO_MASKS: Masks = MappingProxyType({})


def init_params(
    key: Array,
    sizes: Sequence[int],
    initialiser: Initialiser = document,
    dtype: DTypeLike = jnp.float32,
) -> dict[str, Array]:
    """W_l as the initialiser draws it, N(0, 1/n_{l−1}) in the document; b_l = 0.

    `sizes` are those of the layers, (n_x, n_1, …, C). Returns {"W1": (n_1, n_x), "b1": (n_1,),
    "W2": …}. With the document's variance a sum of n_{l−1} products has the variance of one input,
    whatever the width.

    >>> params = jaxnn.init_params(jax.random.key(0), (784, 64, 10))
    >>> {name: value.shape for name, value in params.items()}
    {'W1': (64, 784), 'b1': (64,), 'W2': (10, 64), 'b2': (10,)}
    """
    params = {}
    for layer, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
        params[f"W{layer}"] = initialiser.draw(jax.random.fold_in(key, layer), n_out, n_in, dtype)
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
    masks: Masks = NO_MASKS,
) -> dict[str, Array]:
    """Z_l = A_{l−1} W_lᵀ + b_l, A_l = g(Z_l), with A_0 = X and A_L = softmax(Z_L).

    Returns the cache {"A0": X, "Z1": (m, n_1), "A1": …, "A_L": (m, C)}. `tap` sees each Z and A by
    name and returns what takes its place: verification adds a zero there and differentiates by it.
    With a mask D_l, of the shape of A_l, in `masks` ("D0" for X, "D1", …), the next layer sees
    A_l ∘ D_l; the cache then has D_l too.

    >>> cache = jaxnn.feed_forward(params, X)
    >>> {name: value.shape for name, value in cache.items()}
    {'A0': (32, 784), 'Z1': (32, 64), 'A1': (32, 64), 'Z2': (32, 10), 'A2': (32, 10)}
    """
    L = depth(params)
    cache = {"A0": X, **masks}
    for layer in range(1, L + 1):
        g = activation.function if layer < L else softmax
        A = masked(cache[f"A{layer - 1}"], cache, layer - 1)
        Z = tap(f"Z{layer}", A @ params[f"W{layer}"].T + params[f"b{layer}"][None, :])
        cache[f"Z{layer}"] = Z
        cache[f"A{layer}"] = tap(f"A{layer}", g(Z))
    return cache


def masked(value: Array, cache: Mapping[str, Array], layer: int) -> Array:
    """value ∘ D_l, for A_l on the way forward and dA_l on the way back; without a D_l, value."""
    return value * cache[f"D{layer}"] if f"D{layer}" in cache else value


def back_propagate(
    params: Params,
    cache: Mapping[str, Array],
    Y: Any,
    activation: Activation = sigmoid,
    *,
    l2: Array | float | None = None,
    loss: Loss = softmax_cross_entropy,
) -> dict[str, Array]:
    """Every derivative of the document, in its order: dZ2, dW2, db2, dA1, dZ1, dW1, db1.

    `cache` is what `feed_forward` returned for the same parameters, Y the targets of `loss`, (m, C)
    but for distillation. Nothing that the cache holds is computed again. Each dX has the shape of
    X. `l2` adds λ W_l to dW_l.

    >>> d = jaxnn.back_propagate(params, jaxnn.feed_forward(params, X), Y)
    >>> list(d)
    ['dZ2', 'dW2', 'db2', 'dA1', 'dZ1', 'dW1', 'db1']
    """
    L = depth(params)
    m = cache["A0"].shape[0]
    d = {f"dZ{L}": loss.derivative(cache[f"Z{L}"], cache[f"A{L}"], Y)}
    for layer in range(L, 0, -1):
        if layer < L:
            d[f"dA{layer}"] = masked(d[f"dZ{layer + 1}"] @ params[f"W{layer + 1}"], cache, layer)
            d[f"dZ{layer}"] = d[f"dA{layer}"] * activation.derivative(
                cache[f"Z{layer}"], cache[f"A{layer}"]
            )
        A = masked(cache[f"A{layer - 1}"], cache, layer - 1)
        d[f"dW{layer}"] = d[f"dZ{layer}"].T @ A / m
        d[f"db{layer}"] = d[f"dZ{layer}"].sum(axis=0) / m
    return d if l2 is None else _with_penalty(d, params, l2)


def _with_penalty(d: dict[str, Array], params: Params, l2: Array | float) -> dict[str, Array]:
    return d | {
        f"d{name}": d[f"d{name}"] + l2_derivative(W, l2)
        for name, W in params.items()
        if name[0] == "W"
    }


def loss(
    params: Params,
    X: Array,
    Y: Any,
    activation: Activation = sigmoid,
    *,
    masks: Masks = NO_MASKS,
    l2: Array | float | None = None,
    loss: Loss = softmax_cross_entropy,
) -> Array:
    """The mean loss of the network on a batch, a scalar in nats; `l2` adds λ/2 Σ_l ‖W_l‖².

    A network that knows nothing has ln C:

    >>> zeros = jax.tree.map(jnp.zeros_like, params)
    >>> print(f"{jaxnn.loss(zeros, X, Y):.4f} = {jnp.log(10):.4f}")
    2.3026 = 2.3026
    """
    Z = feed_forward(params, X, activation, masks=masks)[f"Z{depth(params)}"]
    data = loss.function(Z, Y)
    return data if l2 is None else data + l2_penalty(params, l2)


def gradient(
    params: Params,
    X: Array,
    Y: Any,
    activation: Activation = sigmoid,
    *,
    masks: Masks = NO_MASKS,
    l2: Array | float | None = None,
    loss: Loss = softmax_cross_entropy,
) -> dict[str, Array]:
    """∂loss/∂params by the hand-derived equations, with the structure of `params`.

    >>> by_hand, by_autodiff = jaxnn.gradient(params, X, Y), jax.grad(jaxnn.loss)(params, X, Y)
    >>> bool(jnp.allclose(by_hand["W1"], by_autodiff["W1"], atol=1e-7))
    True
    """
    cache = feed_forward(params, X, activation, masks=masks)
    derivatives = back_propagate(params, cache, Y, activation, l2=l2, loss=loss)
    return {name: derivatives[f"d{name}"] for name in params}
