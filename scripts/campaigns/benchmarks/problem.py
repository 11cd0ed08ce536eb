"""The same work for every contender: weights, orders of the examples, hyperparameters.

`python -m benchmarks.problem` writes them, in a process of its own: {"specs"} on standard input.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import processes

#: Rows of the training set whose loss is computed at once, in float64.
SLICE = 5000


class Spec(NamedTuple):
    """A problem's sizes; `place` is the file of its weights and orders. `rows` None: all."""

    place: str
    data: str
    n_h: Sequence[int] = (64,)
    batch_size: int = 64
    epochs: int = 4
    rows: int | None = None
    lr: float = 0.5
    beta: float = 0.9
    seed: int = 0


class Problem(NamedTuple):
    """images (n, n_x) as stored, labels (n,), params {"W1": (n_1, n_x), "b1": (n_1,), …} in
    float32, and orders (epochs, n): epoch e visits the examples in the order orders[e − 1].

    `scale` brings a pixel into [0, 1].
    """

    images: NDArray[Any]
    labels: NDArray[np.int32]
    scale: float
    n_classes: int
    params: dict[str, NDArray[np.float32]]
    orders: NDArray[np.intp]
    spec: Spec

    @property
    def X(self) -> NDArray[np.float32]:
        """The images in [0, 1]."""
        return self.images.astype(np.float32) * np.float32(self.scale)

    @property
    def Y(self) -> NDArray[np.float32]:
        """The labels as one-hot rows."""
        return np.eye(self.n_classes, dtype=np.float32)[self.labels]

    def batches(self, epoch: int) -> list[NDArray[np.intp]]:
        """The rows of every batch of an epoch (1, 2, …); the last may be smaller."""
        order = self.orders[epoch - 1]
        size = self.spec.batch_size
        return [order[begin : begin + size] for begin in range(0, len(order), size)]


def written(specs: Sequence[Spec]) -> list[tuple[list[int], int]]:
    """Write each problem; for each, the sizes of the layers and the number of examples."""
    request = {"specs": [spec._asdict() for spec in specs]}
    return [(sizes, n) for sizes, n in processes.ask("benchmarks.problem", request)]


def answer(request: dict[str, Any]) -> list[tuple[list[int], int]]:
    """What the process of `written` does."""
    return [write(Spec(**spec)) for spec in request["specs"]]


def write(spec: Spec) -> tuple[list[int], int]:
    """The weights and orders that `scripts/train.py` would draw from the same seed.

    Returns the sizes of the layers, (n_x, n_1, …, C), and the number of examples.
    """
    from jaxnn.training.config import Config
    from jaxnn.training.loop import epoch_key_and_order, start

    images, _, _, n_classes = examples(spec)
    config = Config(n_h=tuple(spec.n_h), seed=spec.seed, lr=spec.lr, beta=spec.beta)
    params = start(config, images.shape[1], n_classes).state.params
    orders = [
        epoch_key_and_order(config, epoch, len(images))[1] for epoch in range(1, spec.epochs + 1)
    ]
    arrays: Any = {"orders": np.stack(orders), **params}
    np.savez(spec.place, **arrays)
    return [images.shape[1], *spec.n_h, n_classes], len(images)


def read(spec: Spec) -> Problem:
    """The problem that `write` wrote, with its examples."""
    with np.load(spec.place) as file:
        arrays = dict(file)
    orders = arrays.pop("orders").astype(np.intp)  # NumPy and PyTorch index with nothing smaller
    images, labels, scale, n_classes = examples(spec)
    return Problem(images, labels, scale, n_classes, arrays, orders, spec)


def examples(spec: Spec) -> tuple[NDArray[Any], NDArray[np.int32], float, int]:
    """The first `rows` of the training set, repeated where it has fewer."""
    from jaxnn import data

    dataset = data.load(spec.data, progress=None)
    n = dataset.n_train if spec.rows is None else spec.rows
    images, labels = dataset.x_train, dataset.y_train
    if n != dataset.n_train:
        images, labels = np.resize(images, (n, dataset.n_x)), np.resize(labels, n)
    return images, labels, dataset.scale, dataset.n_classes


def loss(
    images: NDArray[Any], labels: NDArray[np.int32], scale: float, params: Mapping[str, Any]
) -> float:
    """The mean cross-entropy (nats) of a sigmoid network on the examples, in float64."""
    wide = {name: np.asarray(value, np.float64) for name, value in params.items()}
    depth = len(wide) // 2
    total = 0.0
    for begin in range(0, len(images), SLICE):
        Z = images[begin : begin + SLICE] * scale
        y = labels[begin : begin + SLICE]
        for layer in range(1, depth + 1):
            A = 1 / (1 + np.exp(-Z)) if layer > 1 else Z
            Z = A @ wide[f"W{layer}"].T + wide[f"b{layer}"]
        Z = Z - Z.max(axis=1, keepdims=True)
        total += (np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(len(Z)), y]).sum()
    return float(total / len(images))


def operations(sizes: Sequence[int], examples: int) -> int:
    """Floating-point operations of the products of an epoch, for layers n_x, n_1, …, C.

    Z_l, dW_l and dA_l are products of 2 n_{l−1} n_l operations per example; dA_0 is not needed.
    """
    products = [2 * n_in * n_out for n_in, n_out in pairwise(sizes)]
    return examples * (3 * sum(products) - products[0])


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
