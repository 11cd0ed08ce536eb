"""HDF5 files, such as the document's MNISTdata.hdf5, read by h5py in a process of its own; and
MATLAB's files of version 5, whose reader crashes as well.

A malformed file can crash or hang the HDF5 library, and a file of a few bytes can make it take any
amount of memory: the program `jaxnn.data.hdf5_reader` has limits on both, and nothing to lose. A
pool of the standard library's would import a user's program in its workers, and hand arrays over by
pickling them.

What is promised: a DataError or the right data, where the chunks are compressed, since then each
has a checksum. But HDF5's default format has no checksum for uncompressed arrays and their
addresses: a byte flipped in a pixel is another pixel.
"""

import json
import math
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn.data.blame import blame
from jaxnn.data.field import STEP, Field, Values

MAGIC = b"\x89HDF\r\n\x1a\n"

#: MATLAB's v7.3 files have 512 bytes of their own before the magic.
MATLAB_HEADER = 512

READER = (sys.executable, "-P", str(Path(__file__).with_name("hdf5_reader.py")))


class Library:
    """The reader at work in its process, which ends when nobody refers to this any more."""

    def __init__(self, program: tuple[str, ...] = READER) -> None:
        self.program = program
        self.process = self._started()
        self.opened: Path | None = None

    def listed(self, path: Path) -> Any:
        """What arrays the file has. Raises ValueError."""
        self._ask(str(path.resolve()))
        self.opened = path
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ValueError(self._end())
        return json.loads(line)

    def read(self, path: Path, name: str, dtype: np.dtype[Any], size: int) -> Iterator[Values]:
        """The elements of an array of that file, piece by piece. Raises ValueError."""
        if self.opened != path or not self._finalizer.alive:
            self.listed(path)
        self._ask(str(path.resolve()), name)
        left = size * dtype.itemsize
        step = max(STEP // max(dtype.itemsize, 1), 1) * dtype.itemsize
        assert self.process.stdout
        try:
            while left:
                piece = self.process.stdout.read(min(step, left))
                if len(piece) < min(step, left):
                    raise ValueError(self._end())
                left -= len(piece)
                yield np.frombuffer(piece, dtype)
        finally:
            if left:
                self.end()

    def end(self) -> None:
        """The next request starts another process."""
        self._finalizer()

    def _started(self) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.program, stdin=pipe, stdout=pipe, stderr=pipe)
        self._finalizer = weakref.finalize(self, _end, process)
        return process

    def _ask(self, *request: str) -> None:
        if not self._finalizer.alive:
            self.process = self._started()
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it has ended, which is seen when its answer is read
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def _end(self) -> str:
        """Why the reader has ended."""
        errors = self.process.stderr.read() if self.process.stderr else b""
        status = self.process.wait()
        self.end()
        if status < 0:
            return f"the HDF5 library crashes on this file (signal {-status}): it is damaged"
        if b"Timeout" in errors:
            return "the HDF5 library hangs on this file, which is damaged"
        lines = errors.decode(errors="replace").strip().splitlines()
        return f"the HDF5 reader failed: {lines[-1][-300:] if lines else 'it has ended early'}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def arrays(path: Path) -> dict[str, Field]:
    """The arrays of an HDF5 file by their paths, such as train/data. Raises DataError."""
    with blame(str(path), KeyError, TypeError, AttributeError):  # one gone astray may answer so
        library = Library()
        told = library.listed(path)
        if isinstance(told, str):
            raise ValueError(told)
        return {name: _field(path, name, entry, library) for name, entry in told.items()}


def _field(path: Path, name: str, entry: Any, library: Library) -> Field:
    where = f"{path}: {name}"
    if isinstance(entry, str):
        return Field(where, (), np.dtype("V"), lambda: iter(()), problem=entry)
    shape, dtype = tuple(map(int, entry[0])), np.dtype(entry[1])
    if dtype.hasobject:
        raise ValueError(f"{name}: numbers or text expected, found {dtype}")
    size = math.prod(shape)

    def pieces() -> Iterator[Values]:
        with blame(where):
            yield from library.read(path, name, dtype, size)

    return Field(where, shape, dtype, pieces)
