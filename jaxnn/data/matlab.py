"""MATLAB's files: v5 through SciPy, and v7.3, which are HDF5 with its axes in the other order.

Images often lie along the last axis, (h, w, 3, N) or (n_x, N): the examples are put first.
"""

from pathlib import Path

import numpy as np

from jaxnn.data import hdf5
from jaxnn.data.blame import blame
from jaxnn.data.field import Field, Values, held, whole
from jaxnn.errors import DataError

MAGIC = b"MATLAB 5.0 MAT-file"
MAGIC_73 = b"MATLAB 7.3 MAT-file"

#: Bytes of a file's arrays, which are held in memory.
LARGEST_ARRAYS = 1 << 33


def arrays(path: Path) -> dict[str, Field]:
    """The numeric arrays of a v5 file. Raises DataError."""
    return _examples_first(path, _read(path))


def arrays_73(path: Path) -> dict[str, Field]:
    """The arrays of a v7.3 file, in MATLAB's order of axes. Raises DataError."""
    return _examples_first(path, {name: array.T for name, array in _read(path).items()})


def _read(path: Path) -> dict[str, Values]:
    """In memory, by the process that reads HDF5: SciPy's reader crashes on damaged files too."""
    fields = hdf5.arrays(path)
    if sum(field.size * field.dtype.itemsize for field in fields.values()) > LARGEST_ARRAYS:
        raise DataError(f"{path}: its headers promise more than {LARGEST_ARRAYS:,} bytes")
    with blame(str(path)):
        return {name: whole(field) for name, field in fields.items() if not field.problem}


def _examples_first(path: Path, values: dict[str, Values]) -> dict[str, Field]:
    """Vectors as such, and of the others the axis first whose length a vector has."""
    vectors = {n: v.reshape(-1) for n, v in values.items() if v.size == max(v.shape, default=0) > 1}
    lengths = {len(vector) for vector in vectors.values()}
    fields = {}
    for name, array in {**values, **vectors}.items():
        if array.ndim > 1 and array.shape[0] not in lengths and array.shape[-1] in lengths:
            array = np.moveaxis(array, -1, 0)
        array = np.ascontiguousarray(array)
        fields[name] = held(
            f"{path}: {name}", array.astype(np.uint8) if array.dtype == bool else array
        )
    return fields
