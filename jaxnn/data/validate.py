"""What every data set must fulfil, whatever file it comes from."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.field import NAMES, Field
from jaxnn.errors import DataError

#: Pixels in one array, which need not fit into memory. MNIST's training set has 47 million.
LARGEST_ARRAY = 1 << 40

#: Classes that a line names.
SHOWN = 8

#: Images in one array: as many as can be put in a random order (`jaxnn.training.shuffle`).
LARGEST_COUNT = 1 << 31


def check_headers(fields: dict[str, Field]) -> None:
    """Shapes, counts and dtypes, from the headers alone: nothing is allocated. Raises DataError."""
    for name in NAMES:
        _check_dtype(fields[name])
    for part in ("train", "test"):
        x, y = fields[f"x_{part}"], fields[f"y_{part}"]
        _check_images(x)
        _check_label_shape(y)
        if x.shape[0] != y.shape[0]:
            raise DataError(f"{y.where}: {x.shape[0]:,} labels expected, found {y.shape[0]:,}")
    train, test = fields["x_train"], fields["x_test"]
    if (train.dtype.kind == "f") != (test.dtype.kind == "f"):
        raise DataError(
            f"{test.where}: {train.dtype} or its like expected as in the training set, "
            f"found {test.dtype}"
        )
    if pixels_shape(train) != pixels_shape(test):
        raise DataError(
            f"{test.where}: images of {pixels_shape(train)} expected as in the training set, "
            f"found {pixels_shape(test)}"
        )


def pixels_shape(x: Field) -> tuple[int, ...]:
    """One image's shape, (n_x,) or (h, w): a last axis that holds a single channel is dropped."""
    return x.shape[1:3] if len(x.shape) == 4 else x.shape[1:]


def image_shape(x: Field) -> tuple[int, int] | None:
    """(h, w) as stored, or the square that has n_x pixels, or None if there is none."""
    shape = pixels_shape(x)
    if len(shape) == 2:
        return shape[0], shape[1]
    side = math.isqrt(shape[0])
    return (side, side) if side * side == shape[0] else None


def _check_dtype(field: Field) -> None:
    if field.dtype.kind not in "iuf" or field.dtype.itemsize > 8:
        raise DataError(f"{field.where}: integers or floats expected, found {field.dtype}")


def _check_images(x: Field) -> None:
    grey = len(x.shape) in (2, 3) or (len(x.shape) == 4 and x.shape[3] == 1)
    if not grey:
        raise DataError(
            f"{x.where}: grey images (N, n_x), (N, h, w) or (N, h, w, 1) expected, found {x.shape}"
        )
    if not 0 < x.size <= LARGEST_ARRAY:
        raise DataError(
            f"{x.where}: between 1 and {LARGEST_ARRAY:,} pixels expected, found {x.shape}"
        )
    if x.shape[0] > LARGEST_COUNT:
        raise DataError(f"{x.where}: at most {LARGEST_COUNT:,} images expected, found {x.shape}")


def _check_label_shape(y: Field) -> None:
    if len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[1] == 1):
        return
    hint = "; one-hot rows become labels by argmax(axis=1)" if len(y.shape) == 2 else ""
    raise DataError(
        f"{y.where}: one label per row, (N,) or (N, 1), expected, found {y.shape}{hint}"
    )


def read_labels(y: Field) -> NDArray[np.int32]:
    """The labels as (N,) int32, each a whole number from 0. Raises DataError."""
    labels = np.concatenate([np.empty(0, y.dtype), *y.pieces()])
    if labels.size != y.size:
        raise DataError(f"{y.where}: {y.size:,} labels expected, found {labels.size:,}")
    wrong = labels[~((labels >= 0) & (labels < 2**31) & (labels == np.floor(labels)))]
    if wrong.size:
        raise DataError(f"{y.where}: labels 0, 1, 2, … expected, found {wrong[0]}")
    return labels.astype(np.int32)


def numbering(y_train: NDArray[Any], y_test: NDArray[Any], n_classes: int) -> tuple[str, ...]:
    """What a reader of the figures should know about the labels, a phrase each."""
    lacking = np.setdiff1d(np.arange(n_classes), y_train)
    never_learnt = np.intersect1d(lacking, y_test)
    remarks = []
    if lacking.size:
        remarks.append(
            f"labels {y_train.min()} to {y_train.max()}: no training example of {_named(lacking)}"
        )
    if never_learnt.size:
        remarks.append(f"the test part has examples of {_named(never_learnt)} all the same")
    return tuple(remarks)


def _named(classes: NDArray[Any]) -> str:
    more = ", …" if classes.size > SHOWN else ""
    names = ", ".join(map(str, classes[:SHOWN].tolist()))
    return f"{'class' if classes.size == 1 else 'classes'} {names}{more}"


def count_classes(fields: dict[str, Field], y_train: NDArray[Any], y_test: NDArray[Any]) -> int:
    """The largest training label plus 1. Raises DataError if the labels cannot be right.

    A class may lack examples, as class 0 does where someone counts from 1, but not most of them:
    one damaged label would otherwise make a network of thousands of outputs.
    """
    where = fields["y_train"].where
    n_classes, distinct = int(y_train.max()) + 1, len(np.unique(y_train))
    if distinct < 2:
        raise DataError(f"{where}: two classes or more expected, every label is {y_train[0]}")
    if n_classes > 2 * distinct:
        raise DataError(
            f"{where}: classes numbered 0, 1, 2, … expected, found labels up to {n_classes - 1:,} "
            f"of which only {distinct:,} occur"
        )
    if y_test.max() >= n_classes:
        raise DataError(
            f"{fields['y_test'].where}: labels 0 … {n_classes - 1} expected as in the training "
            f"set, found {y_test.max()}"
        )
    return n_classes
