"""Prints, as JSON, where the arrays of an HDF5 file lie. Run by `jaxnn.data.hdf5` as a program.

The HDF5 library is known to crash on files with a single flipped byte, so it only ever runs here,
in a process of its own that has little to lose. It reads metadata; the arrays are left alone.
"""

import json
import math
import sys
from typing import Any

import h5py
from h5py import h5d, h5t

#: Anything that could lead to another file, or is no plain number, is not in this list.
NUMBERS = {
    f"{order}{kind}{size}": getattr(h5t, f"{standard}{8 * size}{suffix}")
    for order, suffix in (("<", "LE"), (">", "BE"))
    for kind, standard, sizes in (
        ("i", "STD_I", (1, 2, 4, 8)),
        ("u", "STD_U", (1, 2, 4, 8)),
        ("f", "IEEE_F", (2, 4, 8)),
    )
    for size in sizes
}

LARGEST_MEMORY = 4 << 30


def layout(path: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """For each name: shape, dtype, chunk shape, filters, and the extents (address, bytes stored,
    filter mask, position) of its chunks; contiguous storage is one chunk. Raises ValueError."""
    with h5py.File(path, "r", locking=False) as file:
        missing = [name for name in names if not file.id.links.exists(name.encode())]
        if missing:
            raise ValueError(
                f"arrays {', '.join(names)} expected; missing: {', '.join(missing)}; "
                f"found: {', '.join(sorted(file)[:8]) or 'none'}"
            )
        return {name: _of_dataset(file, name) for name in names}


def _of_dataset(file: h5py.File, name: str) -> dict[str, Any]:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name}: an array in this file expected, found a {type(link).__name__}")
    if file.get(name, getclass=True) is not h5py.Dataset:
        raise ValueError(f"{name}: an array expected, found a group or a type")
    dataset = file[name].id
    if dataset.shape is None:
        raise ValueError(f"{name}: an array expected, found an empty dataspace")
    properties = dataset.get_create_plist()
    dtype = next((code for code, t in NUMBERS.items() if t == dataset.get_type()), None)
    if dtype is None:
        raise ValueError(f"{name}: plain integers or floats expected, found {dataset.dtype}")
    if properties.get_external_count() or properties.get_layout() == h5d.VIRTUAL:
        raise ValueError(f"{name}: its contents lie in another file, which is not followed")
    chunked = properties.get_layout() == h5d.CHUNKED
    if not chunked and properties.get_layout() != h5d.CONTIGUOUS:
        raise ValueError(f"{name}: contiguous or chunked storage expected, found compact storage")
    return {
        "shape": dataset.shape,
        "dtype": dtype,
        "chunk": properties.get_chunk() if chunked else dataset.shape,
        "filters": [properties.get_filter(i)[0] for i in range(properties.get_nfilters())],
        "extents": _chunks(dataset) if chunked else _contiguous(dataset),
    }


def _chunks(dataset: h5d.DatasetID) -> list[Any]:
    extents: list[Any] = []
    dataset.chunk_iter(
        lambda at: extents.append((at.byte_offset, at.size, at.filter_mask, at.chunk_offset))
    )
    return extents


def _contiguous(dataset: h5d.DatasetID) -> list[Any]:
    address, size = dataset.get_offset(), dataset.get_storage_size()
    written = address is not None and math.prod(dataset.shape) > 0
    return [(address, size, 0, (0,) * len(dataset.shape))] if written else []


def _limit_memory() -> None:
    """Where the system offers it (not Windows). A crash leaves no core file either."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(path: str, *names: str) -> None:
    _limit_memory()
    try:
        answer: dict[str, Any] = {"layout": layout(path, list(names))}
    except Exception as error:  # whatever h5py makes of a damaged file, the parent reports it
        answer = {"error": str(error) or repr(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
