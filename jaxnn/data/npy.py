"""NumPy's .npy files and the .npz archives of them, the form of Keras's mnist.npz.

`numpy.lib.format` reads the header, and `zipfile` the archive, whose CRC-32 covers every array. The
size that a header promises is compared with the size that there is before any memory is taken, and
the contents are read piece by piece. Nothing is ever unpickled.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxnn.data.blame import blame
from jaxnn.data.field import STEP, Field, Values, held
from jaxnn.errors import DataError

NPY, NPZ = b"\x93NUMPY", b"PK\x03\x04"

#: Bytes that a byte of deflate expands to at most.
LARGEST_RATIO = 1032

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the columns come first, and dtype; `file` is then at the first element.

    Raises ValueError unless it is an array of plain numbers or text.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, by_columns, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    except Exception as error:  # NumPy parses it as a literal, and fails in many ways
        raise ValueError("its .npy header describes no plain array") from error
    if dtype.hasobject:
        raise ValueError(
            "numbers or text expected, found Python objects, which are never unpickled"
        )
    if dtype.names is not None or dtype.subdtype is not None or min(shape, default=0) < 0:
        raise ValueError(f"a plain array of numbers expected, found {dtype} {shape}")
    return shape, by_columns, dtype


def arrays(path: Path) -> dict[str, Field]:
    """The array of an .npy file, by the file's name."""
    with blame(str(path)), path.open("rb") as file:
        shape, by_columns, dtype = header(file)
        start, end = file.tell(), file.seek(0, io.SEEK_END)
        _require_size(shape, dtype, end - start)
        if by_columns and len(shape) > 1:
            file.seek(start)
            array = np.frombuffer(file.read(), dtype).reshape(shape, order="F")
            return {path.stem: held(str(path), np.ascontiguousarray(array))}
    return {path.stem: Field(str(path), shape, dtype, lambda: _of_file(path, start, dtype))}


def members(path: Path) -> dict[str, Field]:
    """The arrays of an .npz archive, by name. Raises DataError."""
    with blame(str(path), zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        strange = [m.filename for m in archive.infolist() if not m.filename.endswith(".npy")]
        if strange:
            raise DataError(f"{path}: .npy arrays alone expected in an archive, found {strange[0]}")
        if any(member.comment for member in archive.infolist()):
            raise DataError(f"{path}: an archive without comments expected: it is damaged")
        return {
            member.filename.removesuffix(".npy"): _member(path, archive, member)
            for member in archive.infolist()
        }


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Field:
    where = f"{path}: {member.filename.removesuffix('.npy')}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where}: compressed by method {member.compress_type}; deflate expected")
    with blame(where, zipfile.BadZipFile, NotImplementedError, KeyError):
        with archive.open(member) as file:
            shape, by_columns, dtype = header(file)
            start = file.tell()
        _require_size(shape, dtype, member.file_size - start)
        if by_columns and len(shape) > 1:
            raise ValueError(
                "rows in C order expected, found Fortran order: save np.ascontiguousarray"
            )
    stored = min(member.compress_size, path.stat().st_size)
    if member.file_size > LARGEST_RATIO * stored:
        raise DataError(
            f"{where}: its header promises {member.file_size:,} bytes, more than {stored:,} "
            "stored bytes can hold: the file is damaged or cut short"
        )
    return Field(where, shape, dtype, lambda: _of_member(where, path, member, start, dtype))


def _require_size(shape: tuple[int, ...], dtype: np.dtype[Any], found: int) -> None:
    expected = math.prod(shape) * dtype.itemsize
    if expected != found:
        raise ValueError(f"{expected:,} bytes expected for {dtype} {shape}, found {found:,}")


def _of_file(path: Path, start: int, dtype: np.dtype[Any]) -> Iterator[Values]:
    with blame(str(path)), path.open("rb") as file:
        file.seek(start)
        yield from _pieces(file, dtype)


def _of_member(
    where: str, path: Path, member: zipfile.ZipInfo, start: int, dtype: np.dtype[Any]
) -> Iterator[Values]:
    """Reads on to the end of the member, where the zip module compares its CRC-32."""
    with (
        blame(where, zipfile.BadZipFile),
        zipfile.ZipFile(path) as archive,
        archive.open(member) as file,
    ):
        file.read(start)
        yield from _pieces(file, dtype)


def _pieces(file: IO[bytes], dtype: np.dtype[Any]) -> Iterator[Values]:
    step = max(1, STEP // max(dtype.itemsize, 1)) * dtype.itemsize
    while piece := file.read(step):
        yield np.frombuffer(piece, dtype)
