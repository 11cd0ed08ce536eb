"""What keeps a network from learning its examples by heart: dropout, L2, and a largest norm."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def dropout_mask(
    key: Array, rate: Array | float, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Array:
    """D: each entry 0 with probability p = `rate`, else 1/(1 − p), for 0 ≤ p < 1.

    The next layer sees A ∘ D, whose mean over all masks is A: evaluation needs no mask and no
    factor ("inverted" dropout; Srivastava et al., JMLR 2014).
    """
    p = jnp.asarray(rate, dtype)
    return jax.random.bernoulli(key, 1 - p, shape).astype(dtype) / (1 - p)


def l2_penalty(params: Mapping[str, Array], l2: Array | float) -> Array:
    """λ/2 Σ_l ‖W_l‖², over the weights and not the biases; λ = `l2`."""
    squares = [(W * W).sum() for name, W in params.items() if name[0] == "W"]
    return l2 / 2 * jnp.stack(squares).sum()


def l2_derivative(W: Array, l2: Array | float) -> Array:
    """λ W_l: the derivative of `l2_penalty` by W_l."""
    return l2 * W


def max_norm(params: Mapping[str, Array], c: Array | float) -> dict[str, Array]:
    """Each row w of each W_l, the weights into one unit, becomes w · min(1, c/‖w‖); c > 0.

    The nearest weights of norm c at most: a projection after the update, which has no derivative.
    """
    return {name: _projected(p, c) if name[0] == "W" else p for name, p in params.items()}


def _projected(W: Array, c: Array | float) -> Array:
    norm = jnp.sqrt((W * W).sum(axis=1, keepdims=True))
    return W * (c / jnp.maximum(norm, c))
