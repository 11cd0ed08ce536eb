"""An array that lies in a file: what its header claims, and how to get at its contents."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The four arrays of a data set, in the order in which they are checked.
NAMES = ("x_train", "y_train", "x_test", "y_test")

#: Bytes that are read or decompressed at a time: few enough to stay in the processor's cache.
STEP = 1 << 16


@dataclass(frozen=True)
class Field:
    """A header that was read and contents that were not.

    `pieces()` starts reading from the beginning, and yields the elements in C order as 1-D arrays
    of any length. Whoever takes them counts them: a damaged file can hold more or fewer.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Callable[[], Iterator[NDArray[Any]]]

    @property
    def size(self) -> int:
        return math.prod(self.shape)
