"""MATLAB's files: v5 through SciPy, and v7.3, which are HDF5 with its axes in the other order.

Images often lie along the last axis, (h, w, 3, N) or (n_x, N): the examples are put first.
"""

import io
import math
from pathlib import Path

import numpy as np

from jaxnn.data import hdf5
from jaxnn.data.blame import blame
from jaxnn.data.field import Field, Values, held, whole
from jaxnn.errors import DataError

MAGIC = b"MATLAB 5.0 MAT-file"
MAGIC_73 = b"MATLAB 7.3 MAT-file"

#: Bytes of a file, which SciPy holds in memory, and of the arrays that it says it has.
LARGEST_FILE, LARGEST_ARRAYS = 1 << 31, 1 << 33


def arrays(path: Path) -> dict[str, Field]:
    """The numeric arrays of a v5 file. Raises DataError."""
    from scipy.io import loadmat, whosmat

    with blame(str(path), Exception):
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{path}: at most {LARGEST_FILE:,} bytes expected: save it as v7.3")
        content = io.BytesIO(path.read_bytes())
        listed = [(name, shape) for name, shape, kind in whosmat(content) if kind in _NUMERIC]
        if sum(8 * math.prod(shape) for _, shape in listed) > LARGEST_ARRAYS:
            raise DataError(f"{path}: its headers promise more than {LARGEST_ARRAYS:,} bytes")
        content.seek(0)
        found = loadmat(content, variable_names=[name for name, _ in listed])
        values = {name: np.asarray(found[name]) for name, _ in listed if name in found}
        return _examples_first(path, values)


_NUMERIC = {
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "double", "single", "logical",
}  # fmt: skip


def arrays_73(path: Path) -> dict[str, Field]:
    """The arrays of a v7.3 file, in MATLAB's order of axes. Raises DataError."""
    fields = hdf5.arrays(path)
    if sum(f.size * f.dtype.itemsize for f in fields.values()) > LARGEST_ARRAYS:
        raise DataError(f"{path}: its headers promise more than {LARGEST_ARRAYS:,} bytes")
    with blame(str(path)):
        return _examples_first(path, {n: whole(f).T for n, f in fields.items() if not f.problem})


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
