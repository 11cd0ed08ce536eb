"""Pixels in any notation, brought to one: uint8 where the source is integral, else float32.

The same images in bytes, in whole floats up to 255, and in floats that are multiples of 1/255
become the same uint8 array, bit for bit. Nothing is held twice: values are converted as they come,
and nothing at all if there are more than may lie in memory (`jaxnn.data.scratch`).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.field import Field
from jaxnn.data.scratch import assembled
from jaxnn.errors import DataError
from jaxnn.memory import fits

#: How far a float may be from a multiple of 1/255.
TOLERANCE = 1e-6

EXPECTED = "pixels from 0 to 1, or whole numbers from 0 to 255, expected"

#: Pixels converted at a time: few enough for the intermediate results to stay in the cache.
SLICE = 1 << 15

Values = NDArray[Any]


class Notation(NamedTuple):
    """How pixels may be written: `convert` gives them as `dtype`, or None if they aren't so."""

    dtype: type[np.uint8 | np.float32]
    scale: float
    convert: Callable[[Values], Values | None]


def _bytes(values: Values) -> Values | None:
    """Integers from 0 to 255."""
    if values.dtype == np.uint8:
        return values
    return values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else None


def _multiples(values: Values) -> Values | None:
    """Floats k/255, k = 0 … 255."""
    if not (values.min() >= 0 and values.max() <= 1):
        return None
    scaled = values * values.dtype.type(255)
    whole = np.rint(scaled)
    close = np.abs(scaled - whole).max() <= 255 * TOLERANCE
    return whole.astype(np.uint8) if close else None


def _whole(values: Values) -> Values | None:
    """Floats 0, 1, … 255."""
    if not (values.min() >= 0 and values.max() <= 255 and (values == np.rint(values)).all()):
        return None
    return values.astype(np.uint8)


def _unit(values: Values) -> Values | None:
    """Floats from 0 to 1."""
    return values.astype(np.float32) if values.min() >= 0 and values.max() <= 1 else None


INTEGERS = (Notation(np.uint8, 1 / 255, _bytes),)
FLOATS = (
    Notation(np.uint8, 1 / 255, _multiples),
    Notation(np.uint8, 1 / 255, _whole),
    Notation(np.float32, 1.0, _unit),
)


class WrittenOtherwiseError(Exception):
    """The pixels are not in the notation that was tried."""


def read_images(
    train: Field, test: Field, memory: int | None = None
) -> tuple[Values, Values, float]:
    """Both sets of images as (N, n_x), and their scale. Raises DataError, and StorageError where
    they are more than `memory` MiB (`memory.fits`) and the disk has no room for them either.

    The notation is that of the two sets together. It is tried on the pixels as they are read, and
    the file is read again in the next one if they are not written so.
    """
    for notation in FLOATS if train.dtype.kind == "f" else INTEGERS:
        size = (train.size + test.size) * np.dtype(notation.dtype).itemsize
        on_disk = not fits(size, memory)
        x_train = _read(train, notation, on_disk)
        x_test = _read(test, notation, on_disk) if x_train is not None else None
        if x_train is not None and x_test is not None:
            _check_contrast(train, x_train)
            _check_contrast(test, x_test)
            return x_train, x_test, notation.scale
    raise _complaint(train, test)


def _read(field: Field, notation: Notation, on_disk: bool) -> Values | None:
    converted = _converted(field, notation)
    try:
        pixels = assembled(converted, field.size, notation.dtype, on_disk=on_disk)
    except WrittenOtherwiseError:
        return None
    return pixels.reshape(field.shape[0], -1)


def _converted(field: Field, notation: Notation) -> Iterator[Values]:
    found = 0
    for values in _slices(field):
        converted = notation.convert(values)
        if converted is None:
            raise WrittenOtherwiseError
        found += values.size
        _check_count(field, found, found <= field.size)
        yield converted
    _check_count(field, found, found == field.size)


def _slices(field: Field) -> Iterator[Values]:
    for piece in field.pieces():
        for start in range(0, piece.size, SLICE):
            yield piece[start : start + SLICE]


def _check_count(field: Field, found: int, right: bool) -> None:
    if not right:
        raise DataError(f"{field.where}: {field.size:,} pixels expected, found {found:,}")


def _check_contrast(field: Field, pixels: Values) -> None:
    if all((row == pixels[0, 0]).all() for row in pixels):
        raise DataError(f"{field.where}: every pixel is {pixels[0, 0]}: nothing is to be seen")


def _complaint(*fields: Field) -> DataError:
    """What is wrong with pixels that no notation fits."""
    limits = [_limits(field) for field in fields]
    for field, (low, high) in zip(fields, limits, strict=True):
        if not (low >= 0 and high <= 255):
            return DataError(f"{field.where}: {EXPECTED}, found values from {low:g} to {high:g}")
    field, (_, high) = max(zip(fields, limits, strict=True), key=lambda pair: pair[1][1])
    return DataError(f"{field.where}: {EXPECTED}, found fractions among values up to {high:g}")


def _limits(field: Field) -> tuple[float, float]:
    """The smallest and the largest value, nan if one of them is."""
    lows, highs = zip(*((values.min(), values.max()) for values in _slices(field)), strict=True)
    return float(np.min(lows)), float(np.max(highs))
