"""Pixels in any notation, brought to one: uint8 where the source is integral, else float32.

The same images in bytes, in whole floats up to 255, and in floats that are multiples of 1/255
become the same uint8 array, bit for bit; so do black and white, written 0 and 1. Nothing is held
twice: values are converted as they come, and nothing at all if there are more than may lie in
memory (`jaxnn.data.scratch`).

What white is, the training part says: 1, 255 or 65,535 where its largest value is more than half
of that, and else its largest value itself.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.field import Field
from jaxnn.data.memory import fits
from jaxnn.data.scratch import assembled
from jaxnn.errors import DataError

#: How far a float may be from a multiple of 1/255.
TOLERANCE = 1e-6

#: White of a fraction, of a byte, and of 16 bits.
WHITES = (1.0, 255.0, 65_535.0)

EXPECTED = "numbers from 0 (black) to at most 65,535 (white) expected"

#: Between two parts on one scale, the largest value differs by no more than this factor.
LIKE = 2

#: Pixels converted at a time: few enough for the intermediate results to stay in the cache.
SLICE = 1 << 15

Values = NDArray[Any]


class Notation(NamedTuple):
    """How pixels may be written: `convert` gives them as `dtype`, `unit` times as large, or None
    if they aren't so."""

    dtype: type[np.uint8 | np.float32]
    unit: float
    convert: Callable[[Values], Values | None]


class Images(NamedTuple):
    """Both parts as (N, n_x), of which the test part may be missing, 1 over what is white in them,
    and what is worth a word about that."""

    train: Values
    test: Values | None
    scale: float
    remarks: tuple[str, ...]


def _black_and_white(values: Values) -> Values | None:
    """Integers 0 and 1, or truth values."""
    if not (values.min() >= 0 and values.max() <= 1):
        return None
    return values.astype(np.uint8) * np.uint8(255)


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


def _numbers(values: Values) -> Values | None:
    """Any numbers from 0 to the largest white."""
    within = values.min() >= 0 and values.max() <= WHITES[-1]
    return values.astype(np.float32) if within else None


NUMBERS = Notation(np.float32, 1, _numbers)
INTEGERS = (Notation(np.uint8, 255, _black_and_white), Notation(np.uint8, 1, _bytes), NUMBERS)
FLOATS = (Notation(np.uint8, 255, _multiples), Notation(np.uint8, 1, _whole), NUMBERS)


class OtherScaleError(DataError):
    """The numbers are finite, but on no scale that pixels have."""


class WrittenOtherwiseError(Exception):
    """The pixels are not in the notation that was tried."""


def _notations(dtype: np.dtype[Any]) -> tuple[Notation, ...]:
    return FLOATS if dtype.kind == "f" else INTEGERS


def read_images(train: Field, test: Field | None = None, memory: int | None = None) -> Images:
    """Both parts' images. Raises DataError, and StorageError where they are more than `memory` MiB
    (`memory.fits`) and the disk has no room for them either.

    The notation is that of the two sets together. It is tried on the pixels as they are read, and
    the file is read again in the next one if they are not written so.
    """
    for notation in _notations(train.dtype):
        size = (train.size + (test.size if test else 0)) * np.dtype(notation.dtype).itemsize
        on_disk = not fits(size, memory)
        x_train = _read(train, notation, on_disk)
        if x_train is None:
            continue
        _check_contrast(train, x_train)
        if test is None:
            return _scaled(x_train, None, notation, "")
        x_test = _read(test, notation, on_disk)
        if x_test is not None:
            _check_contrast(test, x_test)
            return _scaled(x_train, x_test, notation, test.where)
    raise _complaint(*(part for part in (train, test) if part))


def _scaled(train: Values, test: Values | None, notation: Notation, where: str) -> Images:
    """With the scale that the training part says. Raises OtherScaleError where the test part's is
    another one."""
    largest = float(train.max())
    in_test = largest if test is None else float(test.max())
    if not largest / LIKE <= in_test <= largest * LIKE:
        raise OtherScaleError(
            f"{where}: the scale of the training part expected, which reaches "
            f"{largest / notation.unit:g}, found values up to {in_test / notation.unit:g}: "
            "bring both parts to one scale"
        )
    white = _white(largest, notation.dtype)
    remarks = []
    if white not in WHITES:
        shown = white / notation.unit
        remarks.append(f"white is {shown:g}, the largest value of the training part")
    if in_test > white:
        remarks.append(f"the test part goes beyond white, up to {in_test / notation.unit:g}")
    return Images(train, test, 1 / white, tuple(remarks))


def _white(largest: float, dtype: type[np.uint8 | np.float32]) -> float:
    """What is white in the stored numbers, of which that is the largest."""
    usual = _usual_white(largest, np.dtype(dtype))
    return usual if largest > usual / LIKE else largest


def in_unit(values: Values, dtype: str, scale: float) -> Values | None:
    """Numbers from a file on the scale that a network's training images had: float32, white as 1.

    The training images were stored as `dtype` (uint8 or float32) with that `scale`, and the same
    images come out with the same bits, in whichever notation. Others are black and white if they
    hold 0 and 1 alone, and else fractions, bytes or 16 bits, as the largest number demands. None
    where a number is negative, not finite or above 65,535.
    """
    if ((values == 0) | (values == 1)).all():
        return values.astype(np.float32)
    for notation in _notations(values.dtype):
        own = np.dtype(notation.dtype) == dtype
        stored = notation.convert(values) if own or notation is NUMBERS else None
        if stored is not None:
            fits = own and _may_reach(values.dtype, 1 / scale) and stored.max() <= LIKE / scale
            factor = scale if fits else 1 / _usual_white(float(stored.max()), values.dtype)
            return stored.astype(np.float32) * np.float32(factor)
    return None


def _may_reach(dtype: np.dtype[Any], white: float) -> bool:
    """Whether numbers of that type may be on the scale of that white: a byte not on that of 16
    bits, an integer not on that of fractions."""
    return dtype.kind == "f" or 1 < white <= (255 if dtype.itemsize == 1 else np.inf)


def _usual_white(largest: float, dtype: np.dtype[Any]) -> float:
    whites = WHITES if dtype.kind == "f" else WHITES[1:]
    return next(white for white in whites if largest <= white)


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
    field, (low, high) = next(
        (field, (low, high))
        for field, (low, high) in zip(fields, limits, strict=True)
        if not (low >= 0 and high <= WHITES[-1])
    )
    hint = "; standardised images can be given as they were before that" if low < 0 else ""
    message = f"{field.where}: {EXPECTED}, found values from {low:g} to {high:g}{hint}"
    return (OtherScaleError if np.isfinite([low, high]).all() else DataError)(message)


def _limits(field: Field) -> tuple[float, float]:
    """The smallest and the largest value, nan if one of them is."""
    lows, highs = zip(*((values.min(), values.max()) for values in _slices(field)), strict=True)
    return float(np.min(lows)), float(np.max(highs))
