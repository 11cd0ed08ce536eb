"""What every data set must fulfil, whatever file it comes from, as far as the headers tell."""

import math

from jaxnn.data.field import Field
from jaxnn.errors import DataError

#: Pixels in one array, which need not fit into memory. MNIST's training set has 47 million.
LARGEST_ARRAY = 1 << 40

#: Images in one array: as many as can be put in a random order (`jaxnn.training.shuffle`).
LARGEST_COUNT = 1 << 31

#: Channels of a colour.
COLOURS = 3


def check_headers(
    x_train: Field, y_train: Field, x_test: Field | None = None, y_test: Field | None = None
) -> None:
    """Shapes, counts and dtypes, from the headers alone: nothing is allocated. Raises DataError."""
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if x is not None and y is not None:
            _check_images(x)
            _check_labels(y)
            if x.shape[0] != y.shape[0]:
                raise DataError(f"{y.where}: {x.shape[0]:,} labels expected, found {y.shape[0]:,}")
    if x_test is None:
        return
    if (x_train.dtype.kind == "f") != (x_test.dtype.kind == "f"):
        raise DataError(
            f"{x_test.where}: {x_train.dtype} or its like expected as in the training set, "
            f"found {x_test.dtype}"
        )
    if example_shape(x_train) != example_shape(x_test):
        raise DataError(
            f"{x_test.where}: images of {example_shape(x_train)} expected as in the training set, "
            f"found {example_shape(x_test)}"
        )


def example_shape(x: Field) -> tuple[int, ...]:
    """One example's shape, (n_x,), (h, w) or (h, w, 3): a single channel has no axis of its own."""
    return x.shape[1:3] if x.shape[3:] == (1,) else x.shape[1:]


def image_shape(x: Field) -> tuple[int, ...] | None:
    """(h, w) or (h, w, 3) as stored, or the square of n_x pixels, or None if there is none."""
    shape = example_shape(x)
    if len(shape) > 1:
        return shape
    side = math.isqrt(shape[0])
    return (side, side) if side * side == shape[0] else None


def _check_images(x: Field) -> None:
    if x.problem:
        raise DataError(f"{x.where}: {x.problem}")
    if x.dtype.kind not in "iufb" or x.dtype.itemsize > 8:
        raise DataError(f"{x.where}: integers or floats expected, found {x.dtype}")
    if not (len(x.shape) in (2, 3) or x.shape[3:] in ((1,), (COLOURS,))):
        raise DataError(
            f"{x.where}: examples (N, n_x), (N, h, w), (N, h, w, 1) or in colour (N, h, w, 3) "
            f"expected, found {x.shape}"
        )
    if not 0 < x.size <= LARGEST_ARRAY:
        raise DataError(
            f"{x.where}: between 1 and {LARGEST_ARRAY:,} pixels expected, found {x.shape}"
        )
    if x.shape[0] > LARGEST_COUNT:
        raise DataError(f"{x.where}: at most {LARGEST_COUNT:,} images expected, found {x.shape}")


def _check_labels(y: Field) -> None:
    if y.problem:
        raise DataError(f"{y.where}: {y.problem}")
    if y.dtype.kind not in "iufbSU" or (y.dtype.kind not in "SU" and y.dtype.itemsize > 8):
        raise DataError(f"{y.where}: numbers or text expected as labels, found {y.dtype}")
    if len(y.shape) not in (1, 2) or (y.dtype.kind in "SU" and y.shape[1:] not in ((), (1,))):
        raise DataError(f"{y.where}: one label per row, (N,) or (N, 1), expected, found {y.shape}")
    if y.size > LARGEST_ARRAY:
        raise DataError(f"{y.where}: at most {LARGEST_ARRAY:,} labels expected, found {y.shape}")
