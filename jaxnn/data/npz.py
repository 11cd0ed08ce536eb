"""NumPy's .npz, the form of Keras's mnist.npz: a zip file that holds one .npy file per field.

`numpy.load` allocates what a header asks for and evaluates it as Python; here a header is matched
against the one form that NumPy writes, and compared with the zip file's directory before a byte of
memory is taken. Nothing is ever unpickled. The zip file's CRC-32 covers every array.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from jaxnn.data.blame import blame
from jaxnn.data.deflate import check_ratio
from jaxnn.data.field import NAMES, STEP, Field
from jaxnn.errors import DataError

MAGIC = b"PK\x03\x04"
NPY_MAGIC = b"\x93NUMPY"
LARGEST_HEADER = 1 << 12

HEADER = re.compile(
    rb"\{\s*'descr':\s*'(?P<descr>[^']*)',\s*'fortran_order':\s*(?P<fortran>True|False),"
    rb"\s*'shape':\s*\((?P<shape>[\d\s,L]*)\),?\s*\}\s*"
)


def fields(path: Path) -> dict[str, Field]:
    """The four fields of an .npz file, headers checked. Raises DataError."""
    with blame(str(path), zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        missing = [name for name in NAMES if f"{name}.npy" not in members]
        if missing:
            raise DataError(
                f"{path}: arrays {', '.join(NAMES)} expected; missing: {', '.join(missing)}; "
                f"found: {', '.join(list(members)[:8]) or 'none'}"
            )
        return {name: _field(path, archive, members[f"{name}.npy"]) for name in NAMES}


def _field(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Field:
    where = f"{path}: {member.filename.removesuffix('.npy')}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where}: compressed by method {member.compress_type}; deflate expected")
    with blame(where), archive.open(member) as file:
        dtype, shape = _header(file)
        header_size = file.tell()
    field = Field(where, shape, dtype, lambda: _pieces(path, member, field, header_size))
    expected = header_size + field.size * dtype.itemsize
    if expected != member.file_size:
        raise DataError(
            f"{where}: {expected:,} bytes expected for {dtype} {shape}, found {member.file_size:,}"
        )
    check_ratio(where, member.file_size, min(member.compress_size, path.stat().st_size))
    return field


def _header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype and shape of an .npy file, read up to its first element. Raises ValueError."""
    start = file.read(8)
    if start[:6] != NPY_MAGIC or start[6:7] not in (b"\1", b"\2", b"\3"):
        raise ValueError("not an .npy array")
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    if length > LARGEST_HEADER:
        raise ValueError(
            f"an .npy header of at most {LARGEST_HEADER} bytes expected, found {length}"
        )
    header = HEADER.fullmatch(file.read(length))
    if header is None:
        raise ValueError("its .npy header describes no plain array of numbers")
    shape = tuple(int(n.rstrip(b" L")) for n in header["shape"].split(b",") if n.strip())
    if header["fortran"] == b"True" and len(shape) > 1:
        raise ValueError("rows in C order expected, found Fortran order: save np.ascontiguousarray")
    return _dtype(header["descr"].decode("latin-1")), shape


def _dtype(descr: str) -> np.dtype[Any]:
    if not re.fullmatch(r"[<>|=]?[a-zA-Z]\d*", descr):
        raise ValueError(f"numbers expected, found dtype {descr!r}")
    if descr.lstrip("<>|=") == "O":
        raise ValueError("numbers expected, found Python objects, which are never unpickled")
    try:
        return np.dtype(descr)
    except TypeError as error:
        raise ValueError(f"numbers expected, found dtype {descr!r}") from error


def _pieces(
    path: Path, member: zipfile.ZipInfo, field: Field, header_size: int
) -> Iterator[NDArray[Any]]:
    """Reads on to the end of the member, where the zip module compares its CRC-32."""
    with (
        blame(field.where, zipfile.BadZipFile),
        zipfile.ZipFile(path) as archive,
        archive.open(member) as file,
    ):
        file.read(header_size)
        while piece := file.read(STEP):
            yield np.frombuffer(piece, field.dtype)
