"""Softmax, the categorical cross-entropy, and the derivative of the two together.

A loss is a function of the logits Z and the targets, beside its derivative by Z. Targets are an
array (m, C); those of `distillation` are two.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array


class Loss(NamedTuple):
    """L = function(Z, targets), the mean over the batch, and dZ = derivative(Z, A, targets) of each
    example's own loss, where A = softmax(Z)."""

    name: str
    function: Callable[[Array, Any], Array]
    derivative: Callable[[Array, Array, Any], Array]


class Distilled(NamedTuple):
    """Targets for a network that learns from another: the truth, and what the teacher makes of it.

    Y and P are (m, C), rows that sum to 1; P is `soften` of the teacher's logits.
    """

    Y: Array
    P: Array


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


#: The document's loss: dZ = A − Y.
softmax_cross_entropy = Loss(
    "cross_entropy", cross_entropy, lambda Z, A, Y: cross_entropy_derivative(A, Y)
)


def smooth(Y: Array, eps: Array | float) -> Array:
    """(1 − ε) Y + ε/C: targets that leave each class a share (Szegedy et al., arXiv:1512.00567)."""
    return (1 - eps) * Y + eps / Y.shape[1]


def soften(Z: Array, temperature: Array | float) -> Array:
    """softmax(Z/T): the higher T, the more it says of the classes that are not the largest."""
    return softmax(Z / temperature)


def distillation(temperature: Array | float, weight: Array | float) -> Loss:
    """L = (1 − w) H(Y, softmax(Z)) + w T² H(P, softmax(Z/T)) for `Distilled` targets (Y, P).

    dZ = (1 − w)(A − Y) + w T (softmax(Z/T) − P), with the inner derivative 1/T. H is the
    cross-entropy, T the temperature (> 0), w the weight of the teacher in [0, 1]. T² keeps the
    teacher's share in dZ of one size at high temperatures (Hinton et al., arXiv:1503.02531).
    """
    T, w = temperature, weight

    def function(Z: Array, targets: Distilled) -> Array:
        Y, P = targets
        return (1 - w) * cross_entropy(Z, Y) + w * T**2 * cross_entropy(Z / T, P)

    def derivative(Z: Array, A: Array, targets: Distilled) -> Array:
        Y, P = targets
        by_truth = cross_entropy_derivative(A, Y)
        by_teacher = cross_entropy_derivative(soften(Z, T), P)
        return (1 - w) * by_truth + w * T * by_teacher

    return Loss("distillation", function, derivative)


def _below_maximum(Z: Array) -> Array:
    """Z minus its row maximum. The difference of two finite numbers can still overflow: half the
    largest float is as far below as it goes, which leaves room for targets that sum to a little
    more than 1 by rounding."""
    return jnp.maximum(Z - Z.max(axis=1, keepdims=True), jnp.finfo(Z.dtype).min / 2)
