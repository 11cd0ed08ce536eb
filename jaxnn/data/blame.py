"""Errors of the libraries below, turned into the one that names the file."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from jaxnn.errors import DataError, JaxnnError

#: What opening, decompressing and parsing a damaged file is known to raise.
KNOWN: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


@contextmanager
def blame(where: str, *more: type[Exception]) -> Iterator[None]:
    """Within this block an error that damaged data can cause becomes `DataError("{where}: …")`."""
    try:
        yield
    except JaxnnError:
        raise
    except KNOWN + more as error:
        raise DataError(f"{where}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)
