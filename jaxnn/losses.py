"""Softmax, the categorical cross-entropy, and the derivative of the two together."""

import jax.numpy as jnp
from jax import Array


def softmax(Z: Array) -> Array:
    """A_ij = exp(Z_ij) / Σ_k exp(Z_ik), each row a distribution over the C classes.

    Z is (m, C), and so is the result, in Z's dtype. The row's maximum is subtracted first: the
    quotient is the same, and no exponential can overflow.
    """
    E = jnp.exp(_below_maximum(Z))
    return E / E.sum(axis=1, keepdims=True)


def log_softmax(Z: Array) -> Array:
    """log A_ij = Z_ij − log Σ_k exp(Z_ik), finite for every finite Z; shapes as in `softmax`."""
    below = _below_maximum(Z)
    return below - jnp.log(jnp.exp(below).sum(axis=1, keepdims=True))


def cross_entropy(Z: Array, Y: Array) -> Array:
    """L = −1/m Σ_i Σ_j Y_ij log A_ij with A = softmax(Z): the mean over the batch, in nats.

    Z holds the logits (m, C), Y the targets (m, C): one-hot rows, or any distribution over the
    classes. Computed from the logits, because log(softmax(Z)) is −∞ wherever softmax rounds to 0.
    """
    return (-(Y * log_softmax(Z)).sum(axis=1) / Z.shape[0]).sum()


def cross_entropy_derivative(A: Array, Y: Array) -> Array:
    """dZ = A − Y: the derivative of each example's own loss by its logits, where A = softmax(Z).

    (m, C). The mean's 1/m is applied once, where the parameters' derivatives are formed, as in the
    document. It holds for rows of Y that sum to 1.
    """
    return A - Y


def _below_maximum(Z: Array) -> Array:
    """Z minus its row maximum. The difference of two finite numbers can still overflow: half the
    largest float is as far below as it goes, which leaves room for targets that sum to a little
    more than 1 by rounding."""
    return jnp.maximum(Z - Z.max(axis=1, keepdims=True), jnp.finfo(Z.dtype).min / 2)
