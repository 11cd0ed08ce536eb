"""A part taken out of the training set: a validation set, or a test set where there is none."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.memory import MEBIBYTE, fits
from jaxnn.data.scratch import Values, assembled
from jaxnn.errors import SettingError

if TYPE_CHECKING:
    from jaxnn.data.dataset import Dataset


def with_validation(
    dataset: "Dataset", share: float, seed: int, memory: int | None = None
) -> "Dataset":
    """`dataset` with part of its training set in place of its test set.

    `share` is a number of examples (1, 2, …) or a fraction of them below 1. They are drawn at
    random by `seed`, stratified: each class gives its proportion, rounded.

    Raises `SettingError` unless at least one example is left on either side, and `StorageError`
    where the images are more than `memory` MiB (`memory.fits`) and the disk has no room for them.
    """
    kept = ~held_out(dataset.y_train, share, seed, "validation")
    x, y, on_disk = dataset.x_train, dataset.y_train, not fits(dataset.x_train.nbytes, memory)
    return replace(
        dataset,
        x_train=taken(x, np.flatnonzero(kept), on_disk),
        y_train=y[kept],
        x_test=taken(x, np.flatnonzero(~kept), on_disk),
        y_test=y[~kept],
    )


def held_out(y: Values, share: float, seed: int, setting: str) -> NDArray[np.bool_]:
    """Which of the examples (n,) are set aside, drawn by `seed`, each class in its proportion.

    Raises `SettingError`, which names the setting, unless at least one is left on either side.
    """
    n = len(y)
    size = round(share * n) if share < 1 else int(share)
    if not 0 < size < n:
        raise SettingError(
            f"`{setting}` {share:g}: expected 1 to {n - 1} of the {n} training examples, or a "
            "fraction that amounts to so many"
        )
    order = np.random.default_rng(seed).permutation(n)
    held = np.zeros(n, np.bool_)
    held[order[np.argsort(_place_in_class(y[order]), kind="stable")[:size]]] = True
    return held


def taken(x: Values, rows: Values, on_disk: bool) -> Values:
    """A copy of those rows, taken a mebibyte at a time."""
    step = max(1, MEBIBYTE // x[0].nbytes)
    pieces = (x[rows[at : at + step]].reshape(-1) for at in range(0, len(rows), step))
    size = len(rows) * x[0].size
    return assembled(pieces, size, x.dtype, on_disk=on_disk).reshape(len(rows), *x.shape[1:])


def _place_in_class(labels: np.ndarray) -> np.ndarray:
    """How far along its class each example is, from 0 to 1: the first of every class come first."""
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return place
