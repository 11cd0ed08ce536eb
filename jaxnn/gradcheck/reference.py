"""True derivatives: jax.grad in float64, whatever the caller's dtype and global settings are."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnn.nn.activations import Activation
from jaxnn.nn.losses import Loss, softmax_cross_entropy
from jaxnn.nn.mlp import NO_MASKS, Masks, depth, feed_forward


@contextmanager
def float64_rules() -> Iterator[None]:
    """float64 exists, dtypes and ranks promote, products are exact to the dtype; then as before."""
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_matmul_precision("highest"),
    ):
        yield


@contextmanager
def in_all_threads() -> Iterator[None]:
    """The width of numbers that holds here in every thread; then as before.

    A callback to the host runs in a thread of JAX's, where float64 would not exist.
    """
    with ThreadPoolExecutor(1) as other:
        before = other.submit(lambda: jax.config.jax_enable_x64).result()  # type: ignore[attr-defined]
    jax.config.update("jax_enable_x64", jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def floating(value: object) -> bool:
    """Is it an array of real or complex numbers? Integers, keys and Python objects are not."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.complexfloating)
    )


def cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating arrays in `dtype` (complex in the dtype of twice the width).

    An array of NumPy stays one of NumPy and a jax.Array stays a jax.Array; the rest is untouched,
    but for integer arrays of NumPy, which are copied: JAX remembers an array by its identity, in
    the width of integers in which it met it first.
    """

    def one(value: Any) -> Any:
        if not floating(value):
            return value.copy() if isinstance(value, np.ndarray) else value
        wanted = dtype
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            wanted = np.complex128 if np.dtype(dtype).itemsize == 8 else np.complex64
        return value.astype(wanted)

    return jax.tree.map(one, tree)


def network_truth(
    params: Mapping[str, Array],
    X: Array,
    Y: Any,
    activation: Activation,
    *,
    mean: bool = True,
    l2: float | Array = 0.0,
    masks: Masks = NO_MASKS,
    loss: Loss = softmax_cross_entropy,
) -> dict[str, Array]:
    """Every derivative of back-propagation by autodiff, in its order: dZ_L, dW_L, db_L, dA_{L−1} …

    A zero is added to each Z and A; the derivative by that zero is dZ or dA, of each example's own
    loss as in the document. With `mean` false the loss is the batch's sum. l2/2 · Σ‖W‖² is added.
    """
    L = depth(params)
    m = X.shape[0]
    shapes = jax.eval_shape(lambda: feed_forward(params, X, activation, masks=masks))
    names = [name for name in shapes if name not in ("A0", f"A{L}", *masks)]
    zeros = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in names}

    def tapped(params: Mapping[str, Array], zeros: Mapping[str, Array]) -> Array:
        def tap(name: str, value: Array) -> Array:
            return value + zeros[name] if name in zeros else value

        data = loss.function(feed_forward(params, X, activation, tap, masks)[f"Z{L}"], Y)
        squares = sum((params[f"W{layer}"] ** 2).sum() for layer in range(1, L + 1))
        return (data if mean else data * m) + l2 / 2 * squares

    of_params, of_zeros = jax.grad(tapped, argnums=(0, 1))(params, zeros)
    per_example = m if mean else 1
    derivatives = {f"d{name}": value for name, value in of_params.items()}
    derivatives |= {f"d{name}": value * per_example for name, value in of_zeros.items()}
    return {name: derivatives[name] for name in order(L)}


def order(L: int) -> list[str]:
    """The equations in the order in which back-propagation computes them, for L layers."""
    names = []
    for layer in range(L, 0, -1):
        hidden = [f"dA{layer}"] if layer < L else []
        names += [*hidden, f"dZ{layer}", f"dW{layer}", f"db{layer}"]
    return names
