"""Examples that are more than may lie in memory: in a file that has no name, mapped.

Nothing of such an array is memory of the process. The system reads its pages in when they are
looked at, and takes them back when memory is short. The file is without a name from the moment it
is opened, so that its room on the disk is free again however the process ends.
"""

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from jaxnn.data.memory import MEBIBYTE
from jaxnn.data.places import cache_dir, expand
from jaxnn.errors import StorageError

Values = NDArray[Any]

#: Bytes: what XLA's own buffers begin at a multiple of.
ALIGNMENT = 64

#: Names the folder for these files.
ENVIRONMENT = "TMPDIR"


def place() -> Path:
    """The folder that TMPDIR names, else the user's cache: /tmp often is memory itself."""
    named = os.environ.get(ENVIRONMENT)
    return expand(named) if named else cache_dir()


def assembled(pieces: Iterable[Values], size: int, dtype: DTypeLike, *, on_disk: bool) -> Values:
    """The elements of `pieces`, 1-D arrays of `size` elements in all, as one 1-D array.

    On disk it cannot be written to. Raises StorageError where the disk has no room for it, and
    whatever taking the pieces raises but OSError.
    """
    return _mapped(pieces, size, np.dtype(dtype)) if on_disk else _held(pieces, size, dtype)


@contextmanager
def read_at_random(array: Values) -> Iterator[None]:
    """Within this block the rows of a mapped array are read in no order, so that the system need
    not read what follows each: that is megabytes for a row. Elsewhere they are read in order.

    Nothing happens for an array in memory, nor where the system takes no such advice (Windows).
    """
    mapping = _mapping(array)
    if mapping is None or not hasattr(mmap, "MADV_RANDOM"):
        yield
        return
    mapping.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        mapping.madvise(mmap.MADV_NORMAL)


def _mapping(array: Values) -> mmap.mmap | None:
    """What a mapped array is a view of."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = owner.obj if isinstance(owner, memoryview) else owner
    return owner if isinstance(owner, mmap.mmap) else None


def _held(pieces: Iterable[Values], size: int, dtype: DTypeLike) -> Values:
    whole, at = _aligned(size, np.dtype(dtype)), 0
    for piece in pieces:
        whole[at : at + piece.size] = piece
        at += piece.size
    return whole


def _aligned(size: int, dtype: np.dtype[Any]) -> Values:
    """Where jax can use it as it lies: on a CPU, it copies what does not begin like its own."""
    room = np.empty(size * dtype.itemsize + ALIGNMENT, np.uint8)
    at = -room.ctypes.data % ALIGNMENT
    return room[at : at + size * dtype.itemsize].view(dtype)


def _mapped(pieces: Iterable[Values], size: int, dtype: np.dtype[Any]) -> Values:
    """Written, then mapped: a full disk is an error of a write, but a crash of a mapped page."""
    folder, needed = place(), size * dtype.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise _no_room(folder, needed, f"{free // MEBIBYTE:,} MiB")
        with tempfile.TemporaryFile(dir=folder) as file:
            for piece in pieces:
                file.write(np.ascontiguousarray(piece, dtype).data)
            file.flush()
            return np.frombuffer(mmap.mmap(file.fileno(), needed, access=mmap.ACCESS_READ), dtype)
    except OSError as error:
        raise _no_room(folder, needed, error.strerror or str(error)) from error


def _no_room(folder: Path, needed: int, found: str) -> StorageError:
    return StorageError(
        f"{folder}: expected room for {-(-needed // MEBIBYTE):,} MiB of examples, which are more "
        f"than may lie in memory, found {found}; {ENVIRONMENT} may name another folder"
    )
