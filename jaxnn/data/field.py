"""An array that lies in a file: what its header claims, and how to get at its contents."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Values = NDArray[Any]

#: The four arrays of a data set, in the order in which they are checked.
NAMES = ("x_train", "y_train", "x_test", "y_test")

#: Bytes that are read or decompressed at a time: few enough to stay in the processor's cache.
STEP = 1 << 16


@dataclass(frozen=True)
class Field:
    """A header that was read and contents that were not.

    `pieces()` starts reading from the beginning, and yields the elements in C order as 1-D arrays
    of any length. Whoever takes them counts them: a damaged file can hold more or fewer.

    `classes` has the names of labels that are numbers, where the file or its kind gives them.
    `remarks` say what was done to the contents on the way, a phrase each. `problem` is why there is
    something of this name that cannot be taken.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Callable[[], Iterator[Values]]
    classes: Mapping[int, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    problem: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def held(where: str, array: Values, **more: Any) -> Field:
    """An array in memory as a field."""
    return Field(where, array.shape, array.dtype, lambda: iter([array.reshape(-1)]), **more)


def whole(of: Field) -> Values:
    """The contents in memory. Raises ValueError where they are more or fewer than promised."""
    values = np.concatenate([np.empty(0, of.dtype), *of.pieces()])
    return values.reshape(of.shape)


def mapped(
    of: Field,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    change: Callable[[Values], Values],
    *remarks: str,
) -> Field:
    """A field of examples, each changed by itself: `change` takes (k, …) and gives (k, *shape)."""

    def pieces() -> Iterator[Values]:
        size, rest = math.prod(of.shape[1:]), np.empty(0, of.dtype)
        for piece in of.pieces():
            values = np.concatenate([rest, piece]) if rest.size else piece
            count = len(values) // size * size
            if count:
                yield change(values[:count].reshape(-1, *of.shape[1:])).reshape(-1)
            rest = values[count:]
        if rest.size:  # whoever counts is to see that the file ends within an example
            yield np.zeros(1, dtype)

    return replace(
        of,
        shape=(of.shape[0], *shape),
        dtype=np.dtype(dtype),
        pieces=pieces,
        remarks=(*of.remarks, *remarks),
    )


def joined(fields: list[Field]) -> Field:
    """Fields of the same kind of example, one after the other."""
    first = fields[0]

    def pieces() -> Iterator[Values]:
        for one in fields:
            yield from one.pieces()

    return replace(first, shape=(sum(f.shape[0] for f in fields), *first.shape[1:]), pieces=pieces)
