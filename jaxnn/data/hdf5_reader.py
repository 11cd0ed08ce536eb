"""Reads HDF5 and MATLAB files for `jaxnn.data.hdf5`, which runs this as a program.

The HDF5 library is known to crash and to hang on files with a single flipped byte, and SciPy's
reader of MATLAB files to crash. They only ever run here, in a process of its own that has little to
lose. An error while an array is read ends it.
"""

import faulthandler
import json
import math
import sys
import zlib
from collections.abc import Iterator
from itertools import islice, pairwise, product
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from h5py import h5d, h5t
from numpy.typing import NDArray

#: Anything that could lead to another file, or is no plain number, is not in this list.
NUMBERS = [
    getattr(h5t, f"{standard}{8 * size}{order}")
    for order in ("LE", "BE")
    for standard, sizes in (
        ("STD_I", (1, 2, 4, 8)),
        ("STD_U", (1, 2, 4, 8)),
        ("IEEE_F", (2, 4, 8)),
    )
    for size in sizes
]

DEFLATE, FLETCHER32 = 1, 3

#: Bytes that a byte of deflate expands to at most.
LARGEST_RATIO = 1032

LARGEST_MEMORY = 4 << 30

MATLAB_5 = b"MATLAB 5.0 MAT-file"
MATLAB_NUMBERS = {
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("double", "single", "logical"),
}

#: Arrays that are listed, strings that are read, and bytes that are read at once.
MOST_ARRAYS, MOST_STRINGS, AT_ONCE = 1000, 10_000_000, 1 << 20

#: How long the library may take for the list, and for each piece of an array.
SECONDS = 60.0


class Strings:
    """Labels that are text, in memory: HDF5 stores text of any length in another place."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        texts = [t.encode() for t in np.ravel(dataset.asstr()[()])]
        self.array = np.array(texts, "S").reshape(dataset.shape)
        self.shape, self.dtype = self.array.shape, self.array.dtype

    def __getitem__(self, rows: slice) -> Any:
        return self.array[rows]


def listed(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Every array by its path, or in its place the reason why it cannot be taken."""

    def within(group: h5py.Group, path: str) -> Iterator[tuple[str, Any]]:
        for name in group:
            where = path + name
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield where, f"an array in this file expected, found a {type(link).__name__}"
                continue
            kind = group.get(name, getclass=True)
            if kind is h5py.Dataset:
                try:
                    yield where, _checked(group[name])
                except Exception as error:  # of whatever kind: this array is damaged
                    yield where, str(error) or repr(error)
            elif kind is h5py.Group and not name.startswith("#") and where.count("/") < 4:
                yield from within(group[name], f"{where}/")

    yield from within(file, "")


def matlab(path: str) -> dict[str, Any]:
    """The numeric arrays of a MATLAB file of version 5, in memory."""
    from scipy.io import loadmat, whosmat

    names = [name for name, _, kind in whosmat(path) if kind in MATLAB_NUMBERS][:MOST_ARRAYS]
    loaded = loadmat(path, variable_names=names)
    arrays = {name: np.asarray(loaded[name]) for name in names if name in loaded}
    return {name: array for name, array in arrays.items() if array.dtype.kind in "iufb"}


def _checked(dataset: h5py.Dataset) -> Any:
    """Raises ValueError where it is no whole array in this file."""
    identifier = dataset.id
    if identifier.shape is None:
        raise ValueError("an array expected, found an empty dataspace")
    properties = identifier.get_create_plist()
    if properties.get_external_count() or properties.get_layout() == h5d.VIRTUAL:
        raise ValueError("its contents lie in another file, which is not followed")
    kind = identifier.get_type()
    if isinstance(kind, h5t.TypeStringID) and dataset.size <= MOST_STRINGS:
        return Strings(dataset)
    if not any(number == kind for number in NUMBERS) and dataset.dtype != bool:
        raise ValueError(f"plain integers or floats expected, found {dataset.dtype}")
    if properties.get_layout() == h5d.CHUNKED:
        _require_chunks(identifier, properties)
    elif properties.get_layout() == h5d.CONTIGUOUS and dataset.size and not identifier.get_offset():
        raise ValueError(f"contents for {dataset.shape} expected, found none: it was never written")
    return dataset


def _require_chunks(dataset: h5d.DatasetID, properties: Any) -> None:
    """Every chunk of the grid is there, none twice, and no two share a byte: the library would put
    zeros in the place of one that its index has lost."""
    chunk, shape = properties.get_chunk(), dataset.shape
    grid = [range(0, n, c) for n, c in zip(shape, chunk, strict=True)]
    expected, stored = math.prod(map(len, grid)), dataset.get_num_chunks()
    if expected != stored:
        raise ValueError(
            f"{expected:,} chunks of {chunk} expected for {shape}, found {stored:,}: the file is "
            "damaged or was not written completely"
        )
    found: list[Any] = []
    dataset.chunk_iter(
        lambda at: found.append((at.chunk_offset, at.byte_offset, at.size, at.filter_mask))
    )
    size = math.prod(chunk) * dataset.dtype.itemsize
    if {at for at, *_ in found} != set(product(*grid)):
        raise ValueError("its chunks are in places where none belongs: the file is damaged")
    if any(mask and kept != size for *_, kept, mask in found) and properties.get_nfilters() == 1:
        raise ValueError(f"{size:,} bytes in a chunk without its filter expected, found others")
    if any(not mask and size > LARGEST_RATIO * kept for *_, kept, mask in found):
        raise ValueError(
            f"its header promises {size:,} bytes, more than a chunk's can hold: damaged"
        )
    extents = sorted((address, kept) for _, address, kept, _ in found)
    if any(address + kept > following for (address, kept), (following, _) in pairwise(extents)):
        raise ValueError("a chunk runs into what follows: the file is damaged")


def contents(array: Any) -> Iterator[bytes]:
    """The elements in C order, piece by piece."""
    if array.shape == ():
        yield np.asarray(array[()]).tobytes()
        return
    row = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
    step, chunk = max(1, AT_ONCE // row), getattr(array, "chunks", None)
    if chunk:
        step = -(-step // chunk[0]) * chunk[0]
    for at in range(0, array.shape[0], step):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        band = inflated(array, at, at + step) if chunk and DEFLATE in filters_of(array) else None
        piece = np.ascontiguousarray(array[at : at + step] if band is None else band).tobytes()
        faulthandler.cancel_dump_traceback_later()
        yield piece


def filters_of(array: Any) -> list[int]:
    """The codes of its filters, in the order in which they were applied."""
    properties = array.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


def inflated(array: Any, start: int, stop: int) -> NDArray[Any] | None:
    """These rows of gzipped chunks, or None where they have other filters as well. Raises
    ValueError for a chunk that has not the length of all others: the library would take whatever
    its memory holds for the rest."""
    filters, chunk = filters_of(array), array.chunks
    checksums = FLETCHER32 in filters[: filters.index(DEFLATE)]
    length = math.prod(chunk) * array.dtype.itemsize + 4 * checksums
    band = np.empty((min(stop, array.shape[0]) - start, *array.shape[1:]), array.dtype)
    sides = [range(0, n, c) for n, c in zip(array.shape[1:], chunk[1:], strict=True)]
    for at in product(range(start, min(stop, array.shape[0]), chunk[0]), *sides):
        mask, content = array.id.read_direct_chunk(at)
        if filters[-1] == DEFLATE and not mask:
            stream = zlib.decompressobj()
            content = stream.decompress(content, length + 1)
            if len(content) != length or not stream.eof or stream.unused_data:
                raise ValueError(f"{length:,} bytes in a chunk expected, found others: damaged")
        if filters == [DEFLATE]:
            place = (at[0] - start, *at[1:])
            view = band[tuple(slice(p, p + c) for p, c in zip(place, chunk, strict=True))]
            view[...] = np.frombuffer(content, array.dtype).reshape(chunk)[
                tuple(map(slice, view.shape))
            ]
    return band if filters == [DEFLATE] else None


def _limit_memory() -> None:
    """Where the system offers it (not Windows). A crash leaves no core file either."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(requests: IO[bytes], out: IO[bytes]) -> None:
    """A line [path] is answered by the list of its arrays, [path, name] by the array's bytes."""
    arrays: dict[str, Any] = {}
    file = None
    for request in requests:
        path, *names = json.loads(request)
        if names:
            for piece in contents(arrays[names[0]]):
                out.write(piece)
        else:
            if file is not None:
                file.close()
                file = None
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                with Path(path).open("rb") as opened:
                    is_matlab = opened.read(len(MATLAB_5)) == MATLAB_5
                if is_matlab:
                    found = matlab(path)
                else:
                    file = h5py.File(path, "r", locking=False)
                    found = dict(islice(listed(file), MOST_ARRAYS))
                arrays = {name: a for name, a in found.items() if not isinstance(a, str)}
                told: Any = {
                    name: [array.shape, array.dtype.str] if name in arrays else array
                    for name, array in found.items()
                }
            except Exception as error:  # whatever h5py makes of a damaged file
                told = str(error) or repr(error)
            faulthandler.cancel_dump_traceback_later()
            out.write(json.dumps(told).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    _limit_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer)
