"""IDX files, MNIST's own form, gzipped or not: one array in each.

A file is two zero bytes, the code of its type, its number of dimensions, then its lengths,
big-endian and 32 bits wide, and the elements: 0x00000803 begins a file of images in bytes,
0x00000801 one of labels. The gzip file's CRC-32 covers all of it.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np

from jaxnn.data.blame import blame
from jaxnn.data.field import STEP, Field, Values, mapped
from jaxnn.data.npy import LARGEST_RATIO
from jaxnn.errors import DataError

#: MNIST's names of the four files; they are also written with a dot for the second hyphen.
NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

#: QMNIST's label files have so many numbers for each example, of which the first is the label.
QMNIST = 8

GZIP = b"\x1f\x8b"

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}

#: Longer lists of lengths are those of no data set.
MOST_DIMENSIONS = 4


def is_idx(head: bytes) -> bool:
    """Whether a file whose contents begin so is an IDX file."""
    return (
        len(head) >= 4
        and head[:2] == b"\0\0"
        and head[2] in TYPES
        and 1 <= head[3] <= MOST_DIMENSIONS
    )


def arrays(path: Path) -> dict[str, Field]:
    """The array of an IDX file, by the file's name, its header checked. Raises DataError."""
    with blame(str(path), zlib.error), opened(path) as file:
        head = file.read(4)
        if not is_idx(head):
            raise ValueError(f"an IDX file expected, found one that begins with 0x{head.hex()}")
        numbers = file.read(4 * head[3])
        if len(numbers) < 4 * head[3]:
            raise ValueError(
                f"an IDX header of {4 + 4 * head[3]} bytes expected, found {4 + len(numbers)}"
            )
        shape = tuple(np.frombuffer(numbers, ">u4").tolist())
        dtype, stored = np.dtype(TYPES[head[2]]), path.stat().st_size
        start = 4 + len(numbers)
        total = start + math.prod(shape) * dtype.itemsize
        if isinstance(file, gzip.GzipFile):
            if total > LARGEST_RATIO * stored:
                raise DataError(
                    f"{path}: its header promises {total:,} bytes, more than {stored:,} stored "
                    "bytes can hold: the file is damaged or cut short"
                )
        elif total != stored:
            raise DataError(
                f"{path}: {total:,} bytes expected for {shape}, found {stored:,}: "
                "the file is damaged or cut short"
            )
    field = Field(str(path), shape, dtype, lambda: _pieces(path, start, dtype))
    if dtype == TYPES[12] and shape[1:] == (QMNIST,):
        field = mapped(field, (), dtype, lambda rows: rows[:, 0])
    return {name_of(path): field}


def name_of(path: Path) -> str:
    """The file's name without what says that it is gzipped."""
    return path.name.removesuffix(".gz")


def opened(path: Path) -> gzip.GzipFile | BufferedReader:
    """The contents, decompressed where the file is gzipped."""
    with path.open("rb") as file:
        gzipped = file.read(2) == GZIP
    return gzip.open(path) if gzipped else path.open("rb")


def _pieces(path: Path, start: int, dtype: np.dtype[np.generic]) -> Iterator[Values]:
    """Reads on to the end of the file, where the gzip module compares its CRC-32."""
    with blame(str(path), zlib.error), opened(path) as file:
        file.read(start)
        while piece := file.read(STEP):
            yield np.frombuffer(piece, dtype)
