"""A folder of four IDX files, MNIST's own form, gzipped or not, or EMNIST's of the same form.

An image file is the magic number 0x00000803 (unsigned bytes, 3 dimensions), the count, the height
and the width, then the pixels. A label file is 0x00000801, the count, then the labels. All header
numbers are big-endian and 32 bits wide.

EMNIST's files, emnist-SPLIT-train-images-idx3-ubyte and so on, hold each image transposed. They are
known by these names, and the images set upright.
"""

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.blame import blame
from jaxnn.data.deflate import GZIP, check_ratio, inflate
from jaxnn.data.field import STEP, Field
from jaxnn.errors import DataError

IMAGES, LABELS = 0x00000803, 0x00000801

#: The MNIST name of each field's file; it is also written with a dot for the second hyphen.
STEMS = {
    "x_train": ("train-images", "idx3-ubyte"),
    "y_train": ("train-labels", "idx1-ubyte"),
    "x_test": ("t10k-images", "idx3-ubyte"),
    "y_test": ("t10k-labels", "idx1-ubyte"),
}

#: EMNIST's names of the same files.
EMNIST = re.compile(r"emnist-(\w+)-(train|test)-(images-idx3|labels-idx1)-ubyte(\.gz)?")
UPRIGHT = "EMNIST's images, which its files hold transposed, are set upright"

GZIP_MAGIC = b"\x1f\x8b"


def find(folder: Path) -> dict[str, Path]:
    """The files among the four that are in `folder`, by field. Uncompressed ones come first."""
    found: dict[str, Path] = {}
    for name, (stem, kind) in STEMS.items():
        spellings = (f"{stem}{mark}{kind}{end}" for end in ("", ".gz") for mark in "-.")
        path = next(
            (folder / spelling for spelling in spellings if (folder / spelling).is_file()), None
        )
        if path is not None:
            found[name] = path
    return found


def emnist(folder: Path) -> dict[str, Path]:
    """EMNIST's files in `folder`, by field. Raises DataError where they are of several splits."""
    found: dict[str, Path] = {}
    splits = set()
    for path in sorted(folder.iterdir(), reverse=True):  # uncompressed ones last, which stay
        name = EMNIST.fullmatch(path.name)
        if name and path.is_file():
            splits.add(name[1])
            found[f"{'x' if name[3].startswith('images') else 'y'}_{name[2]}"] = path
    if len(splits) > 1:
        raise DataError(
            f"{folder}: one split of EMNIST expected, found {', '.join(sorted(splits))}: put the "
            "four files of one into a folder of their own"
        )
    return found


def upright_fields(folder: Path) -> dict[str, Field]:
    """The four fields of a folder of EMNIST's files, the images upright. Raises DataError."""
    found = emnist(folder)
    missing = [name for name in STEMS if name not in found]
    if missing:
        raise DataError(
            f"{folder}: four files of EMNIST expected; missing: {', '.join(missing)}; found: "
            f"{', '.join(sorted(path.name for path in found.values()))}"
        )
    return {
        name: _transposed(_field(path, IMAGES)) if name[0] == "x" else _field(path, LABELS)
        for name, path in found.items()
    }


def _transposed(field: Field) -> Field:
    n, h, w = field.shape
    return Field(field.where, (n, w, h), field.dtype, lambda: _turned(field, h, w))


def _turned(field: Field, h: int, w: int) -> Iterator[NDArray[Any]]:
    """The images with rows and columns exchanged, whatever pieces they come in."""
    rest = np.empty(0, field.dtype)
    for piece in field.pieces():
        pixels = np.concatenate([rest, piece])
        whole = len(pixels) // (h * w) * (h * w)
        yield pixels[:whole].reshape(-1, h, w).transpose(0, 2, 1).reshape(-1)
        rest = pixels[whole:]
    yield rest


def is_idx(head: bytes) -> bool:
    """Whether a file that begins so is an IDX file of unsigned bytes, gzipped or not."""
    with_magic = _decompressed(head) if head.startswith(GZIP_MAGIC) else head
    return with_magic[:4] in (IMAGES.to_bytes(4), LABELS.to_bytes(4))


def fields(folder: Path) -> dict[str, Field]:
    """The four fields of the folder, headers checked. Raises DataError."""
    found = find(folder)
    missing = ["-".join(STEMS[name]) for name in STEMS if name not in found]
    if missing:
        raise DataError(
            f"{folder}: four IDX files expected, gzipped or not; missing: {', '.join(missing)}"
        )
    return {
        name: _field(path, IMAGES if name[0] == "x" else LABELS) for name, path in found.items()
    }


def _field(path: Path, magic: int) -> Field:
    with blame(str(path)), path.open("rb") as file:
        stored = file.read(STEP)
        file_size = file.seek(0, 2)
    gzipped = stored.startswith(GZIP_MAGIC)
    with blame(str(path)):
        shape, header_size = _header(_decompressed(stored) if gzipped else stored, magic)
    field = Field(str(path), shape, np.dtype(np.uint8), lambda: _pieces(path, total, header_size))
    total = header_size + field.size
    if gzipped:
        check_ratio(field.where, total, file_size)
    elif total != file_size:
        raise DataError(
            f"{path}: {total:,} bytes expected for {shape}, found {file_size:,}: "
            "the file is damaged or cut short"
        )
    return field


def _header(head: bytes, magic: int) -> tuple[tuple[int, ...], int]:
    """The shape, and the number of bytes before the first element. Raises ValueError."""
    rank = magic & 0xFF
    size = 4 + 4 * rank
    if len(head) < size:
        raise ValueError(f"an IDX header of {size} bytes expected, found {len(head)}")
    numbers = [int.from_bytes(head[i:j]) for i, j in pairwise(range(0, size + 1, 4))]
    if numbers[0] != magic:
        raise ValueError(f"IDX magic number 0x{magic:08x} expected, found 0x{numbers[0]:08x}")
    return tuple(numbers[1:]), size


def _decompressed(head: bytes) -> bytes:
    """The first bytes of a gzip file whose own header is among `head`; b"" if it is damaged."""
    try:
        return zlib.decompressobj(GZIP).decompress(head, 16)
    except zlib.error:
        return b""


def _pieces(path: Path, total: int, header_size: int) -> Iterator[NDArray[Any]]:
    skip = header_size
    with blame(str(path)):
        for piece in _contents(path, total):
            yield np.frombuffer(piece, np.uint8)[skip:]
            skip = max(0, skip - len(piece))


def _contents(path: Path, total: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        stored = iter(lambda: file.read(STEP), b"")
        gzipped = file.peek(2).startswith(GZIP_MAGIC)
        yield from inflate(stored, total, GZIP) if gzipped else stored
