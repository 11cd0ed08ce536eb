"""Evaluation, slice by slice: the loss of a network on all rows, and its right answers."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from jaxnn.nn.activations import Activation, sigmoid
from jaxnn.nn.ensemble import logits
from jaxnn.nn.losses import cross_entropy
from jaxnn.nn.mlp import Params
from jaxnn.training.objective import one_hot, unit_interval

#: Rows that are evaluated at a time, and inputs of them, at most: they bound the memory.
EVALUATION_ROWS, EVALUATION_INPUTS = 2000, 2**21


class Evaluation(NamedTuple):
    """Mean cross-entropy (nats), how many rows are classified right, and the logits (n, C)."""

    loss: Array
    correct: Array
    logits: Array

    @property
    def accuracy(self) -> float:
        """The share of rows that are classified right."""
        return int(self.correct) / self.logits.shape[0]


def evaluate(
    params: Params,
    images: Array | NDArray[Any],
    labels: Array | NDArray[Any],
    scale: Array | np.float32,
    *,
    activation: Activation = sigmoid,
) -> Evaluation:
    """Loss, correct answers and logits over every row, images (n, n_x) as stored, labels (n,).

    A slice of `evaluation_slices` at a time, each by the same compiled program, and one loss of all
    logits. Wherever the slices are computed, on one device or on several, from images on a device
    or on the host, of which two slices are shipped at most: the result has the same bits.

    >>> digits = jaxnn.load_data("digits")
    >>> params = jaxnn.init_params(jax.random.key(0), (64, 24, 10))
    >>> found = jaxnn.evaluate(params, digits.x_test, digits.y_test, np.float32(digits.scale))
    >>> found.logits.shape, 0 <= found.accuracy <= 1
    ((359, 10), True)
    """
    params = jax.device_put(params)
    parts: list[Any] = []
    for rows in evaluation_slices(*images.shape):
        if isinstance(images, Array):
            part = rows_of(images, np.int32(rows.start), len(rows))
        else:
            part = images[rows.start : rows.stop]
        parts.append(slice_logits(params, part, scale, activation=activation))
        if len(parts) > 1:
            parts[-2] = np.asarray(parts[-2])  # no more than two slices are under way
    found: Evaluation = score(joined(parts, len(images)), labels)
    return found


def evaluation_slices(n: int, n_x: int) -> list[range]:
    """The rows that are evaluated at a time: equally many in each, as the shape of the data alone
    decides. The last slice begins within the one before where they do not divide n.

    A product's last bits may depend on how many rows it has: equal slices give equal bits.
    """
    most = min(EVALUATION_ROWS, max(1, EVALUATION_INPUTS // n_x))
    size = -(-n // -(-n // most))
    return [range(first, first + size) for first in (min(at, n - size) for at in range(0, n, size))]


@partial(jax.jit, static_argnames="activation")
def slice_logits(
    params: Params, images: Array, scale: Array | np.float32, *, activation: Activation = sigmoid
) -> Array:
    """The logits (m, C) of images (m, n_x) as stored; of an ensemble, those of its answer."""
    return logits(params, unit_interval(images, scale), activation)


def all_logits(
    params: Params, images: Array, scale: Array, activation: Activation = sigmoid
) -> Array:
    """Inside a program: the logits (n, C) of all images (n, n_x), slice by slice."""
    slices = evaluation_slices(*images.shape)

    def one(first: Array) -> Array:
        rows = rows_of(images, first, len(slices[0]))
        Z: Array = slice_logits(params, rows, scale, activation=activation)
        return Z

    Z = jax.lax.map(one, jnp.array([rows.start for rows in slices], jnp.int32))
    together: Array = joined(list(Z), len(images), jnp)
    return together


def joined(parts: Sequence[Any], n: int, numpy: Any = np) -> Any:
    """The logits (n, C) from those of each of `evaluation_slices`: on the host, by NumPy."""
    *whole, last = parts
    new = n - sum(len(part) for part in whole)
    return numpy.concatenate([*whole, last[len(last) - new :]])


@jax.jit
def score(Z: Array, labels: Array) -> Evaluation:
    """The evaluation that logits Z (n, C) amount to, where labels (n,) are true."""
    correct = (Z.argmax(axis=1) == labels).sum(dtype=jnp.int32)
    return Evaluation(cross_entropy(Z, one_hot(labels, Z.shape[1])), correct, Z)


@partial(jax.jit, static_argnames="size")
def rows_of(images: Array, first: Array, size: int) -> Array:
    """`size` rows from `first` on."""
    return jax.lax.dynamic_slice_in_dim(images, first, size)
