"""MNISTdata.hdf5, the document's form, read without trusting the file.

The HDF5 library only says where the arrays lie, in a child process with a time limit, because a
malformed file can crash or hang it (`jaxnn.data.hdf5_layout`). Their bytes are read and
decompressed here, within bounds. Understood are contiguous and chunked storage and the filters
gzip, shuffle and fletcher32.

What is promised: a DataError or the right data, where the chunks are compressed, since then each
has a checksum. Every size, type and place in the metadata is compared with the others. But HDF5's
default format has no checksum for uncompressed arrays and their addresses: a byte flipped in a
pixel is another pixel.
"""

import json
import math
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.blame import blame
from jaxnn.data.deflate import ZLIB, check_ratio, inflate
from jaxnn.data.field import NAMES, STEP, Field
from jaxnn.errors import DataError

MAGIC = b"\x89HDF\r\n\x1a\n"

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3

LAYOUT_PROGRAM = (sys.executable, "-P", str(Path(__file__).with_name("hdf5_layout.py")))

#: How long the layout program may take, and one more second per megabyte: plenty on a slow disk.
SECONDS = 10.0

#: Chunks decompressed at the same time, and how large they may be: three are held at once.
THREADS = 2
LARGEST_AHEAD = 1 << 24

Values = NDArray[Any]


class Layout(NamedTuple):
    """Where an array lies. `extents` has (address, bytes stored, filter mask) by chunk position."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    filters: tuple[int, ...]
    extents: dict[tuple[int, ...], tuple[int, int, int]]

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk) * self.dtype.itemsize


def fields(path: Path, program: tuple[str, ...] = LAYOUT_PROGRAM) -> dict[str, Field]:
    """The four fields of an HDF5 file, metadata checked. Raises DataError."""
    with blame(str(path), KeyError, TypeError):  # a library that has gone astray may answer so
        answer = _ask(path, program)
        layouts = {name: _layout(answer[name]) for name in NAMES}
    for name, layout in layouts.items():
        with blame(f"{path}: {name}"):
            _check(f"{path}: {name}", layout)
    _check_overlap(path, layouts)
    return {name: _field(path, name, layout) for name, layout in layouts.items()}


def _ask(path: Path, program: tuple[str, ...]) -> dict[str, Any]:
    """The layout program's answer."""
    with blame(str(path)):
        limit = SECONDS + path.stat().st_size / 1e6
        command = (*program, str(path.resolve()), *NAMES)
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit, check=True)
        except subprocess.TimeoutExpired as error:
            raise ValueError("the HDF5 library hangs on this file, which is damaged") from error
        except subprocess.CalledProcessError as error:
            raise ValueError(_crash(error)) from error
        answer = json.loads(done.stdout)
    if "error" in answer:
        raise DataError(f"{path}: {answer['error']}")
    layouts: dict[str, Any] = answer["layout"]
    return layouts


def _crash(error: subprocess.CalledProcessError) -> str:
    if error.returncode < 0:
        return f"the HDF5 library crashes on this file (signal {-error.returncode}): it is damaged"
    return f"the HDF5 reader failed: {error.stderr.decode(errors='replace').strip()[-300:]}"


def _layout(entry: dict[str, Any]) -> Layout:
    return Layout(
        tuple(entry["shape"]),
        np.dtype(entry["dtype"]),
        tuple(entry["chunk"]),
        tuple(entry["filters"]),
        {tuple(at): (address, size, mask) for address, size, mask, at in entry["extents"]},
    )


def _check(where: str, layout: Layout) -> None:
    """Every chunk of the grid is there, none twice, and none promises more than it can hold."""
    unknown = set(layout.filters) - set(UNDO)
    if unknown:
        raise DataError(
            f"{where}: compressed by HDF5 filter {min(unknown)}; gzip, shuffle and fletcher32 are "
            "understood: write the file again with compression='gzip'"
        )
    sides = [-(-n // max(c, 1)) for n, c in zip(layout.shape, layout.chunk, strict=True)]
    if math.prod(sides) != len(layout.extents):
        raise DataError(
            f"{where}: {math.prod(sides):,} chunks of {layout.chunk} expected for {layout.shape}, "
            f"found {len(layout.extents):,}: the file is damaged or was not written completely"
        )
    for _, size, mask in layout.extents.values():
        if DEFLATE in _applied(layout.filters, mask):
            check_ratio(where, layout.chunk_bytes, size)
        elif size != layout.chunk_bytes + 4 * (FLETCHER32 in _applied(layout.filters, mask)):
            raise DataError(
                f"{where}: {layout.chunk_bytes:,} bytes per chunk expected, found {size:,}"
            )


def _check_overlap(path: Path, layouts: dict[str, Layout]) -> None:
    """No two chunks share a byte, and all lie within the file."""
    extents = sorted(
        extent[:2] for layout in layouts.values() for extent in layout.extents.values()
    )
    ends = [*extents, (path.stat().st_size, 0)]
    for (address, size), (following, _) in pairwise(ends):
        if address + size > following:
            raise DataError(
                f"{path}: the chunk at byte {address:,} runs into what follows: damaged"
            )


def _field(path: Path, name: str, layout: Layout) -> Field:
    where = f"{path}: {name}"
    return Field(where, layout.shape, layout.dtype, lambda: _pieces(path, where, layout))


def _pieces(path: Path, where: str, layout: Layout) -> Iterator[Values]:
    rows = range(0, layout.shape[0], layout.chunk[0])
    with blame(where, KeyError):
        if layout.filters and layout.chunk_bytes <= LARGEST_AHEAD:
            for pieces in _ahead(lambda row: list(_row_of_chunks(path, layout, row)), rows):
                yield from pieces
        else:
            for row in rows:
                yield from _row_of_chunks(path, layout, row)


def _ahead(
    function: Callable[[int], list[Values]], arguments: Iterable[int]
) -> Iterator[list[Values]]:
    """`map`, with the next results under way in threads: zlib lets others run meanwhile."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[list[Values]]] = deque()
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _row_of_chunks(path: Path, layout: Layout, row: int) -> Iterator[Values]:
    """The chunks that begin in this row; if there is only one, as it is read and decompressed."""
    rows = min(layout.chunk[0], layout.shape[0] - row)
    alone = layout.chunk[1:] == layout.shape[1:] and set(layout.filters) <= {DEFLATE}
    with path.open("rb") as file:
        yield from (_stream if alone else _band)(file, layout, row, rows)


def _stream(file: BinaryIO, layout: Layout, row: int, rows: int) -> Iterator[Values]:
    """One chunk of whole rows, piece by piece; the last one of the array ends in padding."""
    extent = layout.extents[(row, *[0] * (len(layout.shape) - 1))]
    left = rows * math.prod(layout.shape[1:]) * layout.dtype.itemsize
    if DEFLATE in _applied(layout.filters, extent[2]):
        stream = inflate([_stored(file, *extent[:2])], layout.chunk_bytes, ZLIB)
    else:
        stream = _steps(file, *extent[:2])
    for piece in stream:
        yield np.frombuffer(piece[:left], layout.dtype)
        left = max(0, left - len(piece))


def _band(file: BinaryIO, layout: Layout, row: int, rows: int) -> Iterator[Values]:
    """Several chunks, side by side."""
    band = np.empty((rows, *layout.shape[1:]), layout.dtype)
    for corner in _corners(layout):
        view = band[:, *map(slice, corner, np.add(corner, layout.chunk[1:]))]
        view[...] = _chunk(file, layout, (row, *corner))[tuple(map(slice, view.shape))]
    yield band.reshape(-1)


def _corners(layout: Layout) -> Iterator[tuple[int, ...]]:
    return product(
        *(range(0, n, c) for n, c in zip(layout.shape[1:], layout.chunk[1:], strict=True))
    )


def _chunk(file: BinaryIO, layout: Layout, position: tuple[int, ...]) -> Values:
    """The chunk at `position`, its filters undone in reverse."""
    address, size, mask = layout.extents[position]
    contents = _stored(file, address, size)
    for code in reversed(_applied(layout.filters, mask)):
        contents = UNDO[code](contents, layout)
    return np.frombuffer(contents, layout.dtype).reshape(layout.chunk)


def _stored(file: BinaryIO, address: int, size: int) -> bytes:
    return b"".join(_steps(file, address, size))


def _steps(file: BinaryIO, address: int, size: int) -> Iterator[bytes]:
    file.seek(address)
    for at in range(0, size, STEP):
        yield file.read(min(STEP, size - at))


def _applied(filters: tuple[int, ...], mask: int) -> list[int]:
    """HDF5 leaves out a filter that would not have made a chunk smaller, and says so by a bit."""
    return [code for i, code in enumerate(filters) if not mask >> i & 1]


def _inflated(stored: bytes, layout: Layout) -> bytes:
    size = layout.chunk_bytes + 4 * (FLETCHER32 in layout.filters[: layout.filters.index(DEFLATE)])
    return b"".join(inflate([stored], size, ZLIB))


def _unshuffled(stored: bytes, layout: Layout) -> bytes:
    """The filter puts every element's first byte first, then every second byte, and so on."""
    return np.frombuffer(stored, np.uint8).reshape(layout.dtype.itemsize, -1).T.tobytes()


def _verified(stored: bytes, layout: Layout) -> bytes:
    contents, checksum = stored[:-4], int.from_bytes(stored[-4:], "little")
    if fletcher32(contents) != (checksum >> 16) % 65535 << 16 | (checksum & 0xFFFF) % 65535:
        raise ValueError("a chunk's fletcher32 checksum differs: the file is damaged")
    return contents


def fletcher32(contents: bytes) -> int:
    """The sum s of the big-endian 16-bit words, below the sum of all its intermediate values, both
    modulo 65535."""
    words = np.frombuffer(contents + b"\0" * (len(contents) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % 65535
    return int((words * weights).sum() % 65535) << 16 | int(words.sum() % 65535)


#: How each filter is undone.
UNDO: dict[int, Callable[[bytes, Layout], bytes]] = {
    DEFLATE: _inflated,
    SHUFFLE: _unshuffled,
    FLETCHER32: _verified,
}
